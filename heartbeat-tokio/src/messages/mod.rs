//! The machine over any WebSocket library whose sockets are a stream and a sink of messages: a server's
//! side of a connection (axum, say), or a client over another library.
//!
//! A server drops the clients that are dead, and pings those that are silent:
//!
//! ```no_run
//! use std::sync::Arc;
//! use heartbeat_tokio::messages::{Codec, Event, Messages, Socket};
//! use heartbeat_tokio::{Config, FramesOnly};
//!
//! async fn serve<S: Socket<C>, C: Codec>(socket: S, config: Arc<Config>) {
//!     let mut client = Messages::<S, C>::accepted(socket, config, Arc::new(FramesOnly));
//!     while let Some(event) = client.next().await {
//!         match event {
//!             // Refused only while too much waits to be written: then it is dropped here.
//!             Event::Message { message, .. } => drop(client.send(message)),
//!             Event::Disconnected { reason, idle, .. } => println!("{reason}, silent for {idle:?}"),
//!             _ => {}
//!         }
//!     }
//! }
//! ```
//!
//! The example `axum_server` is such a server; the features `tungstenite` and `tokio-websockets` bring
//! clients.
//!
//! # What it lacks, compared with [`Client`](crate::Client)
//!
//! - It lives only while it is polled, as [`InPlace`](crate::InPlace) does.
//! - A library that is given a message does not tell how much of it was written. So what was given and
//!   not known to be flushed when the connection ended is only counted (`uncertain`), not handed back.
//! - Heartbeats in joined records are answered up to 64 a message, and reading is held while 64 KiB of answers wait, frames
//!   and all: the bounds of [`Client`](crate::Client). Data among the records is delivered in any case.
//! - A library yields whole messages. One that takes longer to arrive than the machine waits counts as
//!   silence, and one that takes longer to leave than `write_timeout` as stuck, unless [`Messages::traffic`]
//!   tells of bytes.
//! - The socket is the application's. An upload is alive as long as the operating system tells of room for more, and Linux
//!   tells of room when a third of the send buffer is free, which may be a megabyte. [`keep_unsent_short`] makes that 32 KiB.
//! - No sessions, gaps, computed values, holding, proxies, redirects, decoders, dial budget or `explain`.

mod counted;
#[cfg(feature = "tokio-websockets")]
pub mod tokio_websockets;
#[cfg(feature = "tungstenite")]
pub mod tungstenite;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use heartbeat_driver::core::{Cause, Config, ConnId, Heartbeat};
use heartbeat_driver::messages::{Socket as Shared, Turn, Watched};
use heartbeat_driver::{Attempt, SharedDialect, catch, named};

pub use self::counted::Counted;
use tokio::runtime::Handle;

use crate::clock::{Alarm, Look, TokioClock};
pub use heartbeat_driver::keep_unsent_short;
pub use heartbeat_driver::messages::{Codec, Event, Frame, Traffic};

/// Messages between two looks at the clock, and at tokio's cooperative budget.
const BURST: u32 = 64;

/// The name of what dials, where it panics.
const CONNECT: &str = "connect";

/// A socket that yields and takes the messages of a [`Codec`]. Every stream and sink of them is one.
pub trait Socket<C: Codec>:
    Stream<Item = Result<C::Message, C::Error>> + Sink<C::Message, Error = C::Error> + Unpin
{
}

impl<C: Codec, S> Socket<C> for S where
    S: Stream<Item = Result<C::Message, C::Error>> + Sink<C::Message, Error = C::Error> + Unpin
{
}

/// A dial under way.
pub type Connecting<S> = Pin<Box<dyn Future<Output = Result<S, Refused>> + Send>>;

/// Why a dial has come to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The cause that the machine is told. Its table of causes decides what follows.
    pub cause: Cause,
    /// The error's own words, for people.
    pub detail: Option<Box<str>>,
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        let (cause, detail) = heartbeat_driver::io_cause(&error);
        Self { cause, detail }
    }
}

/// A stream and a sink as the driver takes them.
struct Sunk<S> {
    socket: S,
    traffic: Option<fn(&S) -> Traffic>,
}

impl<C: Codec, S: Socket<C>> Shared<C> for Sunk<S> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<C::Message, C::Error>>> {
        Pin::new(&mut self.socket).poll_next(cx)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        Pin::new(&mut self.socket).poll_ready(cx)
    }

    fn give(&mut self, message: C::Message) -> Result<(), C::Error> {
        Pin::new(&mut self.socket).start_send(message)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn traffic(&self) -> Option<Traffic> {
        self.traffic.map(|traffic| traffic(&self.socket))
    }
}

type Connect<S> = Box<dyn FnMut(Attempt) -> Connecting<S> + Send>;

/// A WebSocket of another library's, watched by the machine. It lives only while it is polled: take its
/// events in a loop that never waits long for anything else. Dropping it drops the socket.
///
/// `S` is a stream and a sink of the messages that `C` knows. See the [module](self).
pub struct Messages<S, C: Codec> {
    watched: Watched<Sunk<S>, C, TokioClock>,
    connect: Option<Connect<S>>,
    dialing: Option<(ConnId, Connecting<S>)>,
    traffic: Option<fn(&S) -> Traffic>,
    alarm: Alarm,
    /// Something was waited for since the last look at the clock.
    waited: bool,
    look: Look,
    /// Messages since tokio's budget was asked.
    taken: u32,
}

