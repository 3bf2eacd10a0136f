//! Heartbeats in what a peer sends. One reading of messages for both drivers: the engine over bytes, and
//! `Messages` of `heartbeat-tokio` over another library's messages.

use std::borrow::Borrow;

use heartbeat_core::{Class, Config, Dialect, Heartbeat};

/// Heartbeats of one message of which the machine is told. Beyond these, joined records are life and no more; data
/// among them is delivered all the same.
pub const HEARTBEATS: u32 = 64;

/// Answers that wait to be written may take this many bytes, frames and all, before reading is held: over 10 000 of the
/// smallest. A peer that asks and does not listen must not make us hold more.
pub const ANSWERS: u64 = 64 * 1024;

/// Bytes that are looked at before others get their turn: a millisecond or two of work.
pub const WORK: usize = 256 * 1024;

/// A text with separators that is longer than this is not looked at as a whole, but record by record.
const AT_ONCE: usize = 64 * 1024;

/// Work that a record costs beside its bytes.
const RECORD: usize = 32;

/// Bytes of a client's frame with this payload (RFC 6455 §5.2: header, extended length, mask).
#[must_use]
pub const fn frame_len(payload: usize) -> u64 {
    let extended = match payload {
        0..=125 => 0,
        126..=65_535 => 2,
        _ => 8,
    };
    2 + extended + 4 + payload as u64
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The application.
    Data,
    /// The machine.
    Heartbeat,
    /// Both of them, the machine first.
    Both,
}

impl Sort {
    /// Whom a message of this class is for, as the machine stands.
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

/// True if a text is too long to be looked at in one go where records may be joined in it.
#[inline]
#[must_use]
pub fn is_long(text: &str) -> bool {
    text.len() > AT_ONCE
}

/// True if a text is to be read by [`Records`] and not as a whole: some of it is no data, or it is too long to be looked
/// at in one go.
#[inline]
#[must_use]
pub fn is_joined(dialect: &dyn Dialect, text: &str) -> bool {
    dialect.separator().is_some()
        && (is_long(text) || !matches!(dialect.classify_text(text), Class::Data))
}

/// How far the records of a text have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    at: usize,
    heartbeats: u32,
    has_data: bool,
    is_over: bool,
}

/// What comes next in a text of joined records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A message to the machine.
    Heartbeat(&'a str),
    /// There is more, after others had their turn.
    Pause,
    /// That was all.
    End {
        /// The application gets the text: there is data in it.
        has_data: bool,
    },
}

impl Records {
    /// The next record that is a heartbeat. `sort` says what a record is; `work` is what has been looked at since others
    /// had their turn, in bytes.
    pub fn next<'a>(
        &mut self,
        text: &'a str,
        separator: &str,
        mut sort: impl FnMut(&'a str) -> Sort,
        work: &mut usize,
    ) -> Record<'a> {
        let all = text.strip_suffix(separator).unwrap_or(text);
        // Nothing that follows can change what becomes of the text.
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

/// Most separators are one byte, for which nothing needs to be prepared.
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

    /// All heartbeats, how often it paused, and whether the application gets the text.
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
