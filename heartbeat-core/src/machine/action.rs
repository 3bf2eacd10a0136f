//! The actions that the machine asks a driver to perform.

use core::fmt;
use core::ops::Deref;
use core::time::Duration;

use arrayvec::ArrayVec;

use super::event::ConnId;
use crate::cause::Cause;
use crate::dialect::{Reply, TemplateRef};
use crate::renewal::Renewal;
use crate::time::Instant;

/// A command to the driver, or a note for the log. Borrows a reply's bytes from the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Dial, and report [`Event::Connected`](crate::Event::Connected) or
    /// [`Event::Closed`](crate::Event::Closed) with this id.
    Connect {
        /// The id of the new connection.
        conn: ConnId,
        /// Failures in a row before this dial: 0 for the first, n for retry n.
        attempt: u32,
        /// The last credentials were refused, and no server has judged fresh ones yet.
        refresh: bool,
    },
    /// Answer a ping before reading anything else.
    SendPong {
        /// The connection that the ping arrived on.
        conn: ConnId,
        /// The answer to send.
        reply: Reply<'a>,
    },
    /// Send a ping.
    SendPing {
        /// The connection.
        conn: ConnId,
        /// The ping to send.
        ping: PingMessage,
    },
    /// A note: this connection will be [renewed](Self::Renew) after `within`. An application that wants no gap
    /// opens another connection before then. This note replaces a [`Check`](Self::Check) that is due in the same
    /// step.
    Ending {
        /// The connection.
        conn: ConnId,
        /// The reason.
        why: Renewal,
        /// Time until the renewal.
        within: Duration,
    },
    /// Start the WebSocket closing handshake, in order to renew the connection. A dial follows at the end of the
    /// handshake, or after `close_timeout`.
    Renew {
        /// The connection.
        conn: ConnId,
        /// The close code to send.
        code: u16,
        /// The reason.
        why: Renewal,
    },
    /// Start the WebSocket closing handshake. Comes only after `Stop`.
    Close {
        /// The connection.
        conn: ConnId,
        /// The close code to send.
        code: u16,
    },
    /// Drop the transport now, without a closing handshake. The id is stale from here on.
    Abort {
        /// The connection.
        conn: ConnId,
        /// The timeout that fired.
        reason: AbortReason,
    },
    /// A note: the next dial is planned. `wake` includes the time of the dial.
    ReconnectAt {
        /// The time of the dial.
        at: Instant,
        /// The number of the retry, counted from 1 within a row of failures; 0 after a renewal.
        attempt: u32,
        /// Time until the dial.
        delay: Duration,
        /// The permanent error that was tolerated ([`PermanentErrors`](crate::PermanentErrors)).
        tolerated: Option<Cause>,
    },
    /// A note, every `check_interval` while open.
    Check {
        /// The connection.
        conn: ConnId,
        /// Time since the last byte.
        idle: Duration,
    },
    /// A note: there will be no further dial.
    GaveUp {
        /// The reason.
        reason: GiveUp,
    },
}

/// A ping to send to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PingMessage {
    /// A WebSocket ping frame. The payload is a running number, which identifies the pong.
    Frame([u8; 8]),
    /// A message of the service. The dialect's `render` writes the template out (see [`Dialect`](crate::Dialect)).
    Template(TemplateRef<'static>),
}

/// Why the machine dropped a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AbortReason {
    /// The dial took longer than `connect_timeout`.
    ConnectTimeout,
    /// Nothing was heard for `idle_timeout`.
    IdleTimeout,
    /// Nothing was heard for `pong_timeout` after a probe.
    PongTimeout,
    /// No data arrived for `data_timeout`.
    DataTimeout,
    /// Bytes waited for `write_timeout` without progress.
    WriteTimeout,
    /// The session was not ready within `session_timeout`.
    SessionTimeout,
    /// The closing handshake took longer than `close_timeout`.
    CloseTimeout,
    /// The dial or connection was abandoned before it succeeded.
    Stale,
}

