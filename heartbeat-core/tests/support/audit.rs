//! What must hold after every step of every trace, seen from outside: the actions alone.

use heartbeat_core::trace::Header;
use heartbeat_core::{AbortReason, Action, Actions, ConnId, Event, Instant, Message, Phase, Step};

use super::Machine;

/// Watches one machine from its first step on.
#[derive(Clone)]
pub(crate) struct Audit {
    /// The latest time seen.
    now: Instant,
    wake: Option<Instant>,
    /// The one connection was accepted: there is no dial.
    accepted: bool,
    /// The connection that was asked for, or accepted, and has not ended.
    live: Option<u64>,
    last_id: u64,
    /// When the next dial was planned, and what its attempt must be.
    planned: Option<(Instant, u32)>,
    /// No dial may come before this, kicked or not.
    floor: Instant,
    /// Kicked since the dial was planned.
    kicked: bool,
    gave_up: bool,
    /// The connection is being renewed: the next plan is no retry.
    renews: bool,
    stop: Option<Stop>,
}

/// What followed on `Stop`.
#[derive(Clone, Default)]
struct Stop {
    closes: usize,
}

impl Audit {
    pub(crate) fn new(header: &Header) -> Self {
        let (start, accepted) = (header.start, header.accepted);
        Self {
            now: start,
            wake: Some(start),
            accepted,
            live: accepted.then_some(1),
            last_id: u64::from(accepted),
            planned: (!accepted).then_some((start, 0)),
            floor: start,
            kicked: false,
            gave_up: false,
            renews: false,
            stop: None,
        }
    }

    /// Judges one step: `before` is the machine before it, `after` the machine after it.
    pub(crate) fn step(
        &mut self,
        before: &Machine,
        after: &Machine,
        now: Instant,
        event: &Event<'_>,
        step: &Step<'_>,
    ) -> Result<(), String> {
        self.now = self.now.max(now);
        self.timers(before, after, event, step)?;
        self.pongs(event, step)?;
        self.connections(event, step)?;
        self.losses(event, step, after)?;
        self.stopped(event, step, after)?;
        self.wake = step.wake;
        Ok(())
    }

    /// Invariants 1, 2, 10, 14, 15, 19.
    fn timers(
        &self,
        before: &Machine,
        after: &Machine,
        event: &Event<'_>,
        step: &Step<'_>,
    ) -> Result<(), String> {
        ensure(
            step.wake.is_none_or(|wake| wake > self.now),
            "1: wake is later than now",
        )?;
        ensure(step.wake == after.wake(), "the step and the machine agree")?;
        ensure(
            step.wake != Some(Instant::NEVER),
            "the end of time is no wake",
        )?;
        ensure(step.actions.len() <= Actions::MAX, "19: bounded actions")?;

        if let Some(wake) = step.wake {
            let mut early = after.clone();
            let tick = early.step(just_before(wake), Event::Tick);
            ensure(
                tick.actions.is_empty() && tick.wake == Some(wake) && !tick.stale,
                "2: a tick just before wake does nothing",
            )?;
            let mut due = after.clone();
            let tick = due.step(wake, Event::Tick);
            ensure(!tick.actions.is_empty(), "2: a tick at wake does something")?;
        }
        let mut again = after.clone();
        let tick = again.step(self.now, Event::Tick);
        ensure(
            tick.actions.is_empty() && tick.wake == step.wake && !tick.stale,
            "14: a second tick does nothing",
        )?;
        let mut backwards = after.clone();
        let tick = backwards.step(Instant::ORIGIN, Event::Tick);
        ensure(
            tick.actions.is_empty() && tick.wake == step.wake && !tick.stale,
            "15: an earlier now is the latest now",
        )?;
        let mut earlier = before.clone();
        ensure(
            earlier.step(self.now, *event) == *step,
            "19: the same again",
        )?;

        if step.stale {
            let mut ticked = before.clone();
            let tick = ticked.step(self.now, Event::Tick);
            let own = usize::from(matches!(event, Event::Connected(_)));
            ensure(
                step.actions[own..] == tick.actions[..] && tick.wake == step.wake,
                "10: a stale event is a tick",
            )?;
        }
        Ok(())
    }

    /// Invariant 6.
    fn pongs(&self, event: &Event<'_>, step: &Step<'_>) -> Result<(), String> {
        let pongs = step
            .actions
            .iter()
            .filter(|action| matches!(action, Action::SendPong { .. }))
            .count();
        let may_ping = match event {
            Event::Received(_, Message::Ping(_) | Message::Text(_)) => usize::from(!step.stale),
            _ => 0,
        };
        ensure(pongs <= may_ping, "6: only a current ping is answered")?;
        let first = matches!(step.actions.first(), Some(Action::SendPong { .. }));
        ensure(pongs == usize::from(first), "6: the answer comes first")
    }

