//! The engine runs the machine's commands on a byte stream, independent of the runtime.
//!
//! An adapter calls [`Engine::turn`] until it returns [`Turn::Idle`]. Then the adapter waits until the socket
//! is ready, [`Engine::wake`] has come, or the send queue has something, whichever is first. It dials when told
//! to. The engine never blocks and contains no timing rule.

mod dialing;
mod guarding;
mod joined;
mod opening;
mod pauses;
mod performing;
mod reading;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::Arc;

use heartbeat_core::{
    Buffer, Clock, Config, ConnId, Event as Input, Heartbeat, Instant, Phase, Route, Variables,
};
use tracing::{Span, warn};

use self::dialing::StartedDial;
use self::guarding::Named;
use self::joined::Joined;
use self::joined::ReadOn;
use self::opening::Lost;
use self::pauses::Pauses;
use self::performing::Renewing;
use crate::dial::{Addresses, Attempt, Dial, FactoryWaker, Gate, PendingRequest};
use crate::dialect::SharedDialect;
use crate::event::{Event, Reason};
use crate::http::Response;
use crate::log::Log;
use crate::message::records::WORK;
use crate::message::{CloseFrame, Unsent};
use crate::options::Options;
use crate::panics::named;
use crate::queue::{Ids, Notify, Overflow, Pace, SendQueue};
use crate::request::{Proxy, Request, RequestError};
use crate::stats::{ClientStats, Meter, Recorder, SharedStats};
use crate::upgrade::Upgrade;
use crate::websocket::Connection;

/// After this many messages in a row the engine reports to the machine and runs due timers, even if the socket
/// has more.
const BURST: u32 = 64;

/// The next task of an adapter.
#[derive(Debug)]
pub enum Turn {
    /// Pass this event on to the application.
    Event(Event),
    /// Connect to this host and port, then call [`Engine::dialed`]. Drop the dial when its connection is no
    /// longer [`Engine::dialing`].
    Dial(Dial),
    /// Call `turn` again after other tasks had a turn: the server sends much that the application need not see.
    Again,
    /// Wait.
    Idle,
    /// The client has ended.
    Ended,
}

/// The machine, its connection and its queues. `S` is a non-blocking byte stream: its `read` and `write` return
/// `WouldBlock` instead of blocking.
pub struct Engine<S: Read + Write> {
    machine: Heartbeat<Arc<Config>, SharedDialect>,
    options: Options,
    send_queue: Arc<SendQueue>,
    link: ConnState<S>,
    /// Events to hand out. A turn hands out all of them before it does anything else, so the queue holds at
    /// most the events of one step.
    events: VecDeque<Event>,
    dial: Option<Dial>,
    /// The addresses of the host that have failed.
    addresses: Addresses,
    /// Holds a dial back until its turn in a shared budget.
    gate: Gate,
    paused: bool,
    pauses: Pauses,
    /// The end of the current connection has reached this host. Earlier data is read even if the application
    /// takes no events.
    ending: bool,
    /// The adapter has reported the connection's end.
    hung_up: bool,
    /// No dial begins and no message expires, because there is no room for the messages that they would hand
    /// back.
    withheld: bool,
    ended: bool,
    /// The connection whose beginning was reported, and whose end was not.
    told: Option<ConnId>,
    /// Bytes processed since other tasks last had a turn.
    work: usize,
    /// `work` exceeded its limit, and the adapter has not been told yet.
    has_worked: bool,
    /// The dialect has joined records.
    joins: bool,
    /// The text of joined records that is being read.
    joined: Option<Box<Joined>>,
    /// How many messages to read before the next look at the send queue. Set after a look, and after a long
    /// write that has more to do.
    reads_first: u32,
    /// The rate of messages, for a service that counts them.
    pace: Option<Pace>,
    /// When the next message may go.
    paced_until: Instant,
    /// The open connection is being closed for a renewal.
    renewing: Option<Renewing>,
    /// The Close frame of a stop.
    goodbye: Option<CloseFrame>,
    /// The application's `on_connect` has not reported the session as ready yet.
    opening: bool,
    /// The facts that the factory was given for the latest dial.
    attempt: Attempt,
    /// The endpoint of the next dial, if there are several.
    endpoint: u8,
    /// The route of the latest dial, as reported to the machine.
    route: Route,
    /// How the last connection or dial ended.
    last: Option<Reason>,
    /// The answer that ended the dial, kept for the event.
    response: Option<Arc<Response>>,
    /// The last answer that refused a dial. Cleared when a dial is accepted.
    refused: Option<Arc<Response>>,
    /// The URLs of the current dial, if it may be redirected.
    trail: Vec<String>,
    /// The ready connection that was lost. Cleared when another one is ready.
    lost: Option<Box<Lost>>,
    /// When the first held message expires.
    expires: Instant,
    unsent: Unsent,
    /// Messages that the last connection had written after its last read. Set from its end until the end is
    /// reported.
    in_doubt: usize,
    /// The peer left the Close of a stop unanswered for `close_timeout`.
    close_timed_out: bool,
    shared_stats: Arc<SharedStats>,
    meter: Option<Box<Meter>>,
    /// Tracing span of the current connection.
    span: Span,
    /// The machine has changed, and the shared stats do not show it yet.
    news: bool,
    /// Every message passes through code that needs a turn: the application's dialect or decoder, or a dialect
    /// that tracks values.
    guards_messages: bool,
    /// The dialect tracks values of messages.
    tracks: bool,
    tracked: Variables,
    /// Buffer for the dialect's own messages.
    buffer: Buffer,
}