impl AbortReason {
    /// Returns the name for logs and traces (`idle_timeout`, …).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectTimeout => "connect_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::PongTimeout => "pong_timeout",
            Self::DataTimeout => "data_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::SessionTimeout => "session_timeout",
            Self::CloseTimeout => "close_timeout",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a connection or a dial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The machine dropped the connection.
    Aborted(AbortReason),
    /// The peer or the network ended the connection.
    Cause(Cause),
    /// The machine closed a healthy connection, to dial again before the service ends it.
    Renewal(Renewal),
}

impl Reason {
    /// Returns the cause if the peer or the network ended the connection.
    #[must_use]
    pub const fn cause(self) -> Option<Cause> {
        match self {
            Self::Cause(cause) => Some(cause),
            Self::Aborted(_) | Self::Renewal(_) => None,
        }
    }

    /// Returns the kind of end in one word, without codes: `idle_timeout`, `close`, `http`, `reset`, `renewal`, ….
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Aborted(reason) => reason.as_str(),
            Self::Renewal(_) => "renewal",
            Self::Cause(cause) => match cause {
                Cause::Refused => "refused",
                Cause::Reset => "reset",
                Cause::Eof => "eof",
                Cause::Tls => "tls",
                Cause::Close(_) => "close",
                Cause::Protocol(_) => "protocol",
                Cause::Http { .. } => "http",
                Cause::Session(_) => "session",
                _ => "io",
            },
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted(reason) => reason.fmt(f),
            Self::Cause(cause) => cause.fmt(f),
            Self::Renewal(why) => write!(f, "renewal ({why})"),
        }
    }
}

/// The reason why no further dial will follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GiveUp {
    /// `max_attempts` dials in a row led to no stable connection. Holds the end of the last one.
    MaxAttempts(Reason),
    /// Fresh credentials were refused, too. Holds the last refusal.
    Credentials(Cause),
    /// The cause is permanent: dialling again cannot help.
    Cause(Cause),
}

/// Writes a phrase for people: `max_attempts reached, the last attempt ended with refused`, `http 403`.
impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxAttempts(last) => {
                write!(
                    f,
                    "max_attempts reached, the last attempt ended with {last}"
                )
            }
            Self::Credentials(cause) => {
                write!(f, "credentials refused twice, the last time by {cause}")
            }
            Self::Cause(cause) => cause.fmt(f),
        }
    }
}

/// The actions of one step, in the order in which to perform them. Stored inline, at most [`Actions::MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Actions<'a>(ArrayVec<Action<'a>, { Actions::MAX }>);

impl<'a> Actions<'a> {
    /// The most actions that one step can have: the answer to a ping or the abort of a late dial, followed either
    /// by a verdict with its `ReconnectAt`, or by a note (of a check or an end) and a ping.
    pub const MAX: usize = 3;

    pub(crate) fn push(&mut self, action: Action<'a>) {
        self.0.push(action);
    }
}

impl<'a> Deref for Actions<'a> {
    type Target = [Action<'a>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'a> IntoIterator for Actions<'a> {
    type Item = Action<'a>;
    type IntoIter = IntoIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter(self.0.into_iter())
    }
}

/// Owning iterator over [`Actions`].
#[derive(Debug)]
pub struct IntoIter<'a>(arrayvec::IntoIter<Action<'a>, { Actions::MAX }>);

impl<'a> Iterator for IntoIter<'a> {
    type Item = Action<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// The result of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the actions are commands: a step whose actions are dropped leaves the peer unanswered"]
pub struct Step<'a> {
    /// The actions to perform now, in this order.
    pub actions: Actions<'a>,
    /// The time of the next [`Event::Tick`](crate::Event::Tick), unless another event comes first. Always later
    /// than the `now` of the step. `None`: only an event can change anything.
    pub wake: Option<Instant>,
    /// The event concerned a connection that is not the current one.
    pub stale: bool,
}
