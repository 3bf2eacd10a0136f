//! The state machine: all phases and transitions. Start reading here.
//!
//! An [`Event`] and the time go in (`event.rs`). A [`Step`] of actions and the next deadline comes out
//! (`action.rs`). `open.rs` computes the deadlines of an open connection, `endpoints.rs` remembers hopeless
//! endpoints, `stats.rs` counts.
//!
//! # Phases
//!
//! ```text
//! Waiting ──▶ Connecting ──▶ Open ──▶ Closing ──▶ Stopped
//!    ▲            │           │
//!    └────────────┴───────────┴────┘  a loss or a renewal: back to Waiting, or Stopped if retrying cannot mend it
//! ```
//!
//! The server's side of a connection (`accepted`) begins in `Open`. Any loss leads to `Stopped`.
//!
//! # Rules
//!
//! - A step handles its event before its timers. Bytes that have arrived take precedence over an expired deadline,
//!   and a flood of bytes cannot starve a timer.
//! - A deadline is a pure function of the configuration and of anchors: the times when something was last heard,
//!   sent, blocked, …. The machine stores anchors alone. No timer is "armed" or "cancelled".
//! - The machine compares every deadline with the clock. A superfluous tick does nothing.
//! - Every timer that is due produces an action and moves its anchor past `now`. Therefore `wake` is always in the
//!   future and nothing spins.
//! - A lost connection leaves `Open` or `Connecting` in the same step. From then on its id is stale, and reports
//!   about its socket change nothing.

mod action;
mod endpoints;
mod event;
mod open;
mod stats;

use core::borrow::Borrow;

pub use self::action::{AbortReason, Action, Actions, GiveUp, IntoIter, PingMessage, Reason, Step};
use self::endpoints::{Credentials, Endpoints};
pub use self::event::{ConnId, Event, Message, Route};
use self::open::{Open, Session};
pub use self::stats::{AbortCounts, Rtt, Stats};
use crate::backoff::{DIAL_FLOOR, Rng};
use crate::cause::{Cause, Failure, MAX_RETRY_AFTER, RetryPolicy};
use crate::config::{Config, PermanentErrors, Ping};
use crate::dialect::{Class, Dialect, First, Hello, PingSpec, Reply, TemplateRef};
use crate::renewal::{Due, Ends, Renewal};
use crate::time::{Instant, Span};

/// The liveness and reconnection logic of one client. See the [crate's documentation](crate).
///
/// `C` is the configuration, or a type that borrows as one, such as an `Arc<Config>` shared by many machines. `D`
/// is the dialect.
#[derive(Clone, Debug)]
pub struct Heartbeat<C, D> {
    config: C,
    dialect: D,
    /// The latest time seen. It never decreases.
    now: Instant,
    /// The deadline that the last step announced. A tick's lateness is measured from here.
    wake: Instant,
    /// The part of `wake` that incoming data do not move: see [`Open::unheard_deadline`].
    unheard: Instant,
    /// The latest connection id handed out.
    last_id: u64,
    /// The peer dialled the only connection; no other follows.
    accepted: bool,
    state: State,
    /// Losses in a row without a stable connection in between.
    failures: u32,
    /// Dials in a row that led to no stable connection. Losing a stable connection adds to `failures`, but not
    /// here.
    fruitless: u32,
    endpoints: Endpoints,
    credentials: Credentials,
    rng: Rng,
    /// Number of pings sent, and the payload of the next one.
    ping_number: u64,
    /// The value of the next `${id}`.
    next_id: u64,
    stats: Stats,
}

/// The phase of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Phase {
    /// No connection; the next dial is planned.
    Waiting,
    /// A dial is in progress.
    Connecting,
    /// Connected.
    Open,
    /// The closing handshake is in progress, for a `Stop` or for a renewal.
    Closing,
    /// The machine was stopped or has given up.
    Stopped,
}

impl Phase {
    /// Returns the name for logs and traces (`waiting`, …).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Stopped => "stopped",
        }
    }
}

/// The state of a machine without its statistics. Together with the configuration and the dialect it is enough to
/// continue, for example in a trace that begins in the middle.
#[cfg(feature = "trace")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    now: Instant,
    wake: Instant,
    last_id: u64,
    #[serde(default)]
    accepted: bool,
    state: State,
    failures: u32,
    #[serde(default)]
    fruitless: u32,
    #[serde(default)]
    endpoints: Endpoints,
    #[serde(default)]
    credentials: Credentials,
    rng: Rng,
    ping_number: u64,
    next_id: u64,
}

/// Delay of a one-way ping that is due in the same step as a probe.
const PUT_OFF: Span = Span::from_nanos(1_000_000);

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(rename_all = "snake_case"))]
#[expect(
    clippy::large_enum_variant,
    reason = "a machine is open nearly always, and a box needs an allocator"
)]
enum State {
    Waiting {
        at: Instant,
        /// No kick dials before this time: the minimum distance of dials, or the server's `Retry-After`.
        earliest: Instant,
    },
    Connecting {
        since: Instant,
    },
    Open(Open),
    Closing {
        since: Instant,
        #[cfg_attr(feature = "trace", serde(default))]
        then: Then,
    },
    Stopped,
}

