//! The machine over a [`tungstenite::WebSocket`](https://docs.rs/tungstenite) of the application's own: a client whose TCP, TLS and upgrade are the
//! application's to choose, or a server's side of a connection. It needs the feature `tungstenite`.
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
//! For `wss://` and `tungstenite::connect`, the stream is a `MaybeTlsStream<TcpStream>`, and the second argument says where its
//! socket is.
//!
//! # What it lacks, compared with [`InPlace`](crate::InPlace)
//!
//! - A library that is given a message does not tell how much of it was written. So what was given and
//!   not known to be flushed when the connection ended is only counted (`uncertain`), not handed back.
//! - tungstenite yields whole messages. One that takes longer to arrive than the machine waits counts as
//!   silence, and one that takes longer to leave than `write_timeout` as stuck, unless [`Messages::traffic`]
//!   tells of bytes.
//! - A dial is the application's own code in a thread. At `connect_timeout` it is not waited for any more, but only
//!   timeouts of its own end it.
//! - No sender for other threads, sessions, gaps, holding, proxies, redirects, decoders, dial budget or `explain`.

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

/// Messages between two looks of the machine at what has come.
const BURST: u32 = 64;

/// A byte stream that counts, to be put under a WebSocket library: see [`Messages::traffic`].
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

    /// The bytes that were read and written so far.
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The stream below.
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

/// Turns the error of an upgrade into tungstenite's `Error`. An upgrade that ran into the stream's read timeout is
/// `Error::Io` with [`TimedOut`](io::ErrorKind::TimedOut).
pub fn upgrade_error<R: HandshakeRole>(error: HandshakeError<R>) -> Error {
    match error {
        HandshakeError::Failure(error) => error,
        HandshakeError::Interrupted(_) => Error::Io(io::ErrorKind::TimedOut.into()),
    }
}

/// A socket of tungstenite's that waits for nothing.
struct Watch<S> {
    socket: WebSocket<S>,
    /// A second handle to the operating system's socket, for the poll.
    tcp: mio::net::TcpStream,
    is_registered: bool,
    traffic: Option<fn(&S) -> Traffic>,
    /// The last write or flush did not go through: the next one is made once the operating system calls the socket
    /// writable. It takes some bytes before that, from a dead peer as well.
    is_full: bool,
    /// Bytes that the library wrote before that, while it read.
    early: u64,
    has_ended: bool,
}

