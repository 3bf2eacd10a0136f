//! A text of joined records, read in pieces: between them others have their turn.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::message::{Message, Text};
use heartbeat_core::{Clock, ConnId, Dialect as _, Message as Received};

use super::Engine;
use crate::event::Event;
use crate::message::records::{Record, Records, Sort};

/// What one look at the socket came to.
pub(super) enum ReadOn {
    Message(Event),
    Again,
    Dry,
}

/// How far such a text has been read.
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
    /// Tells the machine of each heartbeat, up to a bound; then the application gets the text, if there are data in it.
    #[inline(never)]
    pub(super) fn read_joined(&mut self, clock: &impl Clock) -> ReadOn {
        let dialect = Arc::clone(&self.options.dialect);
        let Some(separator) = dialect.separator() else {
            return ReadOn::Dry;
        };
        // Taken out: the end of the connection drops it, whoever has brought that about.
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
                    return self.deliver(conn, Message::Text(joined.text), clock);
                }
                Record::End { has_data: false } => break,
            }
            self.joined = Some(joined);
        }
        ReadOn::Again
    }
}
