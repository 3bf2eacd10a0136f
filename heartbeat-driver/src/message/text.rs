//! The text of a message: UTF-8 bytes that are cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

/// UTF-8 text with shared ownership. Cloning copies no bytes.
///
/// It dereferences to [`str`]. Converting a [`String`] reuses its buffer. Converting [`Bytes`] checks them for
/// UTF-8 and shares them.
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Bytes, Text}; // or heartbeat_blocking
/// let text = Text::from("é");
/// assert_eq!(text.clone(), "é");
/// assert_eq!(Bytes::from(text), "é".as_bytes());
/// assert!(Text::try_from(Bytes::from_static(&[0xff])).is_err());
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(ByteString);

impl Text {
    /// Returns the text as a string slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Creates a text from a string literal, without a copy.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }

    /// Shares a part of the text.
    #[inline]
    pub(crate) fn share(&self, part: &str) -> Self {
        Self(self.0.slice_ref(part))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl TryFrom<Bytes> for Text {
    type Error = std::str::Utf8Error;

    /// # Errors
    /// The bytes are not UTF-8.
    #[inline]
    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl From<Text> for Bytes {
    fn from(text: Text) -> Self {
        text.0.into_bytes()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

/// Shares the bytes.
#[cfg(feature = "tungstenite")]
impl From<Text> for tungstenite::Utf8Bytes {
    fn from(text: Text) -> Self {
        // The conversion checks for UTF-8 again, and cannot fail.
        Self::try_from(Bytes::from(text)).unwrap_or_default()
    }
}

/// Shares the bytes.
#[cfg(feature = "tungstenite")]
impl From<tungstenite::Utf8Bytes> for Text {
    fn from(text: tungstenite::Utf8Bytes) -> Self {
        // The conversion checks for UTF-8 again, and cannot fail.
        Self::try_from(Bytes::from(text)).unwrap_or_default()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Formats the text like a string slice.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
