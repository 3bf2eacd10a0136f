//! What the driver must know of a library's messages.

use std::fmt;
use std::task::{Context, Poll};

use heartbeat_core::Cause;

/// A message of any library, lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping frame's payload.
    Ping(&'a [u8]),
    /// A pong frame's payload.
    Pong(&'a [u8]),
    /// A Close frame's code, if it has one.
    Close(Option<u16>),
}

impl Frame<'_> {
    /// Bytes of the payload that is the application's or the machine's.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(_) => 0,
        }
    }
}

/// How a WebSocket library's messages are read and made. Implemented by a type of its own, so that it
/// can be written for any library anywhere.
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::messages::{Codec, Frame}; // or heartbeat_blocking
/// use tungstenite::{Error, Message};
///
/// /// For `tokio_tungstenite::WebSocketStream`.
/// struct Tungstenite;
///
/// impl Codec for Tungstenite {
///     type Message = Message;
///     type Error = Error;
///     const ANSWERS_PINGS: bool = true;
///
///     fn frame(message: &Message) -> Option<Frame<'_>> {
///         Some(match message {
///             Message::Text(text) => Frame::Text(text),
///             Message::Binary(bytes) => Frame::Binary(bytes),
///             Message::Ping(payload) => Frame::Ping(payload),
///             Message::Pong(payload) => Frame::Pong(payload),
///             Message::Close(frame) => Frame::Close(frame.as_ref().map(|frame| frame.code.into())),
///             Message::Frame(_) => return None,
///         })
///     }
///
///     fn message(frame: Frame<'_>) -> Message {
///         match frame {
///             Frame::Text(text) => Message::text(text),
///             Frame::Binary(bytes) => Message::binary(bytes.to_vec()),
///             Frame::Ping(payload) => Message::Ping(payload.to_vec().into()),
///             Frame::Pong(payload) => Message::Pong(payload.to_vec().into()),
///             Frame::Close(_) => Message::Close(None),
///         }
///     }
/// }
/// ```
pub trait Codec {
    /// What the library yields and takes. The application gets and gives these, as they are.
    type Message: Send + Unpin;

    /// What goes wrong.
    type Error: fmt::Display;

    /// The library answers ping frames by itself, at the next flush: then the driver flushes and makes no
    /// pong of its own, which would be a second one.
    const ANSWERS_PINGS: bool;

    /// What a message is; `None` if it is nothing that a peer sends.
    fn frame(message: &Self::Message) -> Option<Frame<'_>>;

    /// A message of the driver's own: a ping, a pong, a Close frame, or what the dialect has written.
    fn message(frame: Frame<'_>) -> Self::Message;

    /// What an error means to the machine. It decides about the next dial, and nothing else.
    fn cause(error: &Self::Error) -> Cause {
        let _ = error;
        Cause::Io
    }
}

/// A socket that yields and takes the messages of a [`Codec`], and waits for nothing. What is pending wakes the context's
/// task later, if whoever drives this waits in that way.
pub trait Socket<C: Codec> {
    /// The next message; `None` at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<C::Message, C::Error>>>;

    /// Ready when a message may be given.
    ///
    /// # Errors
    /// The connection has ended.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>>;

    /// Takes a message, after `poll_ready` was ready.
    ///
    /// # Errors
    /// The connection has ended, or the library refuses the message.
    fn give(&mut self, message: C::Message) -> Result<(), C::Error>;

    /// Writes what was given; ready when all of it is.
    ///
    /// # Errors
    /// The connection has ended.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>>;

    /// Bytes that went over it, if somebody counts them.
    fn traffic(&self) -> Option<Traffic> {
        None
    }
}

/// Bytes that went over a connection so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the peer.
    pub read: u64,
    /// To the peer.
    pub written: u64,
}
