//! What a driver tells the machine.

use core::fmt;

use crate::cause::Cause;

/// Names one connection, from its dial to its end.
///
/// Only [`Action::Connect`](crate::Action::Connect) hands one out, the first is 1, and each is larger
/// than the one before. Events and actions about a connection carry its id, so that a late word from
/// an earlier connection is known as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// An id from its number, for drivers that carry ids across a boundary (a trace, another language).
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
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
    /// Time has passed. Always safe, at any time; due at the `wake` of the last step. Read what has
    /// already arrived and report it *before* the tick: bytes in hand beat a deadline.
    Tick,
    /// The dial succeeded: the upgrade is done.
    Connected(ConnId),
    /// The session is ready: the application has authenticated, subscribed and the like. Means something
    /// only where the configuration has a `session_timeout`.
    Ready(ConnId),
    /// A whole message arrived. Of a burst, everything but pings may be reported as one
    /// [`Message::Data`] when the socket has run dry.
    Received(ConnId, Message<'a>),
    /// Bytes arrived that are no whole message yet.
    Progress(ConnId),
    /// Bytes wait to be written and the transport takes none. Said again while it lasts, it changes
    /// nothing; where some bytes moved, say [`Event::Wrote`] in between.
    WriteBlocked(ConnId),
    /// The transport took bytes, of the application's or of the machine's own. After
    /// [`WriteBlocked`](Event::WriteBlocked) this is progress: until then nothing that the peer does not say is
    /// held against it.
    Wrote(ConnId),
    /// The ping of the last [`SendPing`](crate::Action::SendPing) waits behind other bytes. It is no question
    /// before [`PingWritten`](Event::PingWritten). A driver that cannot tell reports neither.
    PingWaiting(ConnId),
    /// Every ping so far has been handed to the transport.
    PingWritten(ConnId),
    /// The ping of the last [`SendPing`](crate::Action::SendPing) could not be sent at all (a variable of its
    /// message is not set). It counts as never asked.
    PingUnsent(ConnId),
    /// Where the dial under way goes. A driver with one endpoint that has one address need not say so.
    Routed(ConnId, Route),
    /// The driver stops reading because the application takes no messages.
    ReadPaused(ConnId),
    /// The driver reads again.
    ReadResumed(ConnId),
    /// The dial failed or the connection ended.
    Closed(ConnId, Cause),
    /// The network is back (or the user is impatient): dial now, or probe now if open.
    Kick,
    /// The user wants no connection any more.
    Stop,
}

/// Where a dial goes, as far as the machine keeps a record of it: a client gives up only when each of its
/// endpoints has said that dialling it is hopeless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
pub struct Route {
    /// The endpoint's place among all of them, from 0. From [`Route::MOST`] on they share the last record.
    pub endpoint: u8,
    /// How many endpoints there are.
    pub endpoints: u8,
    /// This endpoint has further addresses, which have not failed since the last one that served: an end
    /// that says hopeless is not believed before they were tried.
    pub more_addresses: bool,
}

impl Route {
    /// Endpoints with a record of their own.
    pub const MOST: u8 = 64;

    /// One endpoint with one address, which is what a machine assumes until it is told otherwise.
    pub const ONLY: Self = Self {
        endpoint: 0,
        endpoints: 1,
        more_addresses: false,
    };
}

/// A message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Application data, already told from heartbeats by the driver, or a burst of it.
    Data,
    /// A WebSocket ping frame with its payload.
    Ping(&'a [u8]),
    /// A WebSocket pong frame with its payload.
    Pong(&'a [u8]),
    /// A text message, to be classified by the dialect.
    Text(&'a str),
    /// A binary message, to be classified by the dialect.
    Binary(&'a [u8]),
}
