//! Texts of joined records, read in pieces so that other tasks get a turn.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::message::{Message, Text};
use heartbeat_core::{Clock, ConnId, Dialect as _, Message as Received};

use super::Engine;
use crate::event::Event;
use crate::message::records::{Record, Records, Sort};

/// The result of one look at the socket.
pub(super) enum ReadOn {
    Message(Event),
    Again,
    Dry,
}

/// A text of joined records, with the position up to which it has been read.
pub(super) struct Joined {
    conn: ConnId,
    text: Text,
    records: Records,
}

impl Joined {
    pub(super) fn new(conn: ConnId, text: Text) -> Self {
        Self {
            conn,
            text,
            records: Records::default(),
        }
    }
}

impl<S: Read + Write> Engine<S> {
    /// Reports each heartbeat to the machine, up to a bound. Then the application receives the text, if it
    /// holds data.
    #[inline(never)]
    pub(super) fn read_joined(&mut self, clock: &impl Clock) -> ReadOn {
        let dialect = Arc::clone(&self.options.dialect);
        let Some(separator) = dialect.separator() else {
            return ReadOn::Dry;
        };
        // Taken out, so that the text is dropped if the connection ends meanwhile.
        while let Some(mut joined) = self.joined.take() {
            let machine = &self.machine;
            let sort = |record: &str| Sort::of(machine, dialect.classify_text(record));
            let Joined {
                conn,
                text,
                records,
            } = &mut *joined;
            let conn = *conn;
            match records.next(text, separator, sort, &mut self.work) {
                Record::Heartbeat(record) => {
                    self.heartbeat(conn, Received::Text(record), clock);
                    if self.current() != Some(conn) {
                        break;
                    }
                }
                Record::Pause => {
                    self.joined = Some(joined);
                    break;
                }
                Record::End { has_data: true } => {
                    self.count_data(clock);
                    // Reading the text was counted already. The application's own work, to look at all of it and to
                    // free it, counts again.
                    self.work = self.work.saturating_add(joined.text.len());
                    return self.deliver(conn, Message::Text(joined.text), clock);
                }
                Record::End { has_data: false } => break,
            }
            self.joined = Some(joined);
        }
        ReadOn::Again
    }
}
