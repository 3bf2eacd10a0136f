//! Classification of an incoming message.

use core::time::Duration;

use super::template_ref::TemplateRef;
use crate::config::Ping;

/// The answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply<'a> {
    /// A WebSocket pong frame with these bytes, the ping's own.
    Frame(&'a [u8]),
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// What the dialect makes of this draft: its `render` writes it
    /// (see [`Dialect`](crate::Dialect)).
    Template(TemplateRef<'a>),
}

/// What a message is to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class<'a> {
    /// The application's.
    Data,
    /// A sign of life that wants no answer.
    Beat,
    /// The answer to a ping of ours. Never answered itself.
    Pong,
    /// The response to the request with this id (a raw JSON value): a pong if that was our ping,
    /// the application's otherwise.
    Response(&'a str),
    /// A question that wants this answer at once.
    Ping(Reply<'a>),
    /// More than one of these at once.
    Composite(Composite<'a>),
}

impl Class<'_> {
    /// Whether the application gets the message: it is data, or carries some.
    #[must_use]
    pub const fn is_for_application(&self) -> bool {
        match self {
            Self::Data => true,
            Self::Composite(carried) => carried.data,
            Self::Beat | Self::Pong | Self::Response(_) | Self::Ping(_) => false,
        }
    }
}

/// What a message carries that is more than one thing at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Composite<'a> {
    /// A ping, which wants this answer at once.
    pub reply: Option<Reply<'a>>,
    /// What the service says about its own times.
    pub hello: Hello,
    /// The application gets the message, too.
    pub data: bool,
    /// The service announces that it will end this connection within this time: the machine
    /// [renews](crate::Action::Renew) it before.
    pub ending: Option<Duration>,
}

/// The times that a service announces when a connection opens. They hold for that connection, within
/// [`Hello::MIN`] and [`Hello::MAX`], and so that a ping comes before silence is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// When it wants to hear a ping of ours.
    pub ping: Option<Ping>,
    /// How long it may be silent at most while it is well.
    pub idle_timeout: Option<Duration>,
}

impl Hello {
    /// Nothing was announced.
    pub const NONE: Self = Self {
        ping: None,
        idle_timeout: None,
    };

    /// No announced time is taken for less: 1 s. A hostile service cannot make us flood it, or tear
    /// down a connection at every hiccup.
    pub const MIN: Duration = Duration::from_secs(1);

    /// No announced time is taken for more: 10 min. A hostile service cannot make us deaf for longer;
    /// the longest silence that one of the catalogue announces is AppSync's, 5 min. To be asked more
    /// often than it wants (OCPP: every 4 h) does no service harm.
    pub const MAX: Duration = Duration::from_secs(600);

    /// Whether nothing was announced.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.ping.is_none() && self.idle_timeout.is_none()
    }

    /// The time that is kept to when this one was announced.
    pub(crate) fn bounded(time: Duration) -> Duration {
        time.clamp(Self::MIN, Self::MAX)
    }

    pub(crate) fn bounded_ping(ping: Ping) -> Ping {
        match ping {
            Ping::Never => Ping::Never,
            Ping::AfterSilence(silence) => Ping::AfterSilence(Self::bounded(silence)),
            Ping::Every(interval) => Ping::Every(Self::bounded(interval)),
        }
    }
}
