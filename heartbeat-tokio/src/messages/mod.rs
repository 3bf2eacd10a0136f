//! The machine over any WebSocket library whose sockets are a stream and a sink of messages: a server's
//! side of a connection (axum, say), or a client over another library than tungstenite.
//!
//! A server drops the clients that are dead, and pings those that are silent:
//!
//! ```no_run
//! # use futures_core::Stream; use futures_sink::Sink;
//! use std::sync::Arc;
//! use heartbeat_tokio::messages::{Codec, Event, Messages};
//! use heartbeat_tokio::{Config, core::FramesOnly};
//!
//! async fn serve<S, C: Codec>(socket: S, config: Arc<Config>)
//! where
//!     S: Stream<Item = Result<C::Message, C::Error>> + Sink<C::Message, Error = C::Error> + Unpin,
//! {
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
//! The example `axum_server` is such a server; the feature `tokio-websockets` brings a client.
//!
//! # What it lacks, compared with [`Client`](crate::Client)
//!
//! - It lives only while it is polled, as [`InPlace`](crate::InPlace) does.
//! - A library that is given a message does not tell how much of it was written. So what was given and
//!   not known to be flushed when the connection ended is only counted (`uncertain`), not handed back.
//! - A library yields whole messages. One that takes longer to arrive than the machine waits counts as
//!   silence, and one that takes longer to leave than `write_timeout` as stuck, unless [`Messages::traffic`]
//!   tells of bytes.
//! - No sessions, gaps, holding, proxies, redirects, decoders, dial budget or `explain`.

mod codec;
mod link;
#[cfg(feature = "tokio-websockets")]
pub mod tokio_websockets;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_sink::Sink;
use heartbeat_driver::core::{
    AbortReason, Action, Ask, Cause, Class, Clock as _, Config, ConnId, Dialect as _, Draft,
    Event as Input, GiveUp, Heartbeat, Instant, Message as Received, Outgoing, Phase, Reply,
    Values, Variables,
};
use heartbeat_driver::{Attempt, Reason, Seconds, SharedDialect, unix_ms};
use tracing::{debug, info, warn};

pub use self::codec::{Codec, Counted, Frame, Traffic};
pub use self::link::{Connecting, Refused};
use self::link::{Link, Open, Read};
use crate::clock::{Alarm, TokioClock};

/// Messages between two looks at the clock, and at tokio's cooperative budget.
const BURST: u32 = 64;

/// Messages that may wait to be written, unless it is said otherwise.
const QUEUE: usize = 256;

/// What happens, in order.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<M> {
    /// The dial succeeded. Not told of an accepted connection.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// A message for the application, as the library gave it. Heartbeats are not handed out.
    Message {
        /// The connection that it came on.
        conn: ConnId,
        /// The message.
        message: M,
    },
    /// The connection ended or the dial failed.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: Reason,
        /// What the error said, for people.
        detail: Option<Box<str>>,
        /// How long nothing had been heard; zero if it was never open.
        idle: Duration,
        /// How long it had been open; zero if it was not.
        open: Duration,
        /// Messages that were taken by [`Messages::send`] and not given to the library, in order.
        unsent: Vec<M>,
        /// How many were given to it and are not known to be written.
        uncertain: usize,
    },
    /// The next dial is planned.
    Reconnect {
        /// Which retry in a row it will be, from 1.
        attempt: u32,
        /// How long until then.
        delay: Duration,
    },
    /// There will be no further dial.
    GaveUp {
        /// Why.
        reason: GiveUp,
    },
    /// The end, always the last event.
    Stopped {
        /// Messages that were taken and not given to the library.
        unsent: Vec<M>,
        /// How many were given to it and are not known to be written.
        uncertain: usize,
    },
}

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
    /// There is something to write or to dial since the last attempt.
    dirty: bool,
    /// Messages since tokio's budget was asked.
    taken: u32,
    tracks: bool,
    tracked: Variables,
    buffer: String,
}

