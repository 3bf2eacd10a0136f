//! Messages that are handed back.

use std::fmt;

use super::Message;

/// Messages that were accepted but not written, in the order in which they were accepted.
///
/// The peer has received none of these messages: a message that was not wholly handed to the operating system
/// is incomplete for the peer. If a part of a message was handed over, the message is marked as *cut*, because
/// a peer may act on a part.
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Message, Unsent}; // or heartbeat_blocking
/// # fn again(_: Message) {}
/// # let unsent = Unsent::default();
/// for returned in unsent {
///     if !returned.cut {
///         again(returned.message);
///     }
/// }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Unsent(Box<[Returned]>);

/// A message that was handed back.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Returned {
    /// The message.
    pub message: Message,
    /// A part of the message was handed to the operating system before the connection ended.
    pub cut: bool,
}

impl Unsent {
    pub(crate) fn new(cut: Option<Message>, rest: impl IntoIterator<Item = Message>) -> Self {
        let returned = |cut| move |message| Returned { message, cut };
        let cut = cut.into_iter().map(returned(true));
        Self(cut.chain(rest.into_iter().map(returned(false))).collect())
    }

    /// Returns the number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there are no messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns an iterator over the messages.
    pub fn iter(&self) -> std::slice::Iter<'_, Returned> {
        self.0.iter()
    }

    /// Returns all messages, cut or not.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.into_iter().map(|returned| returned.message).collect()
    }

    /// Appends the messages of `later`.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        match (self.is_empty(), later.is_empty()) {
            (true, _) => later,
            (_, true) => self,
            _ => Self(self.into_iter().chain(later).collect()),
        }
    }
}

impl IntoIterator for Unsent {
    type Item = Returned;
    type IntoIter = std::vec::IntoIter<Returned>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Unsent {
    type Item = &'a Returned;
    type IntoIter = std::slice::Iter<'a, Returned>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Leaves the messages out: they may hold credentials.
impl fmt::Debug for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Leaves the message out.
impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned")
            .field("len", &self.message.len())
            .field("cut", &self.cut)
            .finish()
    }
}