    /// Invariants 9 and 10.
    fn connections(&mut self, event: &Event<'_>, step: &Step<'_>) -> Result<(), String> {
        let names = |conn: ConnId| Some(conn.get()) == self.live;
        match event {
            Event::Connected(conn) => {
                let aborted = step.actions.first()
                    == Some(&Action::Abort {
                        conn: *conn,
                        reason: AbortReason::Stale,
                    });
                ensure(
                    step.stale != names(*conn) && aborted == step.stale,
                    "10: exactly a late dial is aborted",
                )?;
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
            | Event::Closed(conn, _) => {
                ensure(step.stale != names(*conn), "10: stale is not current")?;
            }
            Event::Tick | Event::Kick | Event::Stop => {
                ensure(!step.stale, "10: these are never stale")?;
            }
        }
        if let (Event::Closed(..), false) = (event, step.stale) {
            self.live = None;
        }
        self.kicked |= matches!(event, Event::Kick);
        for action in step.actions.iter() {
            match action {
                Action::Connect { conn, attempt, .. } => {
                    ensure(self.live.is_none(), "9: never two live connections")?;
                    ensure(conn.get() > self.last_id, "9: ids strictly increase")?;
                    let (at, next) = self.planned.take().ok_or("11: an unplanned dial")?;
                    ensure(
                        self.now >= at || (self.kicked && self.now >= self.floor),
                        "11: a dial before its time",
                    )?;
                    ensure(*attempt == next, "11: the announced attempt")?;
                    self.last_id = conn.get();
                    self.live = Some(self.last_id);
                }
                Action::Abort { conn, .. } if Some(conn.get()) == self.live => self.live = None,
                Action::Abort { reason, .. } => {
                    ensure(
                        *reason == AbortReason::Stale,
                        "an abort of nothing that lives",
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
                        "9: a command to a connection that does not live",
                    )?;
                }
                Action::ReconnectAt { .. } | Action::GaveUp { .. } => {}
            }
        }
        Ok(())
    }

    /// Invariant 11.
    fn losses(
        &mut self,
        event: &Event<'_>,
        step: &Step<'_>,
        after: &Machine,
    ) -> Result<(), String> {
        let closed = matches!(event, Event::Closed(..)) && !step.stale;
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
                        "12: at is now + delay",
                    )?;
                    ensure(
                        *attempt > 0 || std::mem::take(&mut self.renews),
                        "11: retries count from 1",
                    )?;
                    self.planned = Some((*at, *attempt));
                    self.kicked = false;
                    self.floor = self.now.saturating_add(heartbeat_core::DIAL_FLOOR);
                    ensure(*at >= self.floor, "12: the floor under all dials")?;
                }
                Action::Renew { .. } => self.renews = true,
                Action::GaveUp { .. } => {
                    planned += 1;
                    ensure(!self.gave_up, "11: gives up once")?;
                    self.gave_up = true;
                }
                _ => {}
            }
        }
        let lost = usize::from((closed && self.stop.is_none()) || verdict);
        if self.accepted {
            let ended = after.phase() == Phase::Stopped && step.wake.is_none();
            ensure(planned == 0, "11: an accepted connection has no next dial")?;
            return ensure(lost == 0 || ended, "11: its loss is the end");
        }
        ensure(planned == lost, "11: one plan for each loss")?;
        if let (Some(Action::GaveUp { .. }), Some(wake)) = (step.actions.last(), step.wake) {
            return Err(format!("gave up, and still wakes at {wake:?}"));
        }
        Ok(())
    }

    /// Invariant 16, and the same after giving up.
    fn stopped(
        &mut self,
        event: &Event<'_>,
        step: &Step<'_>,
        after: &Machine,
    ) -> Result<(), String> {
        let had_stopped = self.stop.is_some();
        if let Event::Stop = event {
            self.renews = false;
            self.stop.get_or_insert_default();
        }
        let Some(stop) = &mut self.stop else {
            return Ok(());
        };
        for action in step.actions.iter() {
            match action {
                Action::Close { .. } => {
                    stop.closes += 1;
                    ensure(!had_stopped, "16: a close comes with the stop")?;
                }
                Action::Abort { .. } => {}
                other => return Err(format!("16: after a stop {other:?}")),
            }
        }
        ensure(stop.closes <= 1, "16: one close at most")?;
        ensure(
            matches!(after.phase(), Phase::Closing | Phase::Stopped),
            "16: no phase but closing and stopped",
        )?;
        ensure(
            (after.phase() == Phase::Stopped) <= step.wake.is_none(),
            "16: nothing is awaited any more",
        )
    }
}

fn just_before(wake: Instant) -> Instant {
    Instant::from_nanos(wake.as_nanos() - 1)
}

fn ensure(holds: bool, rule: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("broken: {rule}"))
    }
}
