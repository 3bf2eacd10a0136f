//! The rules that must hold, seen from outside: by the network, the server and the application. Nothing in
//! here asks the machine. The reference model checks what the machine reports of itself.

use std::collections::{HashMap, VecDeque};

use heartbeat_core::{AbortReason, Cause, CauseKind, PermanentErrors, Ping, RetryPolicy};
use heartbeat_driver::Overflow;

use super::faults::Back;
use super::figures::Figures;
use super::link::{Link, Reception};
use super::plan::{Plan, S, nanos};
use super::wire::{BINARY, CLOSE, PING, PONG, TEXT, Wrote};

/// The floor under all dials (DESIGN, invariant 12).
const DIAL_FLOOR: u64 = 25_000_000;

/// The answer to an application's ping.
const JSON_PONG: &[u8] = br#"{"type":"pong"}"#;

/// More turns than this at one moment without any effect are a busy loop.
const IDLE_TURNS: u64 = 5_000;

/// A message of the application: its number and its length.
type Sent = (u64, usize);

/// When the next dial may come, by the rules.
#[derive(Clone, Copy, Debug)]
struct Planned {
    lost_at: u64,
    least: u64,
    most: u64,
    /// With a kick.
    kicked_least: u64,
    kicked: bool,
    /// The host or the application kept the client from being punctual, or the clock from being steady.
    excused: bool,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    plan: Plan,
    pub(crate) violation: Option<String>,
    /// The latest time that the client's clock has shown.
    pub(crate) clock: u64,
    /// The clock shows less now, because it was set back. Spans that begin now have no lower bound.
    pub(crate) is_behind: bool,
    dialed_behind: bool,
    opened_behind: bool,
    pub(crate) figures: Figures,

    // messages of the application's
    outstanding: VecDeque<Sent>,
    outstanding_bytes: usize,
    /// The first message that was accepted after the end of this connection.
    accepted_after: HashMap<u64, u64>,
    last_written: u64,
    // messages of the server's
    expected: Option<u64>,
    data_read: u64,
    data_taken: u64,
    /// For each connection that has ended, the data messages that were read to their end. `None`: not all of
    /// them had to be delivered.
    read_on: HashMap<u64, Option<u64>>,
    /// The server's last message when the application came back, and how many of the messages before it the
    /// application has taken.
    backlog: (u64, u64),

    // connections
    live: Option<u64>,
    last_conn: u64,
    failures: u32,
    /// Consecutive dials that led to no stable connection.
    fruitless: u32,
    opened: Option<u64>,
    /// The endpoint of the latest dial.
    endpoint: usize,
    /// What is known of each endpoint.
    records: Vec<Record>,
    /// It cannot be told from outside whether the connection was stable.
    unsure: bool,
    /// Fresh credentials are asked for. `true`: by the service behind the upgrade.
    refused: Option<bool>,
    fresh: bool,
    /// The last end allows only giving up.
    is_hopeless: bool,
    may_give_up: bool,
    dialed: u64,
    planned: Option<Planned>,

    // silence
    heard: u64,
    kicked_since_heard: bool,
    excused_since_heard: bool,
    /// The last whole data message.
    heard_data: u64,
    /// Since then, bytes of the client wait for room on the wire.
    waits: Option<u64>,
    /// How long the client could not judge since then.
    lost_waiting: u64,
    /// The clock had been set back when bytes began to wait, when they moved, and when data were heard.
    waits_behind: bool,
    moved_behind: bool,
    heard_data_behind: bool,
    /// Some bytes have waited since a byte was heard.
    waited: bool,
    /// Some bytes waited when a byte was heard.
    heard_amid_waiting: bool,
    /// When waiting bytes last moved, or the connection was opened.
    moved: u64,
    asked: Option<u64>,
    asked_among: bool,
    /// How long the client could not judge since a byte was heard.
    lost_since_heard: u64,
    not_dead_before: u64,
    /// The connection whose end has reached the client's host, and when.
    ended: Option<(u64, u64)>,
    /// The same for bytes that have arrived and must be read.
    unread: Option<(u64, u64)>,
    pub(crate) paused: Option<u64>,
    /// Spans in which the client could not judge: when each ended (on the world's clock), and its length.
    lost_time: VecDeque<(u64, u64)>,

    recover_by: u64,
    longest_delay: u64,
    stop_by: Option<u64>,
    pub(crate) stopping: bool,
    pub(crate) gave_up: bool,
    pub(crate) stopped: bool,
    idle_turns: (u64, u64),
}

