//! Checks the rules that hold after every step, by the time, the event and the machine's answer.

use std::borrow::Borrow;
use std::fmt;

use heartbeat_core::{
    AbortReason, Action, Actions, Config, ConnId, Dialect, Event, Heartbeat, Instant, Message,
    Phase, Step,
};

/// A rule that was broken. `Display` shows the rule as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(&'static str);

impl Broken {
    /// Returns the rule as a sentence.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}", self.0)
    }
}

impl std::error::Error for Broken {}

/// Judges the steps of one machine from the first step on, and optionally the driver that reports events to it.
///
/// Use it in a test, or in production as an observer of a client:
///
/// ```
/// use heartbeat_kit::Auditor;
/// use heartbeat_core::{Config, Event, FramesOnly, Heartbeat, Instant};
///
/// let mut auditor = Auditor::new().of_driver();
/// let mut machine = Heartbeat::new(Config::default(), FramesOnly, 7, Instant::ORIGIN);
/// let (now, event) = (Instant::ORIGIN, Event::Tick);
/// let step = machine.step(now, event);
/// auditor.step(now, &event, &step, machine.phase())?;
/// # Ok::<(), heartbeat_kit::Broken>(())
/// ```
///
/// With `heartbeat-tokio` or `heartbeat-blocking`, call it in `Options::observer`. The crate's front page shows how.
#[derive(Clone, Debug, Default)]
pub struct Auditor {
    /// The latest time seen.
    now: Instant,
    /// The machine's one connection was accepted, so there is no dial.
    accepted: bool,
    /// The driver is judged too.
    strict: bool,
    /// The connection that was dialled or accepted and has not ended.
    live: Option<u64>,
    /// The live connection is open.
    open: bool,
    /// When the last connection ended.
    ended: Instant,
    last_id: u64,
    /// The time and the attempt number of the planned dial.
    planned: Option<(Instant, u32)>,
    /// No dial may come before this time, even after a kick.
    floor: Instant,
    /// A kick came since the dial was planned.
    kicked: bool,
    gave_up: bool,
    /// The connection is being renewed, so the next dial is not a retry.
    renews: bool,
    stop: Option<Stop>,
}

/// The state after a `Stop`.
#[derive(Clone, Debug, Default)]
struct Stop {
    /// `Close` actions so far.
    closes: usize,
}

