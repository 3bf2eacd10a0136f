//! What must hold, seen from outside: by the network, the server and the application. Nothing in here
//! asks the machine; what the machine reports of itself goes through the reference model.

use std::collections::{HashMap, VecDeque};

use heartbeat_core::{AbortReason, Cause, PermanentErrors, Ping, Verdict};

use super::figures::Figures;
use super::link::{Link, Reception};
use super::plan::{Plan, S, nanos};
use super::wire::{BINARY, CLOSE, PING, PONG, TEXT, Wrote};

/// The floor under all dials (DESIGN, invariant 12).
const DIAL_FLOOR: u64 = 25_000_000;

/// The answer to an application's ping.
const JSON_PONG: &[u8] = br#"{"type":"pong"}"#;

/// Turns at one moment that bring nothing: more is a busy loop.
const IDLE_TURNS: u64 = 5_000;

/// A message of the application's: its number and its length.
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
    /// It shows less now, for it was set back: spans that begin now are not measured from below.
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

    // connections
    live: Option<u64>,
    last_conn: u64,
    failures: u32,
    refreshed: bool,
    /// A connection has been stable.
    was_well: bool,
    /// Bytes of the client's wait, as it says itself.
    stuck: bool,
    opened: Option<u64>,
    dialed: u64,
    planned: Option<Planned>,

    // silence
    heard: u64,
    kicked_since_heard: bool,
    excused_since_heard: bool,
    die_by: u64,
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
            live: None,
            last_conn: 0,
            failures: 0,
            refreshed: false,
            was_well: false,
            stuck: false,
            opened: None,
            dialed: 0,
            planned: None,
            heard: 0,
            kicked_since_heard: false,
            excused_since_heard: false,
            die_by: u64::MAX,
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

    /// From a healthy network to an open connection at the latest: an old one must be found dead, or a
    /// dial into the void must end; then one delay, then one dial.
    fn recovery(&self) -> u64 {
        let plan = &self.plan;
        plan.detection()
            .max(nanos(plan.config.connect_timeout()))
            .saturating_add(plan.late_probe())
            .saturating_add(self.longest_delay)
            .saturating_add(8 * plan.longest_way() + 4 * plan.slack() + S)
    }

    // ---- dials and losses -----------------------------------------------------------------------

    pub(crate) fn dials(&mut self, conn: u64) {
        self.figures.dials += 1;
        let live = self.live;
        self.ensure(live.is_none(), || {
            format!("one connection at most: {conn} is dialled while {live:?} lives")
        });
        let last = self.last_conn;
        self.ensure(conn > last, || format!("ids increase: {conn} after {last}"));
        let stopping = self.stopping || self.gave_up;
        self.ensure(!stopping, || format!("dial {conn} after the end"));
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
        self.hears();
    }

    /// A dial or a connection has ended for the client.
    pub(crate) fn drops(&mut self, conn: u64, accepted: u64) {
        if self.live == Some(conn) {
            self.live = None;
            self.accepted_after.insert(conn, accepted);
        }
    }

    /// The end of a connection that the peer, the network or a dial has brought about.
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
        if let Some(opened) = self.opened.take() {
            self.figures.open_nanos += u128::from(self.clock - opened);
            if self.clock - opened >= nanos(config.stable_after()) {
                self.failures = 0;
                self.refreshed = false;
                self.was_well = true;
            }
        }
        self.die_by = u64::MAX;
        self.paused = None;
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
            }) => Some(Verdict::After(after)),
            _ => cause.map(|cause| row(&self.plan, cause)),
        };
        let (least, most, kicked_least) = match verdict {
            Some(Verdict::After(after)) if nanos(after) > shortest => {
                let after = nanos(after);
                (after, longest.max(after + jitter), after)
            }
            Some(Verdict::After(after)) => (shortest, longest, nanos(after).max(DIAL_FLOOR)),
            Some(Verdict::Spread(from, to)) => (
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

    /// Where a clock that was set back leaves open how long the connection was open, the client's own
    /// count stands.
    pub(crate) fn announces(&mut self, attempt: u32) {
        if std::mem::take(&mut self.opened_behind) {
            self.failures = attempt;
            if let Some(planned) = &mut self.planned {
                planned.excused = true;
            }
        }
    }

    pub(crate) fn gives_up(&mut self, cause: Option<Cause>) {
        self.figures.gave_up += 1;
        self.gave_up = true;
        let verdict = cause.map(|cause| row(&self.plan, cause));
        let believes = match self.plan.config.permanent_errors() {
            PermanentErrors::GiveUp => true,
            PermanentErrors::Retry => false,
            _ => !self.was_well,
        };
        let may = (matches!(verdict, Some(Verdict::Never | Verdict::Refresh)) && believes)
            || self
                .plan
                .config
                .max_attempts()
                .is_some_and(|most| self.failures > most);
        self.ensure(may, || {
            format!("gave up on {cause:?}, which retrying can mend")
        });
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
                self.is_no_false_death(reason, link.troubled_until(), self.plan.detection(), now);
                let exact = self.plan.detection();
                let least = nanos(config.idle_timeout())
                    .min(config.pong_timeout().map_or(u64::MAX, nanos))
                    .min(self.plan.late_probe());
                self.ensure(silent >= least || excused, || {
                    format!("{reason} on {conn} after only {silent} ns of silence")
                });
                if !excused && !self.kicked_since_heard {
                    self.ensure(silent <= exact + 2 * slack, || {
                        format!("{reason} on {conn} after {silent} ns, later than {exact}")
                    });
                    if !matches!(config.ping(), Ping::Every(_)) {
                        self.ensure(silent >= exact, || {
                            format!("{reason} on {conn} after {silent} ns, sooner than {exact}")
                        });
                    }
                    self.figures.deaths += 1;
                    self.figures.at_the_bound += u64::from(silent == exact);
                }
            }
            AbortReason::DataTimeout => {
                let trouble = link.troubled_until().max(data_trouble);
                self.is_no_false_death(
                    reason,
                    trouble,
                    config.data_timeout().map_or(0, nanos) + self.plan.late_probe(),
                    now,
                );
            }
            AbortReason::WriteTimeout => {
                self.is_no_false_death(
                    reason,
                    link.troubled_until(),
                    config.write_timeout().map_or(0, nanos),
                    now,
                );
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

    fn is_no_false_death(&mut self, reason: AbortReason, trouble_until: u64, reach: u64, now: u64) {
        let lost: u64 = self
            .lost_time
            .iter()
            .filter(|(end, _)| *end >= trouble_until)
            .map(|(_, span)| span)
            .sum();
        let reach = reach
            .saturating_add(lost)
            .saturating_add(8 * self.plan.longest_way() + 4 * self.plan.slack());
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

    /// Bytes of the client's have to wait.
    pub(crate) fn is_stuck(&mut self) {
        self.stuck = true;
    }

    /// Bytes of the client's have moved. Those that had to wait are a sign of life.
    pub(crate) fn moves(&mut self) {
        if std::mem::take(&mut self.stuck) {
            self.excused_since_heard = true;
            self.dies_later(self.plan.detection());
        }
    }

    /// A question has not left yet: silence alone counts until then.
    pub(crate) fn ping_waits(&mut self) {
        self.excused_since_heard = true;
        self.dies_later(nanos(self.plan.config.idle_timeout()));
    }

    pub(crate) fn ping_leaves(&mut self) {
        self.dies_later(self.plan.detection());
    }

    fn dies_later(&mut self, reach: u64) {
        if self.die_by != u64::MAX {
            let anew = self.clock.saturating_add(reach + 2 * self.plan.slack());
            self.die_by = self.die_by.max(anew);
        }
    }

    /// The client has read a byte.
    pub(crate) fn hears(&mut self) {
        self.heard = self.clock;
        self.idle_turns.1 = 0;
        self.kicked_since_heard = false;
        self.excused_since_heard = self.paused.is_some() || self.is_behind;
        if self.opened.is_some() {
            self.die_by = self
                .clock
                .saturating_add(self.plan.detection() + 2 * self.plan.slack());
        }
    }

    pub(crate) fn pauses(&mut self) {
        self.paused.get_or_insert(self.clock);
        self.excused_since_heard = true;
    }

    pub(crate) fn resumes(&mut self, now: u64) {
        if let Some(since) = self.paused.take() {
            let span = self.clock - since;
            self.die_by = self.die_by.saturating_add(span);
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
        if self.die_by != u64::MAX {
            // What was due meanwhile, a question say, comes so much later; or one more question is asked.
            self.die_by = self.die_by.saturating_add(span).max(anew);
        }
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

    /// The application takes messages again, and with them goes what the client had not read.
    pub(crate) fn app_returns(&mut self) {
        self.recover_by = self.clock.saturating_add(self.recovery());
    }

    pub(crate) fn app_was_away(&mut self) {
        if let Some(planned) = &mut self.planned {
            planned.excused = true;
        }
    }

    /// At each event of the world's: what has not happened and should have.
    pub(crate) fn looks(
        &mut self,
        link: Option<&Link>,
        healthy_from: u64,
        host_runs: bool,
        app_takes: bool,
    ) {
        let clock = self.clock;
        if host_runs && self.paused.is_none() && clock > self.die_by {
            let (heard, by) = (self.heard, self.die_by);
            self.fail(format!(
                "not found dead: heard at {heard}, to be dead by {by}, and lives at {clock}"
            ));
        }
        let good = link.is_some_and(Link::is_good);
        // Nothing need have happened since the network is healthy.
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

    pub(crate) fn stops(&mut self) {
        self.stopping = true;
        let longest = nanos(self.plan.config.close_timeout()) + 2 * self.plan.slack();
        self.stop_by = Some(self.clock + longest);
        if let Some(opened) = self.opened.take() {
            self.figures.open_nanos += u128::from(self.clock - opened);
        }
        self.die_by = u64::MAX;
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
        // What the queue may hold, one message that is too large for it, and what the driver has in hand.
        let most = bytes + 3 * 65_536 + 16_384;
        let (count, held) = (self.outstanding.len(), self.outstanding_bytes);
        self.ensure(count <= messages + 16_384 / 6 + 2 && held <= most, || {
            format!("bounded memory: {count} messages of {held} bytes wait to be sent")
        });
    }

    /// The message that was accepted last was not, after all.
    pub(crate) fn refused(&mut self) {
        if let Some((_, len)) = self.outstanding.pop_back() {
            self.figures.accepted -= 1;
            self.outstanding_bytes -= len;
        }
    }

    /// What the client's transport has taken.
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
            PONG => match link.asked.pop_front() {
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
            PING => self.figures.pings += 1,
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

    pub(crate) fn hands_back(
        &mut self,
        conn: Option<u64>,
        unsent: impl Iterator<Item = (u64, usize)>,
    ) {
        let mut last = 0;
        for (number, len) in unsent {
            self.settle(number, len, "is handed back");
            self.ensure(number > last, || {
                format!("order: {number} is handed back after {last}")
            });
            last = number;
            self.figures.handed_back += 1;
        }
        // Whatever was accepted before the end of this connection has been written or handed back.
        let before = match conn {
            Some(conn) => self.accepted_after.remove(&conn).unwrap_or(0),
            None => u64::MAX,
        };
        if let Some((lost, _)) = self.outstanding.iter().find(|(number, _)| *number < before) {
            let lost = *lost;
            self.fail(format!(
                "message {lost} was accepted, not written and not handed back"
            ));
        }
    }

    /// The client is told that its connection is open: what the server says on it begins anew.
    pub(crate) fn is_told_open(&mut self) {
        self.expected = Some(0);
    }

    pub(crate) fn reads_data(&mut self, messages: u64) {
        self.data_read += messages;
        let held = self.data_read.saturating_sub(self.data_taken);
        let most = 2 * self.plan.queue as u64 + 1024;
        self.ensure(held <= most, || {
            format!("bounded memory: {held} messages are read and not taken")
        });
    }

    /// What is lost with a connection was never to be taken.
    pub(crate) fn forgets_data(&mut self) {
        self.data_read = self.data_taken;
    }

    pub(crate) fn takes(&mut self, index: u64) {
        self.figures.received += 1;
        self.data_taken += 1;
        let expected = self.expected;
        self.ensure(expected == Some(index), || {
            format!("order: message {index} of the server's arrives, {expected:?} was expected")
        });
        self.expected = Some(index + 1);
    }

    /// The client waits: all that it has read must have been answered.
    pub(crate) fn waits(&mut self, link: &Link) {
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
        {
            let asked = link.asked.front().map(|asked| asked.number);
            self.fail(format!(
                "ping {asked:?} on {} is read and not answered at once",
                link.conn
            ));
        }
    }
}

/// The table of causes, a third time (DESIGN, "causes and verdicts").
fn row(plan: &Plan, cause: Cause) -> Verdict {
    match cause {
        Cause::Close(1002 | 1007 | 1009) | Cause::Protocol(1009) if !plan.fatal => Verdict::Backoff,
        Cause::Protocol(1009) => Verdict::Never,
        // Nothing can be refreshed: a client of a fixed URL.
        Cause::Close(1008) => Verdict::Backoff,
        Cause::Close(1002 | 1003 | 1007 | 1009 | 1010 | 1015) | Cause::Tls => Verdict::Never,
        Cause::Close(3000 | 4401) | Cause::Http { status: 401, .. } => Verdict::Refresh,
        Cause::Close(1012) => Verdict::Spread(
            std::time::Duration::from_secs(5),
            std::time::Duration::from_secs(30),
        ),
        Cause::Http {
            retry_after: Some(after),
            ..
        } => Verdict::After(after),
        Cause::Http {
            status: 408 | 425 | 429,
            ..
        } => Verdict::Backoff,
        Cause::Http {
            status: 301 | 308 | 400..=499,
            ..
        } => Verdict::Never,
        _ => Verdict::Backoff,
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