/// The step after the closing handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(rename_all = "snake_case"))]
enum Then {
    #[default]
    Stop,
    /// Dial at once.
    Dial,
    /// Dial after the backoff, because the connection was never stable.
    BackOff,
}

impl<C: Borrow<Config>, D: Dialect> Heartbeat<C, D> {
    /// Creates a machine that dials in its first step, from `start` on.
    ///
    /// `seed` determines the jitter: equal configurations, seeds and events give equal actions. Give each client of
    /// a fleet its own seed.
    pub fn new(config: C, dialect: D, seed: u64, start: Instant) -> Self {
        Self {
            config,
            dialect,
            now: start,
            wake: start,
            unheard: start,
            last_id: 0,
            accepted: false,
            state: State::Waiting {
                at: start,
                earliest: start,
            },
            failures: 0,
            fruitless: 0,
            endpoints: Endpoints::default(),
            credentials: Credentials::default(),
            rng: Rng::new(seed),
            ping_number: 0,
            // Some services (Home Assistant) refuse an id that is not above 0.
            next_id: 1,
            stats: Stats::default(),
        }
    }

    /// Creates a machine for the server's side of a connection: the peer has dialled, and the upgrade was done at
    /// `now`.
    ///
    /// The connection is open from the start and has id 1. When it is lost, the phase is [`Phase::Stopped`]. The
    /// machine never dials, and so it emits neither `ReconnectAt` nor `GaveUp`.
    ///
    /// The settings for dials (`connect_timeout`, `backoff`, `stable_after`, `max_attempts`, causes) have no
    /// effect. `seed` determines the time of a dialect's first ping if that time is [`First::Jittered`].
    ///
    /// ```
    /// use heartbeat_core::{AbortReason, Action, Config, Event, FramesOnly, Heartbeat, Instant, Phase};
    ///
    /// let mut machine = Heartbeat::accepted(Config::default(), FramesOnly, 7, Instant::ORIGIN);
    /// assert_eq!(machine.phase(), Phase::Open);
    ///
    /// // The client says nothing. The machine sends a ping after 30 s and drops the connection after 90 s.
    /// while let Some(wake) = machine.wake() {
    ///     let step = machine.step(wake, Event::Tick);
    ///     if let Some(Action::Abort { reason, .. }) = step.actions.last() {
    ///         assert_eq!((wake.as_nanos(), *reason), (90_000_000_000, AbortReason::IdleTimeout));
    ///     }
    /// }
    /// assert_eq!(machine.phase(), Phase::Stopped);
    /// ```
    pub fn accepted(config: C, dialect: D, seed: u64, now: Instant) -> Self {
        let mut machine = Self::new(config, dialect, seed, now);
        machine.accepted = true;
        machine.last_id = 1;
        machine.begin_open();
        machine.plan();
        machine
    }