impl Oracle {
    pub(crate) fn new(plan: Plan) -> Self {
        let (_, cap, _) = plan.config.backoff();
        let longest_delay = nanos(cap).max(30 * S);
        let mut oracle = Self {
            plan,
            violation: None,
            clock: 0,
            is_behind: false,
            dialed_behind: false,
            opened_behind: false,
            figures: Figures::default(),
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
            accepted_after: HashMap::new(),
            last_written: 0,
            expected: None,
            data_read: 0,
            data_taken: 0,
            read_on: HashMap::new(),
            backlog: (0, 0),
            live: None,
            last_conn: 0,
            failures: 0,
            fruitless: 0,
            opened: None,
            endpoint: 0,
            records: Vec::new(),
            unsure: false,
            refused: None,
            fresh: false,
            is_hopeless: false,
            may_give_up: false,
            dialed: 0,
            planned: None,
            heard: 0,
            kicked_since_heard: false,
            excused_since_heard: false,
            heard_data: 0,
            waits: None,
            lost_waiting: 0,
            waits_behind: false,
            moved_behind: false,
            heard_data_behind: false,
            waited: false,
            heard_amid_waiting: false,
            moved: 0,
            asked: None,
            asked_among: false,
            lost_since_heard: 0,
            not_dead_before: 0,
            ended: None,
            unread: None,
            paused: None,
            lost_time: VecDeque::new(),
            recover_by: 0,
            longest_delay,
            stop_by: None,
            stopping: false,
            gave_up: false,
            stopped: false,
            idle_turns: (0, 0),
        };
        oracle.records = vec![Record::default(); oracle.plan.endpoints.len()];
        oracle.recover_by = oracle.recovery();
        oracle
    }

