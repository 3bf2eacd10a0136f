//! How a service says ping. WebSocket ping and pong frames need no dialect: the machine knows them.

use core::time::Duration;

use crate::action::Reply;
use crate::cause::Verdict;
use crate::config::Ping;

#[cfg(feature = "dialects")]
mod any;
#[cfg(feature = "dialects")]
mod at;
#[cfg(feature = "dialects")]
mod build;
#[cfg(feature = "dialects")]
mod bytes;
#[cfg(feature = "dialects")]
mod catalogue;
#[cfg(feature = "dialects")]
mod classify;
#[cfg(feature = "dialects")]
mod description;
#[cfg(feature = "dialects")]
mod error;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "json")]
mod json_type;
#[cfg(feature = "dialects")]
mod kind;
#[cfg(feature = "dialects")]
mod limits;
#[cfg(feature = "dialects")]
mod lint;
#[cfg(feature = "dialects")]
mod load;
#[cfg(feature = "dialects")]
mod load_times;
#[cfg(feature = "dialects")]
mod needles;
#[cfg(feature = "dialects")]
mod path;
#[cfg(feature = "dialects")]
mod prefilter;
#[cfg(feature = "json")]
mod raw;
#[cfg(feature = "dialects")]
mod rule;
#[cfg(feature = "dialects")]
mod scan;
#[cfg(feature = "dialects")]
mod service;
#[cfg(feature = "dialects")]
mod template;

#[cfg(feature = "dialects")]
pub use any::AnyDialect;
#[cfg(feature = "dialects")]
pub use build::{DescriptionBuilder, Rule};
#[cfg(feature = "dialects")]
pub use catalogue::{CatalogueEntry, catalogue};
#[cfg(feature = "dialects")]
pub use description::Description;
#[cfg(feature = "dialects")]
pub use error::DescriptionError;
#[cfg(feature = "json")]
pub use json_type::JsonType;
#[cfg(feature = "dialects")]
pub use limits::{Limits, Rate};
#[cfg(feature = "dialects")]
pub use lint::{Lint, lint_limit};
#[cfg(feature = "dialects")]
pub use service::{Contradiction, UnknownService};
#[cfg(feature = "dialects")]
pub use template::{Buffer, Outgoing, Values, Variables};

/// Tells heartbeats from data.
///
/// Pure, and the same answer for the same bytes: a driver may ask before it decides whether a
/// message is worth a step. A message that is not understood is data, never an error.
pub trait Dialect {
    /// What a text message is.
    fn classify_text<'a>(&self, text: &'a str) -> Class<'a>;

    /// What a binary message is.
    fn classify_binary<'a>(&self, bytes: &'a [u8]) -> Class<'a>;

    /// What a close code asks for with this service: one of its own (4000–4999), or one that it uses in its own
    /// way. `None`: the common table decides.
    fn close_verdict(&self, code: u16) -> Option<Verdict> {
        let _ = code;
        None
    }

    /// What an HTTP status in place of the upgrade asks for with this service, where the answer does not say by
    /// `Retry-After`. `None`: the common table decides.
    fn http_verdict(&self, status: u16) -> Option<Verdict> {
        let _ = status;
        None
    }

    /// How this service is asked for a sign of life.
    fn ask(&self) -> AskBy {
        AskBy::default()
    }

    /// What to send when a connection is open, by its number from 0.
    fn greeting(&self, number: usize) -> Option<Draft<'static>> {
        let _ = number;
        None
    }

    /// What stands between the records of a text message, where a service joins several. One step answers
    /// the first ping among them: a driver that gives the machine each record by itself, as a message of
    /// its own, answers them all.
    fn separator(&self) -> Option<&str> {
        None
    }

    /// What stands between the records of a binary message, where a service joins several. One step answers the
    /// first ping among them.
    fn binary_separator(&self) -> Option<&[u8]> {
        None
    }

    /// Fills in a draft that this dialect has made; the message goes into `buffer`. `None` if a value
    /// that it needs is not known, and for a draft of another dialect's.
    #[cfg(feature = "dialects")]
    fn render<'d>(
        &'d self,
        draft: &Draft<'_>,
        values: &Values<'_>,
        buffer: &'d mut Buffer,
    ) -> Option<Outgoing<'d>> {
        let _ = (draft, values, buffer);
        None
    }

    /// Whether [`track`](Self::track) is to be called with each text message. Most dialects keep nothing
    /// of what they see; always the same answer.
    #[cfg(feature = "dialects")]
    fn tracks(&self) -> bool {
        false
    }

    /// Lets a message change what the dialect keeps for its templates (Discord's last `s`, say).
    #[cfg(feature = "dialects")]
    fn track(&self, text: &str, variables: &mut Variables) {
        let _ = (text, variables);
    }
}

/// How a service is asked for a sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AskBy {
    /// By the message that this draft becomes; `None`: by a WebSocket ping frame.
    pub message: Option<Draft<'static>>,
    /// Whether that message is answered. One that is not is a beat of ours: where an answer is
    /// needed, a ping frame is sent.
    pub is_answered: bool,
    /// When a connection's first question comes, if questions come at an interval.
    pub first: First,
    /// By how much of the interval, in percent (0–100, default 0), each question comes earlier at most, drawn evenly
    /// anew each time, so that a fleet does not ping in step.
    pub jitter_percent: u8,
}