/// Boxed, so that an idle client takes little memory.
enum ConnState<S: Read + Write> {
    Down,
    /// The factory is making the request.
    Preparing {
        begun: StartedDial,
        making: PendingRequest,
        prod: Arc<FactoryWaker>,
    },
    /// A redirect waits until it may be followed.
    Redirected {
        begun: StartedDial,
        request: Box<Request>,
        at: Instant,
    },
    /// The adapter dials, or has been told to.
    Dialing {
        begun: StartedDial,
        route: Box<(Request, Option<Proxy>)>,
    },
    /// Proxy, TLS and the WebSocket upgrade are in progress.
    Upgrading {
        begun: StartedDial,
        upgrade: Box<Upgrade<S>>,
    },
    Open(Box<Connection<S>>),
}

impl<S: Read + Write> Engine<S> {
    /// Creates an idle engine. `wake_engine` is called, from any thread, when the send queue has something for
    /// the engine.
    ///
    /// # Errors
    /// [`RequestError`] if TLS is needed and no trusted roots are found, if a proxy of the environment cannot
    /// be used, or if the configuration contradicts the service ([`Options::of_service`]).
    pub fn new(
        mut options: Options,
        now: Instant,
        wake_engine: Notify,
    ) -> Result<Self, RequestError> {
        let log = Log::new(options.take_name());
        options.check()?;
        log.span.in_scope(|| options.heed_service())?;
        options.complete_config();
        #[cfg(feature = "metrics")]
        let meter = options
            .metrics
            .then(|| Box::new(Meter::new(log.name.to_string())));
        #[cfg(not(feature = "metrics"))]
        let meter = None;
        let recorder = options.explain.map(|events| {
            let config = Config::clone(&options.config);
            Recorder::new(events, options.trace_dialect.clone(), config)
        });
        let machine = Heartbeat::new(
            Arc::clone(&options.config),
            Arc::clone(&options.dialect),
            options.seed,
            now,
        );
        let pace = options
            .send_rate
            .clone()
            .map(|(limiter, _)| Pace::new(limiter));
        let gate = Gate::new(options.dial_budget.clone());
        Ok(Self {
            machine,
            send_queue: Arc::new(SendQueue::new(
                options.send_queue,
                Ids::from(options.first_id),
                wake_engine,
            )),
            tracks: options.dialect.tracks(),
            joins: options.dialect.separator().is_some(),
            guards_messages: options.has_own_dialect
                || options.decoders.is_some()
                || options.dialect.tracks(),
            options,
            link: ConnState::Down,
            events: VecDeque::new(),
            dial: None,
            addresses: Addresses::default(),
            gate,
            paused: false,
            pauses: Pauses::default(),
            ending: false,
            hung_up: false,
            withheld: false,
            ended: false,
            told: None,
            work: 0,
            has_worked: false,
            joined: None,
            reads_first: 0,
            renewing: None,
            goodbye: None,
            pace,
            paced_until: Instant::NEVER,
            opening: false,
            attempt: Attempt {
                conn: ConnId::new(0),
                attempt: 0,
                refresh: false,
                last: None,
                refused: None,
            },
            refused: None,
            trail: Vec::new(),
            endpoint: 0,
            route: Route::ONLY,
            last: None,
            response: None,
            lost: None,
            expires: Instant::NEVER,
            unsent: Unsent::default(),
            in_doubt: 0,
            close_timed_out: false,
            shared_stats: Arc::new(SharedStats::new(log, recorder)),
            meter,
            span: Span::none(),
            news: true,
            tracked: Variables::new(),
            buffer: Buffer::default(),
        })
    }