    /// Handles one event at the time `now`, and returns the actions to perform.
    ///
    /// Never panics and never allocates, for any event and any time. An impossible event changes nothing. A `now`
    /// before the latest one counts as the latest one.
    #[inline]
    pub fn step<'a>(&mut self, now: Instant, event: Event<'a>) -> Step<'a> {
        self.now = self.now.max(now);
        // Fast path. Before the announced wake nothing is due, and nearly every step is either a tick that changes
        // nothing or data, which only postpone deadlines.
        let is_short = self.now < self.wake
            && match event {
                Event::Tick => true,
                Event::Received(conn, Message::Data) => self.hear_data_only(conn),
                _ => false,
            };
        if !is_short {
            return self.step_fully(event);
        }
        Step {
            actions: Actions::default(),
            wake: self.wake(),
            stale: false,
        }
    }

    /// Slow path. The fast path in `step` must be equivalent.
    #[inline(never)]
    fn step_fully<'a>(&mut self, event: Event<'a>) -> Step<'a> {
        let late = self.wake.after(self.config.borrow().late_grace) < self.now;
        let kicked = event == Event::Kick;
        let mut actions = Actions::default();
        let stale = self.take(event, &mut actions);
        self.plan();
        if late || kicked || self.wake.is_due(self.now) {
            self.timers(late, kicked, &mut actions);
            self.plan();
        }
        Step {
            actions,
            wake: self.wake(),
            stale,
        }
    }

    /// Handles data on the open connection while nothing is due. Returns false, and changes nothing, in any other
    /// state.
    #[inline]
    fn hear_data_only(&mut self, conn: ConnId) -> bool {
        let now = self.now;
        let is_latest = conn == ConnId::new(self.last_id);
        let State::Open(open) = &mut self.state else {
            return false;
        };
        if !is_latest || open.paused.is_some() {
            return false;
        }
        open.hear(now);
        open.hear_data(now);
        self.wake = open.heard_deadline(self.config.borrow()).min(self.unheard);
        true
    }

    /// Returns the state that [`remembering`](Self::remembering) restores.
    #[cfg(feature = "trace")]
    pub fn memory(&self) -> Memory {
        Memory {
            now: self.now,
            wake: self.wake,
            last_id: self.last_id,
            accepted: self.accepted,
            state: self.state.clone(),
            failures: self.failures,
            fruitless: self.fruitless,
            endpoints: self.endpoints.clone(),
            credentials: self.credentials.clone(),
            rng: self.rng.clone(),
            ping_number: self.ping_number,
            next_id: self.next_id,
        }
    }

    /// Returns the machine with its state replaced by `memory`.
    #[cfg(feature = "trace")]
    #[must_use]
    pub fn remembering(self, memory: Memory) -> Self {
        let Memory {
            now,
            wake,
            last_id,
            accepted,
            state,
            failures,
            fruitless,
            endpoints,
            credentials,
            rng,
            ping_number,
            next_id,
        } = memory;
        let mut machine = Self {
            now,
            last_id,
            accepted,
            state,
            failures,
            fruitless,
            endpoints,
            credentials,
            rng,
            ping_number,
            next_id,
            ..self
        };
        machine.plan();
        // Keep the announced deadline: a tick's lateness is measured from it.
        machine.wake = wake;
        machine
    }

    /// Returns the present phase.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Waiting { .. } => Phase::Waiting,
            State::Connecting { .. } => Phase::Connecting,
            State::Open(_) => Phase::Open,
            State::Closing { .. } => Phase::Closing,
            State::Stopped => Phase::Stopped,
        }
    }

    /// Returns the time of the next tick; `None` if only an event can change anything.
    #[inline]
    pub fn wake(&self) -> Option<Instant> {
        (self.wake != Instant::NEVER).then_some(self.wake)
    }

    /// Returns the current connection's id, from its dial to its end.
    pub fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Connecting { .. } | State::Open(_) | State::Closing { .. } => {
                Some(ConnId::new(self.last_id))
            }
            State::Waiting { .. } | State::Stopped => None,
        }
    }

    /// Returns the time of the last byte heard; `None` unless open.
    pub fn heard(&self) -> Option<Instant> {
        self.open().map(|open| open.heard)
    }

    /// Returns the time when the connection opened; `None` unless open.
    pub fn open_since(&self) -> Option<Instant> {
        self.open().map(|open| open.since)
    }

    /// Returns true if the connection is open and its session is ready. Without a `session_timeout` a session is
    /// ready as soon as the connection is open.
    pub fn is_ready(&self) -> bool {
        self.open()
            .is_some_and(|open| matches!(open.session, Session::Ready { .. }))
    }

    /// Returns true if dialling this endpoint is hopeless: it failed for a reason that the machine takes as
    /// permanent. A driver with further endpoints dials the others. See [`Event::Routed`].
    pub fn is_hopeless(&self, endpoint: u8) -> bool {
        self.endpoints.is_hopeless(endpoint)
    }

    /// Returns true if the open connection has been ready for `stable_after` at `now`. The end of a stable
    /// connection restarts the count of failures.
    pub fn is_stable(&self, now: Instant) -> bool {
        let ready = self.open().and_then(|open| match open.session {
            Session::Opening { .. } => None,
            Session::Ready { since } => Some(since),
        });
        ready.is_some_and(|since| now.since(since) >= self.config().stable_after)
    }

    /// Returns the statistics as of the last step.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats;
        if let Some(open) = self.open() {
            stats.time_open += self.now.saturating_duration_since(open.since);
        }
        stats
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        self.config.borrow()
    }

    /// Returns the reason and time of the open connection's planned [renewal](Action::Renew); `None` if none is
    /// planned.
    pub fn renewal(&self) -> Option<(Renewal, Instant)> {
        let ends = &self.open()?.ends;
        let at = ends.renew_at();
        (at != Instant::NEVER).then_some((ends.why, at))
    }

    /// Returns true if a [`Class::Response`] with this id answers a ping of the machine. All other responses belong
    /// to the application.
    pub fn is_answer(&self, id: &str) -> bool {
        self.dialect.ping().is_answered
            && self
                .open()
                .and_then(|open| open.asked)
                .is_some_and(|(number, _)| is_id(id, number))
    }

    /// Takes the next id for a message of the application or driver. Some services (Home Assistant, Mattermost)
    /// want one sequence of ids for those messages and the machine's own.
    pub fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }

    /// Returns the id that [`take_id`](Self::take_id) gives next. The first one is 1.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Sets the next id, for an application that counts for both sides. The application sets its own next id before
    /// a step, and reads [`next_id`](Self::next_id) after the step.
    pub fn set_next_id(&mut self, id: u64) {
        self.next_id = id;
    }

    /// Returns the dialect.
    pub fn dialect(&self) -> &D {
        &self.dialect
    }

    // ---- events -------------------------------------------------------------------------------

    /// Applies the event to the state. Returns true if the event concerns a connection that is not current.
    fn take<'a>(&mut self, event: Event<'a>, actions: &mut Actions<'a>) -> bool {
        match event {
            Event::Tick => {}
            Event::Kick => self.kick(),
            Event::Stop => self.stop(actions),

            Event::Connected(conn) if self.is_current(conn) => self.connected(),
            Event::Connected(conn) => {
                // A dial that was given up has succeeded.
                self.abort(conn, AbortReason::Stale, actions);
                return true;
            }

            Event::Received(conn, _)
            | Event::Ready(conn)
            | Event::Progress(conn)
            | Event::WriteBlocked(conn)
            | Event::Wrote(conn)
            | Event::PingWaiting(conn)
            | Event::PingWritten(conn)
            | Event::PingUnsent(conn)
            | Event::Routed(conn, _)
            | Event::ReadPaused(conn)
            | Event::ReadResumed(conn)
            | Event::Closed(conn, _)
                if !self.is_current(conn) =>
            {
                return true;
            }

            Event::Ready(_) => self.ready(),
            Event::Received(conn, message) => self.received(conn, message, actions),
            Event::Progress(_) => {
                if let State::Open(open) = &mut self.state {
                    // A partial message may be the data that `data_timeout` waits for. A large message on a slow
                    // line is no silence.
                    open.hear(self.now);
                    open.hear_data(self.now);
                }
            }
            Event::WriteBlocked(_) => {
                if let State::Open(open) = &mut self.state {
                    open.blocked.get_or_insert(self.now);
                }
            }
            Event::Wrote(_) => {
                if let State::Open(open) = &mut self.state {
                    open.moved(self.now);
                    open.blocked = None;
                    open.sent = self.now;
                }
            }
            Event::PingWaiting(_) => {
                if let State::Open(open) = &mut self.state {
                    open.ping_waits(self.now);
                }
            }
            Event::PingWritten(_) => {
                if let State::Open(open) = &mut self.state {
                    open.pings_written(self.now);
                }
            }
            Event::PingUnsent(_) => self.ping_unsent(),
            Event::Routed(_, route) => {
                if let State::Connecting { .. } = self.state {
                    self.endpoints.dial(route);
                }
            }
            Event::ReadPaused(_) => {
                if let State::Open(open) = &mut self.state {
                    open.paused.get_or_insert(self.now);
                }
            }
            Event::ReadResumed(_) => {
                if let State::Open(open) = &mut self.state {
                    open.resume(self.now);
                }
            }
            Event::Closed(_, cause) => self.closed(cause, actions),
        }
        false
    }

    fn open(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) => Some(open),
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Closing { .. }
            | State::Stopped => None,
        }
    }

    fn is_current(&self, conn: ConnId) -> bool {
        self.conn() == Some(conn)
    }

    fn connected(&mut self) {
        // A repeated `Ready` changes nothing.
        if let State::Connecting { .. } = self.state {
            self.begin_open();
        }
    }

    fn begin_open(&mut self) {
        self.stats.connects = self.stats.connects.saturating_add(1);
        self.credentials.upgraded();
        let ahead = self.first_ping_ahead(self.config().ping_every);
        let lifetime = match self.accepted {
            true => Span::OFF,
            false => self.config().lifetime,
        };
        let ends = Ends::after(lifetime, &mut self.rng, self.now);
        let open = Open::new(self.now, self.config.borrow(), ahead, ends);
        if let Session::Ready { .. } = open.session {
            self.stats.sessions = self.stats.sessions.saturating_add(1);
        }
        self.state = State::Open(open);
    }

    fn ready(&mut self) {
        if let State::Open(open) = &mut self.state
            && let Session::Opening { .. } = open.session
        {
            open.session = Session::Ready { since: self.now };
            self.credentials.accepted();
            self.stats.sessions = self.stats.sessions.saturating_add(1);
        }
    }

    fn received<'a>(&mut self, conn: ConnId, message: Message<'a>, actions: &mut Actions<'a>) {
        let State::Open(open) = &mut self.state else {
            // Nothing is received before `Connected`, and nothing is answered after `Stop`.
            return;
        };
        open.hear(self.now);
        let class = match message {
            Message::Data => Class::Data,
            Message::Ping(payload) => Class::Ping(Reply::Frame(payload)),
            Message::Pong(payload) => {
                let asked = open
                    .asked
                    .take_if(|(number, _)| number.to_be_bytes() == payload);
                return self.pong(asked);
            }
            Message::Text(text) => self.dialect.classify_text(text),
            Message::Binary(bytes) => self.dialect.classify_binary(bytes),
        };
        match class {
            Class::Data => open.hear_data(self.now),
            Class::Beat => {}
            Class::Pong => {
                // Any message answers an application-level ping, if the dialect expects an answer.
                let asked = open.asked.take_if(|_| self.dialect.ping().is_answered);
                self.pong(asked);
            }
            Class::Response(id) => {
                match open
                    .asked
                    .take_if(|(number, _)| self.dialect.ping().is_answered && is_id(id, *number))
                {
                    Some(asked) => self.pong(Some(asked)),
                    // The response belongs to the application.
                    None => open.hear_data(self.now),
                }
            }
            Class::Ping(reply) => self.reply(conn, reply, actions),
            Class::Composite(carried) => {
                if carried.data {
                    open.hear_data(self.now);
                }
                if let (Some(within), false) = (carried.ending, self.accepted) {
                    open.ends.announced(within, &mut self.rng, self.now);
                }
                self.greeted(carried.hello);
                if let Some(reply) = carried.reply {
                    self.reply(conn, reply, actions);
                }
            }
        }
    }

    fn pong(&mut self, asked: Option<(u64, Instant)>) {
        self.stats.pongs_received = self.stats.pongs_received.saturating_add(1);
        if let Some((_, at)) = asked {
            let sample = self.now.since(at);
            self.stats.rtt.measure(sample.duration());
            if let State::Open(open) = &mut self.state {
                open.measure(sample);
            }
        }
    }

    /// Takes back the latest ping, which could not be sent.
    fn ping_unsent(&mut self) {
        if let State::Open(open) = &mut self.state
            && let Some(was_probe) = open.ping_unsent(self.now)
        {
            self.stats.pings_sent = self.stats.pings_sent.saturating_sub(1);
            if was_probe {
                self.stats.probes_sent = self.stats.probes_sent.saturating_sub(1);
            }
        }
    }

    fn reply<'a>(&mut self, conn: ConnId, reply: Reply<'a>, actions: &mut Actions<'a>) {
        let is_frame = matches!(reply, Reply::Frame(_));
        self.note_sent(is_frame);
        self.stats.pongs_sent = self.stats.pongs_sent.saturating_add(1);
        let reply = match reply {
            Reply::Template(draft) => Reply::Template(self.number(draft)),
            Reply::Frame(_) | Reply::Text(_) | Reply::Binary(_) => reply,
        };
        actions.push(Action::SendPong { conn, reply });
    }

    /// Notes that a message or frame of ours goes out. Services that count messages do not count frames.
    fn note_sent(&mut self, is_frame: bool) {
        if let State::Open(open) = &mut self.state
            && !(is_frame && self.dialect.ping().message.is_some())
        {
            open.sent = self.now;
        }
    }

    /// Applies the times that the service has announced to this connection.
    fn greeted(&mut self, hello: Hello) {
        let (every, after_silence) = match hello.ping.map(Hello::bounded_ping) {
            Some(Ping::Every(interval)) => (Span::new(interval), Span::OFF),
            Some(Ping::AfterSilence(silence)) => (Span::OFF, Span::new(silence)),
            Some(Ping::Never) | None => (Span::OFF, Span::OFF),
        };
        let ahead = self.first_ping_ahead(every);
        let State::Open(open) = &mut self.state else {
            return;
        };
        if let Some(timeout) = hello.idle_timeout {
            open.told.idle_timeout = Span::new(Hello::bounded(timeout));
        }
        // A ping after the verdict would be pointless.
        let in_time = |period: Span| {
            if !period.is_off() && period >= open.told.idle_timeout {
                Span::from_nanos(open.told.idle_timeout.as_nanos() / 2)
            } else {
                period
            }
        };
        let (every, after_silence) = (in_time(every), in_time(after_silence));
        // A repeated announcement does not restart the period.
        if hello.ping.is_some()
            && (open.told.ping_every, open.told.ping_after_silence) != (every, after_silence)
        {
            open.told.ping_every = every;
            open.told.ping_after_silence = after_silence;
            open.pinged = self.now;
            open.ahead = ahead.min(every);
        }
    }

    /// Returns by how much a connection's first periodic ping precedes the end of one interval.
    fn first_ping_ahead(&mut self, interval: Span) -> Span {
        if interval.is_off() {
            return Span::ZERO;
        }
        let ask = self.dialect.ping();
        match ask.first {
            First::After => jitter(&mut self.rng, interval, &ask),
            First::AtOnce => interval,
            First::Jittered => self.rng.between(Span::ZERO, interval),
        }
    }

    /// Gives a template the next id.
    fn number<'a>(&mut self, mut draft: TemplateRef<'a>) -> TemplateRef<'a> {
        draft.id = self.take_id();
        draft
    }

    fn kick(&mut self) {
        if let State::Waiting { at, earliest } = &mut self.state {
            *at = (*at).min(self.now.max(*earliest));
        }
        // An open connection is probed in `timers`, after any verdict, and only once.
    }

    fn stop(&mut self, actions: &mut Actions<'_>) {
        let conn = ConnId::new(self.last_id);
        match self.state {
            State::Waiting { .. } => self.state = State::Stopped,
            State::Connecting { .. } => {
                self.abort(conn, AbortReason::Stale, actions);
                self.state = State::Stopped;
            }
            State::Open(_) => {
                self.leave_open();
                // RFC 6455 §7.4.1: 1000, the purpose of the connection is fulfilled.
                actions.push(Action::Close { conn, code: 1000 });
                self.state = State::Closing {
                    since: self.now,
                    then: Then::Stop,
                };
            }
            // `Stop` cancels the dial that was to follow.
            State::Closing { since, .. } => {
                self.state = State::Closing {
                    since,
                    then: Then::Stop,
                }
            }
            State::Stopped => {}
        }
    }

    fn closed(&mut self, cause: Cause, actions: &mut Actions<'_>) {
        match self.state {
            State::Connecting { .. } | State::Open(_) => {
                let own = match cause {
                    Cause::Close(code) => self.dialect.close_policy(code),
                    Cause::Http {
                        status,
                        retry_after: None,
                    } => self.dialect.http_policy(status),
                    _ => None,
                };
                let overridden = self.config().overrides().get(cause.signal());
                let (verdict, from_table) = match overridden.or(own) {
                    Some(verdict) => (verdict, false),
                    None => (self.table_verdict(cause), true),
                };
                self.lose(verdict, from_table, Reason::Cause(cause), actions);
            }
            State::Closing { then, .. } => self.has_closed(then, actions),
            State::Waiting { .. } | State::Stopped => {}
        }
    }

    /// Returns the built-in table's policy for this cause, adapted to the present connection.
    fn table_verdict(&self, cause: Cause) -> RetryPolicy {
        match (cause, &self.state) {
            // An open TLS connection has already completed its handshake: a bad record, or plain text in its place,
            // is corruption.
            (Cause::Tls, State::Open(_)) => RetryPolicy::Backoff,
            // With fixed credentials there is nothing to refresh. The violation may be temporary, such as too many
            // requests.
            (Cause::Close(1008), _) if self.config().fixed_credentials => RetryPolicy::Backoff,
            _ => cause.default_verdict(),
        }
    }

    // ---- timers -------------------------------------------------------------------------------

    /// Performs the actions that are due. `late`: this step comes more than `late_grace` after the announced wake.
    /// `kicked`: a probe is due now.
    fn timers(&mut self, late: bool, kicked: bool, actions: &mut Actions<'_>) {
        match &self.state {
            State::Waiting { at, .. } if at.is_due(self.now) => self.dial(actions),
            State::Connecting { since }
                if since.after(self.config().connect_timeout).is_due(self.now) =>
            {
                let reason = AbortReason::ConnectTimeout;
                self.abort(ConnId::new(self.last_id), reason, actions);
                self.lose(RetryPolicy::Backoff, true, Reason::Aborted(reason), actions);
            }
            State::Closing { since, then }
                if since.after(self.config().close_timeout).is_due(self.now) =>
            {
                let then = *then;
                self.abort(
                    ConnId::new(self.last_id),
                    AbortReason::CloseTimeout,
                    actions,
                );
                self.has_closed(then, actions);
            }
            State::Open(_) => self.open_timers(late, kicked, actions),
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Closing { .. }
            | State::Stopped => {}
        }
    }

    fn open_timers(&mut self, late: bool, kicked: bool, actions: &mut Actions<'_>) {
        let now = self.now;
        let State::Open(open) = &mut self.state else {
            return;
        };
        let config = self.config.borrow();
        // An unanswered probe is enough: its answer also answers the kick.
        let mut probe_now = kicked && open.probe.is_none();

        if late && open.needs_last_probe(config, now) {
            open.begin_last_probe(now);
            probe_now = true;
        }
        let (deadline, reason) = open.first_verdict(config);
        if deadline.is_due(now) {
            self.abort(ConnId::new(self.last_id), reason, actions);
            self.lose(RetryPolicy::Backoff, true, Reason::Aborted(reason), actions);
            return;
        }
        let checks = open.next_check(config).is_due(now);
        if checks {
            open.checked = now;
        }
        match open.ends.due(now) {
            Some(Due::Renewal) => return self.renew(actions),
            Some(Due::Note(within)) => actions.push(Action::Ending {
                conn: ConnId::new(self.last_id),
                why: open.ends.why,
                within,
            }),
            None if checks => {
                let idle = now.saturating_duration_since(open.heard);
                actions.push(Action::Check {
                    conn: ConnId::new(self.last_id),
                    idle,
                });
            }
            None => {}
        }
        let ask = self.dialect.ping();
        let mut beat_now = open.next_keepalive(config).is_due(now) || open.put_off.is_due(now);
        if open.next_periodic_ping().is_due(now) {
            open.pinged = now;
            open.ahead = jitter(&mut self.rng, open.told.ping_every, &ask);
            match ask.message {
                // A ping without an answer cannot be a probe.
                Some(_) if !ask.is_answered => beat_now = true,
                Some(_) | None => probe_now = true,
            }
        }
        let is_probe = probe_now || open.next_silence_ping().is_due(now);
        if is_probe && beat_now && ask.message.is_some() && !ask.is_answered {
            // Send the probe first, because the one-way ping gets no answer. Send one thing at a time.
            open.put_off = now.after(PUT_OFF);
            open.sent = now;
            self.ping(true, None, actions);
        } else if is_probe || beat_now {
            open.put_off = Instant::NEVER;
            let message = ask.message.filter(|_| ask.is_answered || beat_now);
            self.ping(is_probe, message, actions);
        }
    }

    /// Computes the next deadline.
    fn plan(&mut self) {
        let config = self.config.borrow();
        self.unheard = match &self.state {
            State::Waiting { at, .. } => *at,
            State::Connecting { since } => since.after(config.connect_timeout),
            State::Open(open) => open.unheard_deadline(config),
            State::Closing { since, .. } => since.after(config.close_timeout),
            State::Stopped => Instant::NEVER,
        };
        self.wake = match &self.state {
            State::Open(open) => open.heard_deadline(config).min(self.unheard),
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Closing { .. }
            | State::Stopped => self.unheard,
        };
    }

    // ---- shared by events and timers -----------------------------------------------------------

    fn dial(&mut self, actions: &mut Actions<'_>) {
        // A restored `Memory` may hold any number.
        self.last_id = self.last_id.saturating_add(1);
        self.stats.dials = self.stats.dials.saturating_add(1);
        if self.stats.dials > 1 {
            self.stats.reconnects = self.stats.reconnects.saturating_add(1);
        }
        self.state = State::Connecting { since: self.now };
        self.endpoints.forget_route();
        actions.push(Action::Connect {
            conn: ConnId::new(self.last_id),
            attempt: self.failures,
            refresh: self.credentials.dial(),
        });
    }

    fn ping(
        &mut self,
        is_probe: bool,
        message: Option<TemplateRef<'static>>,
        actions: &mut Actions<'_>,
    ) {
        self.note_sent(message.is_none());
        if is_probe {
            self.stats.probes_sent = self.stats.probes_sent.saturating_add(1);
        }
        self.stats.pings_sent = self.stats.pings_sent.saturating_add(1);
        let (number, ping) = match message {
            Some(draft) => {
                let draft = self.number(draft);
                (draft.id, PingMessage::Template(draft))
            }
            None => {
                let number = self.ping_number;
                self.ping_number = number.wrapping_add(1);
                (number, PingMessage::Frame(number.to_be_bytes()))
            }
        };
        if let State::Open(open) = &mut self.state {
            open.ask(number, is_probe, self.now);
        }
        actions.push(Action::SendPing {
            conn: ConnId::new(self.last_id),
            ping,
        });
    }

    fn abort(&mut self, conn: ConnId, reason: AbortReason, actions: &mut Actions<'_>) {
        self.stats.aborts.count(reason);
        actions.push(Action::Abort { conn, reason });
    }

    /// Closes a healthy connection, to replace it by a new one.
    fn renew(&mut self, actions: &mut Actions<'_>) {
        let State::Open(open) = &self.state else {
            return;
        };
        let why = open.ends.why;
        self.stats.renewals = self.stats.renewals.saturating_add(1);
        let then = if self.leave_open() {
            self.has_proved_itself();
            Then::Dial
        } else if why == Renewal::Lifetime {
            Then::Dial
        } else {
            // A server that announces the end of each connection gets dials no more often than the backoff allows.
            Then::BackOff
        };
        actions.push(Action::Renew {
            conn: ConnId::new(self.last_id),
            // A code for private use. After 1000 or 1001 some services forget a session that the client wants to
            // resume.
            code: 4000,
            why,
        });
        self.state = State::Closing {
            since: self.now,
            then,
        };
    }

    /// Handles the end of the closing handshake.
    fn has_closed(&mut self, then: Then, actions: &mut Actions<'_>) {
        match then {
            Then::Stop => self.state = State::Stopped,
            Then::BackOff => {
                let ended = Reason::Renewal(Renewal::Announced);
                self.lose(RetryPolicy::Backoff, true, ended, actions);
            }
            Then::Dial => {
                let at = self.now.saturating_add(DIAL_FLOOR);
                self.state = State::Waiting { at, earliest: at };
                actions.push(Action::ReconnectAt {
                    at,
                    attempt: self.failures,
                    delay: DIAL_FLOOR,
                    tolerated: None,
                });
            }
        }
    }

    fn has_proved_itself(&mut self) {
        (self.failures, self.fruitless) = (0, 0);
        self.endpoints.proved();
        self.credentials.accepted();
    }

    /// Plans the next dial after the end of a connection or dial, or gives up. After an accepted connection only
    /// the peer can dial again. `from_table`: the policy comes from the built-in table, not from the configuration
    /// or the dialect.
    fn lose(
        &mut self,
        verdict: RetryPolicy,
        from_table: bool,
        ended: Reason,
        actions: &mut Actions<'_>,
    ) {
        let cause = ended.cause();
        self.stats.losses = self.stats.losses.saturating_add(1);
        if self.leave_open() {
            self.has_proved_itself();
        } else {
            self.fruitless = self.fruitless.saturating_add(1);
        }
        if self.accepted {
            self.state = State::Stopped;
            return;
        }
        let hopeless = self.hopeless(verdict, cause);
        let tolerated = hopeless.is_some() && from_table && self.tolerates(verdict, cause);
        let exhausted = self
            .config()
            .max_attempts
            .is_some_and(|most| self.fruitless >= most);
        let gives_up = match hopeless {
            Some(reason) if !tolerated && self.is_the_last_way(reason) => Some(reason),
            _ => exhausted.then_some(GiveUp::MaxAttempts(ended)),
        };
        if let Some(reason) = gives_up {
            self.state = State::Stopped;
            actions.push(Action::GaveUp { reason });
            return;
        }

        if let (RetryPolicy::Refresh, None, Some(cause)) = (verdict, hopeless, cause) {
            self.credentials.refused(cause);
        }
        self.stats.tolerated = self.stats.tolerated.saturating_add(u32::from(tolerated));
        let named = cause.and_then(Cause::retry_after);
        let floor = match verdict {
            RetryPolicy::After(least) => Span::new(least.min(MAX_RETRY_AFTER)),
            RetryPolicy::RetryAfter { or } => Span::new(named.unwrap_or(or).min(MAX_RETRY_AFTER)),
            RetryPolicy::Refresh => Span::new(named.unwrap_or_default().min(MAX_RETRY_AFTER)),
            RetryPolicy::Spread(least, most) => {
                let most = most.min(MAX_RETRY_AFTER);
                self.rng
                    .between(Span::new(least.min(most)), Span::new(most))
            }
            RetryPolicy::Backoff | RetryPolicy::Never => Span::ZERO,
        };
        let backoff = self.config().backoff;
        let delay = match verdict {
            // The delay was drawn from its range already; more jitter could leave that range.
            RetryPolicy::Spread(..) => {
                floor.max(backoff.delay(self.failures, Span::ZERO, &mut self.rng))
            }
            _ => backoff.delay(self.failures, floor, &mut self.rng),
        };
        let at = self.now.after(delay);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting {
            at,
            earliest: self.now.after(floor.max(Span::new(DIAL_FLOOR))),
        };
        actions.push(Action::ReconnectAt {
            at,
            attempt: self.failures,
            delay: delay.duration(),
            tolerated: cause.filter(|_| tolerated),
        });
    }

    /// Returns the reason to give up for this end, unless the end is tolerated.
    fn hopeless(&self, verdict: RetryPolicy, cause: Option<Cause>) -> Option<GiveUp> {
        let cause = cause?;
        match verdict {
            RetryPolicy::Never => Some(GiveUp::Cause(cause)),
            RetryPolicy::Refresh if self.credentials.were_fresh(cause) => {
                Some(GiveUp::Credentials(cause))
            }
            _ => None,
        }
    }

    /// Returns true if the machine dials again in spite of a permanent error. If the endpoint was once stable, such
    /// an error points to a deploy, a captive portal or a restart.
    fn tolerates(&self, verdict: RetryPolicy, cause: Option<Cause>) -> bool {
        if let Some(Cause::Session(Failure::GiveUp)) = cause {
            // The application decided this itself.
            return false;
        }
        // Fresh credentials were refused. The next ones would be refused, too.
        let refused_for_good = verdict == RetryPolicy::Refresh && !self.config().fixed_credentials;
        match self.config().permanent_errors {
            PermanentErrors::GiveUp => false,
            PermanentErrors::GiveUpUnlessStable => !refused_for_good && self.endpoints.is_proven(),
            PermanentErrors::Retry => true,
        }
    }

    /// Marks the failed address or endpoint as hopeless. Returns true if no address and no endpoint is left to try.
    fn is_the_last_way(&mut self, reason: GiveUp) -> bool {
        match reason {
            GiveUp::Cause(Cause::Session(_)) => true,
            GiveUp::Cause(_) => self.endpoints.is_last_hope(),
            // All addresses of an endpoint share their credentials.
            GiveUp::Credentials(_) | GiveUp::MaxAttempts(_) => self.endpoints.condemn(),
        }
    }

    /// Adds the time of an open connection to the statistics. Returns true if the connection was stable.
    fn leave_open(&mut self) -> bool {
        let State::Open(open) = &self.state else {
            return false;
        };
        self.stats.time_open += self.now.since(open.since).duration();
        self.is_stable(self.now)
    }
}

/// Returns by how much the next periodic ping precedes the end of its interval, where the dialect wants jitter.
fn jitter(rng: &mut Rng, interval: Span, ask: &PingSpec) -> Span {
    match u64::from(ask.jitter_percent.min(100)) {
        0 => Span::ZERO,
        percent => rng.between(
            Span::ZERO,
            Span::from_nanos(interval.as_nanos() / 100 * percent),
        ),
    }
}

/// Returns true if a raw JSON value is this id, as a number or as a string.
fn is_id(raw: &str, id: u64) -> bool {
    let digits = raw
        .strip_prefix('"')
        .and_then(|raw| raw.strip_suffix('"'))
        .unwrap_or(raw);
    digits.parse() == Ok(id)
}