/// When a connection's first periodic ping comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// After one interval.
    #[default]
    After,
    /// As soon as the connection is open.
    AtOnce,
    /// After an even draw between nothing and one interval, so that a fleet that reconnects at once
    /// does not ping at once.
    Jittered,
}

/// A message to be sent, not yet written: a place in the dialect that made it, and slices of the
/// message it answers. The `render` of that dialect writes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Draft<'a> {
    /// The running number that `${id}` stands for.
    pub id: u64,
    #[cfg(feature = "dialects")]
    origin: Origin<'a>,
    /// Without descriptions nothing makes a draft, and none takes room in an action.
    #[cfg(not(feature = "dialects"))]
    source: (
        core::marker::PhantomData<&'a str>,
        core::convert::Infallible,
    ),
}

#[cfg(feature = "dialects")]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Origin<'a> {
    /// What is answered; empty for a question.
    message: &'a [u8],
    template: u16,
    /// From and to, in `message`.
    captures: [(u16, u16); 4],
}

#[cfg(feature = "dialects")]
impl Draft<'static> {
    /// A draft that takes nothing from a message. The number is its dialect's to choose, and tells its
    /// `render` what to write.
    #[must_use]
    pub const fn of(template: u16) -> Self {
        Self::answering(template, "")
    }
}

#[cfg(feature = "dialects")]
impl<'a> Draft<'a> {
    /// A draft that answers this message.
    #[must_use]
    pub const fn answering(template: u16, message: &'a str) -> Self {
        Self::answering_bytes(template, message.as_bytes())
    }

    /// A draft that answers this binary message.
    #[must_use]
    pub const fn answering_bytes(template: u16, message: &'a [u8]) -> Self {
        Self {
            id: 0,
            origin: Origin {
                message,
                template,
                captures: [(0, 0); 4],
            },
        }
    }

    /// The number that it was made with.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.origin.template
    }

    /// The text message that it answers; empty if none, or if a binary one that is no text.
    #[must_use]
    pub const fn message(&self) -> &'a str {
        match core::str::from_utf8(self.origin.message) {
            Ok(text) => text,
            Err(_) => "",
        }
    }

    /// The message that it answers, text or binary; empty if none.
    #[must_use]
    pub const fn message_bytes(&self) -> &'a [u8] {
        self.origin.message
    }

    /// The slice that was captured as this number.
    fn capture(&self, number: usize) -> &'a [u8] {
        let range = self.origin.captures.get(number).copied();
        let (from, to) = range.unwrap_or_default();
        let slice = self.origin.message.get(from.into()..to.into());
        slice.unwrap_or_default()
    }
}

impl core::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut debug = f.debug_struct("Draft");
        debug.field("id", &self.id);
        #[cfg(feature = "dialects")]
        debug
            .field("template", &self.origin.template)
            .field("message", &self.message());
        debug.finish_non_exhaustive()
    }
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
    Carrier(Carried<'a>),
}

impl Class<'_> {
    /// Whether the application gets the message: it is data, or carries some.
    #[must_use]
    pub const fn is_for_application(&self) -> bool {
        match self {
            Self::Data => true,
            Self::Carrier(carried) => carried.data,
            Self::Beat | Self::Pong | Self::Response(_) | Self::Ping(_) => false,
        }
    }
}

/// What a message carries that is more than one thing at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Carried<'a> {
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

/// The methods of a dialect that is only lent.
macro_rules! forward {
    () => {
        fn classify_text<'a>(&self, text: &'a str) -> Class<'a> {
            (**self).classify_text(text)
        }

        fn classify_binary<'a>(&self, bytes: &'a [u8]) -> Class<'a> {
            (**self).classify_binary(bytes)
        }

        fn close_verdict(&self, code: u16) -> Option<Verdict> {
            (**self).close_verdict(code)
        }

        fn http_verdict(&self, status: u16) -> Option<Verdict> {
            (**self).http_verdict(status)
        }

        fn ask(&self) -> AskBy {
            (**self).ask()
        }

        fn greeting(&self, number: usize) -> Option<Draft<'static>> {
            (**self).greeting(number)
        }

        fn separator(&self) -> Option<&str> {
            (**self).separator()
        }

        fn binary_separator(&self) -> Option<&[u8]> {
            (**self).binary_separator()
        }

        #[cfg(feature = "dialects")]
        fn render<'d>(
            &'d self,
            draft: &Draft<'_>,
            values: &Values<'_>,
            buffer: &'d mut Buffer,
        ) -> Option<Outgoing<'d>> {
            (**self).render(draft, values, buffer)
        }

        #[cfg(feature = "dialects")]
        fn tracks(&self) -> bool {
            (**self).tracks()
        }

        #[cfg(feature = "dialects")]
        fn track(&self, text: &str, variables: &mut Variables) {
            (**self).track(text, variables);
        }
    };
}

impl<D: Dialect + ?Sized> Dialect for &D {
    forward!();
}

// Where there is an allocator, and a processor that can count references atomically (a Cortex-M0 cannot).
#[cfg(all(feature = "serde", target_has_atomic = "ptr"))]
impl<D: Dialect + ?Sized> Dialect for alloc::sync::Arc<D> {
    forward!();
}

/// WebSocket frames alone: every text and binary message is data. Trace name: `frames`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramesOnly;

impl Dialect for FramesOnly {
    fn classify_text<'a>(&self, _: &'a str) -> Class<'a> {
        Class::Data
    }

    fn classify_binary<'a>(&self, _: &'a [u8]) -> Class<'a> {
        Class::Data
    }
}