    /// Returns the send queue, which takes messages and commands.
    pub fn send_queue(&self) -> &Arc<SendQueue> {
        &self.send_queue
    }

    /// Returns the machine, for its figures.
    pub fn machine(&self) -> &Heartbeat<Arc<Config>, SharedDialect> {
        &self.machine
    }

    /// Returns the time by which the next turn is due.
    pub fn wake(&self) -> Option<Instant> {
        let expires = if self.withholds_expiry() {
            Instant::NEVER
        } else {
            self.expires
        };
        let dial = match &self.link {
            ConnState::Redirected { at, .. } => *at,
            ConnState::Upgrading { upgrade, .. } => upgrade.wake(),
            _ => Instant::NEVER,
        };
        let wake = self.step_at().min(expires).min(dial).min(self.paced_until);
        (wake != Instant::NEVER).then_some(wake)
    }

    /// Returns the client's current figures.
    pub fn stats(&self) -> ClientStats {
        if let ConnState::Open(session) = &self.link {
            self.shared_stats.traffic(session.traffic());
        }
        self.publish();
        self.shared_stats.stats(self.send_queue.waiting())
    }

    /// Returns the shared stats for other threads. They show the figures as of the engine's last rest.
    pub fn shared_stats(&self) -> &Arc<SharedStats> {
        &self.shared_stats
    }

    /// Returns the span that names the client in the log.
    pub fn log_span(&self) -> &Span {
        &self.shared_stats.log.span
    }

    /// Returns the connection that waits for a byte stream.
    pub fn dialing(&self) -> Option<ConnId> {
        match &self.link {
            ConnState::Dialing { begun, .. } => Some(begun.conn),
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Upgrading { .. }
            | ConnState::Open(_) => None,
        }
    }

    /// Returns how many addresses of the last dialled host have not failed since the last stable connection,
    /// without the one in use. Returns 0 if the adapter does not report addresses ([`Dial::connected`]), and
    /// once 32 addresses have failed.
    ///
    /// While other addresses are left, the answer of one address does not speak for the host.
    pub fn untried_addresses(&self) -> usize {
        self.addresses.untried()
    }