impl<S> Watch<S> {
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

impl<S> Watch<S> {
    fn written(&self) -> u64 {
        self.traffic
            .map_or(0, |traffic| traffic(self.socket.get_ref()).written)
    }
}

/// Reads `WouldBlock` as pending.
fn now<T>(result: Result<T, Error>) -> Poll<Result<T, Error>> {
    match result {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl<S: Read + Write> Socket<Tungstenite> for Watch<S> {
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
            // It was taken, and waits.
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
            // After a Close went out there is nothing left to write.
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

/// A [`tungstenite::WebSocket`](https://docs.rs/tungstenite), watched by the machine. It lives only while one of its `recv` methods is running: call
/// them in a loop that never waits long for anything else, or heartbeats are late. Dropping it closes the socket.
///
/// See the [module](self).
pub struct Messages<S> {
    watched: Watched<Watch<S>, Tungstenite, HostClock>,
    connect: Option<Connect<S>>,
    tcp: fn(&S) -> &TcpStream,
    traffic: Option<fn(&S) -> Traffic>,
    dialing: Option<(ConnId, Receiver<Dialed<S>>)>,
    poll: mio::Poll,
    ready: Events,
    /// Ends a wait when a dial has ended.
    waker: Arc<mio::Waker>,
    /// Messages since the machine was told of what has come.
    taken: u32,
}

impl<S: Read + Write + Send + 'static> Messages<S> {
    /// A server's side: `socket` is open, and when it ends nothing follows. Of the configuration only what
    /// concerns an open connection counts. `tcp` says where the socket of the operating system's is; it is made
    /// non-blocking.
    ///
    /// # Errors
    /// The operating system's error if it has no room for a poll or another descriptor.
    pub fn accepted(
        socket: WebSocket<S>,
        tcp: fn(&S) -> &TcpStream,
        config: impl Into<Arc<Config>>,
        dialect: SharedDialect,
    ) -> io::Result<Self> {
        let socket = Watch::new(socket, tcp)?;
        let watched = Watched::accepted(socket, config.into(), dialect, HostClock::start());
        Self::new(watched, tcp, None)
    }

    /// A client: `connect` is called for each dial, in a thread of its own. It resolves, connects, and does the upgrade, all of
    /// which may block. At `connect_timeout` it is not waited for any more, and what it comes to is dropped; its own
    /// timeouts should end it by then. The first dial begins with the first call of a `recv` method. `tcp` says where the
    /// socket of the operating system's is; it is made non-blocking.
    ///
    /// # Errors
    /// The operating system's error if it has no room for a poll.
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
        watched: Watched<Watch<S>, Tungstenite, HostClock>,
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

    /// Names it in the log: each line stands in a span with this name. Default: `client`.
    ///
    /// The log is described at [`Options::name`](crate::Options::name).
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.watched.set_name(name);
        self
    }

    /// Tells how many bytes went over a socket, so that half of a large message is life, and half of one
    /// written is progress: [`Counted::traffic`] where the library was put on a [`Counted`].
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

    /// Takes a message, which is written while a `recv` method runs.
    ///
    /// # Errors
    /// Hands it back where no connection is open, as many wait as may ([`queue`](Self::queue)), or after
    /// [`stop`](Self::stop).
    pub fn send(&mut self, message: Message) -> Result<(), Message> {
        self.watched.send(message)
    }

    /// True if `send` has room for another message.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.watched.has_room()
    }

    /// Ends it gracefully: what was taken is written, then a Close frame, and the peer's is awaited for
    /// `close_timeout`. Goes on only while a `recv` method runs; the last event is [`Event::Stopped`].
    pub fn stop(&mut self) {
        self.watched.stop();
    }

    /// The network is back: dials now, or asks the peer now.
    pub fn kick(&mut self) {
        self.watched.kick();
    }

    /// The machine: phase, figures, configuration.
    #[must_use]
    pub fn machine(&self) -> &Heartbeat<Arc<Config>, SharedDialect> {
        self.watched.machine()
    }

    /// Waits for the next event; `None` after [`Event::Stopped`].
    ///
    /// A panic in the stream, the dialect or `connect` ends this as a failed session does, by events.
    pub fn recv(&mut self) -> Option<Event<Message>> {
        self.recv_until(None).ok()
    }

    /// Waits for the next event, at most for `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] if there was none, [`RecvTimeoutError::Ended`] after [`Event::Stopped`].
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
        // Events that wait are older than what a turn would bring.
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

    /// Begins the dial that is wanted, forgets one for which nobody waits any more, and looks how it has ended.
    fn dial(&mut self, cx: &mut Context<'_>) {
        if let (Some(attempt), Some(connect)) = (self.watched.take_dial(), &self.connect) {
            let (conn, connect, waker) =
                (attempt.conn, Arc::clone(connect), Arc::clone(&self.waker));
            let (tell, told) = channel();
            self.dialing = Some((conn, told));
            let dial = move || {
                let _ = tell.send(catch("connect", || connect(attempt)));
                drop(tell);
                // Fails only when the poll is gone, and with it whoever waits.
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
            // Its thread is gone without a word, which only the end of the process does.
            Err(TryRecvError::Disconnected) => Err(Error::AlreadyClosed),
        };
        self.dialing = None;
        let dialed = dialed.and_then(|socket| {
            let mut socket = Watch::new(socket, self.tcp)?;
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
            // The poll itself is broken: it cannot be mended from here, but must not spin either.
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
            // Anew each time: of what is there already it is told, too.
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
