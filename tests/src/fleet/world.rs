//! A fleet of real machines against the farm, in virtual time.
//!
//! Clients affect each other only where they dial: in the farm's queue. An open connection involves one
//! client and one server. So between two changes of the farm, each open machine runs through all its pings
//! and pongs at once, while it is in the cache. Only dials, their ends, and wake-ups from sleep go through
//! the timer wheel, in the order of time over the whole fleet. Every event is a `step` of the machine that
//! ships.

use std::sync::atomic::{AtomicBool, Ordering};

use heartbeat_core::{
    AbortReason, Action, Cause, Config, Event, FramesOnly, Heartbeat, Instant, Message, Phase,
    PingMessage,
};

use super::dice::Dice;
use super::farm::{Farm, Outcome};
use super::figures::{Counts, DELAY_CLASSES, Figures, Run};
use super::scenario::{Loss, Refusal, SECOND, Scenario};
use super::wheel::Wheel;

const NEVER: u64 = u64::MAX;

/// How often a run reports progress and checks for an interrupt, at least, in virtual time: 1 h.
const LONGEST_EPOCH: u64 = 3600 * SECOND;

/// The simulation's data about a client, besides its machine.
#[derive(Clone, Debug)]
struct Side {
    dice: Dice,
    /// When a byte last passed over the connection.
    passed: u64,
    /// When the pong on its way arrives, and its payload. There is at most one: a server may answer only the
    /// latest of several pings (RFC 6455 §5.5.3).
    pong_at: u64,
    payload: [u8; 8],
    /// When the connection ends, and how.
    ends_at: u64,
    end: Loss,
    /// Since then nothing is answered.
    frozen_at: u64,
    /// The number of outages when the dial began. A later outage ends the dial.
    outages: u32,
    node: u16,
    planned: Planned,
    is_asleep: bool,
}

/// The purpose of a client's timer in the wheel.
#[derive(Clone, Copy, Debug)]
enum Planned {
    Tick,
    Accepted,
    Refused(Refusal),
    Awakening,
}

/// A running simulation.
#[derive(Debug)]
pub struct World<'c> {
    machines: Vec<Heartbeat<&'c Config, FramesOnly>>,
    sides: Vec<Side>,
    shared: Shared,
    scenario: Scenario,
    variant: String,
    now: u64,
}

/// The part that all clients share.
#[derive(Debug)]
struct Shared {
    farm: Farm,
    wheel: Wheel,
    counts: Counts,
    outages: u32,
    /// Open connections, as of the start of the second `open_second`.
    open: i64,
    open_second: usize,
    /// Until this time open machines run by themselves.
    until: u64,
}

impl<'c> World<'c> {
    /// A fleet before its start. Every client has this configuration.
    #[must_use]
    pub fn new(scenario: &Scenario, variant: &str, config: &'c Config) -> Self {
        let mut dice = Dice::new(scenario.seed);
        let machines = scenario.machines;
        let horizon = scenario.duration.0;
        let mut wheel = Wheel::new(machines as usize, horizon);
        let sides = (0..machines)
            .map(|owner| {
                wheel.set(owner, dice.below(scenario.start_within.0 + 1));
                Side {
                    dice: Dice::new(dice.roll()),
                    passed: 0,
                    pong_at: NEVER,
                    payload: [0; 8],
                    ends_at: NEVER,
                    end: Loss::Reset,
                    frozen_at: NEVER,
                    outages: 0,
                    node: 0,
                    planned: Planned::Tick,
                    is_asleep: false,
                }
            })
            .collect();
        let machines = (0..machines)
            .map(|_| Heartbeat::new(config, FramesOnly, dice.roll(), Instant::ORIGIN))
            .collect();
        Self {
            machines,
            sides,
            shared: Shared {
                farm: Farm::new(scenario),
                wheel,
                counts: Counts::new(horizon.div_ceil(SECOND) as usize),
                outages: 0,
                open: 0,
                open_second: 0,
                until: 0,
            },
            scenario: scenario.clone(),
            variant: variant.to_owned(),
            now: 0,
        }
    }

    /// Bytes kept for each client: its machine, the simulation's data, its place in the wheel.
    #[must_use]
    pub const fn bytes_per_client() -> usize {
        size_of::<Heartbeat<&Config, FramesOnly>>() + size_of::<Side>() + 12
    }