impl Auditor {
    /// Creates an auditor for a machine created by [`Heartbeat::new`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            planned: Some((Instant::ORIGIN, 0)),
            ..Self::default()
        }
    }

    /// Creates an auditor for a machine created by [`Heartbeat::accepted`], whose connection 1 is open.
    #[must_use]
    pub fn accepted() -> Self {
        Self {
            accepted: true,
            live: Some(1),
            open: true,
            last_id: 1,
            ..Self::default()
        }
    }

    /// Sets when the machine was created. Earlier times count as this time. Default: the origin.
    #[must_use]
    pub fn since(mut self, start: Instant) -> Self {
        (self.now, self.floor) = (start, start);
        self.planned = self.planned.map(|(_, attempt)| (start, attempt));
        self
    }

    /// Also judges the driver. The machine accepts any events in any order, but a correct driver
    /// - never lets time run backwards,
    /// - answers each dial once,
    /// - reports nothing on a connection before its dial has succeeded, except its route,
    /// - reports nothing on a connection after the moment of its end, except whether an abandoned dial succeeded or failed.
    #[must_use]
    pub fn of_driver(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Judges one step. `phase` is the machine's phase after the step.
    ///
    /// # Errors
    /// The broken rule. Do not use the auditor after an error.
    pub fn step(
        &mut self,
        now: Instant,
        event: &Event<'_>,
        step: &Step<'_>,
        phase: Phase,
    ) -> Result<(), Broken> {
        if self.strict {
            self.driver(now, event)?;
        }
        self.now = self.now.max(now);
        ensure(
            step.wake.is_none_or(|wake| wake > self.now),
            "The next wake is later than now.", // 1
        )?;
        ensure(
            step.wake != Some(Instant::NEVER),
            "The end of time is never a wake.",
        )?;
        ensure(
            step.actions.len() <= Actions::MAX,
            "A step has a bounded number of actions.", // 19
        )?;
        self.pongs(event, step)?;
        let lived = self.live.is_some();
        self.connections(event, step)?;
        if lived && self.live.is_none() {
            self.ended = self.now;
        }
        self.losses(event, step, phase)?;
        self.stopped(event, step, phase)
    }

    /// Judges a machine by what copies of it would do. Call it after [`step`](Self::step). `before` is a copy of the machine
    /// before the step, and `after` is the machine after the step.
    ///
    /// # Errors
    /// The broken rule.
    pub fn machine<C, D>(
        &self,
        before: &Heartbeat<C, D>,
        after: &Heartbeat<C, D>,
        event: &Event<'_>,
        step: &Step<'_>,
    ) -> Result<(), Broken>
    where
        C: Borrow<Config> + Clone,
        D: Dialect + Clone,
    {
        ensure(
            step.wake == after.wake(),
            "The step and the machine agree on the wake.",
        )?;
        if let Some(wake) = step.wake {
            let mut early = after.clone();
            let tick = early.step(Instant::from_nanos(wake.as_nanos() - 1), Event::Tick);
            ensure(
                tick.actions.is_empty() && tick.wake == Some(wake) && !tick.stale,
                "A tick just before the wake does nothing.", // 2
            )?;
            let mut due = after.clone();
            let tick = due.step(wake, Event::Tick);
            ensure(
                !tick.actions.is_empty(),
                "A tick at the wake does something.",
            )?;
        }
        // 14 and 15: an earlier time counts as the latest time.
        for at in [self.now, Instant::ORIGIN] {
            let mut again = after.clone();
            let tick = again.step(at, Event::Tick);
            ensure(
                tick.actions.is_empty() && tick.wake == step.wake && !tick.stale,
                "A second tick, or one at an earlier time, does nothing.",
            )?;
        }
        let mut same = before.clone();
        ensure(
            same.step(self.now, *event) == *step,
            "The same event at the same time has the same answer.", // 19
        )?;
        if step.stale {
            let mut ticked = before.clone();
            let tick = ticked.step(self.now, Event::Tick);
            let own = usize::from(matches!(event, Event::Connected(_)));
            ensure(
                step.actions[own..] == tick.actions[..] && tick.wake == step.wake,
                "A stale event is a tick.", // 10
            )?;
        }
        Ok(())
    }

    /// Judges the driver's event.
    fn driver(&self, now: Instant, event: &Event<'_>) -> Result<(), Broken> {
        ensure(now >= self.now, "A driver's time does not run backwards.")?;
        let Some(conn) = conn_of(event) else {
            return Ok(());
        };
        ensure(
            conn.get() <= self.last_id,
            "A driver names only connections that were handed out.",
        )?;
        let live = Some(conn.get()) == self.live;
        match event {
            Event::Closed(..) => Ok(()),
            Event::Connected(_) => ensure(!live || !self.open, "A dial is answered once."),
            Event::Routed(..) => ensure(live, "A connection that has ended has no route."),
            _ if live => ensure(
                self.open,
                "A connection says nothing before it is connected.",
            ),
            // A driver may report everything that one read of the socket found, even if the machine aborts the connection
            // at the first part.
            _ => ensure(
                now <= self.ended,
                "A connection says nothing after its end.",
            ),
        }
    }

    /// Invariant 6.
    fn pongs(&self, event: &Event<'_>, step: &Step<'_>) -> Result<(), Broken> {
        let pongs = step
            .actions
            .iter()
            .filter(|action| matches!(action, Action::SendPong { .. }))
            .count();
        let may_ping = match event {
            Event::Received(_, Message::Ping(_) | Message::Text(_) | Message::Binary(_)) => {
                usize::from(!step.stale)
            }
            _ => 0,
        };
        ensure(
            pongs <= may_ping,
            "Only a ping of the current connection is answered, once.",
        )?;
        let first = matches!(step.actions.first(), Some(Action::SendPong { .. }));
        ensure(
            pongs == usize::from(first),
            "The answer to a ping is the first action.",
        )
    }

    /// Invariants 9, 10 and 11.
    fn connections(&mut self, event: &Event<'_>, step: &Step<'_>) -> Result<(), Broken> {
        let current = conn_of(event).is_none_or(|conn| Some(conn.get()) == self.live);
        ensure(
            step.stale != current,
            "An event is stale if and only if its connection is not the current one.",
        )?;
        match event {
            Event::Connected(conn) => {
                let aborted = step.actions.first()
                    == Some(&Action::Abort {
                        conn: *conn,
                        reason: AbortReason::Stale,
                    });
                ensure(
                    aborted == step.stale,
                    "A dial is aborted as stale if and only if it succeeds too late.",
                )?;
                self.open |= current;
            }
            Event::Closed(..) if current => self.live = None,
            _ => {}
        }
        self.kicked |= matches!(event, Event::Kick);
        for action in step.actions.iter() {
            match action {
                Action::Connect { conn, attempt, .. } => {
                    ensure(
                        self.live.is_none(),
                        "There are never two connections at once.",
                    )?;
                    ensure(
                        conn.get() > self.last_id,
                        "The ids of connections strictly increase.",
                    )?;
                    let (at, next) = self
                        .planned
                        .take()
                        .ok_or(Broken("Each dial was planned."))?;
                    ensure(
                        self.now >= at || (self.kicked && self.now >= self.floor),
                        "No dial comes before its time.",
                    )?;
                    ensure(
                        *attempt == next,
                        "A dial has the attempt number that was planned.",
                    )?;
                    self.last_id = conn.get();
                    self.live = Some(self.last_id);
                    self.open = false;
                }
                Action::Abort { conn, .. } if Some(conn.get()) == self.live => self.live = None,
                Action::Abort { reason, .. } => {
                    ensure(
                        *reason == AbortReason::Stale,
                        "Only the current connection, or a dial that succeeds too late, is aborted.",
                    )?;
                }
                Action::SendPong { conn, .. }
                | Action::SendPing { conn, .. }
                | Action::Close { conn, .. }
                | Action::Renew { conn, .. }
                | Action::Ending { conn, .. }
                | Action::Check { conn, .. } => {
                    ensure(
                        Some(conn.get()) == self.live,
                        "No action names a connection that has ended.",
                    )?;
                }
                Action::ReconnectAt { .. } | Action::GaveUp { .. } => {}
            }
        }
        Ok(())
    }

    /// Invariants 11 and 12.
    fn losses(&mut self, event: &Event<'_>, step: &Step<'_>, phase: Phase) -> Result<(), Broken> {
        let closed = matches!(event, Event::Closed(..)) && !step.stale;
        // A stop applies before anything due at the same time, so the closing handshake then belongs to the stop.
        self.renews &= !matches!(event, Event::Stop);
        let verdict = step.actions.iter().any(|action| {
            matches!(action, Action::Abort { reason, .. }
                if *reason != AbortReason::Stale
                    && (*reason != AbortReason::CloseTimeout || self.renews))
        });
        let mut planned = 0;
        for action in step.actions.iter() {
            match action {
                Action::ReconnectAt {
                    at, attempt, delay, ..
                } => {
                    planned += 1;
                    ensure(
                        *at == self.now.saturating_add(*delay),
                        "The next dial comes exactly its delay after now.",
                    )?;
                    ensure(
                        *attempt > 0 || std::mem::take(&mut self.renews),
                        "Retries count from 1; only a renewal is attempt 0.",
                    )?;
                    self.planned = Some((*at, *attempt));
                    self.kicked = false;
                    self.floor = self.now.saturating_add(heartbeat_core::DIAL_FLOOR);
                    ensure(
                        *at >= self.floor,
                        "No dial comes within the floor after an end.",
                    )?;
                }
                Action::Renew { .. } => self.renews = true,
                Action::GaveUp { .. } => {
                    planned += 1;
                    ensure(!self.gave_up, "A machine gives up once.")?;
                    self.gave_up = true;
                }
                _ => {}
            }
        }
        let lost = usize::from((closed && self.stop.is_none()) || verdict);
        if self.accepted {
            let ended = phase == Phase::Stopped && step.wake.is_none();
            ensure(planned == 0, "An accepted connection has no next dial.")?;
            return ensure(
                lost == 0 || ended,
                "The loss of an accepted connection is the end.",
            );
        }
        ensure(
            planned == lost,
            "Each loss is followed by one plan: a dial, or the end.",
        )?;
        let gave_up = matches!(step.actions.last(), Some(Action::GaveUp { .. }));
        ensure(
            !gave_up || step.wake.is_none(),
            "A machine that gave up does not wake.",
        )
    }

    /// Invariant 16.
    fn stopped(&mut self, event: &Event<'_>, step: &Step<'_>, phase: Phase) -> Result<(), Broken> {
        let had_stopped = self.stop.is_some();
        if let Event::Stop = event {
            self.stop.get_or_insert_default();
        }
        let Some(stop) = &mut self.stop else {
            return Ok(());
        };
        for action in step.actions.iter() {
            match action {
                Action::Close { .. } => {
                    stop.closes += 1;
                    ensure(!had_stopped, "The closing handshake begins with the stop.")?;
                }
                Action::Abort { .. } => {}
                _ => ensure(false, "After a stop only a Close and an abort follow.")?,
            }
        }
        ensure(stop.closes <= 1, "A stop has one closing handshake.")?;
        ensure(
            matches!(phase, Phase::Closing | Phase::Stopped),
            "After a stop the machine is closing or stopped.",
        )?;
        ensure(
            (phase == Phase::Stopped) <= step.wake.is_none(),
            "A stopped machine does not wake.",
        )
    }
}

fn conn_of(event: &Event<'_>) -> Option<ConnId> {
    match *event {
        Event::Connected(conn)
        | Event::Received(conn, _)
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
        | Event::Closed(conn, _) => Some(conn),
        Event::Tick | Event::Kick | Event::Stop => None,
    }
}

fn ensure(holds: bool, rule: &'static str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(rule)) }
}
