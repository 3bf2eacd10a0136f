//! The machine over any WebSocket library whose sockets are a stream and a sink of messages: a server's
//! side of a connection (axum, say), or a client over another library.
//!
//! A server drops the clients that are dead, and pings those that are silent:
//!
//! ```no_run
//! use std::sync::Arc;
//! use heartbeat_tokio::messages::{Codec, Event, Messages, Socket};
//! use heartbeat_tokio::{Config, core::FramesOnly};
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
//! - No sessions, gaps, holding, proxies, redirects, decoders, dial budget or `explain`.

mod codec;
mod event;
mod link;
mod performing;
mod reading;
#[cfg(feature = "tokio-websockets")]
pub mod tokio_websockets;
#[cfg(feature = "tungstenite")]
pub mod tungstenite;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use heartbeat_driver::core::{
    Buffer, Clock as _, Config, ConnId, Dialect as _, Event as Input, Heartbeat, Phase, Variables,
};
use heartbeat_driver::records::{Records, WORK};
use heartbeat_driver::{Attempt, Reason, SharedDialect, catch};

pub use self::codec::{Codec, Counted, Frame, Socket, Traffic};
pub use self::event::Event;
pub use self::link::{Connecting, Refused};
use self::link::{Link, Read};
use crate::clock::{Alarm, Look, TokioClock};

/// Messages between two looks at the clock, and at tokio's cooperative budget.
const BURST: u32 = 64;

/// Messages that may wait to be written, unless it is said otherwise.
const QUEUE: usize = 256;
/// A WebSocket of another library's, watched by the machine. It lives only while it is polled: take its
/// events in a loop that never waits long for anything else. Dropping it drops the socket.
///
/// `S` is a stream and a sink of the messages that `C` knows. See the [module](self).
pub struct Messages<S, C: Codec> {
    machine: Heartbeat<Arc<Config>, SharedDialect>,
    dialect: SharedDialect,
    link: Link<S, C>,
    connect: Option<Box<dyn FnMut(Attempt) -> Connecting<S> + Send>>,
    traffic: Option<fn(&S) -> Traffic>,
    /// From the application, not given to the library yet.
    queue: VecDeque<C::Message>,
    capacity: usize,
    stopping: bool,
    events: VecDeque<Event<C::Message>>,
    ended: bool,
    /// How the connection or dial before this one ended.
    last: Option<Reason>,
    alarm: Alarm,
    clock: TokioClock,
    /// Something was waited for since the last look at the clock.
    waited: bool,
    look: Look,
    /// The application wants a kick, after what there is has been read.
    kicked: bool,
    /// There is something to write or to dial since the last attempt.
    dirty: bool,
    /// Messages since tokio's budget was asked.
    taken: u32,
    /// Bytes that were looked at since others had their turn.
    work: usize,
    /// A text of joined records that is being read.
    joined: Option<(ConnId, C::Message, Records)>,
    tracks: bool,
    tracked: Variables,
    buffer: Buffer,
}

impl<C: Codec, S: Socket<C>> Messages<S, C> {
    /// A server's side: `socket` is open, and when it ends nothing follows. Of the configuration only what
    /// concerns an open connection counts.
    pub fn accepted(socket: S, config: impl Into<Arc<Config>>, dialect: SharedDialect) -> Self {
        let clock = TokioClock::start();
        let (seed, now) = (random(), clock.now());
        let machine = Heartbeat::accepted(config.into(), Arc::clone(&dialect), seed, now);
        let mut this = Self::new(machine, dialect, clock, None);
        this.guarded(|this| this.opened(socket));
        this
    }

    /// A client: `connect` is called for each dial, and what it returns is dropped at `connect_timeout`.
    /// It resolves, connects, and does the upgrade. The first dial begins when this is first polled.
    pub fn connecting(
        connect: impl FnMut(Attempt) -> Connecting<S> + Send + 'static,
        config: impl Into<Arc<Config>>,
        dialect: SharedDialect,
    ) -> Self {
        let clock = TokioClock::start();
        let (seed, now) = (random(), clock.now());
        let machine = Heartbeat::new(config.into(), Arc::clone(&dialect), seed, now);
        Self::new(machine, dialect, clock, Some(Box::new(connect)))
    }