    /// Runs to the end, or until `stop` is set. `progress` gets the virtual time and the number of steps so
    /// far.
    pub fn run(mut self, stop: &AtomicBool, mut progress: impl FnMut(u64, u64)) -> Figures {
        let horizon = self.scenario.duration.0;
        let mut changes = self.shared.farm.changes();
        changes.push(horizon);
        for change in changes {
            while self.now < change.min(horizon) && !stop.load(Ordering::Relaxed) {
                let until = change.min(horizon).min(self.now + LONGEST_EPOCH);
                self.epoch(until, stop);
                progress(self.now, self.shared.counts.steps);
            }
            if self.now == change {
                self.change(change);
            }
        }
        let run = Run {
            machines: self.scenario.machines,
            variant: self.variant,
            watched: self.now,
            capacity: self.scenario.farm.handshakes_per_second,
            calm_from: self.scenario.calm_from(),
        };
        Figures::new(&run, self.shared.counts)
    }

    /// Runs from now to `until`. The farm does not change in that time.
    fn epoch(&mut self, until: u64, stop: &AtomicBool) {
        let shared = &mut self.shared;
        shared.note_capacity(self.now, until);
        shared.until = until;
        for (index, (machine, side)) in self.machines.iter_mut().zip(&mut self.sides).enumerate() {
            if index % 1024 == 0 && stop.load(Ordering::Relaxed) {
                // Half an epoch is not a result, so time stays where it was.
                return;
            }
            if machine.phase() == Phase::Open && !side.is_asleep {
                Client::new(index as u32, machine, side, shared).live();
            }
        }
        while let Some((at, owner)) = shared.wheel.pop(until) {
            let index = owner as usize;
            let (machine, side) = (&mut self.machines[index], &mut self.sides[index]);
            Client::new(owner, machine, side, shared).take(at);
        }
        self.now = until;
    }

    /// The farm changes: connections end, clients fall asleep.
    fn change(&mut self, now: u64) {
        let shared = &mut self.shared;
        shared.farm.change(now);
        let losses: Vec<_> = shared.farm.begins(now).collect();
        let sleepers = shared.farm.sleepers(now);
        if !shared.farm.is_up() {
            shared.outages += 1;
        }
        if losses.is_empty() && sleepers.is_none() {
            return;
        }
        for (index, (machine, side)) in self.machines.iter_mut().zip(&mut self.sides).enumerate() {
            if machine.phase() != Phase::Open || side.is_asleep {
                continue;
            }
            for (loss, node) in &losses {
                if node.is_none_or(|node| node == side.node) {
                    let heard = now + shared.farm.round_trip(&mut side.dice) / 2;
                    side.lose(now, heard, *loss);
                }
            }
            if let Some((percent, until, within)) = sleepers
                && side.dice.below(100) < u64::from(percent)
            {
                side.is_asleep = true;
                side.planned = Planned::Awakening;
                let at = until + side.dice.below(within + 1);
                shared.wheel.set(index as u32, at);
                // Its server notices by itself.
                shared.count(now, |counts| &mut counts.ended);
            }
        }
    }
}

impl Side {
    /// The peer ends the connection at `now`. The client learns of it at `heard`, if at all.
    fn lose(&mut self, now: u64, heard: u64, loss: Loss) {
        match loss {
            Loss::Freeze => {
                self.frozen_at = self.frozen_at.min(now);
                self.pong_at = NEVER;
            }
            Loss::Reset | Loss::Eof | Loss::Close(_) => {
                if heard < self.ends_at {
                    self.ends_at = heard;
                    self.end = loss;
                }
            }
        }
    }
}

impl Shared {
    /// Adds one at a time within the simulated range.
    #[inline]
    fn count(&mut self, at: u64, series: impl Fn(&mut Counts) -> &mut Vec<u32>) {
        if let Some(count) = series(&mut self.counts).get_mut((at / SECOND) as usize) {
            *count += 1;
        }
    }

    fn note_capacity(&mut self, from: u64, until: u64) {
        for second in from / SECOND..until.div_ceil(SECOND) {
            let rate = self.farm.rate_at((second * SECOND).max(from)) as u32;
            if let Some(capacity) = self.counts.capacity.get_mut(second as usize) {
                *capacity = rate.max(*capacity);
            }
        }
    }