impl<S, C> Messages<S, C>
where
    C: Codec,
    S: Stream<Item = Result<C::Message, C::Error>> + Sink<C::Message, Error = C::Error> + Unpin,
{
    /// A server's side: `socket` is open, and when it ends nothing follows. Of the configuration only what
    /// concerns an open connection counts.
    pub fn accepted(socket: S, config: impl Into<Arc<Config>>, dialect: SharedDialect) -> Self {
        let clock = TokioClock::start();
        let (seed, now) = (random(), clock.now());
        let machine = Heartbeat::accepted(config.into(), Arc::clone(&dialect), seed, now);
        let mut this = Self::new(machine, dialect, clock, None);
        this.opened(socket);
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
            dirty: true,
            taken: 0,
            tracks: dialect.tracks(),
            dialect,
            tracked: Variables::new(),
            buffer: String::new(),
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
            self.step(self.clock.now(), Input::Stop);
        }
    }

    /// The network is back: dials now, or asks the peer now.
    pub fn kick(&mut self) {
        self.step(self.clock.now(), Input::Kick);
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

    /// The next event. Registers the task for whatever comes first.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<C::Message>>> {
        if std::mem::take(&mut self.waited) {
            self.clock.refresh();
        }
        loop {
            if self.taken >= BURST {
                self.settle();
                ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
                self.taken = 0;
            }
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            self.dirty = false;
            self.poll_dial(cx);
            self.write(cx);
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
            self.settle();
            if !self.dirty && self.events.is_empty() && !self.ended {
                self.waited = true;
                ready!(self.alarm.poll(cx, self.clock, self.machine.wake()));
            }
        }
    }

    // ---- the socket ---------------------------------------------------------------------------

    fn opened(&mut self, socket: S) {
        let Some(conn) = self.machine.conn() else {
            return;
        };
        self.link = Link::Open(Box::new(Open::new(conn, socket)));
        for number in 0.. {
            let Some(mut draft) = self.dialect.greeting(number) else {
                return;
            };
            draft.id = self.machine.take_id();
            self.put(draft);
        }
    }

    /// Before the timers, for a dial that has succeeded beats its deadline.
    fn poll_dial(&mut self, cx: &mut Context<'_>) {
        let Link::Dialing(conn, dialing) = &mut self.link else {
            return;
        };
        let conn = *conn;
        match dialing.as_mut().poll(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(socket)) => {
                self.step(self.clock.now(), Input::Connected(conn));
                info!(%conn, "connected");
                self.events.push_back(Event::Connected { conn });
                self.opened(socket);
            }
            Poll::Ready(Err(refused)) => self.lost(conn, refused.cause, refused.detail, cx),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        let Link::Open(open) = &mut self.link else {
            return;
        };
        let conn = open.conn;
        match open.write(cx, &mut self.queue, self.traffic) {
            Ok(written) => {
                self.dirty |= written.more;
                if written.moved {
                    self.step(self.clock.now(), Input::Wrote(conn));
                }
                if written.blocked {
                    self.step(self.clock.now(), Input::WriteBlocked(conn));
                }
            }
            // What the peer said before it went away is still there to be read, and says more.
            Err(error) => {
                open.fail(C::cause(&error), error.to_string().into());
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Option<Read<C::Message>> {
        let Link::Open(open) = &mut self.link else {
            return None;
        };
        let conn = open.conn;
        let message = match open.poll_read(cx) {
            Poll::Pending => return None,
            Poll::Ready(Ok(message)) => message,
            Poll::Ready(Err((cause, detail))) => {
                self.lost(conn, cause, detail, cx);
                return Some(Read::Again);
            }
        };
        let data = match C::frame(&message) {
            Some(Frame::Text(text)) => {
                if self.tracks {
                    self.dialect.track(text, &mut self.tracked);
                }
                self.text(conn, text)
            }
            Some(Frame::Binary(bytes)) => {
                let dialect = Arc::clone(&self.dialect);
                let class = dialect.classify_binary(bytes);
                self.classified(conn, class, Received::Binary(bytes))
            }
            Some(Frame::Ping(payload)) => self.heartbeat(conn, Received::Ping(payload)),
            Some(Frame::Pong(payload)) => self.heartbeat(conn, Received::Pong(payload)),
            Some(Frame::Close(code)) => {
                self.lost(conn, Cause::Close(code.unwrap_or(1005)), None, cx);
                false
            }
            None => false,
        };
        Some(if data {
            Read::Message(conn, message)
        } else {
            Read::Again
        })
    }

    /// True if the application gets it. Where a service joins messages, each is one to the machine.
    fn text(&mut self, conn: ConnId, text: &str) -> bool {
        let dialect = Arc::clone(&self.dialect);
        let class = dialect.classify_text(text);
        let Some(separator) = dialect.separator() else {
            return self.classified(conn, class, Received::Text(text));
        };
        if class == Class::Data {
            return self.classified(conn, class, Received::Data);
        }
        let records = text.strip_suffix(separator).unwrap_or(text);
        let mut data = false;
        for record in records.split(separator).take(BURST as usize) {
            let class = dialect.classify_text(record);
            data |= self.classified(conn, class, Received::Text(record));
        }
        data && class.is_for_application()
    }

    fn classified(&mut self, conn: ConnId, class: Class<'_>, message: Received<'_>) -> bool {
        let is_data = match class {
            Class::Data => true,
            Class::Response(id) => !self.machine.is_answer(id),
            _ => false,
        };
        if !is_data {
            self.heartbeat(conn, message);
        } else if let Link::Open(open) = &mut self.link {
            open.unreported = true;
        }
        is_data || class.is_for_application()
    }

    /// Tells the machine at once. Never the application's.
    fn heartbeat(&mut self, conn: ConnId, message: Received<'_>) -> bool {
        if let Link::Open(open) = &mut self.link {
            // Its bytes are no data.
            open.take_progress(self.traffic);
        }
        self.step(self.clock.now(), Input::Received(conn, message));
        false
    }

    /// Nothing more is there, or enough was read: the machine is told, and its timers get their turn.
    fn settle(&mut self) {
        let now = self.clock.now();
        self.report(now);
        if self.machine.wake().is_some_and(|wake| wake <= now) {
            self.step(now, Input::Tick);
        }
    }

    fn report(&mut self, now: Instant) {
        if let Link::Open(open) = &mut self.link {
            let conn = open.conn;
            let progress = open.take_progress(self.traffic);
            if std::mem::take(&mut open.unreported) {
                self.step(now, Input::Received(conn, Received::Data));
            } else if progress {
                self.step(now, Input::Progress(conn));
            }
        }
    }

    // ---- the machine --------------------------------------------------------------------------

    fn step(&mut self, now: Instant, event: Input<'_>) {
        let (idle, open) = (
            since(self.machine.heard(), now),
            since(self.machine.open_since(), now),
        );
        for action in self.machine.step(now, event).actions {
            match action {
                Action::Connect {
                    conn,
                    attempt,
                    refresh,
                } => {
                    debug!(%conn, attempt, "connecting");
                    if let Some(connect) = &mut self.connect {
                        let dialing = connect(Attempt::new(conn, attempt, refresh, self.last));
                        self.link = Link::Dialing(conn, dialing);
                        self.dirty = true;
                    }
                }
                Action::SendPong { reply, .. } => self.reply(reply),
                Action::SendPing { ping, .. } => match ping {
                    Ask::Frame(payload) => self.own(Frame::Ping(&payload)),
                    Ask::Draft(draft) => self.put(draft),
                    _ => {}
                },
                Action::Close { code, .. } => {
                    if let Link::Open(open) = &mut self.link {
                        open.close(C::message(Frame::Close(Some(code))));
                        self.dirty = true;
                    }
                }
                Action::Abort { conn, reason } => {
                    let told = !matches!(reason, AbortReason::Stale | AbortReason::CloseTimeout);
                    if told && self.link.conn() == Some(conn) {
                        self.disconnected(conn, Reason::Verdict(reason), None, idle, open);
                    }
                    // Otherwise its user's own wish: only the end is told.
                }
                Action::ReconnectAt { attempt, delay, .. } => {
                    info!("retry {attempt} in {}", Seconds(delay));
                    self.events.push_back(Event::Reconnect { attempt, delay });
                }
                Action::Check { conn, idle } => info!(%conn, "idle for {}", Seconds(idle)),
                Action::GaveUp { reason } => self.events.push_back(Event::GaveUp { reason }),
            }
        }
        if self.machine.phase() == Phase::Stopped && !self.ended {
            self.ended = true;
            let uncertain = self.link.uncertain();
            self.link = Link::Down;
            let unsent = self.queue.drain(..).collect();
            self.events.push_back(Event::Stopped { unsent, uncertain });
        }
    }

    fn lost(&mut self, conn: ConnId, cause: Cause, detail: Option<Box<str>>, cx: &mut Context<'_>) {
        let now = self.clock.now();
        // What it said last is still life.
        self.report(now);
        if self.link.conn() != Some(conn) {
            // A verdict of our own came first.
            return;
        }
        if let Link::Open(open) = &mut self.link {
            open.last_words(cx);
        }
        if self.machine.phase() != Phase::Closing {
            let idle = since(self.machine.heard(), now);
            let open = since(self.machine.open_since(), now);
            self.disconnected(conn, Reason::Cause(cause), detail, idle, open);
        }
        self.step(now, Input::Closed(conn, cause));
    }

    fn disconnected(
        &mut self,
        conn: ConnId,
        reason: Reason,
        detail: Option<Box<str>>,
        idle: Duration,
        open: Duration,
    ) {
        let uncertain = self.link.uncertain();
        // The socket is closed here and now.
        self.link = Link::Down;
        self.last = Some(reason);
        let unsent: Vec<_> = self.queue.drain(..).collect();
        let text = detail.as_deref().unwrap_or_default();
        warn!(%conn, unsent = unsent.len(), uncertain, detail = text, "disconnected: {reason}, idle for {}, open for {}", Seconds(idle), Seconds(open));
        self.events.push_back(Event::Disconnected {
            conn,
            reason,
            detail,
            idle,
            open,
            unsent,
            uncertain,
        });
    }

    fn reply(&mut self, reply: Reply<'_>) {
        let message = match reply {
            Reply::Frame(payload) if C::ANSWERS_PINGS => {
                if let Link::Open(open) = &mut self.link {
                    open.answered(payload.len());
                    self.dirty = true;
                }
                return;
            }
            Reply::Frame(payload) => Frame::Pong(payload),
            Reply::Text(text) => Frame::Text(text),
            Reply::Binary(bytes) => Frame::Binary(bytes),
            Reply::Draft(draft) => return self.put(draft),
            _ => return,
        };
        self.own(message);
    }

    /// Writes what the dialect makes of a draft.
    fn put(&mut self, draft: Draft<'_>) {
        let values = Values {
            unix_ms: unix_ms(),
            variables: &self.tracked,
        };
        // Taken out, so that what is written into it can be given to the socket.
        let mut buffer = std::mem::take(&mut self.buffer);
        let dialect = Arc::clone(&self.dialect);
        match dialect.render(&draft, &values, &mut buffer) {
            Some(Outgoing::Text(text)) => self.own(Frame::Text(text)),
            Some(Outgoing::Binary(bytes)) => self.own(Frame::Binary(bytes)),
            None => warn!("not sent: a variable of the message is not set"),
        }
        self.buffer = buffer;
    }

    fn own(&mut self, frame: Frame<'_>) {
        if let Link::Open(open) = &mut self.link {
            open.give_own(C::message(frame), frame.len());
            self.dirty = true;
        }
    }
}

fn since(anchor: Option<Instant>, now: Instant) -> Duration {
    anchor.map_or(Duration::ZERO, |anchor| {
        now.saturating_duration_since(anchor)
    })
}

/// Clients that were cut off together must not come back together.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl<S, C> Stream for Messages<S, C>
where
    C: Codec,
    S: Stream<Item = Result<C::Message, C::Error>> + Sink<C::Message, Error = C::Error> + Unpin,
{
    type Item = Event<C::Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

/// Messages that are handed back by their number alone: they may hold credentials.
impl<M: fmt::Debug> fmt::Debug for Event<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { conn } => f.debug_struct("Connected").field("conn", conn).finish(),
            Self::Message { conn, message } => f
                .debug_struct("Message")
                .field("conn", conn)
                .field("message", message)
                .finish(),
            Self::Disconnected {
                conn,
                reason,
                detail,
                idle,
                open,
                unsent,
                uncertain,
            } => f
                .debug_struct("Disconnected")
                .field("conn", conn)
                .field("reason", reason)
                .field("detail", detail)
                .field("idle", idle)
                .field("open", open)
                .field("unsent", &unsent.len())
                .field("uncertain", uncertain)
                .finish(),
            Self::Reconnect { attempt, delay } => f
                .debug_struct("Reconnect")
                .field("attempt", attempt)
                .field("delay", delay)
                .finish(),
            Self::GaveUp { reason } => f.debug_struct("GaveUp").field("reason", reason).finish(),
            Self::Stopped { unsent, uncertain } => f
                .debug_struct("Stopped")
                .field("unsent", &unsent.len())
                .field("uncertain", uncertain)
                .finish(),
        }
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
