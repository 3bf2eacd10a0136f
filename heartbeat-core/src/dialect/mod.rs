//! How a service says ping. WebSocket ping and pong frames need no dialect: the machine knows them.
//!
//! In: a text or binary message. Out: its [`Class`], and drafts of messages to send. `class.rs` and `template_ref.rs` are all that
//! the machine sees. A description is a dialect as JSON: `description/` reads it, `rules/` matches messages, `template/`
//! writes them, `json/` scans texts without parsing them. `services/` is the catalogue. Read this file first.

use crate::cause::RetryPolicy;

#[cfg(feature = "dialects")]
mod any;
#[cfg(feature = "dialects")]
mod at;
mod class;
#[cfg(feature = "dialects")]
mod description;
#[cfg(feature = "dialects")]
mod error;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "json")]
mod json_type;
#[cfg(feature = "dialects")]
mod limits;
mod ping;
#[cfg(feature = "dialects")]
mod rules;
#[cfg(feature = "dialects")]
mod services;
#[cfg(feature = "dialects")]
mod template;
mod template_ref;

#[cfg(feature = "dialects")]
pub use any::AnyDialect;
pub use class::{Class, Composite, Hello, Reply};
#[cfg(feature = "dialects")]
pub use description::{Description, DescriptionBuilder, Rule};
#[cfg(feature = "dialects")]
pub use error::{DescriptionError, UnknownService};
#[cfg(feature = "json")]
pub use json_type::JsonType;
#[cfg(feature = "dialects")]
pub use limits::{Limits, Rate};
pub use ping::{First, PingSpec};
#[cfg(feature = "dialects")]
pub use services::{CatalogueEntry, Contradiction, Lint, catalogue, lint_limit};
#[cfg(feature = "dialects")]
pub use template::{Buffer, Outgoing, Values, Variables};
pub use template_ref::TemplateRef;

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
    fn close_policy(&self, code: u16) -> Option<RetryPolicy> {
        let _ = code;
        None
    }

    /// What an HTTP status in place of the upgrade asks for with this service, where the answer does not say by
    /// `Retry-After`. `None`: the common table decides.
    fn http_policy(&self, status: u16) -> Option<RetryPolicy> {
        let _ = status;
        None
    }

    /// How this service is asked for a sign of life.
    fn ping(&self) -> PingSpec {
        PingSpec::default()
    }

    /// What to send when a connection is open, by its number from 0.
    fn greeting(&self, number: usize) -> Option<TemplateRef<'static>> {
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
        draft: &TemplateRef<'_>,
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

/// The methods of a dialect that is only lent.
macro_rules! forward {
    () => {
        fn classify_text<'a>(&self, text: &'a str) -> Class<'a> {
            (**self).classify_text(text)
        }

        fn classify_binary<'a>(&self, bytes: &'a [u8]) -> Class<'a> {
            (**self).classify_binary(bytes)
        }

        fn close_policy(&self, code: u16) -> Option<RetryPolicy> {
            (**self).close_policy(code)
        }

        fn http_policy(&self, status: u16) -> Option<RetryPolicy> {
            (**self).http_policy(status)
        }

        fn ping(&self) -> PingSpec {
            (**self).ping()
        }

        fn greeting(&self, number: usize) -> Option<TemplateRef<'static>> {
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
            draft: &TemplateRef<'_>,
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