    /// Connections open at the start of this second.
    fn open_at(&mut self, now: u64) -> u32 {
        let second = (now / SECOND) as usize;
        while self.open_second < second {
            let (opened, ended) = (&self.counts.opened, &self.counts.ended);
            self.open += i64::from(opened[self.open_second]) - i64::from(ended[self.open_second]);
            self.open_second += 1;
        }
        u32::try_from(self.open).unwrap_or(0)
    }
}

/// One client, while something happens to it.
struct Client<'w, 'c> {
    owner: u32,
    machine: &'w mut Heartbeat<&'c Config, FramesOnly>,
    side: &'w mut Side,
    shared: &'w mut Shared,
}

/// The effects of a step that the simulation must act on.
#[derive(Default)]
struct Did {
    ping: Option<[u8; 8]>,
    dials: bool,
    verdict: Option<AbortReason>,
}

impl<'w, 'c> Client<'w, 'c> {
    fn new(
        owner: u32,
        machine: &'w mut Heartbeat<&'c Config, FramesOnly>,
        side: &'w mut Side,
        shared: &'w mut Shared,
    ) -> Self {
        Self {
            owner,
            machine,
            side,
            shared,
        }
    }

    fn wake(&self) -> u64 {
        self.machine.wake().map_or(NEVER, Instant::as_nanos)
    }

    /// Takes the event that was planned for now.
    fn take(mut self, at: u64) {
        match self.side.planned {
            Planned::Tick => {
                self.step(at, Event::Tick);
            }
            Planned::Accepted if self.side.outages != self.shared.outages => {
                self.closed(at, Cause::Reset);
            }
            Planned::Accepted => {
                let Some(conn) = self.machine.conn() else {
                    return;
                };
                self.open(at);
                self.step(at, Event::Connected(conn));
                return self.live();
            }
            Planned::Refused(refusal) => {
                self.shared.counts.wasted_dials += 1;
                self.closed(at, refusal.cause());
            }
            Planned::Awakening => {
                self.side.is_asleep = false;
                // Its server has dropped the connection long ago, and answers further bytes with a reset.
                let heard = at + self.shared.farm.round_trip(&mut self.side.dice);
                self.side.frozen_at = at;
                self.side.pong_at = NEVER;
                self.side.ends_at = NEVER;
                self.side.lose(at, heard, Loss::Reset);
                self.shared.count(at, |counts| &mut counts.opened);
                self.step(at, Event::Kick);
                return self.live();
            }
        }
        self.plan();
    }

    fn closed(&mut self, at: u64, cause: Cause) {
        if let Some(conn) = self.machine.conn() {
            self.step(at, Event::Closed(conn, cause));
        }
    }

    /// A connection begins.
    fn open(&mut self, at: u64) {
        self.shared.count(at, |counts| &mut counts.opened);
        let farm = &self.shared.farm;
        let side = &mut *self.side;
        side.node = farm.node(&mut side.dice);
        side.passed = at;
        side.pong_at = NEVER;
        side.ends_at = NEVER;
        side.frozen_at = NEVER;
        if let Some((open_for, how)) = farm.weather.flapping {
            side.lose(at + open_for, at + open_for, how);
        }
    }

    /// Runs by itself while the connection is open, until the farm changes.
    fn live(mut self) {
        let idle = self.shared.farm.balancer_idle;
        while self.machine.phase() == Phase::Open {
            let wake = self.wake();
            let side = &mut *self.side;
            let balancer = idle.map_or(NEVER, |idle| side.passed.saturating_add(idle.timeout.0));
            let at = wake.min(side.pong_at).min(side.ends_at).min(balancer);
            if at >= self.shared.until {
                return;
            }
            // At one moment: first the peer's bytes, then its end, then our timers.
            if at == side.pong_at {
                side.pong_at = NEVER;
                side.passed = at;
                let payload = side.payload;
                if let Some(conn) = self.machine.conn() {
                    self.step(at, Event::Received(conn, Message::Pong(&payload)));
                }
            } else if at == side.ends_at {
                let cause = side.end.cause().unwrap_or(Cause::Reset);
                self.closed(at, cause);
            } else if at == balancer {
                let how = idle.map_or(Loss::Reset, |idle| idle.how);
                let heard = at + self.shared.farm.round_trip(&mut side.dice) / 2;
                side.lose(at, heard, how);
                side.passed = NEVER;
                self.shared.counts.balancer_drops += 1;
            } else {
                self.step(at, Event::Tick);
            }
        }
        self.plan();
    }

