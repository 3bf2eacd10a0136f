//! The machine over another library's WebSocket: messages in, messages out. What `Messages` of `heartbeat-tokio` and of
//! `heartbeat-blocking` share.
//!
//! An adapter is a loop around [`Watched::turn`]. Before each turn it begins the dial that is wanted
//! ([`Watched::take_dial`]), forgets one that is not waited for any more ([`Watched::dialing`]), tells how one has ended
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

/// Messages that may wait to be written, unless it is said otherwise.
const QUEUE: usize = 256;

/// The outcome of a turn.
#[derive(Debug)]
pub enum Turn<M> {
    /// A message for the application.
    Message(ConnId, M),
    /// A message that was none for it.
    Taken,
    /// There is more to do: an event to take, a dial to begin, something to write.
    Again,
    /// Nothing, until the socket, the dial or [`Watched::machine`]'s `wake`.
    Idle,
}

/// A WebSocket of another library's, watched by the machine. It waits for nothing.
pub struct Watched<S, C: Codec, K> {
    machine: Heartbeat<Arc<Config>, SharedDialect>,
    dialect: SharedDialect,
    link: ConnState<S, C>,
    /// It is a client, and may dial.
    dials: bool,
    /// A dial that nobody has begun.
    dial: Option<Attempt>,
    /// From the application, not given to the library yet.
    queue: VecDeque<C::Message>,
    capacity: usize,
    stopping: bool,
    events: VecDeque<Event<C::Message>>,
    ended: bool,
    /// A stop has waited for `close_timeout`.
    close_timed_out: bool,
    /// The open connection is being closed to be renewed: why, since when, and how long it was idle and open then.
    renewing: Option<(Renewal, Instant, Duration, Duration)>,
    /// How the connection or dial before this one ended.
    last: Option<Reason>,
    /// What its error said.
    detail: Option<Box<str>>,
    clock: K,
    log: Log,
    /// What is logged about the present connection is logged in here.
    span: Span,
    /// The application wants a kick, after what there is has been read.
    kicked: bool,
    /// There is something to write or to dial since the last attempt.
    dirty: bool,
    /// Bytes that were looked at since others had their turn.
    work: usize,
    /// A text of joined records that is being read.
    joined: Option<(ConnId, C::Message, Records)>,
    tracks: bool,
    tracked: Variables,
    buffer: Buffer,
}

impl<S: Socket<C>, C: Codec, K: Clock> Watched<S, C, K> {
    /// A server's side: `socket` is open, and when it ends nothing follows.
    pub fn accepted(socket: S, config: Arc<Config>, dialect: SharedDialect, clock: K) -> Self {
        let machine = Heartbeat::accepted(config, Arc::clone(&dialect), random(), clock.now());
        let mut this = Self::new(machine, dialect, clock, false);
        this.guarded(|this| this.opened(socket));
        this
    }

    /// A client. The first dial is wanted after the first turn.
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

    /// Names it in the log. Default: `client`.
    pub fn set_name(&mut self, name: &str) {
        self.log = Log::new(Some(name.into()));
        let conn = self.machine.conn();
        self.span = conn.map_or_else(Span::none, |conn| self.log.connection(conn));
    }

    /// The span that names it in the log.
    #[must_use]
    pub fn log_span(&self) -> &Span {
        &self.log.span
    }

    /// Takes a message, which is written in the next turns.
    ///
    /// # Errors
    /// Hands it back where no connection is open, as many wait as may, or after `stop`.
    pub fn send(&mut self, message: C::Message) -> Result<(), C::Message> {
        if self.stopping || !self.has_room() || self.machine.phase() != Phase::Open {
            return Err(message);
        }
        self.queue.push_back(message);
        Ok(())
    }

    /// True if `send` has room for another message.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.len() < self.capacity
    }

    /// Ends it gracefully, in the next turns.
    pub fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.renewing = None;
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

    /// The clock that it was given.
    pub fn clock(&mut self) -> &mut K {
        &mut self.clock
    }

    /// The open socket.
    pub fn socket(&mut self) -> Option<&mut S> {
        match &mut self.link {
            ConnState::Open(open) => Some(&mut open.socket),
            ConnState::Down | ConnState::Dialing(_) => None,
        }
    }

    /// The next event to be told.
    pub fn event(&mut self) -> Option<Event<C::Message>> {
        self.events.pop_front()
    }

    /// True if an event waits.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// True once the last event was told or waits.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// A dial to begin.
    pub fn take_dial(&mut self) -> Option<Attempt> {
        let dial = self.dial.take();
        dial.filter(|dial| self.dialing() == Some(dial.conn))
    }

    /// The dial that is waited for.
    #[must_use]
    pub fn dialing(&self) -> Option<ConnId> {
        match &self.link {
            ConnState::Dialing(conn) => Some(*conn),
            ConnState::Down | ConnState::Open(_) => None,
        }
    }

    /// True if a deadline has come. Before the next turn judges it, the socket's readiness should be looked up anew.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.machine
            .wake()
            .is_some_and(|wake| wake <= self.clock.now())
    }

    /// True after so many bytes that other tasks should have their turn.
    #[must_use]
    pub const fn has_worked(&self) -> bool {
        self.work >= WORK
    }

    /// Others have had their turn.
    pub const fn rested(&mut self) {
        self.work = 0;
    }

    /// True unless too many answers wait to be written: then nothing is read.
    #[must_use]
    pub fn reads(&self) -> bool {
        matches!(&self.link, ConnState::Open(open) if !open.is_held())
    }

    /// True while bytes wait for the socket to take them.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        matches!(&self.link, ConnState::Open(open) if open.is_blocked())
    }

    /// Does what may call code of the application's. `None`: that code has panicked, and this has ended.
    fn guarded<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let done = catch("the socket or its dialect", || f(self));
        done.map_err(|panicked| self.panicked(&panicked)).ok()
    }

    /// Writes, and reads a message. `is_due`: what [`is_due`](Self::is_due) said before the dial was looked at.
    ///
    /// Panics of the socket, the codec and the dialect are the caller's to catch, and to be told of
    /// ([`panicked`](Self::panicked)).
    pub fn turn(&mut self, is_due: bool, cx: &mut Context<'_>) -> Turn<C::Message> {
        // What waits to be told is older than what this would read.
        if self.has_events() {
            return Turn::Again;
        }
        // Any step judges: where a deadline has come, reading goes before writing.
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

/// Clients that were cut off together must not come back together.
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
