//! Messages to be sent that are not yet written.

/// A message to be sent, not yet written: a place in the dialect that made it, and slices of the
/// message it answers. The `render` of that dialect writes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TemplateRef<'a> {
    /// The running number that `${id}` stands for.
    pub id: u64,
    #[cfg(feature = "dialects")]
    pub(super) origin: Origin<'a>,
    /// Without descriptions nothing makes a draft, and none takes room in an action.
    #[cfg(not(feature = "dialects"))]
    source: (
        core::marker::PhantomData<&'a str>,
        core::convert::Infallible,
    ),
}

#[cfg(feature = "dialects")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    /// What is answered; empty for a question.
    message: &'a [u8],
    pub(super) template: u16,
    /// From and to, in `message`.
    pub(super) captures: [(u16, u16); 4],
}

#[cfg(feature = "dialects")]
impl TemplateRef<'static> {
    /// A draft that takes nothing from a message. The number is its dialect's to choose, and tells its
    /// `render` what to write.
    #[must_use]
    pub const fn of(template: u16) -> Self {
        Self::answering(template, "")
    }
}

#[cfg(feature = "dialects")]
impl<'a> TemplateRef<'a> {
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
