//! Classification of an incoming message.

use core::time::Duration;

use super::template_ref::TemplateRef;
use crate::config::Ping;

/// The answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply<'a> {
    /// A WebSocket pong frame with the ping's bytes.
    Frame(&'a [u8]),
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A message of the service. The dialect's `render` writes the template out (see [`Dialect`](crate::Dialect)).
    Template(TemplateRef<'a>),
}

/// Classification of an incoming message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class<'a> {
    /// Data for the application.
    Data,
    /// A heartbeat that needs no answer.
    Beat,
    /// The answer to a ping of the machine. It gets no answer itself.
    Pong,
    /// The response to the request with this id (a raw JSON value). If the request was the machine's ping, the
    /// response is a pong. Otherwise it belongs to the application.
    Response(&'a str),
    /// A ping, to be answered at once with this reply.
    Ping(Reply<'a>),
    /// A message with more than one of these parts.
    Composite(Composite<'a>),
}

impl Class<'_> {
    /// Returns true if the application gets the message, because it is or contains data.
    #[must_use]
    pub const fn is_for_application(&self) -> bool {
        match self {
            Self::Data => true,
            Self::Composite(carried) => carried.data,
            Self::Beat | Self::Pong | Self::Response(_) | Self::Ping(_) => false,
        }
    }
}

/// The parts of a message that is several things at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Composite<'a> {
    /// The reply to a ping in the message, to be sent at once.
    pub reply: Option<Reply<'a>>,
    /// The times that the service announces.
    pub hello: Hello,
    /// True if the application gets the message, too.
    pub data: bool,
    /// The service announces that it will end this connection within this time. The machine
    /// [renews](crate::Action::Renew) the connection before then.
    pub ending: Option<Duration>,
}

/// The times that a service announces when a connection opens. They hold for that connection. The machine keeps
/// them between [`Hello::MIN`] and [`Hello::MAX`], and lets a ping come before silence is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// The times at which the service wants a ping.
    pub ping: Option<Ping>,
    /// The longest silence of a healthy service.
    pub idle_timeout: Option<Duration>,
}

impl Hello {
    /// No announcement.
    pub const NONE: Self = Self {
        ping: None,
        idle_timeout: None,
    };

    /// The shortest announced time that the machine accepts: 1 s. A hostile service cannot make the client flood
    /// it, or drop a connection at every hiccup.
    pub const MIN: Duration = Duration::from_secs(1);

    /// The longest announced time that the machine accepts: 10 min. A hostile service cannot make the client deaf
    /// for longer. The longest silence that a service of the catalogue announces is AppSync's, 5 min. Pinging a
    /// service more often than it asks for (OCPP: every 4 h) does no harm.
    pub const MAX: Duration = Duration::from_secs(600);

    /// Returns true if nothing was announced.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.ping.is_none() && self.idle_timeout.is_none()
    }

    /// Returns the announced time, kept within the bounds.
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
