//! Events that a client reports to its application.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use heartbeat_core::Reason;
use heartbeat_core::{ConnId, GiveUp, Renewal};

use crate::http::Response;
use crate::message::{Message, Unsent};

/// An event of a client. Events come in the order in which things happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A dial begins.
    Connecting {
        /// The connection that this dial will open.
        conn: ConnId,
        /// Failures in a row before this dial: 0 for the first, n for retry n.
        attempt: u32,
    },
    /// The upgrade succeeded. Messages can be sent now. If a session is configured, only the messages that make
    /// the session ready can be sent.
    Connected {
        /// The connection.
        conn: ConnId,
        /// How long the dial took.
        after: Duration,
        /// The server's answer: its headers, and the subprotocol that the server chose.
        response: Arc<Response>,
    },
    /// Messages of the server may have been missed since the last connection. Reported right after [`Event::Connected`]
    /// and before any message of the new connection, whenever a ready connection was lost. Reported again, with the
    /// same `since`, if the session of the new connection does not become ready.
    Gap {
        /// The connection that is open now.
        conn: ConnId,
        /// When the last byte of the lost connection was read: fetch data again from this time on. Taken from
        /// the wall clock as it stood when that connection ended.
        since: SystemTime,
        /// The time from `since` until now, on a clock that ignores changes of the wall clock.
        down_for: Duration,
        /// Why the lost connection ended.
        cause: Reason,
        /// Dials since then, including the one that succeeded.
        attempts: u32,
        /// Messages handed back since then.
        unsent: usize,
        /// Messages that were written and may not have arrived: the sum of `in_doubt` over each
        /// [`Event::Disconnected`] since then, including that of the lost connection.
        in_doubt: usize,
    },
    /// The session is ready. Messages can be sent, and held messages go out. Reported only if a session is configured,
    /// by [`Options::on_connect`](crate::Options::on_connect) or
    /// [`Options::session_by_application`](crate::Options::session_by_application). Otherwise [`Event::Connected`]
    /// means the same.
    Ready {
        /// The connection.
        conn: ConnId,
    },
    /// Messages were held for `time_to_live` without a connection to send them on.
    Expired {
        /// The expired messages. None of them is cut.
        unsent: Unsent,
    },
    /// An application message. Heartbeats of the dialect are not delivered.
    Message {
        /// The connection that received the message.
        conn: ConnId,
        /// The message.
        message: Message,
    },
    /// Messages were dropped here, because the application did not take them in time. With
    /// [`Overflow::DropOldest`](crate::Overflow::DropOldest) or [`DropNewest`](crate::Overflow::DropNewest)
    /// this happens when more than [`Options::queue`](crate::Options::queue) messages wait. With
    /// [`Pause`](crate::Overflow::Pause) it happens only if more than 16 MiB had arrived before a connection
    /// ended.
    Lagged {
        /// How many messages, at least one.
        dropped: u64,
    },
    /// One event in place of several dials and connections that began and ended while the application took no events.
    /// Used only when more than 256 beginnings and ends wait. The first and the last of a series are reported in full.
    Skipped {
        /// How many dials and connections have ended.
        ends: u64,
        /// The earliest `since` of an [`Event::Gap`] among them, by the wall clock. Messages may have been
        /// missed from this time on.
        since: Option<SystemTime>,
        /// The messages that they handed back, in order, including expired ones.
        unsent: Unsent,
        /// Messages that were written and may not have arrived: the sum of `in_doubt` of the ends.
        in_doubt: usize,
    },
    /// The client answered a ping of the server. This event and the other heartbeat events
    /// ([`Event::PingSent`], [`Event::PongReceived`], [`Event::Check`]) are left out when 64 of them wait for
    /// the application, or if [`Options::heartbeat_events`](crate::Options::heartbeat_events) turns them off.
    PongSent {
        /// The connection.
        conn: ConnId,
    },
    /// The client sent a ping.
    PingSent {
        /// The connection.
        conn: ConnId,
    },
    /// A pong arrived.
    PongReceived {
        /// The connection.
        conn: ConnId,
        /// Time since the ping that this pong answers. `None` if the pong answers none of our pings.
        rtt: Option<Duration>,
    },
    /// The regular check of the connection, every `check_interval`.
    Check {
        /// The connection.
        conn: ConnId,
        /// Time since the last byte was read.
        idle: Duration,
    },
    /// A healthy connection is about to be renewed, because it is nearly as old as the service allows, or
    /// because the service announced its end ([`Options::of_service`](crate::Options::of_service), or a
    /// `lifetime` in the configuration). After `within` the client closes the connection and dials again.
    /// [`Event::Disconnected`] then has [`Reason::Renewal`].
    Ending {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: Renewal,
        /// Time until the client closes the connection.
        within: Duration,
    },
    /// The connection ended or the dial failed.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
        /// The text of the error, for people: "certificate expired", "name or service not known".
        detail: Option<Box<str>>,
        /// The answer that ended the dial: the server's answer instead of 101, or the proxy's refusal.
        response: Option<Arc<Response>>,
        /// Time since the last byte was read. Zero if the connection was never open.
        idle: Duration,
        /// How long the connection was open. Zero if it never was.
        open: Duration,
        /// Accepted messages that were not wholly handed to the operating system, in order. With
        /// [`Options::hold`](crate::Options::hold), only those that cannot be held: the message that was cut,
        /// the messages that belonged to this connection, and those for which there is no room.
        unsent: Unsent,
        /// Application messages that were written (wholly handed to the operating system) after the last byte
        /// of the peer was read. The peer may never have received them, because nothing that was read came
        /// after them. For messages that were written earlier, only an answer of the service itself is a
        /// receipt. Messages of `on_connect` and those in `unsent` do not count.
        in_doubt: usize,
    },
    /// The next dial is planned.
    Reconnect {
        /// Number of this retry in a row, from 1; 0 after a renewal.
        attempt: u32,
        /// How long until then.
        delay: Duration,
    },
    /// The client will not dial again. Only [`Event::Stopped`] follows.
    GaveUp {
        /// Why. After [`max_attempts`](heartbeat_core::ConfigBuilder::max_attempts) the reason says how the
        /// last dial or connection ended.
        reason: GiveUp,
        /// The text of the last error, for people: the `detail` of the last [`Event::Disconnected`].
        detail: Option<Box<str>>,
    },
    /// The client has ended, because the application stopped it or because it gave up. Always the last event.
    Stopped {
        /// Accepted messages that were not wholly handed to the operating system, in order.
        unsent: Unsent,
        /// Messages that were written after the last byte of the peer was read, as in [`Event::Disconnected`].
        /// 0 if the peer answered the Close, or if no connection was open.
        in_doubt: usize,
        /// The peer did not answer the Close within `close_timeout`, so the client dropped the connection.
        close_timed_out: bool,
    },
}

