//! The machine over another WebSocket library, if its sockets are a stream and a sink of messages. Use it for the
//! server's side of a connection (in axum, for example), or for a client over another library.
//!
//! This server pings silent clients, and drops dead ones:
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
//!             // `send` refuses the message if its queue is full. This server then drops the message.
//!             Event::Message { message, .. } => drop(client.send(message)),
//!             Event::Disconnected { reason, idle, .. } => println!("{reason}, silent for {idle:?}"),
//!             _ => {}
//!         }
//!     }
//! }
//! ```
//!
//! The example `axum_server` is a complete server. The features `tungstenite` and `tokio-websockets` add codecs for
//! clients.
//!
//! # Differences from [`Client`](crate::Client)
//!
//! - Like [`InPlace`](crate::InPlace), it runs only while it is polled.
//! - A library does not report how much of a message it has written. So messages that were given to the library and may
//!   not be flushed when the connection ends are only counted (`uncertain`), not handed back.
//! - At most 64 heartbeats are answered in one message of joined records, and reading pauses while 64 KiB of answers wait,
//!   frame headers included. [`Client`](crate::Client) has the same limits. Data records are always delivered.
//! - A library yields whole messages. A message that takes longer to arrive than the machine waits counts as silence, and
//!   one that takes longer to send than `write_timeout` counts as stuck. [`Messages::traffic`] avoids both by counting
//!   bytes.
//! - The application sets up the socket. An upload counts as alive as long as the operating system reports room for more
//!   data. Linux reports room once a third of the send buffer is free, which may be a megabyte. [`keep_unsent_short`]
//!   lowers this to 32 KiB.
//! - There are no sessions, gaps, computed values, held messages, proxies, redirects, decoders, dial budget or `explain`.

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

/// The most messages before the clock is read again and tokio's cooperative budget is charged.
const BURST: u32 = 64;

/// Name of the application's dial function, for the report of a panic in it.
const CONNECT: &str = "connect";

/// A socket that yields and accepts the messages of a [`Codec`]. Implemented by every suitable stream and sink.
pub trait Socket<C: Codec>:
    Stream<Item = Result<C::Message, C::Error>> + Sink<C::Message, Error = C::Error> + Unpin
{
}

impl<C: Codec, S> Socket<C> for S where
    S: Stream<Item = Result<C::Message, C::Error>> + Sink<C::Message, Error = C::Error> + Unpin
{
}

/// The future of a dial.
pub type Connecting<S> = Pin<Box<dyn Future<Output = Result<S, Refused>> + Send>>;

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The cause for the machine, whose table of causes decides what follows.
    pub cause: Cause,
    /// The text of the error, for people.
    pub detail: Option<Box<str>>,
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        let (cause, detail) = heartbeat_driver::io_cause(&error);
        Self { cause, detail }
    }
}

/// Adapts a stream and sink to the driver's socket trait.
struct Adapted<S> {
    socket: S,
    traffic: Option<fn(&S) -> Traffic>,
}

impl<C: Codec, S: Socket<C>> Shared<C> for Adapted<S> {
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

/// Another library's WebSocket, watched by the machine. It runs only while it is polled. Take its events in a loop that
/// never waits long for anything else, or heartbeats are late. Dropping it drops the socket.
///
/// `S` is a stream and a sink of the messages of codec `C`. See the [module](self).
pub struct Messages<S, C: Codec> {
    watched: Watched<Adapted<S>, C, TokioClock>,
    connect: Option<Connect<S>>,
    dialing: Option<(ConnId, Connecting<S>)>,
    traffic: Option<fn(&S) -> Traffic>,
    alarm: Alarm,
    /// The task has waited since the clock was last refreshed.
    waited: bool,
    look: Look,
    /// Messages since tokio's budget was last charged.
    taken: u32,
}

impl<C: Codec, S: Socket<C>> Messages<S, C> {
    /// Creates the server's side over an open socket. It ends with the socket. Only the settings for an open connection
    /// apply.
    ///
    /// # Panics
    /// If called outside of a tokio runtime with a timer.
    #[track_caller]
    pub fn accepted(socket: S, config: impl Into<Arc<Config>>, dialect: SharedDialect) -> Self {
        let clock = TokioClock::start();
        let socket = Adapted {
            socket,
            traffic: None,
        };
        let watched = Watched::accepted(socket, config.into(), dialect, clock);
        Self::new(watched, clock, None, "Messages::accepted")
    }

    /// Creates a client. `connect` is called for each dial. It resolves the name, connects, and performs the upgrade. Its
    /// future is dropped at `connect_timeout`. The first dial begins when the client is first polled.
    ///
    /// # Panics
    /// If called outside of a tokio runtime with a timer.
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

    /// `call` is the name of the public function, for the panic message.
    #[track_caller]
    fn new(
        watched: Watched<Adapted<S>, C, TokioClock>,
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
    /// `|ws| ws.get_ref().traffic()`.
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

    /// Queues a message. It is written while this is polled.
    ///
    /// # Errors
    /// Hands the message back if no connection is open, if the queue is full ([`queue`](Self::queue)), or after
    /// [`stop`](Self::stop).
    pub fn send(&mut self, message: C::Message) -> Result<(), C::Message> {
        self.watched.send(message)
    }

    /// Returns true if `send` has room for another message.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.watched.has_room()
    }

    /// Stops gracefully: writes the accepted messages and a Close frame, then waits up to `close_timeout` for the peer's
    /// Close. This happens while this is polled. The last event is [`Event::Stopped`].
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
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event<C::Message>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Polls for the next event. Registers the task to be woken for it.
    ///
    /// A panic in the socket, the codec, the dialect or `connect` is caught, and reported by events like a failed
    /// session. The client then ends.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<C::Message>>> {
        match catch("the socket or its dialect", || self.poll_turn(cx)) {
            Ok(polled) => polled,
            Err(panicked) => {
                self.watched.panicked(&panicked);
                (self.connect, self.dialing) = (None, None);
                // The first of the events that report the end.
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
                // If the thread was kept busy, the socket's remembered readiness may be out of date. So tokio polls the
                // operating system first. Then the turn reads, and only then judges the deadline.
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

    /// Begins the dial that the machine wants, and drops an abandoned one.
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

    /// Polls the dial. Called before the timers, so that a dial that succeeded beats its deadline.
    fn poll_dial(&mut self, cx: &mut Context<'_>) {
        let Some((conn, dialing)) = &mut self.dialing else {
            return;
        };
        let conn = *conn;
        if let Poll::Ready(dialed) = named(CONNECT, || dialing.as_mut().poll(cx)) {
            self.dialing = None;
            let traffic = self.traffic;
            let dialed = dialed.map(|socket| Adapted { socket, traffic });
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