    /// Without a connection, the fleet handles the next event.
    fn plan(&mut self) {
        if self.machine.phase() == Phase::Waiting {
            self.side.planned = Planned::Tick;
            let wake = self.wake();
            self.shared.wheel.set(self.owner, wake);
        }
    }

    /// A step of the machine, and its effects on the simulation.
    #[inline]
    fn step(&mut self, at: u64, event: Event<'_>) {
        let was_open = self.machine.phase() == Phase::Open;
        self.shared.counts.steps += 1;
        let step = self.machine.step(Instant::from_nanos(at), event);
        let mut did = Did::default();
        for action in step.actions.iter() {
            match action {
                Action::SendPing {
                    ping: PingMessage::Frame(payload),
                    ..
                } => did.ping = Some(*payload),
                // `FramesOnly` pings only with frames.
                Action::SendPing { .. } => {}
                Action::Connect { .. } => did.dials = true,
                Action::Abort { reason, .. } => did.verdict = Some(*reason),
                Action::ReconnectAt { delay, .. } => {
                    let class = (delay.as_secs() as usize).min(DELAY_CLASSES - 1);
                    self.shared.counts.delays[class] += 1;
                }
                Action::GaveUp { .. } => self.shared.counts.gave_up += 1,
                Action::SendPong { .. }
                | Action::Close { .. }
                | Action::Renew { .. }
                | Action::Ending { .. }
                | Action::Check { .. } => {}
            }
        }
        if let Some(payload) = did.ping {
            self.ping(at, payload);
        }
        if did.dials {
            self.dial(at);
        }
        if let Some(reason) = did.verdict {
            self.verdict(at, reason);
        }
        if was_open && self.machine.phase() != Phase::Open {
            self.shared.count(at, |counts| &mut counts.ended);
        }
    }

    #[inline]
    fn ping(&mut self, at: u64, payload: [u8; 8]) {
        self.shared.count(at, |counts| &mut counts.pings);
        let side = &mut *self.side;
        if side.passed != NEVER {
            side.passed = at;
        }
        if side.frozen_at == NEVER {
            side.payload = payload;
            if side.pong_at == NEVER {
                side.pong_at = at + self.shared.farm.round_trip(&mut side.dice);
            }
        }
    }

    fn dial(&mut self, at: u64) {
        self.shared.count(at, |counts| &mut counts.dials);
        let open = self.shared.open_at(at);
        self.side.outages = self.shared.outages;
        let outcome = self.shared.farm.dial(at, open, &mut self.side.dice);
        let timeout = self.wake();
        let (planned, when) = match outcome {
            Outcome::Accepted(when) if when < timeout => (Planned::Accepted, when),
            Outcome::Refused(when, refusal) if when < timeout => (Planned::Refused(refusal), when),
            Outcome::Accepted(_) => {
                self.shared.counts.wasted_handshakes += 1;
                (Planned::Tick, timeout)
            }
            Outcome::Refused(..) | Outcome::Swallowed => (Planned::Tick, timeout),
        };
        self.side.planned = planned;
        self.shared.wheel.set(self.owner, when);
    }

    fn verdict(&mut self, at: u64, reason: AbortReason) {
        match reason {
            AbortReason::ConnectTimeout => self.shared.counts.wasted_dials += 1,
            AbortReason::IdleTimeout | AbortReason::PongTimeout | AbortReason::DataTimeout => {
                let counts = &mut self.shared.counts;
                if self.side.frozen_at == NEVER {
                    counts.false_deaths += 1;
                } else {
                    let took = at - self.side.frozen_at;
                    counts.detections += 1;
                    counts.detection_sum += took;
                    counts.detection_max = counts.detection_max.max(took);
                }
            }
            // None of these is a verdict on silence.
            _ => {}
        }
    }
}