impl Event {
    /// Returns the messages that this event hands back.
    #[must_use]
    pub fn into_unsent(self) -> Unsent {
        match self {
            Self::Disconnected { unsent, .. }
            | Self::Expired { unsent }
            | Self::Skipped { unsent, .. }
            | Self::Stopped { unsent, .. } => unsent,
            _ => Unsent::default(),
        }
    }
}

/// A duration as logs show it: `25.3 s`, `2 s`, and `1.4 ms` below a tenth of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, name) = match nanos {
            1..100_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let tenths = (nanos * 10 + unit / 2) / unit;
        match (tenths / 10, tenths % 10) {
            (whole, 0) => write!(f, "{whole} {name}"),
            (whole, tenth) => write!(f, "{whole}.{tenth} {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_a_messages_kind_and_length_and_nothing_of_its_payload() {
        let event = Event::Message {
            conn: ConnId::new(1),
            message: "secrét".into(),
        };
        assert_eq!(
            format!("{event:?} {:?}", Message::from(vec![0, b'a'])),
            "Message { conn: ConnId(1), message: Text(7 bytes) } Binary(2 bytes)"
        );
    }

    #[test]
    fn durations_read_like_the_log_lines_of_the_contract() {
        assert_eq!(Seconds(Duration::from_millis(25_300)).to_string(), "25.3 s");
        assert_eq!(Seconds(Duration::from_secs(2)).to_string(), "2 s");
        assert_eq!(Seconds(Duration::from_millis(1_960)).to_string(), "2 s");
        assert_eq!(Seconds(Duration::ZERO).to_string(), "0 s");
        assert_eq!(Seconds(Duration::from_micros(1_440)).to_string(), "1.4 ms");
        assert_eq!(Seconds(Duration::from_millis(100)).to_string(), "0.1 s");
    }
}