    pub(crate) fn fail(&mut self, rule: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(rule.into());
        }
    }

    fn ensure(&mut self, holds: bool, rule: impl FnOnce() -> String) {
        if !holds {
            self.fail(rule());
        }
    }

    /// The longest time from a healthy network to an open connection. First an old connection must be declared
    /// dead, or a dial into the void must end. Then follow one delay and one dial, or one of each for each
    /// endpoint.
    fn recovery(&self) -> u64 {
        let plan = &self.plan;
        let (idle, dial) = (
            nanos(plan.config.idle_timeout()),
            nanos(plan.config.connect_timeout()),
        );
        let others = self.records.len() as u64 - 1;
        let dial_and_delay = dial
            .saturating_add(self.longest_delay)
            .saturating_add(4 * plan.longest_way() + 2 * plan.slack());
        idle.max(dial)
            .saturating_add(plan.late_probe())
            .saturating_add(self.longest_delay)
            .saturating_add(8 * plan.longest_way() + 4 * plan.slack() + S)
            .saturating_add(others.saturating_mul(dial_and_delay))
    }

    // ---- dials and losses -----------------------------------------------------------------------

    pub(crate) fn is_hopeless(&self, endpoint: usize) -> bool {
        self.records[endpoint].hopeless
    }

    pub(crate) fn dials(&mut self, conn: u64, endpoint: usize) {
        self.figures.dials += 1;
        let count = self.records.len();
        let first = if self.last_conn == 0 {
            0
        } else {
            self.endpoint + 1
        };
        let next = (first..first + count)
            .map(|endpoint| endpoint % count)
            .find(|endpoint| !self.is_hopeless(*endpoint));
        let unsure = self.unsure;
        self.ensure(next == Some(endpoint) || unsure, || {
            format!("endpoints: dial {conn} goes to {endpoint}, not to {next:?}")
        });
        self.endpoint = endpoint;
        self.fresh = self.refused.is_some();
        let live = self.live;
        self.ensure(live.is_none(), || {
            format!("one connection at most: {conn} is dialled while {live:?} lives")
        });
        let last = self.last_conn;
        self.ensure(conn > last, || format!("ids increase: {conn} after {last}"));
        let stopping = self.stopping || self.gave_up;
        self.ensure(!stopping, || format!("dial {conn} after the end"));
        let hopeless = self.is_hopeless && !self.unsure;
        self.ensure(!hopeless, || {
            format!("endpoints: dial {conn}, though there is nothing left to hope for")
        });
        self.live = Some(conn);
        self.last_conn = conn;
        self.dialed = self.clock;
        self.dialed_behind = self.is_behind;
        if let Some(planned) = self.planned.take() {
            let waited = self.clock - planned.lost_at;
            let least = if planned.kicked {
                planned.kicked_least
            } else {
                planned.least
            };
            let most = planned.most.saturating_add(self.plan.slack());
            let rule = || {
                format!(
                    "backoff: dial {conn} came {waited} ns after the loss, not within {least}..={most} ({planned:?})"
                )
            };
            self.ensure(waited >= least || planned.excused, rule);
            self.ensure(waited <= most || planned.excused, rule);
        }
    }

    pub(crate) fn opens(&mut self) {
        self.figures.connects += 1;
        self.opened = Some(self.clock);
        self.opened_behind = self.is_behind;
        self.refused = self.refused.filter(|by_service| *by_service);
        (self.waits, self.moved) = (None, self.clock);
        self.moved_behind = self.is_behind;
        self.hears();
        (self.heard_data, self.heard_data_behind) = (self.clock, self.is_behind);
    }

    /// A dial or a connection has ended for the client.
    pub(crate) fn drops(&mut self, conn: u64, accepted: u64, data_read: u64) {
        if self.live == Some(conn) {
            self.live = None;
            self.accepted_after.insert(conn, accepted);
            let all_told = self.paused.is_none() && !self.stopping;
            self.read_on.insert(conn, all_told.then_some(data_read));
        }
    }

    /// The peer, the network or a dial has ended the connection.
    pub(crate) fn closes(&mut self, link: &Link, cause: Cause) {
        let truth = &link.truth;
        let is_true = match cause {
            Cause::Refused => truth.refused,
            Cause::Eof => truth.eof,
            Cause::Reset => truth.reset,
            Cause::Close(code) => truth.closes.contains(&code),
            Cause::Protocol(code) => truth.garbage && matches!(code, 1002 | 1007 | 1009),
            Cause::Http { status, .. } => truth.http == Some(status),
            _ => false,
        };
        let conn = link.conn;
        self.ensure(is_true, || {
            format!("connection {conn} is said to have ended by {cause:?}, but {truth:?}")
        });
        *self.figures.causes.entry(cause_name(cause)).or_default() += 1;
        if !self.stopping {
            self.lost(Some(cause));
        }
    }

    fn lost(&mut self, cause: Option<Cause>) {
        let config = &self.plan.config;
        self.fruitless = self.fruitless.saturating_add(1);
        if let Some(opened) = self.opened.take() {
            self.figures.open_nanos += u128::from(self.clock - opened);
            if self.clock - opened >= nanos(config.stable_after()) {
                (self.failures, self.fruitless) = (0, 0);
                self.refused = None;
                self.records[self.endpoint].proven = true;
            }
        }
        self.paused = None;
        let exhausted = config
            .max_attempts()
            .is_some_and(|most| self.fruitless >= most);
        let all_hopeless = self.condemns(cause);
        let config = &self.plan.config;
        self.is_hopeless = all_hopeless || exhausted;
        self.may_give_up = self.is_hopeless;
        let (base, cap, jitter) = config.backoff();
        let (base, cap) = (nanos(base), nanos(cap));
        let longest = (0..self.failures.min(64))
            .fold(base.min(cap), |delay, _| delay.saturating_mul(2).min(cap));
        let jitter = (u128::from(longest) * u128::from(jitter) / 100) as u64;
        let shortest = (longest - jitter).max(DIAL_FLOOR);
        let verdict = match cause {
            // Fresh credentials, but not before the server's time.
            Some(Cause::Http {
                status: 401,
                retry_after: Some(after),
            }) => Some(RetryPolicy::After(after)),
            _ => cause.map(|cause| row(&self.plan, cause)),
        };
        let (least, most, kicked_least) = match verdict {
            Some(RetryPolicy::After(after)) if nanos(after) > shortest => {
                let after = nanos(after);
                (after, longest.max(after + jitter), after)
            }
            Some(RetryPolicy::After(after)) => (shortest, longest, nanos(after).max(DIAL_FLOOR)),
            Some(RetryPolicy::Spread(from, to)) => (
                shortest.max(nanos(from)),
                longest.max(nanos(to)),
                nanos(from),
            ),
            _ => (shortest, longest, DIAL_FLOOR),
        };
        self.longest_delay = self.longest_delay.max(most);
        self.failures = self.failures.saturating_add(1);
        self.planned = Some(Planned {
            lost_at: self.clock,
            least,
            most,
            kicked_least,
            kicked: false,
            excused: self.is_behind,
        });
    }

    /// Records an end that rules this endpoint out, if the policy agrees. True if all endpoints are ruled out.
    fn condemns(&mut self, cause: Option<Cause>) -> bool {
        let Some(cause) = cause else { return false };
        let verdict = row(&self.plan, cause);
        let says_so = match verdict {
            RetryPolicy::Never => true,
            RetryPolicy::Refresh => self.fresh && self.refused.is_some(),
            _ => false,
        };
        if verdict == RetryPolicy::Refresh && !says_so {
            self.refused = Some(!matches!(cause, Cause::Http { .. }));
        }
        let record = &mut self.records[self.endpoint];
        let is_believed = match self.plan.config.permanent_errors() {
            PermanentErrors::GiveUp => true,
            PermanentErrors::Retry => false,
            _ => !record.proven,
        };
        if !says_so || !is_believed {
            return false;
        }
        record.hopeless = true;
        self.records.iter().all(|record| record.hopeless)
    }

    /// If a clock that was set back leaves open how long the connection was open, the client's own count is
    /// used.
    pub(crate) fn announces(&mut self, attempt: u32) {
        if std::mem::take(&mut self.opened_behind) {
            self.failures = attempt;
            self.unsure = true;
            if let Some(planned) = &mut self.planned {
                planned.excused = true;
            }
        }
    }

    pub(crate) fn gives_up(&mut self, cause: Option<Cause>) {
        self.figures.gave_up += 1;
        self.gave_up = true;
        let may = self.may_give_up || self.unsure || self.opened_behind;
        let records = &self.records;
        let words = format!("gave up on {cause:?}, which retrying can mend: {records:?}");
        self.ensure(may, || words);
    }

    // ---- verdicts of the client's own ---------------------------------------------------------------

    pub(crate) fn judges(&mut self, link: &Link, reason: AbortReason, now: u64, data_trouble: u64) {
        *self.figures.verdicts.entry(reason.as_str()).or_default() += 1;
        let config = self.plan.config.clone();
        let slack = self.plan.slack();
        let silent = self.clock - self.heard;
        let conn = link.conn;
        let excused = self.excused_since_heard;
        match reason {
            AbortReason::IdleTimeout | AbortReason::PongTimeout | AbortReason::DataTimeout => {
                let (paused, unread) = (self.paused.is_some(), link.received.len());
                self.ensure(!paused, || {
                    format!("{reason} on {conn} while reading is paused")
                });
                let stuck = link.room(self.plan.capacity) == 0;
                self.ensure(unread == 0 || stuck, || {
                    format!("{reason} on {conn} with {unread} bytes in hand")
                });
            }
            _ => {}
        }
        match reason {
            AbortReason::IdleTimeout | AbortReason::PongTimeout => {
                let idle = nanos(config.idle_timeout());
                let reach = if link.slow.is_some() {
                    idle
                } else {
                    self.plan.detection()
                };
                self.is_no_false_death(reason, link, link.troubled_until(), reach, now);
                let exact = self.plan.detection();
                let least = idle
                    .min(config.pong_timeout().map_or(u64::MAX, nanos))
                    .min(self.plan.late_probe());
                self.ensure(silent >= least || excused, || {
                    format!("{reason} on {conn} after only {silent} ns of silence")
                });
                let (waits, moved) = (self.waits, self.clock - self.moved);
                let behind = self.moved_behind;
                self.ensure(moved >= least || behind, || {
                    format!(
                        "{reason} on {conn}, but bytes that had to wait moved {moved} ns before"
                    )
                });
                if !excused {
                    let charged = match reason {
                        AbortReason::IdleTimeout => Some((self.silent_from(), idle)),
                        // Everything that may have been a ping counts here.
                        _ => self
                            .asked
                            .or(self.asked_among.then_some(self.moved))
                            .map(|asked| asked.max(self.moved))
                            .zip(config.pong_timeout().map(nanos)),
                    };
                    let clock = self.clock;
                    self.ensure(
                        charged.is_some_and(|(from, timeout)| clock - from >= timeout),
                        || format!("{reason} on {conn}, sooner than the bytes on the wire allow: {charged:?} at {clock}, waits {waits:?}"),
                    );
                    self.is_no_later(reason, conn);
                }
                if !excused && !self.kicked_since_heard && !self.waited {
                    if !matches!(config.ping(), Ping::Every(_)) {
                        self.ensure(silent >= exact, || {
                            format!("{reason} on {conn} after {silent} ns, sooner than {exact}")
                        });
                    }
                    self.figures.deaths += 1;
                    self.figures.at_the_bound += u64::from(silent == exact);
                }
                self.figures.deaths_amid_uploads += u64::from(self.waited);
            }
            AbortReason::DataTimeout => {
                let from = self.heard_data.max(self.moved);
                let (missing, least) = (self.clock - from, config.data_timeout().map_or(0, nanos));
                let behind = self.heard_data_behind || self.moved_behind;
                self.ensure(missing >= least || behind, || {
                    format!("{reason} on {conn} after only {missing} ns without data, and without bytes that moved")
                });
                let trouble = link.troubled_until().max(data_trouble);
                self.is_no_false_death(
                    reason,
                    link,
                    trouble,
                    config.data_timeout().map_or(0, nanos) + self.plan.late_probe(),
                    now,
                );
            }
            AbortReason::WriteTimeout => {
                let timeout = config.write_timeout().map_or(0, nanos);
                self.is_no_false_death(reason, link, link.troubled_until(), timeout, now);
                let stuck = self.waits.map(|since| self.clock - since);
                let behind = self.waits_behind;
                self.ensure(
                    stuck.is_some_and(|stuck| stuck >= timeout || behind),
                    || {
                        format!(
                            "{reason} on {conn}, whose bytes wait since {stuck:?} ns, not {timeout}"
                        )
                    },
                );
                if self.lost_waiting == 0 && !behind {
                    let (clock, slack) = (self.clock, 2 * slack);
                    let late = stuck.map_or(0, |stuck| stuck.saturating_sub(timeout));
                    self.ensure(late <= slack, || {
                        format!("{reason} on {conn} at {clock}, {late} ns later than its time")
                    });
                }
                self.figures.deaths_amid_uploads += 1;
            }
            AbortReason::ConnectTimeout => {
                let (took, limit) = (self.clock - self.dialed, nanos(config.connect_timeout()));
                self.ensure(
                    (took >= limit || self.dialed_behind)
                        && (took <= limit + slack || self.lost_since(link.dialed_at)),
                    || format!("connect_timeout on {conn} after {took} ns, not {limit}"),
                );
                let swallowed = matches!(link.reception, Reception::Hangs | Reception::Silent)
                    || self.lost_since(link.dialed_at);
                self.ensure(swallowed || link.troubled_until() >= link.dialed_at, || {
                    format!("connect_timeout on {conn}, which was well received")
                });
            }
            _ => {}
        }
        if !matches!(reason, AbortReason::Stale | AbortReason::CloseTimeout) {
            self.lost(None);
        }
    }

    fn is_no_later(&mut self, reason: AbortReason, conn: u64) {
        let (clock, by) = (self.clock, self.dead_by());
        self.ensure(clock <= by.saturating_add(2 * self.plan.slack()), || {
            format!("{reason} on {conn} at {clock}, later than {by}")
        });
    }

    fn is_no_false_death(
        &mut self,
        reason: AbortReason,
        link: &Link,
        trouble_until: u64,
        reach: u64,
        now: u64,
    ) {
        let lost: u64 = self
            .lost_time
            .iter()
            .filter(|(end, _)| *end >= trouble_until)
            .map(|(_, span)| span)
            .sum();
        let reach = reach
            .saturating_add(lost)
            .saturating_add(link.slow.map_or(0, |_| 2 * self.plan.slowest))
            .saturating_add(8 * self.plan.longest_way() + 4 * self.plan.slack());
        // The clock may have been set forward over nearly all of the time that the peer had.
        let trouble_until = if self.lost_since_heard > 0 {
            trouble_until.max(link.dialed_at)
        } else {
            trouble_until
        };
        self.ensure(trouble_until.saturating_add(reach) >= now, || {
            format!(
                "a false death: {reason}, but all has been well since {trouble_until}, {} ns",
                now - trouble_until
            )
        });
    }

    fn lost_since(&self, since: u64) -> bool {
        self.lost_time.iter().any(|(end, _)| *end >= since)
    }

    /// Bytes of the client have to wait, because the network has no room for them.
    pub(crate) fn waits_for_room(&mut self) {
        if self.waits.is_none() && self.clock > self.moved {
            // All bytes that waited before have left, perhaps with a ping among them.
            self.asked = self.asked();
            self.asked_among = false;
        }
        if self.waits.is_none() {
            self.waits = Some(self.clock);
            (self.lost_waiting, self.waits_behind) = (0, self.is_behind);
        }
        self.waited = true;
    }

    /// Bytes of the client go onto the wire. Bytes that had to wait are a sign of life.
    pub(crate) fn moves(&mut self) {
        if self.waits.take().is_some() {
            (self.moved, self.moved_behind) = (self.clock, self.is_behind);
            self.excused_since_heard |= self.is_behind;
        }
    }

    /// A ping has left: at once, or behind bytes that had to wait.
    fn asks(&mut self) {
        if self.waits.is_some() || (self.waited && self.moved == self.clock) {
            self.asked_among |= self.asked.is_none();
        } else {
            self.asked = self.asked().or(Some(self.clock));
        }
    }

    /// When the first ping since the last received byte went onto the wire. If it left among waiting bytes,
    /// this is known once no bytes wait any more.
    fn asked(&self) -> Option<u64> {
        let among = self.asked_among && self.waits.is_none();
        self.asked.or(among.then_some(self.moved))
    }

    /// Since then no byte was heard, and no waiting byte has moved.
    fn silent_from(&self) -> u64 {
        self.heard.max(self.moved)
    }

    /// When the client must have noticed that this connection is dead, if it is, judged only from what the
    /// network has seen.
    fn dead_by(&self) -> u64 {
        let config = &self.plan.config;
        let idle = nanos(config.idle_timeout());
        let stuck = match (self.waits, config.write_timeout()) {
            (Some(since), Some(timeout)) => since
                .saturating_add(nanos(timeout))
                .saturating_add(self.lost_waiting),
            _ => u64::MAX,
        };
        if self.paused.is_some() {
            return stuck.max(self.not_dead_before);
        }
        let mut by = stuck.min(self.silent_from().saturating_add(idle));
        let asks = match config.ping() {
            Ping::Never => None,
            Ping::AfterSilence(time) | Ping::Every(time) => Some(nanos(time)),
        };
        if let (Some(ask), Some(pong)) = (asks, config.pong_timeout()) {
            // Heartbeats look like pings here. An earlier ping that has not left yet no longer counts.
            let is_sure = config.keepalive().is_none() && !self.heard_amid_waiting;
            let known = self.asked().filter(|_| is_sure);
            let asked = match self.waits {
                None => known.or(Some((self.heard + ask).max(self.moved))),
                Some(_) => known,
            };
            if let Some(asked) = asked {
                by = by.min(asked.max(self.moved).saturating_add(nanos(pong)));
            }
        }
        if self.lost_since_heard > 0 {
            // A deadline in this span comes later by its length. Or the client sends one more ping, which may have to
            // wait.
            by = by.saturating_add(self.lost_since_heard);
            if self.waited {
                by = by.saturating_add(idle + 2 * self.plan.late_probe());
            }
        }
        by.max(self.not_dead_before)
    }

    /// The client has read a byte.
    pub(crate) fn hears(&mut self) {
        self.heard = self.clock;
        self.idle_turns.1 = 0;
        self.kicked_since_heard = false;
        self.excused_since_heard = self.paused.is_some() || self.is_behind;
        self.heard_amid_waiting = self.waits.is_some();
        self.waited = self.waits.is_some();
        (self.asked, self.asked_among) = (None, false);
        (self.lost_since_heard, self.not_dead_before) = (0, 0);
    }

    pub(crate) fn pauses(&mut self) {
        self.paused.get_or_insert(self.clock);
        self.excused_since_heard = true;
    }

    pub(crate) fn resumes(&mut self, now: u64) {
        if let Some(since) = self.paused.take() {
            let span = self.clock - since;
            self.lost_since_heard = self.lost_since_heard.saturating_add(span);
            self.lost_time.push_back((now, span));
            self.recover_by = self.clock.saturating_add(self.recovery());
        }
    }

    /// The host did nothing for a span, or its clock was moved.
    pub(crate) fn host_was_away(&mut self, now: u64, span: u64) {
        self.lost_time.push_back((now, span));
        if self.lost_time.len() > 64 {
            self.lost_time.pop_front();
        }
        self.excused_since_heard = true;
        let anew = self
            .clock
            .saturating_add(self.plan.late_probe() + 2 * self.plan.slack());
        self.lost_since_heard = self.lost_since_heard.saturating_add(span);
        self.lost_waiting = self.lost_waiting.saturating_add(span);
        self.not_dead_before = self.not_dead_before.max(anew);
        if let Some(stop_by) = &mut self.stop_by {
            *stop_by = (*stop_by).max(anew);
        }
        if let Some(planned) = &mut self.planned {
            planned.excused = true;
        }
        self.recover_by = self.clock + self.recovery();
    }

    pub(crate) fn kicks(&mut self) {
        self.kicked_since_heard = true;
        if let Some(planned) = &mut self.planned {
            planned.kicked = true;
        }
    }

    /// The application takes messages again, and the bytes that the client had not read go with them.
    pub(crate) fn app_returns(&mut self, said: u64) {
        self.backlog = (said, 0);
        self.recover_by = self.clock.saturating_add(self.recovery());
    }

    pub(crate) fn app_was_away(&mut self) {
        if let Some(planned) = &mut self.planned {
            planned.excused = true;
        }
    }

    /// At each event of the world, checks for what should have happened and has not.
    pub(crate) fn looks(
        &mut self,
        link: Option<&Link>,
        healthy_from: u64,
        host_runs: bool,
        app_takes: bool,
    ) {
        let clock = self.clock;
        if host_runs && self.opened.is_some() && !self.stopping {
            let by = self.dead_by().saturating_add(2 * self.plan.slack());
            if clock > by {
                let (heard, moved, waits) = (self.heard, self.moved, self.waits);
                self.fail(format!(
                    "not found dead: heard at {heard}, moved at {moved}, waits since {waits:?}, to be dead by {by}, and lives at {clock}"
                ));
            }
        }
        self.notices_ends(link, host_runs);
        self.reads_what_comes(link, host_runs);
        let good = link.is_some_and(|link| link.is_good() && link.reception == Reception::Welcome);
        // Nothing must have happened since the network became healthy.
        self.recover_by = self
            .recover_by
            .max(healthy_from.saturating_add(self.recovery()));
        if good || !host_runs || !app_takes || self.stopping || self.gave_up {
            self.recover_by = clock.saturating_add(self.recovery());
        } else if clock > self.recover_by {
            let by = self.recover_by;
            let now = link.map(|link| {
                (
                    link.conn,
                    link.reception,
                    link.given,
                    link.upgraded,
                    link.dropped,
                )
            });
            self.fail(format!(
                "no recovery: the network is healthy, no good connection by {by}; the last is {now:?} (number, reception, given, upgraded, dropped)"
            ));
        }
        if let Some(by) = self.stop_by
            && !self.stopped
            && host_runs
            && clock > by
        {
            self.fail(format!("stop: not ended by {by}"));
        }
    }

    /// An end that has reached the client's host is noticed at once, also by a client that does not read.
    fn notices_ends(&mut self, link: Option<&Link>, host_runs: bool) {
        let ended = link.filter(|link| link.given && !link.dropped && link.end.is_some());
        let Some(conn) = ended.map(|link| link.conn) else {
            self.ended = None;
            return;
        };
        let clock = self.clock;
        let since = match self.ended {
            Some((of, since)) if of == conn && host_runs => since,
            _ => clock,
        };
        self.ended = Some((conn, since));
        self.ensure(clock <= since.saturating_add(2 * self.plan.slack()), || {
            format!("the end of {conn} has come at {since}, and nobody has noticed at {clock}")
        });
    }

    /// Arrived bytes are read at once, unless reading pauses because the application wants that.
    fn reads_what_comes(&mut self, link: Option<&Link>, host_runs: bool) {
        let pauses = self.paused.is_some() && self.plan.overflow == Overflow::Pause;
        let unread = link.filter(|link| {
            link.given
                && !link.dropped
                && !link.received.is_empty()
                && link.is_writable(self.plan.capacity)
        });
        let Some(conn) = unread.filter(|_| !pauses).map(|link| link.conn) else {
            self.unread = None;
            return;
        };
        let clock = self.clock;
        let since = match self.unread {
            Some((of, since)) if of == conn && host_runs => since,
            _ => clock,
        };
        self.unread = Some((conn, since));
        self.ensure(clock <= since.saturating_add(2 * self.plan.slack()), || {
            format!("bytes on {conn} have come and are not read: since {since}, at {clock}")
        });
    }

    pub(crate) fn stops(&mut self) {
        self.stopping = true;
        let longest = nanos(self.plan.config.close_timeout()) + 2 * self.plan.slack();
        self.stop_by = Some(self.clock + longest);
        if let Some(opened) = self.opened.take() {
            self.figures.open_nanos += u128::from(self.clock - opened);
        }
    }

    /// The client is dropped, or has come to its end.
    pub(crate) fn ends(&mut self) {
        if let Some(opened) = self.opened.take() {
            self.figures.open_nanos += u128::from(self.clock - opened);
        }
        self.figures.life_nanos += u128::from(self.clock);
    }

    pub(crate) fn turns_for_nothing(&mut self, now: u64) {
        if self.idle_turns.0 != now {
            self.idle_turns = (now, 0);
        }
        self.idle_turns.1 += 1;
        if self.idle_turns.1 > IDLE_TURNS {
            self.fail(format!(
                "a busy loop: {IDLE_TURNS} turns at {now} that brought nothing"
            ));
        }
    }

    // ---- messages -------------------------------------------------------------------------------------

    pub(crate) fn accepts(&mut self, number: u64, len: usize) {
        self.figures.accepted += 1;
        self.outstanding.push_back((number, len));
        self.outstanding_bytes += len;
        let (messages, bytes) = self.plan.send_queue;
        // The queue's capacity, one message that is too large for it, and the messages in the driver's hands.
        let most = bytes + 3 * (self.plan.largest as usize).max(65_536) + 16_384;
        let (count, held) = (self.outstanding.len(), self.outstanding_bytes);
        self.ensure(count <= messages + 16_384 / 6 + 2 && held <= most, || {
            format!("bounded memory: {count} messages of {held} bytes wait to be sent")
        });
    }

    /// The last message was not accepted after all.
    pub(crate) fn refused(&mut self) {
        if let Some((_, len)) = self.outstanding.pop_back() {
            self.figures.accepted -= 1;
            self.outstanding_bytes -= len;
        }
    }

    /// The bytes that the client's transport has taken.
    pub(crate) fn writes(&mut self, link: &mut Link, wrote: &Wrote) {
        let Wrote::Frame(opcode, payload) = wrote else {
            if let Wrote::Garbage(what) = wrote {
                self.fail(format!("the client writes what is no frame: {what}"));
            }
            return;
        };
        let conn = link.conn;
        let closing = link.closing;
        self.ensure(!closing, || {
            format!("a frame with opcode {opcode} on {conn} after Close")
        });
        match *opcode {
            PONG => match pop_frame(link) {
                Some(asked) if asked.payload.as_deref() == Some(payload) => self.figures.pongs += 1,
                other => self.fail(format!(
                    "pong {payload:?} on {conn}, but the first unanswered ping is {other:?}"
                )),
            },
            TEXT if payload == JSON_PONG => match link.asked.pop_front() {
                Some(asked) if asked.payload.is_none() => self.figures.pongs += 1,
                other => self.fail(format!(
                    "a pong message on {conn}, but the first unanswered ping is {other:?}"
                )),
            },
            TEXT | BINARY => self.writes_message(link, payload),
            PING => {
                self.figures.pings += 1;
                self.asks();
            }
            CLOSE => link.closing = true,
            _ => self.fail(format!("opcode {opcode} on {conn}")),
        }
    }

    fn writes_message(&mut self, link: &Link, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        let mut parts = text.splitn(4, ':');
        let number = parts.nth(1).and_then(|part| part.parse::<u64>().ok());
        let echo = parts.next().and_then(|part| part.parse::<u64>().ok());
        let Some(number) = number else {
            return self.fail(format!("a message that nobody sent: {text}"));
        };
        if let (Some(echo), Some(first)) = (echo, link.asked.front())
            && first.number < echo
        {
            self.fail(format!(
                "an answer to message {echo} is written before the pong for ping {}",
                first.number
            ));
        }
        self.settle(number, payload.len(), "is written");
        let last = std::mem::replace(&mut self.last_written, number);
        self.ensure(number > last, || {
            format!("order: message {number} is written after {last}")
        });
        self.figures.written += 1;
    }

    fn settle(&mut self, number: u64, len: usize, what: &str) {
        let found = self
            .outstanding
            .iter()
            .position(|(known, _)| *known == number);
        match found.and_then(|index| self.outstanding.remove(index)) {
            Some((_, sent)) => {
                self.outstanding_bytes -= sent;
                self.ensure(sent == len, || {
                    format!("message {number} {what} with {len} bytes, not {sent}")
                });
            }
            None => self.fail(format!(
                "message {number} {what}, but was written or handed back before"
            )),
        }
    }

    pub(crate) fn hands_back(&mut self, of: Back, unsent: impl Iterator<Item = (u64, usize)>) {
        let conn = match of {
            Back::Of(conn) => Some(conn),
            Back::OfMany | Back::OfAll => None,
        };
        let mut last = 0;
        for (number, len) in unsent {
            self.settle(number, len, "is handed back");
            self.ensure(number > last, || {
                format!("order: {number} is handed back after {last}")
            });
            last = number;
            self.figures.handed_back += 1;
        }
        if let Some(conn) = conn {
            let read = self.read_on.remove(&conn).flatten();
            if let (Some(told), Some(read)) = (self.expected.take(), read)
                && self.plan.overflow != Overflow::Discard
            {
                self.ensure(told == read, || {
                    format!("accounts: of {read} messages on {conn} the application was told {told}, with those that were dropped")
                });
            }
        }
        // Every message accepted before the end of this connection has been written or handed back.
        let before = match of {
            Back::Of(conn) => self.accepted_after.remove(&conn).unwrap_or(0),
            Back::OfMany => 0,
            Back::OfAll => u64::MAX,
        };
        if let Some((lost, _)) = self.outstanding.iter().find(|(number, _)| *number < before) {
            let lost = *lost;
            self.fail(format!(
                "message {lost} was accepted, not written and not handed back"
            ));
        }
    }

    /// The client has reported that its connection is open. The server's messages on it start from the
    /// beginning.
    pub(crate) fn is_told_open(&mut self) {
        self.expected = Some(0);
    }

    pub(crate) fn reads_data(&mut self, messages: u64, has_ended: bool) {
        self.data_read += messages;
        if messages > 0 {
            (self.heard_data, self.heard_data_behind) = (self.clock, self.is_behind);
        }
        if self.plan.overflow != Overflow::Pause || has_ended {
            return;
        }
        let held = self.data_read.saturating_sub(self.data_taken);
        let most = 2 * self.plan.queue as u64 + 1024;
        self.ensure(held <= most, || {
            format!("bounded memory: {held} messages are read and not taken")
        });
    }

    /// Messages lost with a connection could never be taken.
    pub(crate) fn forgets_data(&mut self) {
        self.data_read = self.data_taken;
    }

    pub(crate) fn takes(&mut self, index: u64, number: u64) {
        self.figures.received += 1;
        self.data_taken += 1;
        let (before, taken) = &mut self.backlog;
        *taken += u64::from(number <= *before);
        let (taken, most) = (*taken, 2 * self.plan.queue as u64 + 1024);
        let is_bounded = self.plan.overflow != Overflow::Pause;
        self.ensure(taken <= most || !is_bounded, || {
            format!("bounded memory: {taken} messages had waited for the application")
        });
        let wanted = self.plan.overflow != Overflow::Discard;
        self.ensure(wanted, || format!("message {index} was not wanted"));
        let expected = self.expected;
        self.ensure(expected == Some(index), || {
            format!("order: message {index} of the server's arrives, {expected:?} was expected")
        });
        self.expected = Some(index + 1);
    }

    /// The client reports that this many messages of the server were dropped here.
    pub(crate) fn lags(&mut self, dropped: u64) {
        self.figures.lagged += dropped;
        self.data_taken += dropped;
        let may = matches!(
            self.plan.overflow,
            Overflow::DropOldest | Overflow::DropNewest
        );
        self.ensure(may && dropped > 0, || {
            format!("{dropped} messages are said to have been dropped")
        });
        self.expected = self.expected.map(|expected| expected + dropped);
    }

    /// Whole connections came and went, and the messages dropped from them have no place of their own.
    pub(crate) fn skips(&mut self) {
        self.figures.skipped += 1;
        self.expected = None;
    }

    /// The client waits, so every arrived message must have been read, and every message read must have been
    /// answered.
    pub(crate) fn waits(&mut self, link: &Link) {
        let pauses = self.paused.is_some() && self.plan.overflow == Overflow::Pause;
        let unread = link.received.len();
        let reads = !pauses && !link.dropped && link.is_writable(self.plan.capacity);
        self.ensure(unread == 0 || !reads, || {
            format!("{unread} bytes on {} have come and are not read", link.conn)
        });
        let due = link
            .asked
            .front()
            .is_some_and(|asked| asked.end <= link.read);
        let can = self.paused.is_none()
            && !link.dropped
            && !self.stopping
            && link.is_writable(self.plan.capacity);
        if due
            && can
            && link.truth.closes.is_empty()
            && !link.truth.garbage
            && link.end.is_none()
            && !link.closing
            && !link.teased
        {
            let asked = link.asked.front().map(|asked| asked.number);
            self.fail(format!(
                "ping {asked:?} on {} is read and not answered at once",
                link.conn
            ));
        }
    }
}

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// It has had a stable connection.
    proven: bool,
    /// It has failed in a permanent way, and the policy agreed.
    hopeless: bool,
}

