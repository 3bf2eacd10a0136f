//! Non-blocking byte streams: tokio's TCP socket, and an adapter for any `AsyncRead + AsyncWrite`.

use std::future::Future;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use heartbeat_driver::{is_writable, keep_unsent_short};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A non-blocking byte stream and its readiness.
///
/// `read` and `write` return [`io::ErrorKind::WouldBlock`] instead of waiting. The `poll` methods say whether to try
/// again, and otherwise register the task.
pub trait Transport: Read + Write + Send {
    /// Ready if a read may succeed or fail now. Otherwise wakes the task when that changes.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready if a write may succeed or fail now. Otherwise wakes the task when that changes.
    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready if the peer's end (FIN or RST) has arrived, even behind unread bytes. Otherwise wakes the task when it
    /// arrives. Called while reading is paused. A stream that cannot tell keeps this default: the client then notices
    /// the end by a failing write, or when it reads again.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Pending
    }

    /// Makes reads and writes ask the operating system directly from now on, each until it would block. Called when a
    /// deadline has come, because remembered readiness may be out of date. Implement it for streams that remember
    /// readiness, like tokio's. A stream that cannot ask (see [`Compat`]) keeps this default.
    ///
    /// Write to a socket that was full only if the system reports it as writable: the kernel accepts some bytes
    /// earlier, even if the peer is dead.
    fn doubt_readiness(&mut self) {}
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_read_ready(cx)
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_write_ready(cx)
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_hang_up(cx)
    }

    fn doubt_readiness(&mut self) {
        (**self).doubt_readiness();
    }
}

/// tokio's TCP socket, read and written without a future for each call.
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
    /// Reads ask the operating system, whatever readiness tokio remembers.
    doubts_reads: bool,
    /// Writes ask the operating system, whatever readiness tokio remembers.
    doubts_writes: bool,
}

impl From<TcpStream> for Tcp {
    /// Sets `TCP_NOTSENT_LOWAT` if the system has it, like [`TcpOptions::apply`](crate::TcpOptions::apply).
    fn from(stream: TcpStream) -> Self {
        keep_unsent_short(&stream);
        Self {
            stream,
            doubts_reads: false,
            doubts_writes: false,
        }
    }
}

impl Read for Tcp {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.doubts_reads {
            let read = receive(&self.stream, buffer);
            self.doubts_reads = read.is_ok();
            return read;
        }
        let mut count = 0;
        let read = self.stream.try_io(Interest::READABLE, || {
            count = receive(&self.stream, buffer)?;
            if ENDS_WITH_A_SHORT_READ && 0 < count && count < buffer.len() {
                // Tells tokio that the socket is drained. This saves a read that would return `WouldBlock`.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match read {
            Err(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }
}

/// True if a read that does not fill its buffer has drained the socket. With epoll, anything that arrives afterwards is a
/// new event, and tokio remembers an end of the stream that was already reported. tokio's own reads rely on this too.
const ENDS_WITH_A_SHORT_READ: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    (&*SockRef::from(stream)).read(buffer)
}

/// Writes to the socket without consulting tokio. As in the standard library, a closed peer gives an error and no SIGPIPE,
/// which would end a process that does not ignore it. (On Apple's systems mio sets a socket option for this.)
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(all(unix, not(target_vendor = "apple")))]
    return Ok(rustix::net::send(
        stream,
        bytes,
        rustix::net::SendFlags::NOSIGNAL,
    )?);
    #[cfg(not(all(unix, not(target_vendor = "apple"))))]
    return (&*SockRef::from(stream)).write(bytes);
}

impl Write for Tcp {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = if self.doubts_writes && is_writable(&self.stream) {
            send(&self.stream, bytes)
        } else {
            self.stream.try_write(bytes)
        };
        self.doubts_writes &= written.is_ok();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Tcp {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_read_ready(cx).map(drop)
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_write_ready(cx).map(drop)
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // tokio learns of an end from epoll, but its wake-up also comes for any received bytes. So this clears the
        // readiness that such bytes caused, and later reads ask the operating system directly.
        while self.stream.poll_read_ready(cx).is_ready() {
            let ready = std::pin::pin!(self.stream.ready(Interest::READABLE));
            let ready = ready.poll(&mut Context::from_waker(Waker::noop()));
            if matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed() || ready.is_error())
            {
                return Poll::Ready(());
            }
            self.doubts_reads = true;
            let cleared = self.stream.try_io(Interest::READABLE, || {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
            debug_assert!(cleared.is_err());
        }
        Poll::Pending
    }

    fn doubt_readiness(&mut self) {
        (self.doubts_reads, self.doubts_writes) = (true, true);
    }
}

/// Makes any `AsyncRead + AsyncWrite` a [`Transport`]: a Unix socket, a tunnel, an in-memory pair.
///
/// It relies on the readiness that the wrapped stream remembers. If the application keeps the thread busy past a deadline,
/// but not long enough for a late tick (`Config::late_grace`), the wrapped stream may not know yet what arrived meanwhile.
#[derive(Debug)]
pub struct Compat<T> {
    io: T,
    reading: Side,
    writing: Side,
}

/// One direction of the stream.
#[derive(Debug)]
struct Side {
    /// The task to wake.
    waker: Waker,
    /// The last attempt would have blocked, and registered `waker` with the stream.
    registered: bool,
}

impl Side {
    fn idle() -> Self {
        Self {
            waker: Waker::noop().clone(),
            registered: false,
        }
    }

    /// Ready only if the last attempt registered another task, because the attempt must then be repeated for this task.
    /// If no attempt would have blocked, there is nothing to wait for.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waker.will_wake(cx.waker()) {
            return Poll::Pending;
        }
        self.waker.clone_from(cx.waker());
        if std::mem::take(&mut self.registered) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn attempt<R>(
        &mut self,
        attempt: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> io::Result<R> {
        match attempt(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(result) => {
                self.registered = false;
                result
            }
            Poll::Pending => {
                self.registered = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}

impl<T> Compat<T> {
    /// Wraps `io`.
    pub fn new(io: T) -> Self {
        Self {
            io,
            reading: Side::idle(),
            writing: Side::idle(),
        }
    }
}

impl<T: AsyncRead + Unpin> Read for Compat<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        self.reading
            .attempt(|cx| Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl<T: AsyncWrite + Unpin> Write for Compat<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writing
            .attempt(|cx| Pin::new(&mut self.io).poll_write(cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writing
            .attempt(|cx| Pin::new(&mut self.io).poll_flush(cx))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for Compat<T> {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.reading.poll(cx)
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.writing.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// SIGPIPE ends C programs, and Rust programs that restore its default action.
    #[cfg(unix)]
    #[tokio::test(flavor = "current_thread")]
    async fn a_write_past_tokio_to_a_peer_that_has_gone_raises_no_signal() {
        use tokio::signal::unix::{SignalKind, signal};

        // Rust programs ignore SIGPIPE by default. From here on this test receives it.
        let mut signals = signal(SignalKind::pipe()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let mut tcp = Tcp::from(stream.unwrap());
        drop(listener.accept().unwrap());
        let error = loop {
            tcp.doubt_readiness();
            match tcp.write(b"anybody?") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break error,
                _ => tokio::task::yield_now().await,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let signalled = tokio::time::timeout(Duration::from_millis(100), signals.recv()).await;
        assert!(signalled.is_err(), "the write raised SIGPIPE");
    }
}
