//! Messages: their payloads, texts, decoders, joined records, and Close frames.
//!
//! [`Message`] owns its payload, and [`MessageRef`] borrows it. This module knows nothing about connections.
//! Read this file first.

mod close;
mod decode;
#[cfg(feature = "inflate")]
mod inflate;
pub mod records;
mod text;
mod unsent;

use std::fmt;

use bytes::Bytes;

pub use self::close::{Close, InvalidClose};
pub(crate) use self::close::{CloseFrame, Goodbye};
pub(crate) use self::decode::{DECODER, Decoders};
pub use self::decode::{Decode, Undecodable};
#[cfg(feature = "inflate")]
pub use self::inflate::Inflate;
pub use self::text::Text;
pub use self::unsent::{Returned, Unsent};

/// An application message. Cloning is cheap, because clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message, valid UTF-8.
    Text(Text),
    /// A binary message.
    Binary(Bytes),
}

impl Message {
    /// Returns the length of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Returns true if the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Borrows the message.
    #[must_use]
    pub fn lend(&self) -> MessageRef<'_> {
        match self {
            Self::Text(text) => MessageRef::Text(text),
            Self::Binary(bytes) => MessageRef::Binary(bytes),
        }
    }

    /// Returns the text of a text message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Returns the payload of a text or binary message. The bytes of a text are UTF-8.
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Message; // or heartbeat_blocking
    /// assert_eq!(Message::from("tick").as_bytes(), b"tick");
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns the payload of a text or binary message, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns the text of a text message, or of a binary message that is UTF-8, without a copy.
    ///
    /// ```
    /// # use heartbeat_driver as heartbeat_tokio;
    /// use heartbeat_tokio::Message; // or heartbeat_blocking
    /// let text = Message::from(b"tick".to_vec()).into_text();
    /// assert_eq!(text.as_deref(), Ok("tick"));
    /// assert!(Message::from(vec![0xff]).into_text().is_err());
    /// ```
    ///
    /// # Errors
    /// Returns the message itself if its payload is not UTF-8.
    pub fn into_text(self) -> Result<Text, Self> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(bytes) => Text::try_from(bytes.clone()).map_err(|_| Self::Binary(bytes)),
        }
    }
}

/// Shows the kind and the length alone, as in `Text(12 bytes)`: the payload may hold credentials.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Text(_) => "Text",
            Self::Binary(_) => "Binary",
        };
        write!(f, "{kind}({} bytes)", self.len())
    }
}

/// A borrowed message. Its bytes lie in the read buffer or in a [`Message`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MessageRef<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl MessageRef<'_> {
    /// Returns the length of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Returns true if the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the payload. The bytes of a text are UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Copies the payload into a [`Message`].
    #[must_use]
    pub fn to_message(&self) -> Message {
        match *self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => Message::Binary(Bytes::copy_from_slice(bytes)),
        }
    }
}

/// Shows the kind and the length alone, as for [`Message`].
impl fmt::Debug for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Text(_) => "Text",
            Self::Binary(_) => "Binary",
        };
        write!(f, "{kind}({} bytes)", self.len())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

#[cfg(feature = "tungstenite")]
impl From<Message> for tungstenite::Message {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

/// Converts a text or binary message. A control frame is returned as the error.
#[cfg(feature = "tungstenite")]
impl TryFrom<tungstenite::Message> for Message {
    type Error = tungstenite::Message;

    fn try_from(message: tungstenite::Message) -> Result<Self, Self::Error> {
        match message {
            tungstenite::Message::Text(text) => Ok(Self::Text(text.into())),
            tungstenite::Message::Binary(bytes) => Ok(Self::Binary(bytes)),
            other => Err(other),
        }
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

#[cfg(all(test, feature = "tungstenite"))]
mod tests {
    use super::*;

    #[test]
    fn messages_become_tungstenites_and_come_back() {
        for message in [Message::from("é"), Message::from(vec![1, 2])] {
            let theirs = tungstenite::Message::from(message.clone());
            assert_eq!(Message::try_from(theirs), Ok(message));
        }
        let ping = tungstenite::Message::Ping(Bytes::new());
        assert_eq!(Message::try_from(ping.clone()), Err(ping));
    }
}
