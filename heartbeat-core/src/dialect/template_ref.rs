//! References to messages that the dialect has yet to write.

/// A reference to a message to send: the number of a template in its dialect, and slices of the message that it
/// answers. The dialect's `render` writes the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TemplateRef<'a> {
    /// The running number for `${id}`.
    pub id: u64,
    #[cfg(feature = "dialects")]
    pub(super) origin: Origin<'a>,
    /// Without descriptions no `TemplateRef` can exist, and an action needs no room for one.
    #[cfg(not(feature = "dialects"))]
    source: (
        core::marker::PhantomData<&'a str>,
        core::convert::Infallible,
    ),
}

#[cfg(feature = "dialects")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    /// The message to answer; empty for a ping.
    message: &'a [u8],
    pub(super) template: u16,
    /// Start and end of each capture in `message`.
    pub(super) captures: [(u16, u16); 4],
}

#[cfg(feature = "dialects")]
impl TemplateRef<'static> {
    /// Refers to a template that takes nothing from a message. The dialect chooses the number, and its `render`
    /// recognizes the template by the number.
    #[must_use]
    pub const fn of(template: u16) -> Self {
        Self::answering(template, "")
    }
}

#[cfg(feature = "dialects")]
impl<'a> TemplateRef<'a> {
    /// Refers to a template that answers this text message.
    #[must_use]
    pub const fn answering(template: u16, message: &'a str) -> Self {
        Self::answering_bytes(template, message.as_bytes())
    }

    /// Refers to a template that answers this binary message.
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

    /// Returns the template's number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.origin.template
    }

    /// Returns the text message to answer; empty if there is none, or if a binary message is not UTF-8.
    #[must_use]
    pub const fn message(&self) -> &'a str {
        match core::str::from_utf8(self.origin.message) {
            Ok(text) => text,
            Err(_) => "",
        }
    }

    /// Returns the message to answer, text or binary; empty if there is none.
    #[must_use]
    pub const fn message_bytes(&self) -> &'a [u8] {
        self.origin.message
    }

    /// Returns the slice with this capture number.
    pub(crate) fn capture(&self, number: usize) -> &'a [u8] {
        let range = self.origin.captures.get(number).copied();
        let (from, to) = range.unwrap_or_default();
        let slice = self.origin.message.get(from.into()..to.into());
        slice.unwrap_or_default()
    }
}

impl core::fmt::Debug for TemplateRef<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut debug = f.debug_struct("TemplateRef");
        debug.field("id", &self.id);
        #[cfg(feature = "dialects")]
        debug
            .field("template", &self.origin.template)
            .field("message", &self.message());
        debug.finish_non_exhaustive()
    }
}
