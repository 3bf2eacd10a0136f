//! The engine: the machine's commands performed on a byte stream, whatever the runtime.
//!
//! An adapter calls [`Engine::turn`] until it says [`Turn::Idle`], then waits for whichever comes
//! first: the socket is ready, [`Engine::wake`] has come, or the send queue has something. It dials when
//! told to. Nothing here blocks, and no rule of time is decided here.

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

/// After this many messages in a row the machine is told, and its timers get their turn, even
/// though the socket has not run dry.
const BURST: u32 = 64;

/// What an adapter has to do next.
#[derive(Debug)]
pub enum Turn {
    /// Pass this on to the application.
    Event(Event),
    /// Connect to this host and port, then say [`Engine::dialed`]. Drop a dial whose connection
    /// is no longer [`Engine::dialing`].
    Dial(Dial),
    /// Turn again, after others had theirs: a server says much that nobody needs to be told.
    Again,
    /// Wait.
    Idle,
    /// The client has ended.
    Ended,
}

/// The machine, its connection and its queues. `S` is a non-blocking byte stream: its `read` and
/// `write` return `WouldBlock` rather than wait.
pub struct Engine<S: Read + Write> {
    machine: Heartbeat<Arc<Config>, SharedDialect>,
    options: Options,
    send_queue: Arc<SendQueue>,
    link: ConnState<S>,
    /// Told, but not taken yet. A turn takes all of them before it does anything else, so that only
    /// what one step brings is ever in here.
    events: VecDeque<Event>,
    dial: Option<Dial>,
    /// Which of a host's addresses have failed.
    addresses: Addresses,
    /// Keeps a dial until its turn in a shared budget has come.
    gate: Gate,
    paused: bool,
    pauses: Pauses,
    /// The present connection's end has reached this host: what came before it is read although nobody takes it.
    ending: bool,
    /// An adapter has told of that end.
    hung_up: bool,
    /// No dial begins and no message expires: there is no room for what these hand back.
    withheld: bool,
    ended: bool,
    /// The connection that was told to begin, and not to end.
    told: Option<ConnId>,
    /// Bytes that were looked at since others had their turn.
    work: usize,
    /// That was much, and the adapter does not know yet.
    has_worked: bool,
    /// The dialect knows of joined records.
    joins: bool,
    /// A text of joined records that is being read.
    joined: Option<Box<Joined>>,
    /// So many messages are read before the send queue is looked at again: it was just now, or much was written and there
    /// is more.
    reads_first: u32,
    /// Where a service counts messages.
    pace: Option<Pace>,
    /// The next message may go then.
    paced_until: Instant,
    /// The open connection is being closed to be renewed.
    renewing: Option<Renewing>,
    /// What a stop says to the peer.
    goodbye: Option<CloseFrame>,
    /// The application's `on_connect` has yet to say that the session is ready.
    opening: bool,
    /// What the latest dial was told.
    attempt: Attempt,
    /// The endpoint that is dialled next, where there are several.
    endpoint: u8,
    /// Where the machine was told that the latest dial goes.
    route: Route,
    /// How the last connection or dial ended.
    last: Option<Reason>,
    /// The answer that ended the dial, for whoever tells of it.
    response: Option<Arc<Response>>,
    /// The last answer that refused a dial, until one is accepted.
    refused: Option<Arc<Response>>,
    /// Where the present dial has been, if it may be led elsewhere.
    trail: Vec<String>,
    /// The ready connection that was lost, until another one is ready.
    lost: Option<Box<Lost>>,
    /// When the first of the messages that are held expires.
    expires: Instant,
    unsent: Unsent,
    /// Messages that the last connection had written after its last read, if it has ended and that is not told.
    in_doubt: usize,
    /// A stop has waited for `close_timeout`.
    close_timed_out: bool,
    shared_stats: Arc<SharedStats>,
    meter: Option<Box<Meter>>,
    /// What is logged about the present connection is logged in here.
    span: Span,
    /// The machine has done something that the board does not show yet.
    news: bool,
    /// Something that a turn minds looks at each message: a dialect or a decoder of the application's, a dialect that
    /// keeps something.
    guards_messages: bool,
    /// Whether the dialect keeps something of the messages, and what.
    tracks: bool,
    tracked: Variables,
    /// Where its own messages are written.
    buffer: Buffer,
}

/// Boxed, so that a client that rests takes little memory.
enum ConnState<S: Read + Write> {
    Down,
    /// The factory makes the request.
    Preparing {
        begun: StartedDial,
        making: PendingRequest,
        prod: Arc<FactoryWaker>,
    },
    /// The server leads elsewhere, and it is not yet time to go there.
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
    /// Proxy, TLS and the WebSocket upgrade are under way.
    Upgrading {
        begun: StartedDial,
        upgrade: Box<Upgrade<S>>,
    },
    Open(Box<Connection<S>>),
}

impl<S: Read + Write> Engine<S> {
    /// An engine at rest. `wake_engine` is called, from any thread, when the send queue has something for it.
    ///
    /// # Errors
    /// [`RequestError`] if TLS is needed and no trusted roots are found, a proxy that the
    /// environment names cannot be used, or the configuration contradicts the service
    /// ([`Options::of_service`]).
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

    /// Where messages and commands go in.
    pub fn send_queue(&self) -> &Arc<SendQueue> {
        &self.send_queue
    }

    /// The machine, for its figures.
    pub fn machine(&self) -> &Heartbeat<Arc<Config>, SharedDialect> {
        &self.machine
    }

    /// When to turn again at the latest.
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

