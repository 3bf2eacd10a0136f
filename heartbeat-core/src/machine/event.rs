//! The events that a driver reports to the machine.

use core::fmt;

use crate::cause::Cause;

/// The id of one connection, from its dial to its end.
///
/// Only [`Action::Connect`](crate::Action::Connect) hands out ids. The first one is 1, and each is larger than the
/// one before. Events and actions carry the id of their connection, so that the machine recognizes late reports
/// about an earlier connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// Creates an id from its number, for drivers that carry ids across a boundary (a trace, another language).
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that happened to a connection or to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Time has passed. Due at the `wake` of the last step, and safe at any other time. Read and report the bytes
    /// that have arrived *before* the tick: bytes that have arrived take precedence over a deadline.
    Tick,
    /// The dial succeeded, including the upgrade.
    Connected(ConnId),
    /// The session is ready: the application has authenticated, subscribed and the like. Has an effect only with a
    /// `session_timeout`.
    Ready(ConnId),
    /// A whole message arrived. In a burst, a driver may report everything except pings as one [`Message::Data`]
    /// once the socket has run dry.
    Received(ConnId, Message<'a>),
    /// Part of a message arrived.
    Progress(ConnId),
    /// Bytes wait to be written and the transport takes none. Repeating the event changes nothing. If some bytes
    /// have moved in between, report [`Event::Wrote`] first.
    WriteBlocked(ConnId),
    /// The transport took bytes, of the application or of the machine. After [`WriteBlocked`](Event::WriteBlocked)
    /// this counts as progress: the silence of the peer until now is not charged.
    Wrote(ConnId),
    /// The ping of the last [`SendPing`](crate::Action::SendPing) waits behind other bytes. Its time starts with
    /// [`PingWritten`](Event::PingWritten). A driver that cannot tell reports neither event.
    PingWaiting(ConnId),
    /// All pings so far were handed to the transport.
    PingWritten(ConnId),
    /// The ping of the last [`SendPing`](crate::Action::SendPing) cannot be sent, because a variable of its message
    /// is not set. The machine treats the ping as never sent.
    PingUnsent(ConnId),
    /// The destination of the present dial. A driver with one endpoint and one address may leave this out.
    Routed(ConnId, Route),
    /// The driver stops reading, because the application takes no messages.
    ReadPaused(ConnId),
    /// The driver reads again.
    ReadResumed(ConnId),
    /// The dial failed or the connection ended.
    Closed(ConnId, Cause),
    /// The network is back, or the user asks for it: dial now, or probe now if open.
    Kick,
    /// The user no longer wants a connection.
    Stop,
}

/// The destination of a dial. The machine keeps a record of each endpoint, and gives up only when all endpoints are
/// hopeless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
pub struct Route {
    /// The endpoint's index, from 0. Endpoints from [`Route::MOST`] on share the last record.
    pub endpoint: u8,
    /// The number of endpoints.
    pub endpoints: u8,
    /// This endpoint has further addresses that have not failed since the last successful connection. The machine
    /// tries those before it accepts a permanent error.
    pub more_addresses: bool,
}

impl Route {
    /// The number of endpoints with a record of their own.
    pub const MOST: u8 = 64;

    /// One endpoint with one address. The machine assumes this route until the driver reports another.
    pub const ONLY: Self = Self {
        endpoint: 0,
        endpoints: 1,
        more_addresses: false,
    };
}

/// A message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Application data, or a burst of application data. The driver has sorted heartbeats out.
    Data,
    /// A WebSocket ping frame with its payload.
    Ping(&'a [u8]),
    /// A WebSocket pong frame with its payload.
    Pong(&'a [u8]),
    /// A text message for the dialect to classify.
    Text(&'a str),
    /// A binary message for the dialect to classify.
    Binary(&'a [u8]),
}
