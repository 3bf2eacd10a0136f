//! Events: what an application is told of its client.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use heartbeat_core::Reason;
use heartbeat_core::{ConnId, GiveUp, Renewal};

use crate::http::Response;
use crate::message::{Message, Unsent};

/// What happens to a client, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A dial begins.
    Connecting {
        /// The connection to be.
        conn: ConnId,
        /// Failures in a row before this dial: 0 for the first, n for retry n.
        attempt: u32,
    },
    /// The upgrade is done: messages can be sent, or, where a session is asked for, the messages that
    /// make it ready.
    Connected {
        /// The connection.
        conn: ConnId,
        /// How long the dial took.
        after: Duration,
        /// What the server answered: its headers, and the subprotocol that it chose.
        response: Arc<Response>,
    },
    /// Something may be missing between what came before and what comes now. Told right after
    /// [`Event::Connected`], before any message of the new connection, whenever a ready connection had
    /// been lost; once more, with the same `since`, if the session then does not become ready.
    Gap {
        /// The connection that is open now.
        conn: ConnId,
        /// When the last byte of the lost connection was heard, by the wall clock as it stood when
        /// that connection ended: from here on data is to be fetched anew.
        since: SystemTime,
        /// The time from then until now, whatever the wall clock did.
        down_for: Duration,
        /// Why the lost connection ended.
        cause: Reason,
        /// Dials since then, the one that succeeded included.
        attempts: u32,
        /// Messages handed back since then.
        unsent: usize,
        /// Messages that were written and may not have arrived: the sum of `in_doubt` of each
        /// [`Event::Disconnected`] since then, that of the lost connection included.
        in_doubt: usize,
    },
    /// The session is ready: messages can be sent, and those that were held go out. Told only where a
    /// session is asked for ([`Options::on_connect`](crate::Options::on_connect), or by the application
    /// itself); elsewhere [`Event::Connected`] says it.
    Ready {
        /// The connection.
        conn: ConnId,
    },
    /// Messages that were held for `time_to_live` and found no connection to be sent on.
    Expired {
        /// The messages, none of them cut.
        unsent: Unsent,
    },
    /// An application message. Heartbeats of the dialect are not handed out.
    Message {
        /// The connection that it came on.
        conn: ConnId,
        /// The message.
        message: Message,
    },
    /// Messages that would have come here were dropped: the application did not take them in time. With
    /// [`Overflow::DropOldest`](crate::Overflow::DropOldest) or
    /// [`DropNewest`](crate::Overflow::DropNewest), whenever more than [`Options::queue`](crate::Options::queue) wait;
    /// with [`Pause`](crate::Overflow::Pause) only where more than 16 MiB had arrived before a connection's end.
    Lagged {
        /// How many, at least one.
        dropped: u64,
    },
    /// Dials and connections that came and went while the application took no events, told by this one event.
    /// Only where more than 256 beginnings and ends wait; the first and the last of a row are told in full.
    Skipped {
        /// How many dials and connections have ended.
        ends: u64,
        /// Data may be missing since then, by the wall clock: the earliest [`Event::Gap`] among them.
        since: Option<SystemTime>,
        /// The messages that they handed back, in order, those among them that expired.
        unsent: Unsent,
        /// Messages that were written and may not have arrived: the sum of `in_doubt` of the ends.
        in_doubt: usize,
    },
    /// A ping of the server was answered. This and the other notes on heartbeats ([`Event::PingSent`],
    /// [`Event::PongReceived`], [`Event::Check`]) are left out when 64 of them wait for the application, or
    /// where [`Options::heartbeat_events`](crate::Options::heartbeat_events) says so.
    PongSent {
        /// The connection.
        conn: ConnId,
    },
    /// The server was asked for a sign of life.
    PingSent {
        /// The connection.
        conn: ConnId,
    },
    /// A pong arrived.
    PongReceived {
        /// The connection.
        conn: ConnId,
        /// Time since the ping that it answers; `None` if it answers none of ours.
        rtt: Option<Duration>,
    },
    /// The connection was looked at, as every `check_interval`.
    Check {
        /// The connection.
        conn: ConnId,
        /// How long nothing was heard.
        idle: Duration,
    },
    /// The connection is about to end: it is nearly as old as the service lets it become, or the service has announced
    /// its end ([`Options::of_service`](crate::Options::of_service), a `lifetime` in the configuration). It is well, and
    /// is closed and dialled anew after `within`. [`Event::Disconnected`] then has [`Reason::Renewal`].
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
        /// What the error said, for people: "certificate expired", "name or service not known".
        detail: Option<Box<str>>,
        /// What the server answered instead of 101, or a proxy instead of opening a way, if that is what
        /// ended the dial.
        response: Option<Arc<Response>>,
        /// How long nothing had been heard; zero if it was never open.
        idle: Duration,
        /// How long it had been open; zero if it was not.
        open: Duration,
        /// Messages that were accepted but not wholly handed to the operating system, in order.
        /// Where messages are held ([`Options::hold`](crate::Options::hold)): only the one that was
        /// cut, those that belonged to this connection, and what there is no room to hold.
        unsent: Unsent,
        /// Messages of the application's that were written (wholly handed to the operating system) after the last byte of
        /// the peer's was read: nothing that was heard can speak of them, and the peer may never have had them. Of messages
        /// that were written before, only an answer of the service's own is a receipt. Messages of `on_connect` do not
        /// count, nor do those in `unsent`.
        in_doubt: usize,
    },
    /// The next dial is planned.
    Reconnect {
        /// Which retry in a row it will be, from 1; 0 after a renewal.
        attempt: u32,
        /// How long until then.
        delay: Duration,
    },
    /// There will be no further dial. The last event but [`Event::Stopped`].
    GaveUp {
        /// Why; after [`max_attempts`](heartbeat_core::ConfigBuilder::max_attempts) with how the last dial or connection
        /// ended.
        reason: GiveUp,
        /// What the last error said, for people: the `detail` of the last [`Event::Disconnected`].
        detail: Option<Box<str>>,
    },
    /// The client has ended, by its user's wish or because it gave up. Always the last event.
    Stopped {
        /// Messages that were accepted but not wholly handed to the operating system, in order.
        unsent: Unsent,
        /// Messages that were written after the last byte of the peer's was read, as in [`Event::Disconnected`]. 0 if
        /// the peer has answered the Close, or no connection was open.
        in_doubt: usize,
        /// The peer did not answer the Close within `close_timeout`, and its connection was dropped.
        close_timed_out: bool,
    },
}

impl Event {
    /// The messages that this event hands back.
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

/// A duration as logs show it: `25.3 s`, `2 s`, and below a tenth of a second `1.4 ms`.
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
