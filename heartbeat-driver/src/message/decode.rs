//! Payloads that come compressed, or wrapped otherwise: decoded before anybody looks at them.

use super::Message;

heartbeat_core::debug_as_display!(Undecodable);

/// Its name where one panics.
pub(crate) const DECODER: &str = "the decoder";

/// Turns what the server sends into what it means, before the dialect sees it: a heartbeat may come
/// compressed, too. RequestResult anew for each connection, so that it may carry state from message to message.
///
/// What one message costs must not depend on the server's good will: a decoder may return at most
/// `limit` bytes ([`Options::max_message_size`](crate::Options::max_message_size)).
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Decode, Message, Options, Undecodable}; // or heartbeat_blocking
///
/// /// Every message begins with a byte that says nothing.
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
    /// What this message means.
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

/// Why a message cannot be decoded. The connection ends with this code, as if the peer's WebSocket
/// frames had been at fault, and the table of causes decides what follows.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undecodable {
    /// Code 1009: decoded it would be larger than allowed.
    #[error("a message is over {limit} bytes when decoded")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Code 1007: it is not what it should be.
    #[error("a message cannot be decoded: {detail}")]
    Malformed {
        /// What is wrong with it.
        detail: Box<str>,
    },
}

impl Undecodable {
    /// A message that is not what it should be.
    pub fn malformed(detail: impl std::fmt::Display) -> Self {
        Self::Malformed {
            detail: detail.to_string().into(),
        }
    }

    /// RFC 6455 §7.4.1.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 1009,
            Self::Malformed { .. } => 1007,
        }
    }
}

/// Makes a decoder for a connection.
pub(crate) type Decoders = Box<dyn FnMut() -> Box<dyn Decode> + Send>;