    fn new(
        machine: Heartbeat<Arc<Config>, SharedDialect>,
        dialect: SharedDialect,
        clock: TokioClock,
        connect: Option<Box<dyn FnMut(Attempt) -> Connecting<S> + Send>>,
    ) -> Self {
        Self {
            machine,
            link: Link::Down,
            connect,
            traffic: None,
            queue: VecDeque::new(),
            capacity: QUEUE,
            stopping: false,
            events: VecDeque::new(),
            ended: false,
            last: None,
            alarm: Alarm::new(clock),
            clock,
            waited: false,
            look: Look::default(),
            kicked: false,
            dirty: true,
            taken: 0,
            work: 0,
            joined: None,
            tracks: dialect.tracks(),
            dialect,
            tracked: Variables::new(),
            buffer: Buffer::default(),
        }
    }

    /// Tells how many bytes went over a socket, so that half of a large message is life, and half of one
    /// written is progress: `|ws| ws.get_ref().traffic()` where the library was put on a [`Counted`].
    #[must_use]
    pub fn traffic(mut self, traffic: fn(&S) -> Traffic) -> Self {
        self.traffic = Some(traffic);
        self
    }

    /// So many messages may wait to be written, at least 1; 256 unless this is said.
    #[must_use]
    pub fn queue(mut self, messages: usize) -> Self {
        self.capacity = messages.max(1);
        self
    }

    /// Takes a message, which is written while this is polled.
    ///
    /// # Errors
    /// Hands it back where no connection is open, as many wait as may ([`queue`](Self::queue)), or after
    /// [`stop`](Self::stop).
    pub fn send(&mut self, message: C::Message) -> Result<(), C::Message> {
        if self.stopping || !self.has_room() || self.machine.phase() != Phase::Open {
            return Err(message);
        }
        self.queue.push_back(message);
        Ok(())
    }

    /// Whether fewer messages wait than may.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.len() < self.capacity
    }

    /// Ends it gracefully: what was taken is written, then a Close frame, and the peer's is awaited for
    /// `close_timeout`. Goes on only while this is polled; the last event is [`Event::Stopped`].
    pub fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.guarded(|this| this.step(this.clock.now(), Input::Stop));
        }
    }

    /// The network is back: dials now, or asks the peer now.
    pub fn kick(&mut self) {
        self.kicked = true;
    }

    /// The machine: phase, figures, configuration.
    #[must_use]
    pub fn machine(&self) -> &Heartbeat<Arc<Config>, SharedDialect> {
        &self.machine
    }

    /// The next event; `None` after [`Event::Stopped`].
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event<C::Message>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    pub(super) fn is_due(&self) -> bool {
        self.machine
            .wake()
            .is_some_and(|wake| wake <= self.clock.now())
    }

    /// The next event. Registers the task for whatever comes first.
    ///
    /// A panic in the socket, the codec, the dialect or `connect` ends this as a failed session does, by events.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<C::Message>>> {
        let polled = self.guarded(|this| this.poll_turn(cx));
        // After a panic: how it ended.
        polled.unwrap_or_else(|| Poll::Ready(self.events.pop_front()))
    }

    /// Does what may call code of the application's. `None`: that code has panicked, and this has ended.
    fn guarded<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let done = catch("the socket or its dialect", || f(self));
        done.map_err(|panicked| self.panicked(&panicked)).ok()
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<C::Message>>> {
        if std::mem::take(&mut self.waited) {
            self.clock.refresh();
        }
        loop {
            if self.work >= WORK {
                self.settle(cx);
                ready!(self.look.poll(cx));
                self.work = 0;
            }
            if self.taken >= BURST {
                self.settle(cx);
                ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
                self.taken = 0;
            }
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let is_due = self.is_due();
            if is_due {
                // What the socket knows of its readiness may be older than what has happened, if the thread was
                // kept busy: tokio looks at its poller first, then we read, and then judge.
                ready!(self.look.poll(cx));
            }
            // Any step judges: where a deadline has come, reading goes before writing.
            self.dirty = is_due;
            self.poll_dial(cx);
            if !is_due {
                self.write(cx);
            }
            match self.read(cx) {
                Some(Read::Message(conn, message)) => {
                    self.taken += 1;
                    return Poll::Ready(Some(Event::Message { conn, message }));
                }
                Some(Read::Again) => {
                    self.taken += 1;
                    continue;
                }
                None => {}
            }
            self.settle(cx);
            if std::mem::take(&mut self.kicked) {
                self.step(self.clock.now(), Input::Kick);
                continue;
            }
            if !self.dirty && self.events.is_empty() && !self.ended {
                self.waited = true;
                ready!(self.alarm.poll(cx, self.clock, self.machine.wake()));
            }
        }
    }
}

/// Clients that were cut off together must not come back together.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl<C: Codec, S: Socket<C>> Stream for Messages<S, C> {
    type Item = Event<C::Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}
impl<S, C: Codec> fmt::Debug for Messages<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages")
            .field("phase", &self.machine.phase())
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}
