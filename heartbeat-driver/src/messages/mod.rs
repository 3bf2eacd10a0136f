//! The machine over another library's WebSocket. `Messages` of `heartbeat-tokio` and of `heartbeat-blocking`
//! share this code.
//!
//! An adapter is a loop around [`Watched::turn`]. Before each turn it begins the requested dial
//! ([`Watched::take_dial`]), drops an abandoned dial ([`Watched::dialing`]), reports the result of a dial
//! ([`Watched::dialed`]), and hands out the events ([`Watched::event`]).

mod codec;
mod conn_state;
mod event;
mod performing;
mod reading;
#[cfg(feature = "tungstenite")]
mod tungstenite;

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use heartbeat_core::{
    Buffer, Clock, Config, ConnId, Dialect as _, Event as Input, Heartbeat, Instant, Phase,
    Renewal, Variables,
};
use tracing::Span;

pub use self::codec::{Codec, Frame, Socket, Traffic};
use self::conn_state::{ConnState, Read};
pub use self::event::Event;
#[cfg(feature = "tungstenite")]
pub use self::tungstenite::Tungstenite;
use crate::dial::Attempt;
use crate::dialect::SharedDialect;
use crate::event::Reason;
use crate::log::Log;
use crate::message::records::{Records, WORK};
use crate::panics::catch;

/// The default number of messages that may wait to be written.
const QUEUE: usize = 256;

/// The outcome of a turn.
#[derive(Debug)]
pub enum Turn<M> {
    /// A message for the application.
    Message(ConnId, M),
    /// A message that is not for the application, such as a heartbeat.
    Taken,
    /// There is more to do: an event to hand out, a dial to begin, or something to write.
    Again,
    /// Wait for the socket, the dial, or the `wake` of [`Watched::machine`].
    Idle,
}

/// The machine over a WebSocket of another library. It never blocks.
pub struct Watched<S, C: Codec, K> {
    machine: Heartbeat<Arc<Config>, SharedDialect>,
    dialect: SharedDialect,
    link: ConnState<S, C>,
    /// This side is a client, and may dial.
    dials: bool,
    /// A dial that the adapter has not begun yet.
    dial: Option<Attempt>,
    /// Messages of the application that were not given to the library yet.
    queue: VecDeque<C::Message>,
    capacity: usize,
    stopping: bool,
    events: VecDeque<Event<C::Message>>,
    ended: bool,
    /// The peer left the Close of a stop unanswered for `close_timeout`.
    close_timed_out: bool,
    /// The open connection is being closed for a renewal: why, since when, and how long it was idle and open
    /// then.
    renewing: Option<(Renewal, Instant, Duration, Duration)>,
    /// How the connection or dial before this one ended.
    last: Option<Reason>,
    /// The text of its error.
    detail: Option<Box<str>>,
    clock: K,
    log: Log,
    /// Tracing span of the current connection.
    span: Span,
    /// The application asked for a kick. It follows after available data has been read.
    kicked: bool,
    /// There is something to write or to dial since the last attempt.
    dirty: bool,
    /// Bytes processed since other tasks last had a turn.
    work: usize,
    /// The text of joined records that is being read.
    joined: Option<(ConnId, C::Message, Records)>,
    tracks: bool,
    tracked: Variables,
    buffer: Buffer,
}

impl<S: Socket<C>, C: Codec, K: Clock> Watched<S, C, K> {
    /// Creates the server's side over an open socket. It ends with the socket.
    pub fn accepted(socket: S, config: Arc<Config>, dialect: SharedDialect, clock: K) -> Self {
        let machine = Heartbeat::accepted(config, Arc::clone(&dialect), random(), clock.now());
        let mut this = Self::new(machine, dialect, clock, false);
        this.guarded(|this| this.opened(socket));
        this
    }

    /// Creates a client. It requests its first dial in the first turn.
    pub fn connecting(config: Arc<Config>, dialect: SharedDialect, clock: K) -> Self {
        let machine = Heartbeat::new(config, Arc::clone(&dialect), random(), clock.now());
        Self::new(machine, dialect, clock, true)
    }

    fn new(
        machine: Heartbeat<Arc<Config>, SharedDialect>,
        dialect: SharedDialect,
        clock: K,
        dials: bool,
    ) -> Self {
        let log = Log::new(None);
        let span = machine.conn().map(|conn| log.connection(conn));
        Self {
            log,
            span: span.unwrap_or_else(Span::none),
            machine,
            link: ConnState::Down,
            dials,
            dial: None,
            queue: VecDeque::new(),
            capacity: QUEUE,
            stopping: false,
            events: VecDeque::new(),
            ended: false,
            close_timed_out: false,
            renewing: None,
            last: None,
            detail: None,
            clock,
            kicked: false,
            dirty: true,
            work: 0,
            joined: None,
            tracks: dialect.tracks(),
            dialect,
            tracked: Variables::new(),
            buffer: Buffer::default(),
        }
    }

