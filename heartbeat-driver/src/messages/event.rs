//! Events of `Messages`.

use std::fmt;
use std::time::Duration;

use heartbeat_core::{ConnId, GiveUp, Renewal};

use crate::event::Reason;

/// An event of `Messages`. Events come in the order in which things happened.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<M> {
    /// The dial succeeded. Not reported for an accepted connection.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// An application message, as the library gave it. Heartbeats are not delivered.
    Message {
        /// The connection that received the message.
        conn: ConnId,
        /// The message.
        message: M,
    },
    /// A healthy connection is about to be renewed, because it is nearly as old as the configuration's
    /// `lifetime`, or because the service announced its end. After `within` it is closed and dialled again. Not
    /// reported for an accepted connection.
    Ending {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: Renewal,
        /// Time until the connection is closed.
        within: Duration,
    },
    /// The connection ended or the dial failed.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
        /// The text of the error, for people.
        detail: Option<Box<str>>,
        /// Time since the last byte was read. Zero if the connection was never open.
        idle: Duration,
        /// How long the connection was open. Zero if it never was.
        open: Duration,
        /// Messages that `send` accepted and that were not given to the library, in order.
        unsent: Vec<M>,
        /// The number of messages that were given to the library and may not be written.
        uncertain: usize,
        /// The number of application messages that were flushed after the last read. The peer may never have
        /// received them. With [`Socket::traffic`](super::Socket::traffic) any byte counts as a read, without
        /// it only a whole message. For earlier messages, only an answer of the service itself is a receipt.
        in_doubt: usize,
    },
    /// The next dial is planned.
    Reconnect {
        /// Number of this retry in a row, from 1; 0 after a renewal.
        attempt: u32,
        /// Time until the dial.
        delay: Duration,
    },
    /// There will be no further dial.
    GaveUp {
        /// Why. After `max_attempts` the reason says how the last dial or connection ended.
        reason: GiveUp,
        /// The text of the last error, for people: the `detail` of the last [`Event::Disconnected`].
        detail: Option<Box<str>>,
    },
    /// The end, always the last event.
    Stopped {
        /// Messages that `send` accepted and that were not given to the library.
        unsent: Vec<M>,
        /// The number of messages that were given to the library and may not be written.
        uncertain: usize,
        /// The number of messages that were flushed after the last read.
        in_doubt: usize,
        /// The peer did not answer the Close within `close_timeout`, and the socket was dropped.
        close_timed_out: bool,
    },
}

/// Leaves messages out, because they may hold credentials. Shows the number of messages handed back.
impl<M> fmt::Debug for Event<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { conn } => f.debug_struct("Connected").field("conn", conn).finish(),
            Self::Message { conn, .. } => f
                .debug_struct("Message")
                .field("conn", conn)
                .finish_non_exhaustive(),
            Self::Disconnected {
                conn,
                reason,
                detail,
                idle,
                open,
                unsent,
                uncertain,
                in_doubt,
            } => f
                .debug_struct("Disconnected")
                .field("conn", conn)
                .field("reason", reason)
                .field("detail", detail)
                .field("idle", idle)
                .field("open", open)
                .field("unsent", &unsent.len())
                .field("uncertain", uncertain)
                .field("in_doubt", in_doubt)
                .finish(),
            Self::Ending { conn, why, within } => f
                .debug_struct("Ending")
                .field("conn", conn)
                .field("why", why)
                .field("within", within)
                .finish(),
            Self::Reconnect { attempt, delay } => f
                .debug_struct("Reconnect")
                .field("attempt", attempt)
                .field("delay", delay)
                .finish(),
            Self::GaveUp { reason, detail } => f
                .debug_struct("GaveUp")
                .field("reason", reason)
                .field("detail", detail)
                .finish(),
            Self::Stopped {
                unsent,
                uncertain,
                in_doubt,
                close_timed_out,
            } => f
                .debug_struct("Stopped")
                .field("unsent", &unsent.len())
                .field("uncertain", uncertain)
                .field("in_doubt", in_doubt)
                .field("close_timed_out", close_timed_out)
                .finish(),
        }
    }
}
