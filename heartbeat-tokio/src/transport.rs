//! Byte streams that can be driven: tokio's TCP socket, and a shim around anything asynchronous.

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
/// `read` and `write` return [`io::ErrorKind::WouldBlock`] rather than wait. The two `poll` methods
/// register the task and say whether trying again makes sense.
pub trait Transport: Read + Write + Send {
    /// Ready when a read may succeed (or fail); else the task is woken then.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready when a write may succeed (or fail); else the task is woken then.
    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready when the peer's end (FIN, RST) has arrived, behind bytes that nobody reads now perhaps; else the task is
    /// woken then. Asked for while reading is paused. A stream that cannot tell leaves this out: its end is
    /// noticed by the next write that fails, or when reading goes on.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Pending
    }

    /// Reads and writes ask the operating system itself from here on, each until it would block: a deadline has come,
    /// and what is known of readiness may be older than what has happened. For streams that remember
    /// readiness, as tokio's do; a stream that cannot ask (see [`Compat`]) leaves this out. A socket that was full is
    /// written to only where the system calls it writable: it takes some bytes before that, from a dead peer as well.
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
    /// What tokio knows of readiness does not count, for reads and for writes.
    doubts_reads: bool,
    doubts_writes: bool,
}

impl From<TcpStream> for Tcp {
    /// Sets `TCP_NOTSENT_LOWAT` where there is one, as [`TcpOptions::apply`](crate::TcpOptions::apply) does.
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
                // To tokio it has run dry, which spares the read that would say so.
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

/// After a read that did not fill its buffer, epoll tells of whatever comes next; what has come to its end before stays
/// known to tokio, which does the same in its own reads.
const ENDS_WITH_A_SHORT_READ: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    (&*SockRef::from(stream)).read(buffer)
}

/// Past tokio, and as the standard library writes: a peer that has gone is an error, and no SIGPIPE for a process that
/// lets that signal end it. (On Apple's systems this is an option of the socket, which mio sets.)
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
        // tokio knows of an end once epoll has told, and wakes for whatever else arrives, too. Bytes that wait are not
        // news: they are forgotten here, and reading asks the operating system itself when it goes on.
        while self.stream.poll_read_ready(cx).is_ready() {
            let ready = std::pin::pin!(self.stream.ready(Interest::READABLE));
            let ready = ready.poll(&mut Context::from_waker(Waker::noop()));
            if matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed() || ready.is_error())
            {
                return Poll::Ready(());
            }
            self.doubts_reads = true;
            let forgotten = self.stream.try_io(Interest::READABLE, || {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
            debug_assert!(forgotten.is_err());
        }
        Poll::Pending
    }

    fn doubt_readiness(&mut self) {
        (self.doubts_reads, self.doubts_writes) = (true, true);
    }
}

/// Any `AsyncRead + AsyncWrite` as a [`Transport`]: a Unix socket, a tunnel, an in-memory pair.
///
/// What it knows of readiness is what the wrapped stream knows. Where an application keeps the thread busy over a
/// deadline, and not so long that the tick counts as late (`Config::late_grace`), what arrived meanwhile may be unknown there.
#[derive(Debug)]
pub struct Compat<T> {
    io: T,
    reading: Side,
    writing: Side,
}

/// One direction: who is to be woken, and whether an attempt has been made that will wake them.
#[derive(Debug)]
struct Side {
    waker: Waker,
    registered: bool,
}

impl Side {
    fn idle() -> Self {
        Self {
            waker: Waker::noop().clone(),
            registered: false,
        }
    }

    /// Ready only if the last attempt has registered another task: it must be made again. Where there
    /// was no attempt that would block, there is nothing to wait for either.
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

    /// A program in C, or one that asks for it, lets the signal end it.
    #[cfg(unix)]
    #[tokio::test(flavor = "current_thread")]
    async fn a_write_past_tokio_to_a_peer_that_has_gone_raises_no_signal() {
        use tokio::signal::unix::{SignalKind, signal};

        // From here on it is not ignored any more, which it is in all programs of Rust's.
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
        assert!(signalled.is_err(), "SIGPIPE");
    }
}
