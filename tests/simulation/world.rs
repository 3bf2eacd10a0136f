//! The world: one clock, one queue of future events, one network, one server, one host, one application.
//! Everything but the client itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use heartbeat_core::{Action, Event as Input, Instant, Phase, Step};
use heartbeat_driver::{Message, SendError};

use super::dice::Dice;
use super::link::{End, Link, Reception};
use super::oracle::Oracle;
use super::plan::{Endpoint, Flaw, MS, Plan, S};
use super::reference::{Lines, Reference};
use super::wire::Wrote;

/// A future event. A number is a connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Dialed(u64),
    ToServer(u64),
    ToClient(u64),
    Says(u64),
    Asks(u64),
    Trickles(u64),
    Thaws(u64),
    Drains(u64),
    Stalls(u64),
    Forgets(u64),
    Fault,
    AppSends,
    AppReturns,
    HostReturns,
    Ends,
    TooLate,
}

/// Messages and commands to the client.
pub(crate) trait Commands: Send {
    fn send(&self, message: Message) -> Result<(), SendError>;
    fn kick(&self);
    fn stop(&self);
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    scheduled: u64,
    pub(crate) link: Option<Link>,
    pub(crate) oracle: Oracle,
    pub(crate) reference: Reference,
    pub(crate) commands: Option<Box<dyn Commands>>,
    /// Something has happened that the client waits for.
    pub(crate) stirred: bool,
    /// There is nothing left to observe.
    pub(crate) over: bool,

    // the network
    /// Until when packets to the server, and to the client, are lost.
    pub(crate) partition: [u64; 2],
    pub(crate) server_down: Option<(Reception, u64)>,
    /// The same for a single endpoint.
    pub(crate) endpoint_down: Option<(u8, Reception, u64)>,
    pub(crate) mute_until: u64,
    pub(crate) data_trouble: u64,
    pub(crate) healthy_from: u64,

    // the server
    pub(crate) said: u64,
    pub(crate) odd_pongs_until: u64,

    // the application
    pub(crate) accepted: u64,
    pub(crate) app_away_until: u64,
    pub(crate) burst: u64,

    // the host
    host_away: bool,
    pub(crate) host_away_until: u64,
    host_away_since: u64,
    /// The clock stands still during this time.
    pub(crate) clock_stands: bool,
    /// The client's clock minus the world's.
    pub(crate) offset: i64,
    /// How far tokio's clock has to be moved at once.
    pub(crate) leap: Option<u64>,
    pub(crate) leaps: bool,
    /// When tokio's clock began.
    pub(crate) tokio_start: Option<tokio::time::Instant>,
    /// Who sleeps until when, and must be woken if something is to happen before.
    pub(crate) sleeper: Option<Waker>,
    pub(crate) sleeps_until: u64,
    pub(crate) flaw_done: bool,
}

pub(crate) type Shared = Arc<Mutex<World>>;

