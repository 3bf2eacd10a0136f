//! The machine over a [`tungstenite::WebSocket`](https://docs.rs/tungstenite) that the application opens. Use it for a
//! client with your own TCP, TLS and upgrade, or for the server's side of a connection. Needs the feature `tungstenite`.
//!
//! ```no_run
//! use std::io;
//! use std::net::{TcpStream, ToSocketAddrs as _};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use heartbeat_blocking::messages::{Counted, Event, Messages, upgrade_error};
//! use heartbeat_blocking::{Config, JsonType};
//!
//! let connect = |_| {
//!     let mut addresses = "example.org:80".to_socket_addrs()?;
//!     let address = addresses.next().ok_or(io::Error::from(io::ErrorKind::NotFound))?;
//!     let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
//!     stream.set_read_timeout(Some(Duration::from_secs(10)))?;
//!     stream.set_nodelay(true)?;
//!     let upgraded = tungstenite::client("ws://example.org/feed", Counted::new(stream));
//!     Ok(upgraded.map_err(upgrade_error)?.0)
//! };
//! let client = Messages::connecting(connect, Counted::get_ref, Config::default(), Arc::new(JsonType))?;
//! for event in client.traffic(Counted::traffic) {
//!     if let Event::Message { message, .. } = event {
//!         println!("{}", message.to_text().unwrap_or("(binary)"));
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With `wss://` and `tungstenite::connect`, the stream is a `MaybeTlsStream<TcpStream>`, and the second argument returns
//! its TCP socket.
//!
//! # Differences from [`InPlace`](crate::InPlace)
//!
//! - A library does not report how much of a message it has written. So messages that were given to the library and may
//!   not be flushed when the connection ends are only counted (`uncertain`), not handed back.
//! - tungstenite yields whole messages. A message that takes longer to arrive than the machine waits counts as silence, and
//!   one that takes longer to send than `write_timeout` counts as stuck. [`Messages::traffic`] avoids both by counting
//!   bytes.
//! - A dial is the application's own code in a thread. The client stops waiting for it at `connect_timeout`, but only its
//!   own timeouts end it.
//! - There is no sender for other threads. There are no sessions, gaps, held messages, proxies, redirects, decoders, dial
//!   budget or `explain`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use heartbeat_driver::core::{Clock as _, Config, ConnId, Heartbeat, Instant};
use heartbeat_driver::messages::{Codec as _, Socket, Tungstenite, Turn, Watched};
use heartbeat_driver::{
    Attempt, HostClock, Panicked, SharedDialect, catch, is_writable, keep_unsent_short,
};
use mio::{Events, Interest, Token};
use tungstenite::handshake::{HandshakeError, HandshakeRole};
use tungstenite::{Error, Message, WebSocket};

use crate::error::RecvTimeoutError;

pub use heartbeat_driver::messages::{Event, Traffic};

const WAKER: Token = Token(0);
const SOCKET: Token = Token(1);

/// Messages read before the machine is told and due timers run.
const BURST: u32 = 64;

/// A byte stream that counts the bytes it carries. Put it under a WebSocket library, for [`Messages::traffic`].
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

    /// Returns the wrapped stream.
    pub const fn get_ref(&self) -> &T {
        &self.io
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.io.read(buffer)?;
        self.traffic.read += count as u64;
        Ok(count)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.io.write(bytes)?;
        self.traffic.written += count as u64;
        Ok(count)
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let count = self.io.write_vectored(buffers)?;
        self.traffic.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.io.flush()
    }
}

/// Converts the error of an upgrade to tungstenite's `Error`. If the upgrade hit the stream's read timeout, the result is
/// `Error::Io` with [`TimedOut`](io::ErrorKind::TimedOut).
pub fn upgrade_error<R: HandshakeRole>(error: HandshakeError<R>) -> Error {
    match error {
        HandshakeError::Failure(error) => error,
        HandshakeError::Interrupted(_) => Error::Io(io::ErrorKind::TimedOut.into()),
    }
}

/// A non-blocking tungstenite socket.
struct NonBlocking<S> {
    socket: WebSocket<S>,
    /// A second handle to the TCP socket, for the poll.
    tcp: mio::net::TcpStream,
    is_registered: bool,
    traffic: Option<fn(&S) -> Traffic>,
    /// The last write or flush would have blocked. The next one waits until the operating system reports the socket as
    /// writable: the kernel accepts some bytes earlier, even if the peer is dead.
    is_full: bool,
    /// Bytes that the library wrote during reads while the socket was full and not reported as writable. They do not
    /// count as progress.
    early: u64,
    has_ended: bool,
}

