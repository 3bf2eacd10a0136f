//! Decoding of compressed or wrapped messages, before the dialect and the application see them.

use super::Message;

heartbeat_core::debug_as_display!(Undecodable);

/// The name of the decoder in the report of its panic.
pub(crate) const DECODER: &str = "the decoder";

/// Decodes what the server sends, before the dialect sees it, because heartbeats may be compressed too. Each
/// connection has a decoder of its own, so a decoder may keep state between messages.
///
/// The cost of a message must not depend on the server's good will: a decoder may return at most `limit` bytes
/// ([`Options::max_message_size`](crate::Options::max_message_size)).
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Decode, Message, Options, Undecodable}; // or heartbeat_blocking
///
/// /// Removes the first byte of each binary message.
/// struct Skip;
///
/// impl Decode for Skip {
///     fn decode(&mut self, message: Message, _limit: usize) -> Result<Message, Undecodable> {
///         match message {
///             Message::Binary(bytes) if bytes.is_empty() => Err(Undecodable::malformed("empty")),
///             Message::Binary(bytes) => Ok(Message::Binary(bytes.slice(1..))),
///             text => Ok(text),
///         }
///     }
/// }
///
/// let options = Options::new("ws://example.org/")?.decoder(|| Skip);
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
pub trait Decode: Send {
    /// Returns the decoded message.
    ///
    /// # Errors
    /// [`Undecodable`] ends the connection.
    fn decode(&mut self, message: Message, limit: usize) -> Result<Message, Undecodable>;
}

impl<F: FnMut(Message, usize) -> Result<Message, Undecodable> + Send> Decode for F {
    fn decode(&mut self, message: Message, limit: usize) -> Result<Message, Undecodable> {
        self(message, limit)
    }
}

/// Why a message cannot be decoded. The connection ends with this error's close code, as it does for an invalid
/// WebSocket frame. The table of causes decides how the client goes on.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undecodable {
    /// Code 1009: the decoded message would be larger than the limit.
    #[error("a message is over {limit} bytes when decoded")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Code 1007: the message is malformed.
    #[error("a message cannot be decoded: {detail}")]
    Malformed {
        /// The defect.
        detail: Box<str>,
    },
}

impl Undecodable {
    /// Creates a [`Malformed`](Self::Malformed) error.
    pub fn malformed(detail: impl std::fmt::Display) -> Self {
        Self::Malformed {
            detail: detail.to_string().into(),
        }
    }

    /// Returns the close code (RFC 6455 §7.4.1).
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 1009,
            Self::Malformed { .. } => 1007,
        }
    }
}

/// Creates the decoder of a new connection.
pub(crate) type Decoders = Box<dyn FnMut() -> Box<dyn Decode> + Send>;