    /// The client's figures, as of now.
    pub fn stats(&self) -> ClientStats {
        if let ConnState::Open(session) = &self.link {
            self.shared_stats.traffic(session.traffic());
        }
        self.publish();
        self.shared_stats.stats(self.send_queue.waiting())
    }

    /// The same for whoever does not have the engine, as of the last time that it came to rest.
    pub fn shared_stats(&self) -> &Arc<SharedStats> {
        &self.shared_stats
    }

    /// The span that names the client in the log.
    pub fn log_span(&self) -> &Span {
        &self.shared_stats.log.span
    }

    /// The connection for which a byte stream is wanted.
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

    /// How many of the addresses of the host that was dialled last have not failed since the last stable
    /// connection, the one in use not counted. 0 also where the adapter does not tell ([`Dial::connected`]), and once
    /// 32 addresses have failed.
    ///
    /// While there are others, what an address answers is no word on the host.
    pub fn untried_addresses(&self) -> usize {
        self.addresses.untried()
    }

    /// The byte stream in use, to wait for.
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

    /// The same, to be changed (registered with a poller, say).
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

    /// The byte stream, if a deadline has come or a write has failed, on which the next turn will judge after it has
    /// read what there is.
    /// For adapters whose streams remember what they know of their readiness: that may be older.
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

    /// True if it helps to turn when the socket becomes readable.
    pub fn wants_read(&self) -> bool {
        match &self.link {
            ConnState::Down
            | ConnState::Preparing { .. }
            | ConnState::Redirected { .. }
            | ConnState::Dialing { .. } => false,
            // Also while the request is stuck: it may be refused before it is read to its end.
            ConnState::Upgrading { .. } => true,
            ConnState::Open(_) => self.reads(),
        }
    }

    /// True while an open connection is not read from. Then an adapter looks for its end by other means, and says
    /// [`hung_up`](Self::hung_up).
    pub fn watches_hang_up(&self) -> bool {
        matches!(&self.link, ConnState::Open(_)) && !self.hung_up && !self.reads()
    }

    /// The operating system tells of the present connection's end (FIN, RST): nothing more will arrive. The next turn
    /// reads what has arrived before, also while reading is paused, and tells the end. Where there is no end
    /// after all, reading pauses again.
    pub fn hung_up(&mut self) {
        self.hung_up = matches!(&self.link, ConnState::Open(_));
        self.ending = self.hung_up;
    }

    /// True unless an open connection is not to be read from.
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

    /// True if it helps to turn when the socket becomes writable.
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

    /// The application takes no messages: stop reading.
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

    /// The application takes messages again.
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

    /// No dial begins and no message expires while this holds: the application has left no room for messages that
    /// would be handed back. An open connection goes on.
    pub fn withhold_dials(&mut self, withheld: bool) {
        if std::mem::replace(&mut self.withheld, withheld) != withheld && withheld {
            warn!(
                parent: &self.shared_stats.log.span,
                "no dial begins: messages were handed back, and the application takes no events; it goes on when events are taken"
            );
        }
    }

    /// What is to happen when the application leaves no room.
    pub fn overflow(&self) -> Overflow {
        self.options.overflow
    }

    /// True once after a millisecond or two of work (256 KiB that were read, decoded or written): an adapter that
    /// shares its thread lets others have their turn, between two messages or in the midst of one.
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

    /// Goes on until something is to be told, dialled or waited for. A panic in code of the application's is an
    /// end of the client, which is told as any other.
    pub fn turn(&mut self, clock: &impl Clock) -> Turn {
        let clock = &Named(clock);
        match self.guarded(clock, |this| this.next_turn(clock)) {
            Some(turn) => turn,
            // How it ended.
            None => self.next_turn(clock),
        }
    }

    fn next_turn(&mut self, clock: &impl Clock) -> Turn {
        self.count_work();
        let mut unheard = 0;
        // Good for this turn alone: who takes an event first may come back much later.
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
            // At once, unless a deadline has come: then what has arrived is read first, for any step
            // judges.
            if self.send_queue.is_pending() && self.reads_first == 0 {
                let now = clock.now();
                if !self.is_due(now) {
                    self.run_commands(now);
                    // Whoever sends without pause has something pending again by now.
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
                // What has arrived meanwhile has been announced long ago: nobody wakes us for it.
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

    /// There is more to write, and the stream would take it.
    fn can_write_on(&self) -> bool {
        matches!(&self.link, ConnState::Open(session) if session.can_go_on())
    }

    /// Passes the figures on, if any has changed that changes seldom.
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

    /// A message that goes out soon is looked at first in any case.
    fn withholds_expiry(&self) -> bool {
        self.withheld && !self.machine.is_ready()
    }

    fn is_due(&self, now: Instant) -> bool {
        let at = self.step_at();
        at <= now && at != Instant::NEVER
    }

    /// When the machine must be told of the time: when it asked for that, or when its dial's turn comes.
    fn step_at(&self) -> Instant {
        let wake = self.machine.wake().unwrap_or(Instant::NEVER);
        match self.machine.phase() {
            Phase::Waiting if self.withheld => Instant::NEVER,
            Phase::Waiting => self.gate.wake(wake),
            Phase::Connecting | Phase::Open | Phase::Closing | Phase::Stopped => wake,
        }
    }

    /// False while the next step of the clock would begin a dial whose turn has not come.
    fn may_dial(&mut self, now: Instant) -> bool {
        self.machine.phase() != Phase::Waiting
            || (!self.withheld
                && named("the dial budget", || {
                    self.gate.is_open(now, &self.shared_stats.log.span)
                }))
    }

    /// A write has failed, and what the stream says of having nothing to read is in doubt.
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
    /// Who holds on to the send queue, or waits for room in it, is told that nobody will take anything.
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