impl<S> NonBlocking<S> {
    fn new(socket: WebSocket<S>, tcp: fn(&S) -> &TcpStream) -> io::Result<Self> {
        let tcp = tcp(socket.get_ref()).try_clone()?;
        // Both handles share this setting.
        tcp.set_nonblocking(true)?;
        keep_unsent_short(&tcp);
        Ok(Self {
            socket,
            tcp: mio::net::TcpStream::from_std(tcp),
            is_registered: false,
            traffic: None,
            is_full: false,
            early: 0,
            has_ended: false,
        })
    }
}

impl<S> NonBlocking<S> {
    fn written(&self) -> u64 {
        self.traffic
            .map_or(0, |traffic| traffic(self.socket.get_ref()).written)
    }
}

/// Maps `WouldBlock` to pending.
fn now<T>(result: Result<T, Error>) -> Poll<Result<T, Error>> {
    match result {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl<S: Read + Write> Socket<Tungstenite> for NonBlocking<S> {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let may_be_early = self.is_full && !is_writable(&self.tcp);
        let before = self.written();
        let read = now(self.socket.read());
        if may_be_early {
            self.early += self.written().saturating_sub(before);
        }
        read.map(|read| {
            self.has_ended = read.is_err();
            match read {
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => None,
                read => Some(read),
            }
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.is_full {
            return self.poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn give(&mut self, message: Message) -> Result<(), Error> {
        match now(self.socket.write(message)) {
            Poll::Ready(given) => given,
            // The library has taken the message and will write it later.
            Poll::Pending => {
                self.is_full = true;
                Ok(())
            }
        }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.is_full && !is_writable(&self.tcp) {
            return Poll::Pending;
        }
        let flushed = now(self.socket.flush());
        self.is_full = flushed.is_pending();
        match flushed {
            // The Close was sent, so nothing is left to write.
            Poll::Ready(Err(Error::ConnectionClosed)) => Poll::Ready(Ok(())),
            flushed => flushed,
        }
    }

    fn traffic(&self) -> Option<Traffic> {
        let mut traffic = self.traffic?(self.socket.get_ref());
        traffic.written = traffic.written.saturating_sub(self.early);
        Some(traffic)
    }
}

type Connect<S> = Arc<dyn Fn(Attempt) -> Result<WebSocket<S>, Error> + Send + Sync>;
type Dialed<S> = Result<Result<WebSocket<S>, Error>, Panicked>;

/// A [`tungstenite::WebSocket`](https://docs.rs/tungstenite), watched by the machine. It runs only inside its `recv`
/// methods. Call them in a loop that never waits long for anything else, or heartbeats are late. Dropping it closes the
/// socket.
///
/// See the [module](self).
pub struct Messages<S> {
    watched: Watched<NonBlocking<S>, Tungstenite, HostClock>,
    connect: Option<Connect<S>>,
    tcp: fn(&S) -> &TcpStream,
    traffic: Option<fn(&S) -> Traffic>,
    dialing: Option<(ConnId, Receiver<Dialed<S>>)>,
    poll: mio::Poll,
    ready: Events,
    /// Ends a wait when a dial ends.
    waker: Arc<mio::Waker>,
    /// Messages read since the machine was last told of received data.
    taken: u32,
}

impl<S: Read + Write + Send + 'static> Messages<S> {
    /// Creates the server's side over an open socket. It ends with the socket. Only the settings for an open connection
    /// apply. `tcp` returns the TCP socket inside the stream, which is made non-blocking.
    ///
    /// # Errors
    /// The operating system's error if it refuses a poll instance or another descriptor.
    pub fn accepted(
        socket: WebSocket<S>,
        tcp: fn(&S) -> &TcpStream,
        config: impl Into<Arc<Config>>,
        dialect: SharedDialect,
    ) -> io::Result<Self> {
        let socket = NonBlocking::new(socket, tcp)?;
        let watched = Watched::accepted(socket, config.into(), dialect, HostClock::start());
        Self::new(watched, tcp, None)
    }

    /// Creates a client. `connect` is called for each dial, in its own thread. It resolves the name, connects, and performs
    /// the upgrade, and may block for each. At `connect_timeout` the client stops waiting for it and drops its result, so
    /// its own timeouts should end it by then. The first dial begins in the first call of a `recv` method. `tcp` returns
    /// the TCP socket inside the stream, which is made non-blocking.
    ///
    /// # Errors
    /// The operating system's error if it refuses a poll instance.
    pub fn connecting(
        connect: impl Fn(Attempt) -> Result<WebSocket<S>, Error> + Send + Sync + 'static,
        tcp: fn(&S) -> &TcpStream,
        config: impl Into<Arc<Config>>,
        dialect: SharedDialect,
    ) -> io::Result<Self> {
        let watched = Watched::connecting(config.into(), dialect, HostClock::start());
        Self::new(watched, tcp, Some(Arc::new(connect)))
    }

    fn new(
        watched: Watched<NonBlocking<S>, Tungstenite, HostClock>,
        tcp: fn(&S) -> &TcpStream,
        connect: Option<Connect<S>>,
    ) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            watched,
            connect,
            tcp,
            traffic: None,
            dialing: None,
            poll,
            ready: Events::with_capacity(8),
            waker,
            taken: 0,
        })
    }

    /// Sets the name of the tracing span of all log lines. Default: `client`.
    ///
    /// [`Options::name`](crate::Options::name) describes the log.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.watched.set_name(name);
        self
    }

    /// Sets a function that returns the number of bytes a socket has read and written. A part of a large message then
    /// proves that the peer is alive, and a part of a written message counts as progress. With a [`Counted`] stream, pass
    /// [`Counted::traffic`].
    #[must_use]
    pub fn traffic(mut self, traffic: fn(&S) -> Traffic) -> Self {
        self.traffic = Some(traffic);
        if let Some(socket) = self.watched.socket() {
            socket.traffic = self.traffic;
        }
        self
    }

    /// Sets how many messages may wait to be written, at least 1. Default 256.
    #[must_use]
    pub fn queue(mut self, messages: usize) -> Self {
        self.watched.set_queue(messages);
        self
    }

    /// Queues a message. It is written while a `recv` method runs.
    ///
    /// # Errors
    /// Hands the message back if no connection is open, if the queue is full ([`queue`](Self::queue)), or after
    /// [`stop`](Self::stop).
    pub fn send(&mut self, message: Message) -> Result<(), Message> {
        self.watched.send(message)
    }

    /// Returns true if `send` has room for another message.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.watched.has_room()
    }

    /// Stops gracefully: writes the accepted messages and a Close frame, then waits up to `close_timeout` for the peer's
    /// Close. This happens while a `recv` method runs. The last event is [`Event::Stopped`].
    pub fn stop(&mut self) {
        self.watched.stop();
    }

    /// Reports that the network is back. Dials now, or probes an open connection now.
    pub fn kick(&mut self) {
        self.watched.kick();
    }

    /// Returns the machine, which holds the phase, the figures and the configuration.
    #[must_use]
    pub fn machine(&self) -> &Heartbeat<Arc<Config>, SharedDialect> {
        self.watched.machine()
    }

    /// Waits for the next event. Returns `None` after [`Event::Stopped`].
    ///
    /// A panic in the stream, the dialect or `connect` is caught, and reported by events like a failed session. The
    /// client then ends.
    pub fn recv(&mut self) -> Option<Event<Message>> {
        self.recv_until(None).ok()
    }

    /// Waits up to `timeout` for the next event.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] if no event came in time, [`RecvTimeoutError::Ended`] after [`Event::Stopped`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Event<Message>, RecvTimeoutError> {
        let deadline = self.watched.clock().now().saturating_add(timeout);
        self.recv_until(Some(deadline))
    }

    fn recv_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Event<Message>, RecvTimeoutError> {
        loop {
            let turn = match catch("the socket or its dialect", || self.turn()) {
                Ok(turn) => turn,
                Err(panicked) => {
                    self.panicked(&panicked);
                    Turn::Again
                }
            };
            if let Turn::Message(conn, message) = turn {
                return Ok(Event::Message { conn, message });
            }
            if let Some(event) = self.watched.event() {
                return Ok(event);
            }
            if self.watched.has_ended() {
                return Err(RecvTimeoutError::Ended);
            }
            if deadline.is_some_and(|deadline| deadline <= self.watched.clock().now()) {
                return Err(RecvTimeoutError::Timeout);
            }
            if let Turn::Idle = turn {
                self.wait(deadline);
            }
        }
    }

    fn turn(&mut self) -> Turn<Message> {
        // Waiting events come first: they are older than anything that a turn would add.
        if self.watched.has_events() || self.watched.has_ended() {
            return Turn::Again;
        }
        let mut cx = Context::from_waker(Waker::noop());
        if self.taken >= BURST || self.watched.has_worked() {
            self.watched.settle(&mut cx);
            self.watched.rested();
            self.taken = 0;
        }
        let is_due = self.watched.is_due();
        self.dial(&mut cx);
        let turn = self.watched.turn(is_due, &mut cx);
        self.taken += u32::from(matches!(turn, Turn::Message(..) | Turn::Taken));
        turn
    }

    /// Begins the dial that the machine wants, drops an abandoned one, and reports one that has ended.
    fn dial(&mut self, cx: &mut Context<'_>) {
        if let (Some(attempt), Some(connect)) = (self.watched.take_dial(), &self.connect) {
            let (conn, connect, waker) =
                (attempt.conn, Arc::clone(connect), Arc::clone(&self.waker));
            let (tell, told) = channel();
            self.dialing = Some((conn, told));
            let dial = move || {
                let _ = tell.send(catch("connect", || connect(attempt)));
                drop(tell);
                // Fails only if the poll was dropped, and then nothing waits.
                let _ = waker.wake();
            };
            let thread = thread::Builder::new().name("heartbeat-dial".to_owned());
            if let Err(error) = thread.spawn(dial) {
                self.dialing = None;
                let end = heartbeat_driver::io_cause(&error);
                self.watched.dialed(conn, Err(end), cx);
            }
        }
        let Some((conn, told)) = &self.dialing else {
            return;
        };
        let conn = *conn;
        if self.watched.dialing() != Some(conn) {
            self.dialing = None;
            return;
        }
        let dialed = match told.try_recv() {
            Ok(Ok(dialed)) => dialed,
            Ok(Err(panicked)) => return self.panicked(&panicked),
            Err(TryRecvError::Empty) => return,
            // The thread ended without a result. Only the end of the process does that.
            Err(TryRecvError::Disconnected) => Err(Error::AlreadyClosed),
        };
        self.dialing = None;
        let dialed = dialed.and_then(|socket| {
            let mut socket = NonBlocking::new(socket, self.tcp)?;
            socket.traffic = self.traffic;
            Ok(socket)
        });
        let dialed =
            dialed.map_err(|error| (Tungstenite::cause(&error), Some(error.to_string().into())));
        self.watched.dialed(conn, dialed, cx);
    }

    fn panicked(&mut self, panicked: &Panicked) {
        self.watched.panicked(panicked);
        (self.connect, self.dialing) = (None, None);
    }

    fn wait(&mut self, deadline: Option<Instant>) {
        let until = self
            .watched
            .machine()
            .wake()
            .into_iter()
            .chain(deadline)
            .min();
        let timeout =
            until.map(|until| until.saturating_duration_since(self.watched.clock().now()));
        if let Err(error) = self.wait_for(timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            // The poll itself is broken. Nothing here can repair it, but the loop must not spin.
            tracing::error!(parent: self.watched.log_span(), %error, "cannot wait for the socket");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let interest = match (self.watched.reads(), self.watched.is_blocked()) {
            (true, false) => Interest::READABLE,
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, _) => Interest::WRITABLE,
        };
        if let Some(socket) = self.watched.socket() {
            // Registering again on every wait makes the poll report readiness that is there already.
            let registry = self.poll.registry();
            if std::mem::replace(&mut socket.is_registered, true) {
                registry.reregister(&mut socket.tcp, SOCKET, interest)?;
            } else {
                registry.register(&mut socket.tcp, SOCKET, interest)?;
            }
        }
        self.poll.poll(&mut self.ready, timeout)
    }
}

impl<S: Read + Write + Send + 'static> Iterator for Messages<S> {
    type Item = Event<Message>;

    fn next(&mut self) -> Option<Event<Message>> {
        self.recv()
    }
}

impl<S> fmt::Debug for Messages<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Messages").field(&self.watched).finish()
    }
}