impl<C: Codec, S: Socket<C>> Messages<S, C> {
    /// A server's side: `socket` is open, and when it ends nothing follows. Of the configuration only what
    /// concerns an open connection counts.
    ///
    /// # Panics
    /// Outside of a tokio runtime with a timer.
    #[track_caller]
    pub fn accepted(socket: S, config: impl Into<Arc<Config>>, dialect: SharedDialect) -> Self {
        let clock = TokioClock::start();
        let socket = Sunk {
            socket,
            traffic: None,
        };
        let watched = Watched::accepted(socket, config.into(), dialect, clock);
        Self::new(watched, clock, None, "Messages::accepted")
    }

    /// A client: `connect` is called for each dial, and what it returns is dropped at `connect_timeout`.
    /// It resolves, connects, and does the upgrade. The first dial begins when this is first polled.
    ///
    /// # Panics
    /// Outside of a tokio runtime with a timer.
    #[track_caller]
    pub fn connecting(
        connect: impl FnMut(Attempt) -> Connecting<S> + Send + 'static,
        config: impl Into<Arc<Config>>,
        dialect: SharedDialect,
    ) -> Self {
        let clock = TokioClock::start();
        let watched = Watched::connecting(config.into(), dialect, clock);
        let connect: Connect<S> = Box::new(connect);
        Self::new(watched, clock, Some(connect), "Messages::connecting")
    }

    /// `call` is what the application has called.
    #[track_caller]
    fn new(
        watched: Watched<Sunk<S>, C, TokioClock>,
        clock: TokioClock,
        connect: Option<Connect<S>>,
        call: &str,
    ) -> Self {
        assert!(
            Handle::try_current().is_ok(),
            "{call} must be called within a tokio runtime"
        );
        Self {
            watched,
            connect,
            dialing: None,
            traffic: None,
            alarm: Alarm::new(clock),
            waited: false,
            look: Look::default(),
            taken: 0,
        }
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
    /// written is progress: `|ws| ws.get_ref().traffic()` where the library was put on a [`Counted`].
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

    /// Takes a message, which is written while this is polled.
    ///
    /// # Errors
    /// Hands it back where no connection is open, as many wait as may ([`queue`](Self::queue)), or after
    /// [`stop`](Self::stop).
    pub fn send(&mut self, message: C::Message) -> Result<(), C::Message> {
        self.watched.send(message)
    }

    /// True if `send` has room for another message.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.watched.has_room()
    }

    /// Ends it gracefully: what was taken is written, then a Close frame, and the peer's is awaited for
    /// `close_timeout`. Goes on only while this is polled; the last event is [`Event::Stopped`].
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

    /// The next event; `None` after [`Event::Stopped`].
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event<C::Message>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The next event. Registers the task for whatever comes first.
    ///
    /// A panic in the socket, the codec, the dialect or `connect` ends this as a failed session does, by events.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<C::Message>>> {
        match catch("the socket or its dialect", || self.poll_turn(cx)) {
            Ok(polled) => polled,
            Err(panicked) => {
                self.watched.panicked(&panicked);
                (self.connect, self.dialing) = (None, None);
                // How it ended.
                Poll::Ready(self.watched.event())
            }
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<C::Message>>> {
        if std::mem::take(&mut self.waited) {
            self.watched.clock().refresh();
        }
        loop {
            if self.watched.has_worked() {
                self.watched.settle(cx);
                ready!(self.look.poll(cx));
                self.watched.rested();
            }
            if self.taken >= BURST {
                self.watched.settle(cx);
                ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
                self.taken = 0;
            }
            self.dial();
            if let Some(event) = self.watched.event() {
                return Poll::Ready(Some(event));
            }
            if self.watched.has_ended() {
                return Poll::Ready(None);
            }
            let is_due = self.watched.is_due();
            if is_due {
                // What the socket knows of its readiness may be older than what has happened, if the thread was
                // kept busy: tokio looks at its poller first, then we read, and then judge.
                ready!(self.look.poll(cx));
            }
            self.poll_dial(cx);
            match self.watched.turn(is_due, cx) {
                Turn::Message(conn, message) => {
                    self.taken += 1;
                    return Poll::Ready(Some(Event::Message { conn, message }));
                }
                Turn::Taken => self.taken += 1,
                Turn::Again => {}
                Turn::Idle => {
                    self.waited = true;
                    let wake = self.watched.machine().wake();
                    let clock = *self.watched.clock();
                    ready!(self.alarm.poll(cx, clock, wake));
                }
            }
        }
    }

    /// Begins the dial that is wanted, and drops one for which nobody waits any more.
    fn dial(&mut self) {
        if let Some((conn, _)) = &self.dialing
            && self.watched.dialing() != Some(*conn)
        {
            self.dialing = None;
        }
        if let (Some(attempt), Some(connect)) = (self.watched.take_dial(), &mut self.connect) {
            let conn = attempt.conn;
            self.dialing = Some((conn, named(CONNECT, || connect(attempt))));
        }
    }

    /// Before the timers, for a dial that has succeeded beats its deadline.
    fn poll_dial(&mut self, cx: &mut Context<'_>) {
        let Some((conn, dialing)) = &mut self.dialing else {
            return;
        };
        let conn = *conn;
        if let Poll::Ready(dialed) = named(CONNECT, || dialing.as_mut().poll(cx)) {
            self.dialing = None;
            let traffic = self.traffic;
            let dialed = dialed.map(|socket| Sunk { socket, traffic });
            let dialed = dialed.map_err(|Refused { cause, detail }| (cause, detail));
            self.watched.dialed(conn, dialed, cx);
        }
    }
}

impl<C: Codec, S: Socket<C>> Stream for Messages<S, C> {
    type Item = Event<C::Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

impl<S, C: Codec> fmt::Debug for Messages<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Messages").field(&self.watched).finish()
    }
}
