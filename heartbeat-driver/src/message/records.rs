//! Heartbeats among the messages of a peer. Both drivers use this code: the engine over bytes, and `Messages`
//! of `heartbeat-tokio` over another library's messages.

use std::borrow::Borrow;

use heartbeat_core::{Class, Config, Dialect, Heartbeat};

/// The most heartbeats of one message that are reported to the machine. Later records of that message only
/// count as a sign of life. Data among them is still delivered.
pub const HEARTBEATS: u32 = 64;

/// The most bytes of waiting answers, framing included, before reading stops: over 10 000 of the smallest. The
/// limit bounds what a peer can make us hold by sending pings without reading the pongs.
pub const ANSWERS: u64 = 64 * 1024;

/// Bytes to process before other tasks get a turn: a millisecond or two of work.
pub const WORK: usize = 256 * 1024;

/// A longer text with separators is read record by record, not at once.
const AT_ONCE: usize = 64 * 1024;

/// The cost of a record besides its bytes, in bytes.
const RECORD: usize = 32;

/// Returns the length of a client's frame with this payload, in bytes (RFC 6455 §5.2: header, extended length,
/// mask).
#[must_use]
pub const fn frame_len(payload: usize) -> u64 {
    let extended = match payload {
        0..=125 => 0,
        126..=65_535 => 2,
        _ => 8,
    };
    2 + extended + 4 + payload as u64
}

/// The receivers of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The application.
    Data,
    /// The machine.
    Heartbeat,
    /// Both, the machine first.
    Both,
}

impl Sort {
    /// Returns who receives a message of this class in the machine's current state.
    #[inline]
    #[must_use]
    pub fn of<C: Borrow<Config>, D: Dialect>(machine: &Heartbeat<C, D>, class: Class<'_>) -> Self {
        match class {
            Class::Data => Self::Data,
            Class::Response(id) if !machine.is_answer(id) => Self::Data,
            Class::Composite(carried) if carried.data => Self::Both,
            _ => Self::Heartbeat,
        }
    }
}

/// Returns true if a text that may hold joined records is too long to read at once.
#[inline]
#[must_use]
pub fn is_long(text: &str) -> bool {
    text.len() > AT_ONCE
}

/// Returns true if a text must be read with [`Records`]: some of it is not data, or it is too long to read at
/// once.
#[inline]
#[must_use]
pub fn is_joined(dialect: &dyn Dialect, text: &str) -> bool {
    dialect.separator().is_some()
        && (is_long(text) || !matches!(dialect.classify_text(text), Class::Data))
}

/// The position up to which the records of a text have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    at: usize,
    heartbeats: u32,
    has_data: bool,
    is_over: bool,
}

/// The next item of a text of joined records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A heartbeat for the machine.
    Heartbeat(&'a str),
    /// There is more, but other tasks get a turn first.
    Pause,
    /// The end of the text.
    End {
        /// The text holds data, so the application receives it.
        has_data: bool,
    },
}

impl Records {
    /// Returns the next record that is a heartbeat. `sort` classifies a record. `work` counts the bytes read
    /// since other tasks last had a turn.
    pub fn next<'a>(
        &mut self,
        text: &'a str,
        separator: &str,
        mut sort: impl FnMut(&'a str) -> Sort,
        work: &mut usize,
    ) -> Record<'a> {
        let all = text.strip_suffix(separator).unwrap_or(text);
        // Once both conditions hold, no later record can change the outcome.
        while !(self.is_over || (self.has_data && self.heartbeats >= HEARTBEATS)) {
            if *work >= WORK {
                return Record::Pause;
            }
            let rest = &all[self.at..];
            let record = match find(rest, separator) {
                Some(end) => {
                    self.at += end + separator.len();
                    &rest[..end]
                }
                None => {
                    self.is_over = true;
                    rest
                }
            };
            *work += record.len() + RECORD;
            let sort = sort(record);
            self.has_data |= sort != Sort::Heartbeat;
            if sort != Sort::Data && self.heartbeats < HEARTBEATS {
                self.heartbeats += 1;
                return Record::Heartbeat(record);
            }
        }
        Record::End {
            has_data: self.has_data,
        }
    }
}

/// Finds the separator. Most separators are one byte, which needs no preparation.
fn find(text: &str, separator: &str) -> Option<usize> {
    match *separator.as_bytes() {
        [byte] if byte.is_ascii() => text.find(char::from(byte)),
        _ => text.find(separator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(record: &str) -> Sort {
        match record {
            "ping" => Sort::Heartbeat,
            "both" => Sort::Both,
            _ => Sort::Data,
        }
    }

    /// Returns the number of heartbeats, the number of pauses, and whether the application receives the text.
    fn read(text: &str, separator: &str) -> (usize, usize, bool) {
        let (mut records, mut heartbeats, mut pauses, mut work) = (Records::default(), 0, 0, 0);
        loop {
            match records.next(text, separator, sort, &mut work) {
                Record::Heartbeat(_) => heartbeats += 1,
                Record::Pause => {
                    pauses += 1;
                    work = 0;
                }
                Record::End { has_data } => return (heartbeats, pauses, has_data),
            }
        }
    }

    #[test]
    fn records_are_split_as_the_standard_library_does_it() {
        for separator in ["\n", "\u{1e}", "--", "é"] {
            for text in [
                "",
                "ping",
                "a",
                "both",
                "ping|a",
                "a|ping|",
                "|",
                "||",
                "ping||ping",
                "both|",
            ] {
                let joined = text.replace('|', separator);
                let stripped = joined.strip_suffix(separator).unwrap_or(&joined);
                let sorts: Vec<_> = stripped.split(separator).map(sort).collect();
                let heartbeats = sorts.iter().filter(|sort| **sort != Sort::Data).count();
                let has_data = sorts.iter().any(|sort| *sort != Sort::Heartbeat);
                assert_eq!(
                    read(&joined, separator),
                    (heartbeats, 0, has_data),
                    "{joined:?}"
                );
            }
        }
    }

    #[test]
    fn heartbeats_are_bounded_and_data_behind_any_number_of_them_is_found() {
        for pings in [63, 64, 65, 70, 1000] {
            let text = "ping\n".repeat(pings);
            assert_eq!(read(&text, "\n"), (pings.min(64), 0, false));
            assert_eq!(read(&format!("{text}data"), "\n"), (pings.min(64), 0, true));
        }
        let late = format!("{}ping", "data\n".repeat(100));
        assert_eq!(read(&late, "\n"), (1, 0, true), "the 101st record");
    }

    #[test]
    fn others_get_their_turn_between_records_whatever_these_are_made_of() {
        let (_, pauses, has_data) = read(&"\n".repeat(1_000_000), "\n");
        assert_eq!(pauses, 1_000_000 * RECORD / WORK);
        assert!(has_data);
    }
}