/// A panic elsewhere is reported as such. The state that it left behind is not examined.
pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(plan: Plan, lines: Lines) -> Self {
        let mut world = Self {
            dice: Dice::new(plan.seed.wrapping_mul(0x9E37_79B9).wrapping_add(1)),
            now: 0,
            queue: BinaryHeap::new(),
            scheduled: 0,
            link: None,
            oracle: Oracle::new(plan.clone()),
            reference: Reference::new(&plan, lines),
            commands: None,
            stirred: false,
            over: false,
            partition: [0; 2],
            server_down: None,
            endpoint_down: None,
            mute_until: 0,
            data_trouble: 0,
            healthy_from: 0,
            said: 0,
            odd_pongs_until: 0,
            accepted: 0,
            app_away_until: 0,
            burst: 0,
            host_away: false,
            host_away_until: 0,
            host_away_since: 0,
            clock_stands: false,
            offset: 0,
            leap: None,
            leaps: plan.host.is_tokio(),
            tokio_start: None,
            sleeper: None,
            sleeps_until: 0,
            flaw_done: false,
            plan,
        };
        world.after(world.plan.life, What::Ends);
        world.next_fault();
        world.next_send();
        world
    }

    // ---- time -----------------------------------------------------------------------------------------

    pub(crate) fn at(&mut self, time: u64, what: What) {
        let grain = self.plan.grain;
        let time = time.max(self.now).div_ceil(grain).saturating_mul(grain);
        self.scheduled += 1;
        self.queue.push(Reverse((time, self.scheduled, what)));
        if time < self.sleeps_until
            && let Some(sleeper) = self.sleeper.take()
        {
            sleeper.wake();
        }
    }

    /// Catches up with tokio's clock, when that clock runs the client and this world follows.
    pub(crate) fn sync(&mut self) {
        if let Some(start) = self.tokio_start {
            let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.advance(now);
        }
    }

    pub(crate) fn after(&mut self, span: u64, what: What) {
        self.at(self.now.saturating_add(span), what);
    }

    /// When the next event happens.
    pub(crate) fn next(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((time, ..))| *time)
    }

    /// The time that the client's clock shows.
    pub(crate) fn clock(&self) -> u64 {
        let stands = if self.clock_stands {
            self.now.min(self.host_away_until) - self.host_away_since
        } else {
            0
        };
        self.now.wrapping_add_signed(self.offset) - stands
    }

    pub(crate) fn set_now(&mut self, now: u64) {
        self.now = self.now.max(now);
        let clock = self.clock();
        self.oracle.is_behind = clock < self.oracle.clock;
        self.oracle.clock = self.oracle.clock.max(clock);
    }

    /// The world's time at which the client's clock will show this.
    pub(crate) fn when_clock_shows(&self, clock: u64) -> u64 {
        clock.wrapping_add_signed(-self.offset)
    }

    pub(crate) fn host_is_away(&self) -> bool {
        self.host_away
    }

    /// Lets everything happen up to and including `until`.
    pub(crate) fn advance(&mut self, until: u64) {
        while let Some(Reverse((time, _, what))) = self.queue.peek().copied() {
            if time > until || self.over || self.leap.is_some() {
                break;
            }
            self.queue.pop();
            self.set_now(time);
            self.look();
            self.happen(what);
            self.look();
        }
        if self.leap.is_none() {
            self.set_now(until);
        }
        self.over |= self.oracle.violation.is_some();
    }

    fn look(&mut self) {
        let healthy_from = self.healthy_from.saturating_add_signed(self.offset);
        let (runs, takes) = (!self.host_is_away(), self.app_takes());
        // Whether an endpoint is healthy that the client has not given up.
        let reachable = (0..self.plan.endpoints.len())
            .any(|endpoint| self.is_well(endpoint) && !self.oracle.is_hopeless(endpoint));
        self.oracle
            .looks(self.link.as_ref(), healthy_from, runs, takes && reachable);
    }

    pub(crate) fn app_takes(&self) -> bool {
        self.now >= self.app_away_until
    }

    /// Whether this endpoint itself would accept a dial.
    pub(crate) fn is_well(&self, endpoint: usize) -> bool {
        let is_down = self
            .endpoint_down
            .is_some_and(|(down, _, until)| usize::from(down) == endpoint && self.now < until);
        self.plan.endpoints[endpoint] == Endpoint::Well && !is_down
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Dialed(conn) => self.dialed(conn),
            What::ToServer(conn) => self.arrives_at_server(conn),
            What::ToClient(conn) => self.arrives_at_client(conn),
            What::Says(conn) => self.server_says(conn),
            What::Asks(conn) => self.server_asks(conn),
            What::Trickles(conn) => self.trickles(conn),
            What::Thaws(conn) => self.thaws(conn),
            What::Drains(conn) => self.drains(conn),
            What::Stalls(conn) => self.stalls(conn),
            What::Forgets(conn) => self.box_forgets(conn),
            What::Fault => {
                self.fault();
                self.next_fault();
            }
            What::AppSends => self.app_sends(),
            What::AppReturns => {
                if self.app_takes() {
                    let said = self.said;
                    self.oracle.app_returns(said);
                }
                self.stirred = true;
            }
            What::HostReturns => self.host_returns(),
            What::Ends => self.app_ends(),
            What::TooLate => self.oracle.fail("stop: nothing has come to an end"),
        }
    }

    pub(crate) fn current(&mut self, conn: u64) -> Option<&mut Link> {
        self.link
            .as_mut()
            .filter(|link| link.conn == conn && !link.dropped)
    }

    // ---- the client's half of the network ----------------------------------------------------------------

    /// The time that a packet takes.
    pub(crate) fn way(&mut self) -> u64 {
        let (low, high) = self.plan.latency;
        let way = self.dice.between(low, high);
        if self.dice.permille(self.plan.loss_permille) {
            way + self
                .dice
                .between(self.plan.loss_delay / 2, self.plan.loss_delay)
        } else {
            way
        }
    }

    pub(crate) fn dial(&mut self, conn: u64, host: &str) {
        self.sync();
        if self.over {
            return;
        }
        let endpoint = host.trim_start_matches('s').split('.').next();
        let endpoint = endpoint.and_then(|number| number.parse().ok()).unwrap_or(0);
        self.oracle.dials(conn, endpoint);
        let own = match (self.plan.endpoints[endpoint], self.endpoint_down) {
            (Endpoint::Bad(reception), _) => reception,
            (_, Some((down, reception, until)))
                if usize::from(down) == endpoint && self.now < until =>
            {
                reception
            }
            _ => Reception::Welcome,
        };
        let reception = match self.server_down {
            _ if self.now < self.partition[0] || self.now < self.partition[1] => Reception::Hangs,
            Some((reception, until)) if self.now < until => reception,
            _ => own,
        };
        let mut link = Link::new(conn, reception, self.now);
        if reception != Reception::Welcome {
            link.trouble_until = u64::MAX;
        }
        self.link = Some(link);
        if reception != Reception::Hangs {
            let way = self.way() + self.way();
            self.after(way, What::Dialed(conn));
        }
    }

    fn dialed(&mut self, conn: u64) {
        if let Some(link) = self.current(conn) {
            link.ready = true;
            link.truth.refused = link.reception == Reception::Refused;
            link.wake();
            self.stirred = true;
        }
    }

    /// The outcome of a dial: `Some(true)` is a byte stream.
    pub(crate) fn collect_dial(&mut self, conn: u64) -> Option<bool> {
        let link = self
            .current(conn)
            .filter(|link| link.ready && !link.given)?;
        if link.reception == Reception::Refused {
            self.drop_link(conn);
            return Some(false);
        }
        link.given = true;
        Some(true)
    }

    /// The client has dropped the socket or given the dial up.
    pub(crate) fn drop_link(&mut self, conn: u64) {
        self.sync();
        let accepted = self.accepted + 1;
        if let Some(link) = self.current(conn) {
            link.dropped = true;
            let read = link.data_read;
            self.oracle.drops(conn, accepted, read);
            self.oracle.forgets_data();
        }
    }

    pub(crate) fn read(&mut self, conn: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.sync();
        let now = self.now;
        let Some(link) = self.link.as_mut().filter(|link| link.conn == conn) else {
            return Err(std::io::ErrorKind::NotConnected.into());
        };
        let result = link.read(buffer);
        let mut messages = 0;
        while link.data_ends.front().is_some_and(|end| *end <= link.read) {
            link.data_ends.pop_front();
            messages += 1;
        }
        link.data_read += messages;
        let has_ended = link.end.is_some();
        match &result {
            Ok(1..) => {
                self.oracle.hears();
                self.oracle.reads_data(messages, has_ended);
                self.pump(conn);
            }
            _ => self.oracle.turns_for_nothing(now),
        }
        result
    }

    pub(crate) fn write(&mut self, conn: u64, bytes: &[u8]) -> std::io::Result<usize> {
        self.sync();
        let (now, capacity) = (self.now, self.plan.capacity);
        let Some(link) = self.link.as_mut().filter(|link| link.conn == conn) else {
            return Err(std::io::ErrorKind::NotConnected.into());
        };
        if link.end == Some(End::Reset) {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        let mut room = link.room(capacity);
        if self.plan.flaw == Some(Flaw::MovesForNothing) && room > 0 {
            link.teased = !link.teased;
            if link.teased {
                self.stirred = true;
                return Err(std::io::ErrorKind::WouldBlock.into());
            }
        }
        let hides = self.plan.flaw == Some(Flaw::HidesThatBytesWait) && link.upgraded;
        if hides && room < bytes.len() as u64 {
            link.hidden += bytes.len() as u64;
            link.decoder.feed(bytes);
            self.oracle.waits_for_room();
            self.decode(conn);
            self.reveal(conn);
            return Ok(bytes.len());
        }
        if let Some(cut) = link.cut_up_at {
            room = room.min(cut.saturating_sub(link.written));
            if room == 0 {
                link.reset();
                self.stirred = true;
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
        }
        let count = room.min(bytes.len() as u64);
        if count == 0 {
            link.write_waits = true;
            self.oracle.turns_for_nothing(now);
            self.oracle.waits_for_room();
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        link.decoder.feed(&bytes[..count as usize]);
        self.leaves(conn, count);
        self.decode(conn);
        Ok(count as usize)
    }

    /// This many bytes of the client go onto the wire.
    fn leaves(&mut self, conn: u64, count: u64) {
        let now = self.now;
        self.oracle.moves();
        let Some(link) = self.link.as_mut().filter(|link| link.conn == conn) else {
            return;
        };
        link.written += count;
        link.last_packet = now;
        if !link.dead {
            let way = self.way();
            if let Some(link) = self.current(conn) {
                let arrives = link.up.back().map_or(0, |(time, _)| *time).max(now + way);
                link.up.push_back((arrives, count));
                self.at(arrives, What::ToServer(conn));
            }
        }
    }

    /// Processes what the client has written whole.
    fn decode(&mut self, conn: u64) {
        let Some(link) = self.link.as_mut().filter(|link| link.conn == conn) else {
            return;
        };
        while let Some(wrote) = link.decoder.next() {
            let end = link.decoder.taken;
            if self.plan.flaw.is_none() {
                self.oracle.writes(link, &wrote);
                link.frames.push_back((end, wrote));
                continue;
            }
            for wrote in flawed(self.plan.flaw, &mut self.flaw_done, wrote) {
                self.oracle.writes(link, &wrote);
                link.frames.push_back((end, wrote));
            }
        }
    }

    /// Bytes that a planted defect hides move on as soon as there is room.
    pub(crate) fn reveal(&mut self, conn: u64) {
        let capacity = self.plan.capacity;
        let Some(link) = self.current(conn).filter(|link| link.hidden > 0) else {
            return;
        };
        let count = link.hidden.min(link.room(capacity));
        link.hidden -= count;
        let waits = link.hidden > 0;
        if count > 0 {
            self.leaves(conn, count);
        }
        if waits {
            self.oracle.waits_for_room();
        }
    }

    /// Lets the server's bytes onto the wire, as far as the window goes.
    pub(crate) fn pump(&mut self, conn: u64) {
        loop {
            let way = self.way();
            let (now, capacity) = (self.now, self.plan.capacity);
            let Some(link) = self.current(conn) else {
                return;
            };
            let used = link.on_the_way + link.received.len() as u64;
            let count = capacity
                .saturating_sub(used)
                .min(link.backlog.len() as u64)
                .min(1460);
            let ends = link.hangs_up && link.backlog.is_empty() && link.trickle.is_empty();
            if link.dead || (count == 0 && !ends) {
                return;
            }
            let bytes: Vec<u8> = link.backlog.drain(..count as usize).collect();
            if bytes.is_empty() {
                // An empty piece is the end, and comes once.
                link.hangs_up = false;
            }
            link.on_the_way += count;
            link.last_packet = now;
            let arrives = link.down.back().map_or(0, |(time, _)| *time).max(now + way);
            link.down.push_back((arrives, bytes));
            self.at(arrives, What::ToClient(conn));
        }
    }

    fn arrives_at_client(&mut self, conn: u64) {
        let (now, until) = (self.now, self.partition[1]);
        if now < until {
            let again = until + self.way() + self.plan.loss_delay;
            return self.at(again, What::ToClient(conn));
        }
        let Some(link) = self.current(conn) else {
            return;
        };
        let mut stirred = false;
        while link.down.front().is_some_and(|(time, _)| *time <= now) && !link.dead {
            let Some((_, bytes)) = link.down.pop_front() else {
                break;
            };
            if link.end == Some(End::Reset) {
                continue;
            }
            if bytes.is_empty() {
                link.end = Some(End::Eof);
                if let Some(waker) = link.hang_up_waker.take() {
                    waker.wake();
                }
            }
            link.on_the_way -= bytes.len() as u64;
            link.received.extend(bytes);
            stirred = true;
        }
        if stirred {
            if let Some(waker) = link.read_waker.take() {
                waker.wake();
            }
            self.stirred = true;
        }
    }

    fn arrives_at_server(&mut self, conn: u64) {
        let (now, until) = (self.now, self.partition[0]);
        if now < until {
            let again = until + self.way() + self.plan.loss_delay;
            return self.at(again, What::ToServer(conn));
        }
        let Some(link) = self.current(conn) else {
            return;
        };
        while link.up.front().is_some_and(|(time, _)| *time <= now) && !link.dead {
            let Some((_, count)) = link.up.pop_front() else {
                break;
            };
            link.arrived += count;
        }
        self.server_takes(conn);
    }

    // ---- what the machine says of itself ------------------------------------------------------------------

    pub(crate) fn observe(
        &mut self,
        at: Instant,
        event: &Input<'_>,
        step: &Step<'_>,
        phase: Phase,
    ) {
        self.sync();
        if self.over {
            return;
        }
        self.oracle.figures.steps += 1;
        let lies =
            self.plan.flaw == Some(Flaw::ReportsAnotherWake) && self.oracle.figures.steps == 20;
        if let Err(difference) = self.reference.step(at, event, step, phase, lies) {
            self.oracle.fail(difference);
        }
        let (now, data_trouble) = (self.now, self.data_trouble);
        let mut cause = None;
        match event {
            Input::Connected(_) if !step.stale => self.oracle.opens(),
            Input::ReadPaused(_) if !step.stale => self.oracle.pauses(),
            Input::ReadResumed(_) if !step.stale => self.oracle.resumes(now),
            Input::Closed(conn, why) if !step.stale => {
                cause = Some(*why);
                if let Some(link) = self.link.as_ref().filter(|link| link.conn == conn.get()) {
                    self.oracle.closes(link, *why);
                }
            }
            _ => {}
        }
        for action in step.actions.iter() {
            match action {
                Action::Abort { conn, reason } => {
                    if let Some(link) = self.link.as_ref().filter(|link| link.conn == conn.get()) {
                        self.oracle.judges(link, *reason, now, data_trouble);
                    }
                }
                Action::ReconnectAt { attempt, .. } => self.oracle.announces(*attempt),
                Action::GaveUp { .. } => self.oracle.gives_up(cause),
                _ => {}
            }
        }
    }

    /// The client waits for the world.
    pub(crate) fn client_waits(&mut self) {
        if let Some(link) = self.link.as_ref().filter(|link| link.given) {
            self.oracle.waits(link);
        }
        let now = self.now;
        self.oracle.turns_for_nothing(now);
    }

    // ---- the host -----------------------------------------------------------------------------------------

    /// The host does nothing for a span. Its clock runs on, or stands still.
    pub(crate) fn host_leaves(&mut self, span: u64, clock_stands: bool) {
        let span = span.max(self.plan.grain);
        self.host_away = true;
        self.host_away_since = self.now;
        self.host_away_until = self.now + span;
        if self.leaps {
            self.leap = Some(span.div_ceil(MS) * MS);
            if let Some(sleeper) = self.sleeper.take() {
                sleeper.wake();
            }
            self.host_away_until = self.now + span.div_ceil(MS) * MS;
        } else {
            self.clock_stands = clock_stands;
        }
        self.at(self.host_away_until, What::HostReturns);
    }

    fn host_returns(&mut self) {
        let span = self.now - self.host_away_since;
        if self.clock_stands {
            self.offset -= span as i64;
            self.clock_stands = false;
        }
        self.oracle.clock = self.oracle.clock.max(self.clock());
        self.oracle.host_was_away(self.now, span);
        self.host_away = false;
        self.stirred = true;
    }

    /// The clock is set, forward or back.
    pub(crate) fn clock_steps(&mut self, forward: bool, span: u64) {
        if forward {
            self.offset += span as i64;
        } else {
            self.offset -= span.min(self.clock()) as i64;
        }
        self.oracle.clock = self.oracle.clock.max(self.clock());
        self.oracle.host_was_away(self.now, span + S);
        self.stirred = true;
    }
}

/// What happens to a written item if a defect is planted in the transport.
fn flawed(flaw: Option<Flaw>, done: &mut bool, wrote: Wrote) -> Vec<Wrote> {
    use super::wire::{BINARY, PONG, TEXT};
    let Some(flaw) = flaw.filter(|_| !*done) else {
        return vec![wrote];
    };
    let is_message =
        matches!(&wrote, Wrote::Frame(TEXT | BINARY, payload) if payload.first() == Some(&b'm'));
    let is_pong = matches!(&wrote, Wrote::Frame(PONG, _))
        || matches!(&wrote, Wrote::Frame(TEXT, payload) if payload.first() == Some(&b'{'));
    match flaw {
        Flaw::DuplicatesAMessage if is_message => {
            *done = true;
            vec![wrote.clone(), wrote]
        }
        Flaw::LosesAMessage if is_message => {
            *done = true;
            Vec::new()
        }
        Flaw::LosesAPong if is_pong => {
            *done = true;
            Vec::new()
        }
        _ => vec![wrote],
    }
}