/// The ping that a pong frame answers. Answers that are messages wait for the end of a message that goes
/// out in fragments; pong frames do not.
fn pop_frame(link: &mut Link) -> Option<super::link::Asked> {
    let at = if link.decoder.in_fragments {
        link.asked
            .iter()
            .position(|asked| asked.payload.is_some())?
    } else {
        0
    };
    link.asked.remove(at)
}

/// The table of causes, written a third time (DESIGN, "causes and verdicts").
fn row(plan: &Plan, cause: Cause) -> RetryPolicy {
    match cause {
        Cause::Close(code @ (1002 | 1007 | 1009)) | Cause::Protocol(code @ 1009)
            if plan
                .config
                .overrides()
                .get(CauseKind::Close(code))
                .is_some() =>
        {
            RetryPolicy::Backoff
        }
        Cause::Protocol(1009) => RetryPolicy::Never,
        // Nothing can be refreshed, because this is a client of a fixed URL.
        Cause::Close(1008) => RetryPolicy::Backoff,
        Cause::Close(1002 | 1003 | 1007 | 1009 | 1010 | 1015) | Cause::Tls => RetryPolicy::Never,
        Cause::Close(3000 | 4401) | Cause::Http { status: 401, .. } => RetryPolicy::Refresh,
        Cause::Close(1012) => RetryPolicy::Spread(
            std::time::Duration::from_secs(5),
            std::time::Duration::from_secs(30),
        ),
        Cause::Http {
            retry_after: Some(after),
            ..
        } => RetryPolicy::After(after),
        Cause::Http {
            status: 408 | 425 | 429,
            ..
        } => RetryPolicy::Backoff,
        Cause::Http {
            status: 301 | 308 | 400..=499,
            ..
        } => RetryPolicy::Never,
        _ => RetryPolicy::Backoff,
    }
}

fn cause_name(cause: Cause) -> String {
    match cause {
        Cause::Close(code) => format!("close {code}"),
        Cause::Protocol(code) => format!("protocol {code}"),
        Cause::Http { status, .. } => format!("http {status}"),
        other => format!("{other:?}").to_lowercase(),
    }
}
