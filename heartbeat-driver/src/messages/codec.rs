//! The codec: how the driver reads and makes the messages of a WebSocket library.

use std::fmt;
use std::task::{Context, Poll};

use heartbeat_core::Cause;

/// A borrowed message of any library.
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
    /// Returns the length of the payload in bytes; 0 for a Close frame.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(_) => 0,
        }
    }
}

/// Reads and makes the messages of a WebSocket library. Implement it for a marker type of your own, so that it
/// can be written for any library in any crate.
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
    /// The library's message type. The application receives and sends these messages unchanged.
    type Message: Send + Unpin;

    /// The library's error type.
    type Error: fmt::Display;

    /// True if the library answers ping frames by itself at the next flush. The driver then only flushes,
    /// because its own pong would be a second one.
    const ANSWERS_PINGS: bool;

    /// Classifies a message. Returns `None` for a message that no peer sends.
    fn frame(message: &Self::Message) -> Option<Frame<'_>>;

    /// Makes a message of the driver: a ping, a pong, a Close frame, or a message of the dialect.
    fn message(frame: Frame<'_>) -> Self::Message;

    /// Returns the cause that an error counts as. The cause only affects the next dial.
    fn cause(error: &Self::Error) -> Cause {
        let _ = error;
        Cause::Io
    }
}

/// A non-blocking socket that yields and takes the messages of a [`Codec`]. A pending call wakes the context's
/// task later, if the caller drives the socket by tasks.
pub trait Socket<C: Codec> {
    /// Returns the next message, or `None` at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<C::Message, C::Error>>>;

    /// Returns ready once a message may be given.
    ///
    /// # Errors
    /// The connection has ended.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>>;

    /// Takes a message, after `poll_ready` returned ready.
    ///
    /// # Errors
    /// The connection has ended, or the library refuses the message.
    fn give(&mut self, message: C::Message) -> Result<(), C::Error>;

    /// Writes all given messages. Returns ready when they are written.
    ///
    /// # Errors
    /// The connection has ended.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>>;

    /// Returns the bytes that the connection has transferred, if they are counted.
    fn traffic(&self) -> Option<Traffic> {
        None
    }
}

/// Bytes that a connection has transferred so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes from the peer.
    pub read: u64,
    /// Bytes to the peer.
    pub written: u64,
}
