//! Messages that are handed back.

use std::fmt;

use super::Message;

/// Messages that were accepted and not written: handed back, in the order in which they were accepted.
///
/// None of them was received: what has not wholly been handed to the operating system is no message to
/// a peer. Of one that was *cut* a part was handed over; it says so, because a peer may act on that.
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

/// A message that is handed back.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Returned {
    /// The message.
    pub message: Message,
    /// A part of it had been handed to the operating system when its connection ended.
    pub cut: bool,
}

impl Unsent {
    pub(crate) fn new(cut: Option<Message>, rest: impl IntoIterator<Item = Message>) -> Self {
        let returned = |cut| move |message| Returned { message, cut };
        let cut = cut.into_iter().map(returned(true));
        Self(cut.chain(rest.into_iter().map(returned(false))).collect())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Returned> {
        self.0.iter()
    }

    /// All of them, whether cut or not.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.into_iter().map(|returned| returned.message).collect()
    }

    /// These, and then those.
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

/// Without the messages: they may hold credentials.
impl fmt::Debug for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Without the message itself.
impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned")
            .field("len", &self.message.len())
            .field("cut", &self.cut)
            .finish()
    }
}