    /// Sets how many messages may wait to be written, at least 1. Default 256.
    pub fn set_queue(&mut self, messages: usize) {
        self.capacity = messages.max(1);
    }

    /// Sets the client's name in the log. Default: `client`.
    pub fn set_name(&mut self, name: &str) {
        self.log = Log::new(Some(name.into()));
        let conn = self.machine.conn();
        self.span = conn.map_or_else(Span::none, |conn| self.log.connection(conn));
    }

    /// Returns the span that names the client in the log.
    #[must_use]
    pub fn log_span(&self) -> &Span {
        &self.log.span
    }

    /// Accepts a message. The next turns write it.
    ///
    /// # Errors
    /// Returns the message if no connection is open, if the queue is full, or after `stop`.
    pub fn send(&mut self, message: C::Message) -> Result<(), C::Message> {
        if self.stopping || !self.has_room() || self.machine.phase() != Phase::Open {
            return Err(message);
        }
        self.queue.push_back(message);
        Ok(())
    }

    /// Returns true if `send` has room for another message.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.len() < self.capacity
    }

    /// Starts a graceful stop, which the next turns carry out.
    pub fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.renewing = None;
            self.guarded(|this| this.step(this.clock.now(), Input::Stop));
        }
    }

    /// Reports that the network is back: dials now, or probes the peer now.
    pub fn kick(&mut self) {
        self.kicked = true;
    }

    /// Returns the machine, for its phase, figures and configuration.
    #[must_use]
    pub fn machine(&self) -> &Heartbeat<Arc<Config>, SharedDialect> {
        &self.machine
    }

    /// Returns the clock.
    pub fn clock(&mut self) -> &mut K {
        &mut self.clock
    }

    /// Returns the open socket.
    pub fn socket(&mut self) -> Option<&mut S> {
        match &mut self.link {
            ConnState::Open(open) => Some(&mut open.socket),
            ConnState::Down | ConnState::Dialing(_) => None,
        }
    }

    /// Takes the next event.
    pub fn event(&mut self) -> Option<Event<C::Message>> {
        self.events.pop_front()
    }

    /// Returns true if an event waits.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Returns true once the last event waits or was taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes a requested dial.
    pub fn take_dial(&mut self) -> Option<Attempt> {
        let dial = self.dial.take();
        dial.filter(|dial| self.dialing() == Some(dial.conn))
    }

    /// Returns the dial whose result is expected.
    #[must_use]
    pub fn dialing(&self) -> Option<ConnId> {
        match &self.link {
            ConnState::Dialing(conn) => Some(*conn),
            ConnState::Down | ConnState::Open(_) => None,
        }
    }

    /// Returns true if a deadline has come. Refresh the socket's readiness before the next turn, which will
    /// judge.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.machine
            .wake()
            .is_some_and(|wake| wake <= self.clock.now())
    }

    /// Returns true after so many bytes that other tasks should run.
    #[must_use]
    pub const fn has_worked(&self) -> bool {
        self.work >= WORK
    }

    /// Notes that other tasks have run.
    pub const fn rested(&mut self) {
        self.work = 0;
    }

    /// Returns false while reading is stopped, because too many answers wait to be written.
    #[must_use]
    pub fn reads(&self) -> bool {
        matches!(&self.link, ConnState::Open(open) if !open.is_held())
    }

    /// Returns true while bytes wait for the socket.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        matches!(&self.link, ConnState::Open(open) if open.is_blocked())
    }

    /// Runs `f`, which may call the application's code. Returns `None` after a panic, which ends the client.
    fn guarded<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let done = catch("the socket or its dialect", || f(self));
        done.map_err(|panicked| self.panicked(&panicked)).ok()
    }

    /// Writes, and reads a message. `is_due` is the result of [`is_due`](Self::is_due) from before the dial was
    /// polled.
    ///
    /// The caller must catch panics of the socket, the codec and the dialect, and report them by
    /// [`panicked`](Self::panicked).
    pub fn turn(&mut self, is_due: bool, cx: &mut Context<'_>) -> Turn<C::Message> {
        // Waiting events are older than anything this turn would read.
        if self.has_events() {
            return Turn::Again;
        }
        // Every step judges, so after a deadline reading goes before writing.
        self.dirty = is_due;
        if !is_due {
            self.write(cx);
        }
        match self.read(cx) {
            Some(Read::Message(conn, message)) => return Turn::Message(conn, message),
            Some(Read::Again) => return Turn::Taken,
            None => {}
        }
        self.settle(cx);
        if std::mem::take(&mut self.kicked) {
            self.step(self.clock.now(), Input::Kick);
            return Turn::Again;
        }
        if self.dirty || !self.events.is_empty() || self.ended {
            Turn::Again
        } else {
            Turn::Idle
        }
    }
}

/// Returns a random seed, so that clients that lost their connections together do not come back together.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl<S, C: Codec, K> fmt::Debug for Watched<S, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("phase", &self.machine.phase())
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}
