//! A dialect describes how a service sends and answers heartbeats. WebSocket ping and pong frames need no dialect:
//! the machine handles them.
//!
//! A text or binary message goes in. Its [`Class`] comes out, with references to templates of messages to send. The
//! machine sees only `class.rs`, `ping.rs` and `template_ref.rs`. A description is a dialect as JSON:
//! `description/` reads it, `rules/` matches messages, `template/` writes them, `json/` scans texts without parsing
//! them. `services/` is the catalogue. Read this file first.

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
pub use limits::{Limits, Rate, Rates};
pub use ping::{First, PingSpec};
#[cfg(feature = "dialects")]
pub use services::{CatalogueEntry, Contradiction, Lint, catalogue, lint_limit};
#[cfg(feature = "dialects")]
pub use template::{Buffer, Outgoing, Values, Variables};
pub use template_ref::TemplateRef;

/// Distinguishes heartbeats from data.
///
/// A dialect is pure: equal bytes get equal answers, so a driver may classify a message before it decides on a
/// step. A message that the dialect does not know is data, never an error.
pub trait Dialect {
    /// Classifies a text message.
    fn classify_text<'a>(&self, text: &'a str) -> Class<'a>;

    /// Classifies a binary message.
    fn classify_binary<'a>(&self, bytes: &'a [u8]) -> Class<'a>;

    /// Returns the policy for a close code of this service: one of its own (4000–4999), or a standard one that it
    /// uses in its own way. `None`: the common table decides.
    fn close_policy(&self, code: u16) -> Option<RetryPolicy> {
        let _ = code;
        None
    }

    /// Returns this service's policy for an HTTP status in place of the upgrade, unless the answer has a
    /// `Retry-After`. `None`: the common table decides.
    fn http_policy(&self, status: u16) -> Option<RetryPolicy> {
        let _ = status;
        None
    }

    /// Returns how to ping this service.
    fn ping(&self) -> PingSpec {
        PingSpec::default()
    }

    /// Returns the message with this number, from 0, to send when a connection opens.
    fn greeting(&self, number: usize) -> Option<TemplateRef<'static>> {
        let _ = number;
        None
    }

    /// Returns the separator of the records of a text message, for a service that joins several records. One step
    /// answers only the first ping of a joined message. A driver that passes each record to the machine as a
    /// message of its own answers all of them.
    fn separator(&self) -> Option<&str> {
        None
    }

    /// Returns the separator of the records of a binary message, for a service that joins several records. One step
    /// answers only the first ping of a joined message.
    fn binary_separator(&self) -> Option<&[u8]> {
        None
    }

    /// Writes the message of a template of this dialect into `buffer`. Returns `None` if a value that the template
    /// needs is unknown, or if the template belongs to another dialect.
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

    /// Returns true if a driver must call [`track`](Self::track) with each text message. The answer never changes.
    /// Most dialects need no tracking.
    #[cfg(feature = "dialects")]
    fn tracks(&self) -> bool {
        false
    }

    /// Updates the variables of the templates from a message (for example Discord's last `s`).
    #[cfg(feature = "dialects")]
    fn track(&self, text: &str, variables: &mut Variables) {
        let _ = (text, variables);
    }
}

/// Forwards the trait's methods for references and pointers to a dialect.
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

// `Arc` needs an allocator, and atomic reference counts, which a Cortex-M0 does not have.
#[cfg(all(feature = "serde", target_has_atomic = "ptr"))]
impl<D: Dialect + ?Sized> Dialect for alloc::sync::Arc<D> {
    forward!();
}

/// WebSocket frames alone: all text and binary messages are data. Trace name: `frames`.
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
