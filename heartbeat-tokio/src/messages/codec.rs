//! What the driver must know of a library's messages.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use heartbeat_driver::core::Cause;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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
/// use heartbeat_tokio::messages::{Codec, Frame};
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

/// A socket that yields and takes the messages of a [`Codec`]. Every stream and sink of them is one.
pub trait Socket<C: Codec>:
    Stream<Item = Result<C::Message, C::Error>> + Sink<C::Message, Error = C::Error> + Unpin
{
}

impl<C: Codec, S> Socket<C> for S where
    S: Stream<Item = Result<C::Message, C::Error>> + Sink<C::Message, Error = C::Error> + Unpin
{
}

/// Bytes that went over a connection so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the peer.
    pub read: u64,
    /// To the peer.
    pub written: u64,
}

/// A byte stream that counts, to be put under a WebSocket library: see
/// [`Messages::traffic`](super::Messages::traffic).
#[derive(Debug)]
pub struct Counted<T> {
    io: T,
    traffic: Traffic,
}

impl<T> Counted<T> {
    /// Counts from nothing.
    pub const fn new(io: T) -> Self {
        let traffic = Traffic {
            read: 0,
            written: 0,
        };
        Self { io, traffic }
    }

    /// What went over it.
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.traffic.read += (buffer.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.traffic.written += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, buffers))?;
        self.traffic.written += count as u64;
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