    /// Returns the byte stream in use, to wait for it.
    pub fn socket(&self) -> Option<&S> {
        match &self.link {
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. } => None,
            ConnState::Upgrading { upgrade, .. } => upgrade.socket(),
            ConnState::Open(session) => Some(session.socket()),
        }
    }

    /// Returns the byte stream in use, to change it (to register it with a poller, say).
    pub fn socket_mut(&mut self) -> Option<&mut S> {
        match &mut self.link {
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. } => None,
            ConnState::Upgrading { upgrade, .. } => upgrade.socket_mut(),
            ConnState::Open(session) => Some(session.socket_mut()),
        }
    }

    /// Returns the byte stream if the next turn will read all available data and then judge, because a deadline
    /// has come or a write has failed. An adapter whose stream caches its readiness must refresh the cache
    /// first, because it may be stale.
    pub fn due_socket(&mut self, now: Instant) -> Option<&mut S> {
        if !self.is_due(now) && !self.is_doubtful() {
            return None;
        }
        match &mut self.link {
            ConnState::Open(session) => {
                session.ran_dry = false;
                Some(session.socket_mut())
            }
            ConnState::Upgrading { upgrade, .. } => upgrade.socket_mut(),
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. } => None,
        }
    }

    /// Returns true if a turn is useful when the socket becomes readable.
    pub fn wants_read(&self) -> bool {
        match &self.link {
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. } => false,
            // Also while the request is stuck: the server may refuse a request before reading all of it.
            ConnState::Upgrading { .. } => true,
            ConnState::Open(_) => self.reads(),
        }
    }

    /// Returns true while an open connection is not being read. The adapter then watches for the connection's
    /// end by other means and calls [`hung_up`](Self::hung_up).
    pub fn watches_hang_up(&self) -> bool {
        matches!(&self.link, ConnState::Open(_)) && !self.hung_up && !self.reads()
    }

    /// Reports that the operating system has seen the end of the current connection (FIN, RST), so nothing more
    /// will arrive. The next turn reads what arrived before the end, even while reading is paused, and then
    /// reports the end. If there is no end after all, reading pauses again.
    pub fn hung_up(&mut self) {
        self.hung_up = matches!(&self.link, ConnState::Open(_));
        self.ending = self.hung_up;
    }

    /// Returns false while an open connection is not being read.
    fn reads(&self) -> bool {
        match &self.link {
            ConnState::Open(session) => {
                self.ending
                    || ((!self.paused || self.machine.phase() == Phase::Closing)
                        && !session.holds_reading())
            }
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. }
            | ConnState::Upgrading { .. } => true,
        }
    }

    /// Returns true if a turn is useful when the socket becomes writable.
    pub fn wants_write(&self) -> bool {
        match &self.link {
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. } => false,
            ConnState::Upgrading { upgrade, .. } => upgrade.wants_write(),
            ConnState::Open(session) => session.wants_write(),
        }
    }

    // ---- from the adapter ---------------------------------------------------------------------

    /// Stops reading, because the application takes no messages.
    pub fn pause_reading(&mut self, clock: &impl Clock) {
        if !std::mem::replace(&mut self.paused, true) {
            self.shared_stats.reading(Some(crate::clock::wall()));
            self.news = true;
            self.guarded(clock, |this| {
                let now = clock.now();
                this.write_before_judging(now);
                this.report(now);
                this.pauses.begin(now, &this.span);
                if let ConnState::Open(session) = &this.link {
                    this.step(now, Input::ReadPaused(session.conn));
                }
            });
        }
    }

    /// Resumes reading, because the application takes messages again.
    pub fn resume_reading(&mut self, clock: &impl Clock) {
        if std::mem::replace(&mut self.paused, false) {
            self.shared_stats.reading(None);
            self.news = true;
            self.guarded(clock, |this| {
                let now = clock.now();
                this.pauses.end(now, &this.span);
                if let ConnState::Open(session) = &this.link {
                    let conn = session.conn;
                    this.write_before_judging(now);
                    this.step(now, Input::ReadResumed(conn));
                }
            });
        }
    }

    /// Sets whether dials and expiries are held back, because the application has left no room for messages
    /// that would be handed back. An open connection goes on.
    pub fn withhold_dials(&mut self, withheld: bool) {
        if std::mem::replace(&mut self.withheld, withheld) != withheld && withheld {
            warn!(
                parent: &self.shared_stats.log.span,
                "no dial begins: messages were handed back, and the application takes no events; it goes on when events are taken"
            );
        }
    }

    /// Returns the policy for an application that leaves no room.
    pub fn overflow(&self) -> Overflow {
        self.options.overflow
    }

    /// Returns true once after a millisecond or two of work (256 KiB read, decoded or written). An adapter that
    /// shares its thread then lets other tasks run, between two messages or in the middle of one.
    pub fn has_worked(&mut self) -> bool {
        self.count_work();
        std::mem::take(&mut self.has_worked)
    }

    fn count_work(&mut self) {
        if self.work >= WORK {
            self.work = 0;
            self.has_worked = true;
        }
    }

    /// Runs until there is something to report, to dial or to wait for. A panic in the application's code ends
    /// the client, and the end is reported like any other.
    pub fn turn(&mut self, clock: &impl Clock) -> Turn {
        let clock = &Named(clock);
        match self.guarded(clock, |this| this.next_turn(clock)) {
            Some(turn) => turn,
            // The events of the end.
            None => self.next_turn(clock),
        }
    }

    fn next_turn(&mut self, clock: &impl Clock) -> Turn {
        self.count_work();
        let mut unheard = 0;
        // Valid for this turn only: an application that takes an event may call the next turn much later.
        let mut ran_dry = match &mut self.link {
            ConnState::Open(session) => std::mem::take(&mut session.ran_dry),
            _ => false,
        };
        loop {
            if let Some(event) = self.events.pop_front() {
                return Turn::Event(event);
            }
            if let Some(dial) = self.dial.take() {
                return Turn::Dial(dial);
            }
            if self.ended {
                return Turn::Ended;
            }
            // Look at once, unless a deadline has come. Then arrived data must be read first, because every
            // step judges.
            if self.send_queue.is_pending() && self.reads_first == 0 {
                let now = clock.now();
                if !self.is_due(now) {
                    self.run_commands(now);
                    // An application that sends without pause has more pending already.
                    self.reads_first = self.reads_first.max(1);
                    continue;
                }
            }
            let read = if std::mem::take(&mut ran_dry) {
                ReadOn::Dry
            } else {
                self.read(clock)
            };
            self.reads_first = match read {
                ReadOn::Message(_) | ReadOn::Again => self.reads_first.saturating_sub(1),
                ReadOn::Dry => 0,
            };
            match read {
                ReadOn::Message(event) => return Turn::Event(event),
                ReadOn::Again if unheard < BURST && self.work < WORK => {
                    unheard += 1;
                    continue;
                }
                ReadOn::Again => {
                    self.flush_and_tick(clock.now());
                    return Turn::Again;
                }
                ReadOn::Dry => {}
            }
            let held = !self.reads();
            self.flush_and_tick(clock.now());
            self.resume_panic();
            if self.send_queue.is_pending() {
                self.run_commands(clock.now());
            }
            if held && self.reads() {
                // Data that arrived meanwhile was announced earlier, so no further wake-up would come for it.
                continue;
            }
            self.publish_news();
            if self.events.is_empty() && self.dial.is_none() && !self.ended {
                return if self.is_prodded() || self.can_write_on() || self.is_doubtful() {
                    Turn::Again
                } else {
                    Turn::Idle
                };
            }
        }
    }

    /// Returns true if there is more to write and the stream would take it.
    fn can_write_on(&self) -> bool {
        matches!(&self.link, ConnState::Open(session) if session.can_go_on())
    }

    /// Publishes the figures, if any of the rarely changing ones has changed.
    fn publish_news(&mut self) {
        let news = std::mem::take(&mut self.news);
        if news {
            self.publish();
        }
        if let Some(meter) = &mut self.meter {
            named("the metrics recorder", || {
                if news {
                    meter.set(&self.shared_stats.stats(self.send_queue.waiting()));
                }
                meter.traffic(self.shared_stats.totals());
            });
        }
    }

    fn publish(&self) {
        let machine = &self.machine;
        self.shared_stats
            .publish(machine.phase(), machine.is_ready(), machine.stats());
    }

    /// Returns true if expiry is held back. A ready session sends the held messages, and checks their age
    /// first.
    fn withholds_expiry(&self) -> bool {
        self.withheld && !self.machine.is_ready()
    }

    fn is_due(&self, now: Instant) -> bool {
        let at = self.step_at();
        at <= now && at != Instant::NEVER
    }

    /// Returns when the machine must be stepped: at its own deadline, or when its dial's turn comes.
    fn step_at(&self) -> Instant {
        let wake = self.machine.wake().unwrap_or(Instant::NEVER);
        match self.machine.phase() {
            Phase::Waiting if self.withheld => Instant::NEVER,
            Phase::Waiting => self.gate.wake(wake),
            Phase::Connecting | Phase::Open | Phase::Closing | Phase::Stopped => wake,
        }
    }

    /// Returns false while the next step would begin a dial whose turn has not come.
    fn may_dial(&mut self, now: Instant) -> bool {
        self.machine.phase() != Phase::Waiting
            || (!self.withheld
                && named("the dial budget", || {
                    self.gate.is_open(now, &self.shared_stats.log.span)
                }))
    }

    /// Returns true if a write has failed and the stream's report of nothing to read is in doubt.
    fn is_doubtful(&self) -> bool {
        match &self.link {
            ConnState::Upgrading { upgrade, .. } => upgrade.is_doubtful(),
            ConnState::Open(session) => session.has_failed() && self.reads(),
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. } => false,
        }
    }

    fn current(&self) -> Option<ConnId> {
        match &self.link {
            ConnState::Down => None,
            ConnState::Preparing { begun, .. }
            | ConnState::Redirected { begun, .. }
            | ConnState::Dialing { begun, .. }
            | ConnState::Upgrading { begun, .. } => Some(begun.conn),
            ConnState::Open(session) => Some(session.conn),
        }
    }
}

impl<S: Read + Write> Drop for Engine<S> {
    /// Tells all holders of the send queue, and all waiting senders, that the engine is gone.
    fn drop(&mut self) {
        self.send_queue.end();
        self.send_queue
            .close(false, VecDeque::new(), Instant::NEVER);
    }
}

impl<S: Read + Write> std::fmt::Debug for Engine<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("phase", &self.machine.phase())
            .field("conn", &self.current())
            .finish_non_exhaustive()
    }
}
