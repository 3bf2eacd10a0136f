//! What the application is told.

use std::fmt;
use std::time::Duration;

use heartbeat_core::{ConnId, GiveUp, Renewal};

use crate::event::Reason;

/// What happens, in order.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<M> {
    /// The dial succeeded. Not told of an accepted connection.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// A message for the application, as the library gave it. Heartbeats are not handed out.
    Message {
        /// The connection that it came on.
        conn: ConnId,
        /// The message.
        message: M,
    },
    /// The connection is about to end: it is nearly as old as the configuration's `lifetime`, or the service has announced
    /// its end. It is closed and dialled anew after `within`. Not told of an accepted connection.
    Ending {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: Renewal,
        /// How long until then.
        within: Duration,
    },
    /// The connection ended or the dial failed.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
        /// What the error said, for people.
        detail: Option<Box<str>>,
        /// How long nothing had been heard; zero if it was never open.
        idle: Duration,
        /// How long it had been open; zero if it was not.
        open: Duration,
        /// Messages that were taken by `send` and not given to the library, in order.
        unsent: Vec<M>,
        /// How many were given to it and are not known to be written.
        uncertain: usize,
        /// How many of the application's messages were flushed after the last that was heard: the peer may never have
        /// had them. With [`Socket::traffic`](super::Socket::traffic) a byte is something heard, without it a whole
        /// message. For earlier messages only an answer of the service's own is a receipt.
        in_doubt: usize,
    },
    /// The next dial is planned.
    Reconnect {
        /// Which retry in a row it will be, from 1; 0 after a renewal.
        attempt: u32,
        /// How long until then.
        delay: Duration,
    },
    /// There will be no further dial.
    GaveUp {
        /// Why; after `max_attempts` with how the last dial or connection ended.
        reason: GiveUp,
        /// What the last error said, for people: the `detail` of the last [`Event::Disconnected`].
        detail: Option<Box<str>>,
    },
    /// The end, always the last event.
    Stopped {
        /// Messages that were taken and not given to the library.
        unsent: Vec<M>,
        /// How many were given to it and are not known to be written.
        uncertain: usize,
        /// How many were flushed, and nothing was heard after that.
        in_doubt: usize,
        /// The peer did not answer the Close within `close_timeout`, and the socket was dropped.
        close_timed_out: bool,
    },
}

/// Without the messages, and of those that are handed back their number: they may hold credentials.
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
