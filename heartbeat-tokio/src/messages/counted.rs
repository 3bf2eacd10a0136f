//! A byte stream that counts the bytes it carries.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use heartbeat_driver::messages::Traffic;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that counts the bytes it carries. Put it under a WebSocket library, for
/// [`Messages::traffic`](super::Messages::traffic).
#[derive(Debug)]
pub struct Counted<T> {
    io: T,
    traffic: Traffic,
}

impl<T> Counted<T> {
    /// Wraps `io`, with counts of zero.
    pub const fn new(io: T) -> Self {
        let traffic = Traffic {
            read: 0,
            written: 0,
        };
        Self { io, traffic }
    }

    /// Returns the number of bytes read and written so far.
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
