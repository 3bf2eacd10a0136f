//! What the machine asks of a driver.

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
        /// Names the connection from now on.
        conn: ConnId,
        /// Failures in a row before this dial: 0 for the first, n for retry n.
        attempt: u32,
        /// The last credentials were refused, and no server has judged fresh ones yet.
        refresh: bool,
    },
    /// Answer a ping, before anything else is read.
    SendPong {
        /// The connection that the ping came on.
        conn: ConnId,
        /// What to send.
        reply: Reply<'a>,
    },
    /// PingMessage the peer for a sign of life.
    SendPing {
        /// The connection.
        conn: ConnId,
        /// What to send.
        ping: PingMessage,
    },
    /// A note: this connection is about to end, and will be [renewed](Self::Renew) after `within`. Whoever wants no gap
    /// makes another one until then. It takes the place of a [`Check`](Self::Check) that is due in the same step.
    Ending {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: Renewal,
        /// How long until then.
        within: Duration,
    },
    /// Start the WebSocket closing handshake. When it is over, or after `close_timeout`, another dial follows.
    Renew {
        /// The connection.
        conn: ConnId,
        /// The close code to send.
        code: u16,
        /// Why.
        why: Renewal,
    },
    /// Start the WebSocket closing handshake. Only after `Stop`.
    Close {
        /// The connection.
        conn: ConnId,
        /// The close code to send.
        code: u16,
    },
    /// Drop the transport now, without a handshake. Nothing more is heard of this id.
    Abort {
        /// The connection.
        conn: ConnId,
        /// The verdict.
        reason: AbortReason,
    },
    /// A note: the next dial is planned. `wake` covers it.
    ReconnectAt {
        /// When.
        at: Instant,
        /// Which retry in a row it will be, from 1; 0 after a renewal.
        attempt: u32,
        /// How long until then.
        delay: Duration,
        /// The end says that dialling again is hopeless, and is not believed
        /// ([`PermanentErrors`](crate::PermanentErrors)).
        tolerated: Option<Cause>,
    },
    /// A note, every `check_interval` while open.
    Check {
        /// The connection.
        conn: ConnId,
        /// How long nothing was heard.
        idle: Duration,
    },
    /// A note: there will be no further dial.
    GaveUp {
        /// Why.
        reason: GiveUp,
    },
}

/// A question to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PingMessage {
    /// A WebSocket ping frame. The payload is a running number, so that its pong can be told from others.
    Frame([u8; 8]),
    /// What the dialect makes of this draft: its `render` writes it
    /// (see [`Dialect`](crate::Dialect)).
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
    /// No data for `data_timeout`.
    DataTimeout,
    /// A write did not move for `write_timeout`.
    WriteTimeout,
    /// The session was not ready within `session_timeout`.
    SessionTimeout,
    /// The closing handshake took longer than `close_timeout`.
    CloseTimeout,
    /// The dial or connection is not wanted any more: it was abandoned before it succeeded.
    Stale,
}

impl AbortReason {
    /// The word for logs and traces (`idle_timeout`, …).
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
    /// We dropped it.
    Aborted(AbortReason),
    /// The peer or the network did.
    Cause(Cause),
    /// We closed it, although it was well, to dial anew before the service ends it.
    Renewal(Renewal),
}

impl Reason {
    /// What the peer or the network did, if it was that.
    #[must_use]
    pub const fn cause(self) -> Option<Cause> {
        match self {
            Self::Cause(cause) => Some(cause),
            Self::Aborted(_) | Self::Renewal(_) => None,
        }
    }

    /// The kind of end in one word, without codes: `idle_timeout`, `close`, `http`, `reset`, `renewal`, ….
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

/// Why there will be no further dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GiveUp {
    /// `max_attempts` dials in a row did not lead to a stable connection; how the last one ended.
    MaxAttempts(Reason),
    /// Fresh credentials were refused, too; the last refusal.
    Credentials(Cause),
    /// Dialling again cannot mend this.
    Cause(Cause),
}

/// In words, for people: `max_attempts reached, the last attempt ended with refused`, `http 403`.
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

/// The actions of one step, in the order in which they must be performed. Inline, at most [`Actions::MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Actions<'a>(ArrayVec<Action<'a>, { Actions::MAX }>);

impl<'a> Actions<'a> {
    /// The most actions that one step can have: a ping's answer or the abort of a late dial, then
    /// either a verdict with its `ReconnectAt`, or a note (of a check, or of an end) and a ping.
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

/// The answer to one event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the actions are commands: a step whose actions are dropped leaves the peer unanswered"]
pub struct Step<'a> {
    /// What to do now, in this order.
    pub actions: Actions<'a>,
    /// When to step again with [`Event::Tick`](crate::Event::Tick) if nothing happens before.
    /// Always later than the `now` of the step. `None`: only an event can change anything.
    pub wake: Option<Instant>,
    /// The event was about a connection that is not the current one.
    pub stale: bool,
}
