//! The rules a second time, written to be read: no anchors, no shared code with the machine.
//!
//! The model keeps the whole history of a connection as a list of facts and answers every question
//! ("since when is a question open?", "how much silence is charged?") by looking through it. Times
//! are 128 bits wide, so that nothing overflows; what would come at or after the end of time
//! (`u64::MAX`) never comes.
//!
//! What chance decides, the model cannot know: the delay before a dial and, after a spread, the
//! moment from which a kick may dial. It takes these from the machine's own answer and checks that
//! they lie where they may.

use std::collections::BTreeSet;
use std::time::Duration;

use heartbeat_core::{
    AbortReason, Cause, CauseKind, Config, Event, Failure, GiveUp, Message, PermanentErrors, Phase,
    Ping, Reason, Renewal, RetryPolicy, Route,
};

use super::{Did, JSON_PONG, nanos};

type Time = u128;

const END: Time = u64::MAX as Time;
/// The least time between a loss and the next dial.
const DIAL_FLOOR: Time = 25_000_000;
const DAY: Time = 86_400 * 1_000_000_000;
const TEN_SECONDS: Time = 10_000_000_000;
const TWENTY_SECONDS: Time = 20_000_000_000;

/// What the machine answered, and what the model must take from it where chance decides.
pub(crate) struct Answer {
    pub(crate) dids: Vec<Did>,
    pub(crate) wake: Option<u64>,
    pub(crate) stale: bool,
    pub(crate) phase: Phase,
    /// When the open connection is renewed.
    pub(crate) renewal: Option<u64>,
}

#[derive(Clone)]
pub(crate) struct Model {
    config: Config,
    now: Time,
    wake: Option<Time>,
    state: State,
    /// The one connection was accepted: there is no dial.
    accepted: bool,
    dials: u64,
    /// Losses since the last connection that was stable.
    failures: u32,
    /// Dials since the start, or since the last stable connection.
    tries: u32,
    /// The end that asked for fresh credentials, until some are accepted.
    refused: Option<Cause>,
    /// The latest dial was told to fetch them.
    told_the_dial: bool,
    /// Where the latest dial went.
    route: Route,
    /// Endpoints that have had a stable connection, and those that are given up.
    proven: BTreeSet<u8>,
    given_up: BTreeSet<u8>,
    pings: u64,
    /// When the open connection is renewed.
    renewal: Option<Time>,
    pub(crate) counts: Counts,
}

/// The order of [`Counts::verdicts`].
pub(crate) const REASONS: [AbortReason; 8] = [
    AbortReason::ConnectTimeout,
    AbortReason::IdleTimeout,
    AbortReason::PongTimeout,
    AbortReason::DataTimeout,
    AbortReason::WriteTimeout,
    AbortReason::SessionTimeout,
    AbortReason::CloseTimeout,
    AbortReason::Stale,
];

/// The figures that the model keeps beside the machine's `Stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) dials: u32,
    pub(crate) reconnects: u32,
    pub(crate) connects: u32,
    pub(crate) sessions: u32,
    pub(crate) losses: u32,
    pub(crate) renewals: u32,
    pub(crate) tolerated: u32,
    pub(crate) pings_sent: u32,
    pub(crate) probes_sent: u32,
    pub(crate) pongs_sent: u32,
    pub(crate) pongs_received: u32,
    pub(crate) verdicts: [u32; 8],
    pub(crate) rtt_samples: u32,
    pub(crate) rtt_last: Duration,
    pub(crate) time_open: Duration,
}

#[derive(Clone)]
enum State {
    Waiting {
        at: Time,
        /// A kick may dial from here on; where chance decides, somewhere in this range.
        kick_from: (Time, Time),
    },
    Connecting {
        since: Time,
    },
    Open(History),
    Closing {
        since: Time,
        /// Another dial follows.
        renews: bool,
    },
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fact {
    Opened,
    /// The session is ready, if one is asked for.
    Ready,
    /// A byte arrived.
    Heard,
    /// Data arrived, or a part of a message that may be data.
    Data,
    /// Something was sent, by whomever.
    Sent,
    /// A ping with this number was sent.
    Asked(u64),
    /// The pong for it arrived, this long after the ping had left.
    Answered(u64, Time),
    /// A ping that wants an answer was sent.
    Probed,
    /// A ping was sent because a step came late; only it decides until a byte is heard.
    ProbedLate,
    PeriodicPing,
    Checked,
    /// It was told that the connection is about to end.
    Told,
    Blocked,
    Moved,
    /// What moved had had to wait.
    Progressed,
    /// The latest ping waits to be written, all pings are written, the latest one cannot be.
    PingWaits,
    PingsWritten,
    PingUnsent,
    /// The probe of a late step turned out to wait, or to be none: silence is charged anew.
    Excused,
    Paused,
    Resumed,
}

/// All that happened to one open connection, in order.
#[derive(Clone, Default)]
struct History(Vec<(Time, Fact)>);

impl History {
    fn add(&mut self, now: Time, fact: Fact) {
        self.0.push((now, fact));
    }

    /// When the latest of these facts happened.
    fn last(&self, wanted: impl Fn(Fact) -> bool) -> Option<Time> {
        let found = self.0.iter().rev().find(|(_, fact)| wanted(*fact));
        found.map(|(time, _)| *time)
    }

    /// When the earliest `wanted` fact after the latest `reset` fact happened.
    fn first_since(
        &self,
        wanted: impl Fn(Fact) -> bool,
        reset: impl Fn(Fact) -> bool,
    ) -> Option<Time> {
        let found = self.since(reset).iter().find(|(_, fact)| wanted(*fact));
        found.map(|(time, _)| *time)
    }

    /// When the latest `wanted` fact after the latest `reset` fact happened.
    fn last_since(
        &self,
        wanted: impl Fn(Fact) -> bool,
        reset: impl Fn(Fact) -> bool,
    ) -> Option<Time> {
        let mut facts = self.since(reset).iter().rev();
        let found = facts.find(|(_, fact)| wanted(*fact));
        found.map(|(time, _)| *time)
    }

    fn since(&self, reset: impl Fn(Fact) -> bool) -> &[(Time, Fact)] {
        let last = self.0.iter().rposition(|(_, fact)| reset(*fact));
        &self.0[last.map_or(0, |index| index + 1)..]
    }

    fn opened(&self) -> Time {
        self.last(|fact| fact == Fact::Opened).expect("opened")
    }

    fn ready(&self) -> Option<Time> {
        self.last(|fact| fact == Fact::Ready)
    }

    fn heard(&self) -> Time {
        self.last(|fact| matches!(fact, Fact::Opened | Fact::Heard))
            .expect("opened")
    }

    fn is_paused(&self) -> bool {
        self.first_since(|fact| fact == Fact::Paused, |fact| fact == Fact::Resumed)
            .is_some()
    }

    /// How long reading was paused between `from` and `now`.
    fn paused_since(&self, from: Time, now: Time) -> Time {
        let mut sum = 0;
        let mut pause: Option<Time> = None;
        for (time, fact) in &self.0 {
            match fact {
                Fact::Paused => pause = pause.or(Some(*time)),
                Fact::Resumed => {
                    if let Some(begin) = pause.take() {
                        sum += time.saturating_sub(begin.max(from));
                    }
                }
                _ => {}
            }
        }
        if let Some(begin) = pause {
            sum += now.saturating_sub(begin.max(from));
        }
        sum
    }

    /// Drops what no answer depends on any more, for histories of days: of each kind of fact that is
    /// asked for by its latest alone, all but the latest. Only where no pause and no stuck write is open.
    fn forget(&mut self) {
        const ENOUGH: usize = 96;
        let stuck = self.first_since(|fact| fact == Fact::Blocked, |fact| fact == Fact::Moved);
        let is_quiet = !self.is_paused() && stuck.is_none() && self.question().is_none();
        if self.0.len() < ENOUGH || !is_quiet {
            return;
        }
        let heard = self.heard();
        let data = self.last(|fact| matches!(fact, Fact::Opened | Fact::Data));
        let charged_from = data.map_or(heard, |data| data.min(heard));
        let facts = std::mem::take(&mut self.0);
        let pauses_count = facts
            .iter()
            .any(|(time, fact)| *fact == Fact::Resumed && *time >= charged_from);
        let later_of_its_kind = |index: usize, fact: Fact| {
            let kind = std::mem::discriminant(&fact);
            facts[index + 1..]
                .iter()
                .any(|(_, later)| std::mem::discriminant(later) == kind)
        };
        self.0 = facts
            .iter()
            .enumerate()
            .filter(|(index, (time, fact))| match fact {
                // Pauses count as long as silence is charged across them.
                Fact::Paused | Fact::Resumed => pauses_count,
                // The first question since a byte was heard, and the first stuck write since one moved.
                Fact::Probed | Fact::ProbedLate => {
                    *time >= charged_from || !later_of_its_kind(*index, *fact)
                }
                _ => !later_of_its_kind(*index, *fact),
            })
            .map(|(_, fact)| *fact)
            .collect();
    }

    /// The question that has no answer yet. Any byte is an answer.
    fn question(&self) -> Option<Question> {
        let mut question: Option<Question> = None;
        for (time, fact) in self.since(|fact| matches!(fact, Fact::Opened | Fact::Heard)) {
            match fact {
                Fact::Asked(_) => {
                    if let Some(question) = &mut question {
                        question.is_latest_ping = false;
                    }
                }
                Fact::Probed if question.is_some() => {}
                Fact::Probed | Fact::ProbedLate => {
                    question = Some(Question {
                        since: *time,
                        is_late: *fact == Fact::ProbedLate,
                        is_latest_ping: true,
                        waits: false,
                    });
                }
                Fact::PingUnsent => question = question.filter(|question| !question.is_latest_ping),
                _ => {
                    if let Some(question) = &mut question {
                        match fact {
                            Fact::PingWaits => question.waits |= question.is_latest_ping,
                            Fact::PingsWritten if question.waits => {
                                question.waits = false;
                                question.since = *time;
                            }
                            Fact::Progressed => question.since = *time,
                            _ => {}
                        }
                    }
                }
            }
        }
        question
    }

    /// The latest ping that is not answered: its number, and when it left.
    fn latest_ping(&self) -> Option<(u64, Time)> {
        let (mut ping, mut waits) = (None, false);
        for (time, fact) in &self.0 {
            match fact {
                Fact::Asked(number) => (ping, waits) = (Some((*number, *time)), false),
                Fact::Answered(..) | Fact::PingUnsent => ping = None,
                Fact::PingWaits => waits |= ping.is_some(),
                Fact::PingsWritten if waits => {
                    waits = false;
                    ping = ping.map(|(number, _)| (number, *time));
                }
                _ => {}
            }
        }
        ping
    }

    /// When silence of any kind is charged anew at the latest, because bytes moved that had had to wait.
    fn progressed(&self) -> Time {
        self.last(|fact| fact == Fact::Progressed).unwrap_or(0)
    }
}

/// A probe without an answer.
#[derive(Clone, Copy)]
struct Question {
    /// When it was asked: from here on a missing answer is charged.
    since: Time,
    /// A late step asked it, and only it decides.
    is_late: bool,
    /// No ping has been sent after it.
    is_latest_ping: bool,
    /// It has not left yet.
    waits: bool,
}

impl Model {
    pub(crate) fn new(config: Config, start: u64) -> Self {
        let start = Time::from(start);
        Self {
            config,
            now: start,
            wake: Some(start),
            state: State::Waiting {
                at: start,
                kick_from: (start, start),
            },
            accepted: false,
            dials: 0,
            failures: 0,
            tries: 0,
            refused: None,
            told_the_dial: false,
            route: Route::ONLY,
            proven: BTreeSet::new(),
            given_up: BTreeSet::new(),
            pings: 0,
            renewal: None,
            counts: Counts::default(),
        }
    }

    /// A server's machine: connection 1 is open.
    pub(crate) fn accepted(config: Config, start: u64) -> Self {
        let mut model = Self::new(config, start);
        model.accepted = true;
        model.dials = 1;
        model.opened();
        model.wake = model.next_wake();
        model
    }

    fn opened(&mut self) {
        self.counts.connects += 1;
        if let Some(Cause::Http { .. }) = self.refused {
            self.refused = None;
        }
        let mut history = History::default();
        history.add(self.now, Fact::Opened);
        if self.config.session_timeout().is_none() {
            history.add(self.now, Fact::Ready);
            self.counts.sessions += 1;
        }
        self.state = State::Open(history);
    }

    /// What the machine must answer; `answer` is what it did answer. An error if chance fell
    /// where it may not.
    pub(crate) fn step(
        &mut self,
        now: u64,
        event: Event<'_>,
        answer: &Answer,
    ) -> Result<Answer, String> {
        self.now = self.now.max(Time::from(now));
        let late = self
            .wake
            .is_some_and(|wake| self.now > wake + span(self.config.late_grace()));
        let mut dids = Vec::new();
        let stale = self.event(event, answer, &mut dids)?;
        self.due(matches!(event, Event::Kick), late, answer, &mut dids)?;
        self.wake = self.next_wake();
        for did in &dids {
            if let Did::Abort(_, reason) = did {
                let index = REASONS.iter().position(|known| known == reason);
                self.counts.verdicts[index.expect("a known reason")] += 1;
            }
        }
        Ok(Answer {
            dids,
            wake: self.wake.map(|wake| wake as u64),
            stale,
            phase: self.phase(),
            renewal: None,
        })
    }

    fn phase(&self) -> Phase {
        match self.state {
            State::Waiting { .. } => Phase::Waiting,
            State::Connecting { .. } => Phase::Connecting,
            State::Open(_) => Phase::Open,
            State::Closing { .. } => Phase::Closing,
            State::Stopped => Phase::Stopped,
        }
    }

    /// Keeps histories short, for runs of many days; changes no answer.
    pub(crate) fn forget(&mut self) {
        if let State::Open(history) = &mut self.state {
            history.forget();
        }
    }

    /// When a byte was heard last, and since when the connection is open.
    pub(crate) fn heard_and_opened(&self) -> Option<(u64, u64)> {
        match &self.state {
            State::Open(history) => Some((history.heard() as u64, history.opened() as u64)),
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Closing { .. }
            | State::Stopped => None,
        }
    }

    /// The counts with the time of the present connection.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.counts;
        if let State::Open(history) = &self.state {
            counts.time_open += duration(self.now - history.opened());
        }
        counts
    }

    // ---- events ----

    fn event(
        &mut self,
        event: Event<'_>,
        answer: &Answer,
        dids: &mut Vec<Did>,
    ) -> Result<bool, String> {
        let conn = match event {
            Event::Tick => return Ok(false),
            Event::Kick => {
                self.kick_while_waiting(answer)?;
                return Ok(false);
            }
            Event::Stop => {
                self.stop(dids);
                return Ok(false);
            }
            Event::Connected(conn)
            | Event::Ready(conn)
            | Event::Received(conn, _)
            | Event::Progress(conn)
            | Event::WriteBlocked(conn)
            | Event::Wrote(conn)
            | Event::PingWaiting(conn)
            | Event::PingWritten(conn)
            | Event::PingUnsent(conn)
            | Event::Routed(conn, _)
            | Event::ReadPaused(conn)
            | Event::ReadResumed(conn)
            | Event::Closed(conn, _) => conn.get(),
        };
        let has_connection = matches!(
            self.state,
            State::Connecting { .. } | State::Open(_) | State::Closing { .. }
        );
        if !has_connection || conn != self.dials {
            if let Event::Connected(_) = event {
                dids.push(Did::Abort(conn, AbortReason::Stale));
            }
            return Ok(true);
        }

        let now = self.now;
        match (&mut self.state, event) {
            (State::Connecting { .. }, Event::Connected(_)) => {
                self.opened();
                self.renewal = self.drawn_renewal(answer)?;
            }
            (State::Open(history), Event::Ready(_)) if history.ready().is_none() => {
                history.add(now, Fact::Ready);
                self.counts.sessions += 1;
                self.refused = None;
            }
            (State::Connecting { .. }, Event::Routed(_, route)) => self.route = route,
            (State::Connecting { .. } | State::Open(_), Event::Closed(_, cause)) => {
                let is_open = matches!(self.state, State::Open(_));
                let replaced = replaced(&self.config, cause);
                let verdict = match (replaced, cause) {
                    (Some(verdict), _) => verdict,
                    (None, Cause::Tls) if is_open => RetryPolicy::Backoff,
                    _ => verdict(&self.config, cause),
                };
                let ended = Reason::Cause(cause);
                self.lose(verdict, replaced.is_none(), ended, answer, dids)?;
            }
            (State::Closing { renews, .. }, Event::Closed(..)) => {
                let renews = *renews;
                self.has_closed(renews, dids);
            }
            (State::Open(history), Event::Received(_, message)) => {
                history.add(now, Fact::Heard);
                match message {
                    Message::Ping(payload) => {
                        dids.push(Did::PongFrame(conn, payload.to_vec()));
                    }
                    Message::Text(text) if is_json_ping(text) => {
                        dids.push(Did::PongText(conn, JSON_PONG.to_owned()));
                    }
                    Message::Pong(payload) => {
                        self.counts.pongs_received += 1;
                        if let Some((number, asked_at)) = history.latest_ping()
                            && payload == number.to_be_bytes()
                        {
                            history.add(now, Fact::Answered(number, now - asked_at));
                            self.counts.rtt_samples += 1;
                            self.counts.rtt_last = duration(now - asked_at);
                        }
                    }
                    Message::Data | Message::Text(_) | Message::Binary(_) => {
                        history.add(now, Fact::Data);
                    }
                }
                if !dids.is_empty() {
                    history.add(now, Fact::Sent);
                    self.counts.pongs_sent += 1;
                }
            }
            (State::Open(history), Event::Progress(_)) => {
                history.add(now, Fact::Heard);
                history.add(now, Fact::Data);
            }
            (State::Open(history), Event::WriteBlocked(_)) => history.add(now, Fact::Blocked),
            (State::Open(history), Event::Wrote(_)) => {
                let waited = history.first_since(
                    |fact| fact == Fact::Blocked,
                    |fact| matches!(fact, Fact::Opened | Fact::Moved),
                );
                if waited.is_some() {
                    history.add(now, Fact::Progressed);
                }
                history.add(now, Fact::Moved);
                history.add(now, Fact::Sent);
            }
            (State::Open(history), Event::PingWaiting(_)) => {
                let decides_late = history
                    .question()
                    .is_some_and(|it| it.is_late && it.is_latest_ping && !it.waits);
                if decides_late {
                    history.add(now, Fact::Excused);
                }
                history.add(now, Fact::PingWaits);
            }
            (State::Open(history), Event::PingWritten(_)) => history.add(now, Fact::PingsWritten),
            (State::Open(history), Event::PingUnsent(_)) if history.latest_ping().is_some() => {
                let question = history.question().filter(|it| it.is_latest_ping);
                if question.is_some_and(|it| it.is_late) {
                    history.add(now, Fact::Excused);
                }
                self.counts.pings_sent -= 1;
                self.counts.probes_sent -= u32::from(question.is_some());
                history.add(now, Fact::PingUnsent);
            }
            (State::Open(history), Event::ReadPaused(_)) => history.add(now, Fact::Paused),
            (State::Open(history), Event::ReadResumed(_)) => history.add(now, Fact::Resumed),
            // Impossible, or of no interest any more.
            _ => {}
        }
        Ok(false)
    }

    fn stop(&mut self, dids: &mut Vec<Did>) {
        match &self.state {
            State::Waiting { .. } => self.state = State::Stopped,
            State::Connecting { .. } => {
                dids.push(Did::Abort(self.dials, AbortReason::Stale));
                self.state = State::Stopped;
            }
            State::Open(history) => {
                self.counts.time_open += duration(self.now - history.opened());
                dids.push(Did::Close(self.dials, 1000));
                self.state = State::Closing {
                    since: self.now,
                    renews: false,
                };
            }
            State::Closing { since, .. } => {
                self.state = State::Closing {
                    since: *since,
                    renews: false,
                };
            }
            State::Stopped => {}
        }
    }

    /// The network is back: dial now, but no earlier than the floor and the server's own wish allow.
    fn kick_while_waiting(&mut self, answer: &Answer) -> Result<(), String> {
        let now = self.now;
        let State::Waiting { at, kick_from } = &mut self.state else {
            return Ok(());
        };
        if now >= *at {
            return Ok(());
        }
        let (earliest, latest) = *kick_from;
        let new_at = if now >= latest {
            now
        } else if earliest == latest {
            earliest
        } else if answer.phase == Phase::Connecting {
            if now < earliest {
                return Err(format!("a kick dialled at {now}, before {earliest}"));
            }
            now
        } else {
            // Only now does the machine tell what it drew.
            let told = answer.wake.map_or(END, Time::from);
            if told < earliest || told > latest.min(*at) {
                return Err(format!(
                    "after a kick the dial is at {told}, not in {earliest}..={latest}"
                ));
            }
            told
        };
        if earliest != latest && new_at > now {
            *kick_from = (new_at, new_at);
        }
        *at = (*at).min(new_at);
        Ok(())
    }

    // ---- what is due ----

    fn due(
        &mut self,
        kicked: bool,
        late: bool,
        answer: &Answer,
        dids: &mut Vec<Did>,
    ) -> Result<(), String> {
        let now = self.now;
        match self.state {
            State::Waiting { at, .. } if at <= now && at < END => {
                self.dials += 1;
                self.counts.dials += 1;
                self.tries += 1;
                self.counts.reconnects = self.counts.dials - 1;
                let attempt = self.failures;
                self.told_the_dial = self.refused.is_some();
                dids.push(if self.told_the_dial {
                    Did::ConnectAfresh(self.dials, attempt)
                } else {
                    Did::Connect(self.dials, attempt)
                });
                self.route.more_addresses = false;
                self.state = State::Connecting { since: now };
            }
            State::Connecting { since } if self.has_come(since, self.config.connect_timeout()) => {
                let reason = AbortReason::ConnectTimeout;
                dids.push(Did::Abort(self.dials, reason));
                self.lose(
                    RetryPolicy::Backoff,
                    true,
                    Reason::Aborted(reason),
                    answer,
                    dids,
                )?;
            }
            State::Closing { since, renews }
                if self.has_come(since, self.config.close_timeout()) =>
            {
                dids.push(Did::Abort(self.dials, AbortReason::CloseTimeout));
                self.has_closed(renews, dids);
            }
            State::Open(_) => self.due_while_open(kicked, late, answer, dids)?,
            _ => {}
        }
        Ok(())
    }

    fn has_come(&self, since: Time, limit: Duration) -> bool {
        let deadline = since + span(limit);
        deadline <= self.now && deadline < END
    }

    fn due_while_open(
        &mut self,
        kicked: bool,
        late: bool,
        answer: &Answer,
        dids: &mut Vec<Did>,
    ) -> Result<(), String> {
        let now = self.now;
        let conn = self.dials;
        let late_probe = late && self.wants_late_probe();

        let first = self
            .verdicts()
            .into_iter()
            .filter(|(deadline, reason)| {
                *deadline <= now && !(late_probe && *reason != AbortReason::WriteTimeout)
            })
            .min_by_key(|(deadline, _)| *deadline);
        if let Some((_, reason)) = first {
            dids.push(Did::Abort(conn, reason));
            let ended = Reason::Aborted(reason);
            return self.lose(RetryPolicy::Backoff, true, ended, answer, dids);
        }

        if self.renewal.is_some_and(|at| at <= now) {
            dids.push(Did::Renew(conn, 4000, Renewal::Lifetime));
            self.counts.renewals += 1;
            // It came to a good end, whether it was stable or not.
            self.tries -= 1;
            self.leave_open();
            self.state = State::Closing {
                since: now,
                renews: true,
            };
            return Ok(());
        }
        let mut tells = false;
        if let (Some(told), Some(renewal)) = (self.next_note(), self.renewal)
            && told <= now
        {
            // It takes the place of a check.
            tells = true;
            dids.push(Did::Ending(conn, Renewal::Lifetime, (renewal - now) as u64));
            if let State::Open(history) = &mut self.state {
                history.add(now, Fact::Told);
            }
        }
        let check = self.next_check();
        let periodic = self.next_periodic_ping();
        let after_silence = self.next_silence_ping();
        let keepalive = self.next_keepalive();
        let State::Open(history) = &mut self.state else {
            unreachable!("called while open");
        };
        let is_due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);

        if is_due(check) {
            if !tells {
                dids.push(Did::Check(conn, (now - history.heard()) as u64));
            }
            history.add(now, Fact::Checked);
        }
        let kick_asks = kicked && history.question().is_none();
        let asks = kick_asks || late_probe || is_due(periodic) || is_due(after_silence);
        if is_due(periodic) {
            history.add(now, Fact::PeriodicPing);
        }
        if asks || is_due(keepalive) {
            dids.push(Did::Ping(conn, self.pings));
            history.add(now, Fact::Sent);
            history.add(now, Fact::Asked(self.pings));
            self.pings += 1;
            self.counts.pings_sent += 1;
        }
        if asks {
            self.counts.probes_sent += 1;
            history.add(
                now,
                if late_probe {
                    Fact::ProbedLate
                } else {
                    Fact::Probed
                },
            );
        }
        Ok(())
    }

    /// A step came late: is silence to be judged now, or so soon that a peer that was not asked yet
    /// could hardly answer?
    fn wants_late_probe(&self) -> bool {
        let State::Open(history) = &self.state else {
            return false;
        };
        if history.is_paused() || history.question().is_some_and(|it| it.is_late) {
            return false;
        }
        let verdicts = self.verdicts();
        let silence_is_due = verdicts.iter().any(|(deadline, reason)| {
            *reason != AbortReason::WriteTimeout && *deadline <= self.now
        });
        let least = TEN_SECONDS.min(self.late_probe_timeout());
        let hardly_time = history.question().is_none()
            && verdicts.iter().any(|(deadline, reason)| {
                *reason == AbortReason::IdleTimeout && *deadline < self.now + least
            });
        silence_is_due || hardly_time
    }

    /// How long the peer has to answer: as configured, or what all round trips so far suggest.
    fn pong_timeout(&self, history: &History) -> Option<Time> {
        let ceiling = self.config.pong_timeout().map(span);
        let Some(floor) = self.config.pong_timeout_floor().map(span) else {
            return ceiling;
        };
        let mut estimate: Option<(Time, Time)> = None;
        for (_, fact) in &history.0 {
            let Fact::Answered(_, took) = *fact else {
                continue;
            };
            estimate = Some(match estimate {
                None => (took, took / 2),
                Some((mean, variation)) => {
                    let off = mean.max(took) - mean.min(took);
                    (
                        mean - mean / 8 + took / 8,
                        variation - variation / 4 + off / 4,
                    )
                }
            });
        }
        let measured = estimate.map(|(mean, variation)| (mean + 4 * variation).max(floor));
        match (measured, ceiling) {
            (Some(measured), Some(ceiling)) => Some(measured.min(ceiling)),
            (measured, ceiling) => ceiling.or(measured),
        }
    }

    /// How long the peer has to answer the probe of a late step.
    fn late_probe_timeout(&self) -> Time {
        let asked = self.config.pong_timeout().map_or(TWENTY_SECONDS, span);
        asked
            .min(TWENTY_SECONDS)
            .min(span(self.config.idle_timeout()))
    }

    /// All verdicts that will fall if nothing happens, the one that goes first at equal times first.
    fn verdicts(&self) -> Vec<(Time, AbortReason)> {
        let State::Open(history) = &self.state else {
            return Vec::new();
        };
        let config = &self.config;
        let mut verdicts = Vec::new();
        if !history.is_paused() {
            // Silence is charged from a fact on, except for the time in which nothing was read.
            let charged =
                |from: Time, limit: Time| Some(from + limit + history.paused_since(from, self.now));
            let question = history.question();
            // One that waits to be written asks nobody yet.
            let asked = question.filter(|question| !question.waits);
            let late_probe = asked.filter(|question| question.is_late);
            let idle = match late_probe {
                Some(_) => None,
                None => {
                    let excused = history.last(|fact| fact == Fact::Excused).unwrap_or(0);
                    let from = history.heard().max(history.progressed()).max(excused);
                    charged(from, span(config.idle_timeout()))
                }
            };
            let (pong, pong_reason) = match late_probe {
                Some(Question { since: at, .. }) => {
                    let reason = match config.pong_timeout() {
                        Some(timeout) if span(timeout) <= self.late_probe_timeout() => {
                            AbortReason::PongTimeout
                        }
                        _ => AbortReason::IdleTimeout,
                    };
                    (charged(at, self.late_probe_timeout()), reason)
                }
                None => {
                    let deadline = self.pong_timeout(history).and_then(|timeout| {
                        asked.and_then(|question| charged(question.since, timeout))
                    });
                    (deadline, AbortReason::PongTimeout)
                }
            };
            let data = config.data_timeout().and_then(|timeout| {
                let is_data = |fact| matches!(fact, Fact::Opened | Fact::Data);
                let from = history.last(is_data)?.max(history.progressed());
                let deadline = charged(from, span(timeout));
                // The peer has the time of a late probe for its data, too.
                let late = history
                    .last_since(|fact| fact == Fact::ProbedLate, is_data)
                    .and_then(|at| charged(at, self.late_probe_timeout()));
                deadline.max(late)
            });
            verdicts.extend(idle.map(|at| (at, AbortReason::IdleTimeout)));
            verdicts.extend(pong.map(|at| (at, pong_reason)));
            verdicts.extend(data.map(|at| (at, AbortReason::DataTimeout)));
        }
        // Named after a stuck write, and below: what is equal goes to the first in the list.
        let session = match (
            config.session_timeout(),
            history.ready(),
            history.is_paused(),
        ) {
            (Some(timeout), None, false) => {
                let charged =
                    |from: Time, limit: Time| from + limit + history.paused_since(from, self.now);
                let late = history
                    .last(|fact| fact == Fact::ProbedLate)
                    .map_or(0, |at| charged(at, self.late_probe_timeout()));
                let from = history.opened().max(history.progressed());
                Some(charged(from, span(timeout)).max(late))
            }
            _ => None,
        };
        let blocked = history.first_since(
            |fact| fact == Fact::Blocked,
            |fact| matches!(fact, Fact::Opened | Fact::Moved),
        );
        if let (Some(blocked), Some(timeout)) = (blocked, config.write_timeout()) {
            verdicts.push((blocked + span(timeout), AbortReason::WriteTimeout));
        }
        verdicts.extend(session.map(|at| (at, AbortReason::SessionTimeout)));
        verdicts.retain(|(deadline, _)| *deadline < END);
        verdicts
    }

    fn open(&self) -> &History {
        match &self.state {
            State::Open(history) => history,
            _ => unreachable!("asked while open"),
        }
    }

    /// When the note of a renewal comes, if it has not come.
    fn next_note(&self) -> Option<Time> {
        let told = self.open().last(|fact| fact == Fact::Told);
        let renewal = self.renewal.filter(|_| told.is_none())?;
        Some(renewal - self.notice())
    }

    /// How long before a renewal its note comes.
    fn notice(&self) -> Time {
        let lifetime = self.config.lifetime().map_or(0, span);
        (lifetime / 10 / 2).min(60_000_000_000)
    }

    /// The renewal that the machine has drawn, if it lies where it may.
    fn drawn_renewal(&self, answer: &Answer) -> Result<Option<Time>, String> {
        let Some(lifetime) = self.config.lifetime().map(span) else {
            return Ok(None);
        };
        let (least, most) = (lifetime / 10 * 8, lifetime / 10 * 9);
        let (least, most) = [least, most]
            .map(|told| self.now + told + self.notice())
            .into();
        match answer.renewal.map(Time::from) {
            None if most >= END => Ok(None),
            Some(at) if (least..=most).contains(&at) => Ok(Some(at)),
            other => Err(format!("a renewal at {other:?}, not in {least}..={most}")),
        }
    }

    /// The closing handshake is over.
    fn has_closed(&mut self, renews: bool, dids: &mut Vec<Did>) {
        if !renews {
            self.state = State::Stopped;
            return;
        }
        let at = (self.now + DIAL_FLOOR).min(END);
        dids.push(Did::Reconnect {
            at: at as u64,
            attempt: self.failures,
            delay: DIAL_FLOOR as u64,
        });
        self.state = State::Waiting {
            at,
            kick_from: (at, at),
        };
    }

    /// An open connection ends: one that was stable has proved itself.
    fn leave_open(&mut self) {
        if let State::Open(history) = &self.state {
            self.counts.time_open += duration(self.now - history.opened());
            let stable = span(self.config.stable_after());
            if history
                .ready()
                .is_some_and(|ready| self.now - ready >= stable)
            {
                (self.failures, self.tries) = (0, 0);
                self.refused = None;
                self.proven.insert(record(self.route.endpoint));
            }
        }
        self.renewal = None;
    }

    fn next_check(&self) -> Option<Time> {
        let last = |fact| matches!(fact, Fact::Opened | Fact::Checked);
        later(self.open().last(last)?, self.config.check_interval()?)
    }

    fn next_periodic_ping(&self) -> Option<Time> {
        let last = |fact| matches!(fact, Fact::Opened | Fact::PeriodicPing);
        match self.config.ping() {
            Ping::Every(interval) => later(self.open().last(last)?, interval),
            Ping::Never | Ping::AfterSilence(_) => None,
        }
    }

    fn next_silence_ping(&self) -> Option<Time> {
        match self.config.ping() {
            Ping::AfterSilence(silence) if self.open().question().is_none() => {
                let unsent = self.open().last(|fact| fact == Fact::PingUnsent);
                later(self.open().heard().max(unsent.unwrap_or(0)), silence)
            }
            Ping::Never | Ping::AfterSilence(_) | Ping::Every(_) => None,
        }
    }

    fn next_keepalive(&self) -> Option<Time> {
        let last = |fact| matches!(fact, Fact::Opened | Fact::Sent);
        later(self.open().last(last)?, self.config.keepalive()?)
    }

    fn next_wake(&self) -> Option<Time> {
        let next = match &self.state {
            State::Waiting { at, .. } => Some(*at),
            State::Connecting { since } => later(*since, self.config.connect_timeout()),
            State::Closing { since, .. } => later(*since, self.config.close_timeout()),
            State::Open(_) => {
                let verdicts = self.verdicts().into_iter().map(|(deadline, _)| deadline);
                let notes = [
                    self.next_note(),
                    self.renewal,
                    self.next_check(),
                    self.next_periodic_ping(),
                    self.next_silence_ping(),
                    self.next_keepalive(),
                ];
                verdicts.chain(notes.into_iter().flatten()).min()
            }
            State::Stopped => None,
        };
        next.filter(|at| *at < END)
    }

    // ---- losses ----

    fn lose(
        &mut self,
        verdict: RetryPolicy,
        by_the_table: bool,
        ended: Reason,
        answer: &Answer,
        dids: &mut Vec<Did>,
    ) -> Result<(), String> {
        let cause = match ended {
            Reason::Cause(cause) => Some(cause),
            _ => None,
        };
        self.counts.losses += 1;
        self.leave_open();
        if self.accepted {
            self.state = State::Stopped;
            return Ok(());
        }
        let fresh_refused = self.told_the_dial
            && match (self.refused, cause) {
                (Some(before), Some(now)) => is_proxy(before) == is_proxy(now),
                _ => false,
            };
        let hopeless = match (verdict, cause) {
            (RetryPolicy::Never, Some(cause)) => Some(GiveUp::Cause(cause)),
            (RetryPolicy::Refresh, Some(cause)) if fresh_refused => {
                Some(GiveUp::Credentials(cause))
            }
            _ => None,
        };
        let insists = matches!(cause, Some(Cause::Session(Failure::GiveUp)));
        let may_be_renewed = verdict == RetryPolicy::Refresh && !self.config.fixed_credentials();
        let doubts = match self.config.permanent_errors() {
            PermanentErrors::GiveUp => false,
            PermanentErrors::GiveUpUnlessStable => {
                !may_be_renewed && self.proven.contains(&record(self.route.endpoint))
            }
            PermanentErrors::Retry => true,
            other => return Err(format!("a policy that the model does not know: {other:?}")),
        };
        let tolerated = hopeless.is_some() && by_the_table && doubts && !insists;
        let mut gives_up = None;
        if let (Some(reason), false) = (hopeless, tolerated) {
            gives_up = match reason {
                GiveUp::Cause(Cause::Session(_)) => Some(reason),
                GiveUp::Cause(_) if self.route.more_addresses => None,
                _ => {
                    self.given_up.insert(record(self.route.endpoint));
                    let all = 0..self.route.endpoints.clamp(1, 64);
                    let none_left = all.into_iter().all(|it| self.given_up.contains(&it));
                    none_left.then_some(reason)
                }
            };
        }
        if gives_up.is_none() && self.config.max_attempts() == Some(self.tries) {
            gives_up = Some(GiveUp::MaxAttempts(ended));
        }
        if let Some(reason) = gives_up {
            dids.push(Did::GaveUp(reason));
            self.state = State::Stopped;
            return Ok(());
        }
        self.counts.tolerated += u32::from(tolerated);
        if verdict == RetryPolicy::Refresh && hopeless.is_none() {
            self.refused = cause;
        }

        let (shortest, longest) = self.ordinary_delay();
        let jitter = longest - shortest;
        let shortest = shortest.max(DIAL_FLOOR);
        // Where the delay may lie, and how long even a kick must wait.
        let named = match cause {
            Some(Cause::Http { retry_after, .. }) => retry_after,
            Some(Cause::Session(Failure::RetryAfter(after))) => Some(after),
            _ => None,
        };
        let verdict = match (verdict, named) {
            (RetryPolicy::Refresh, Some(after)) => RetryPolicy::After(after),
            (RetryPolicy::RetryAfter { or }, named) => RetryPolicy::After(named.unwrap_or(or)),
            (verdict, _) => verdict,
        };
        let (least, most, kick_least, kick_most) = match verdict {
            RetryPolicy::After(after) => {
                let after = span(after).min(DAY);
                let most = if after <= shortest {
                    longest
                } else {
                    longest.max(after + jitter)
                };
                (shortest.max(after), most, after, after)
            }
            RetryPolicy::Spread(from, to) => {
                let (from, to) = (span(from).min(DAY), span(to).min(DAY));
                (shortest.max(from), longest.max(to), from, to)
            }
            _ => (shortest, longest, 0, 0),
        };
        let Some(Did::Reconnect { delay, .. }) = answer
            .dids
            .iter()
            .find(|did| matches!(did, Did::Reconnect { .. }))
        else {
            return Err("a loss without a planned dial".to_owned());
        };
        let delay = Time::from(*delay);
        if delay < least || delay > most {
            return Err(format!("a delay of {delay}, not in {least}..={most}"));
        }
        self.failures += 1;
        let at = (self.now + delay).min(END);
        dids.push(Did::Reconnect {
            at: at as u64,
            attempt: self.failures,
            delay: delay as u64,
        });
        self.state = State::Waiting {
            at,
            kick_from: (
                (self.now + kick_least.max(DIAL_FLOOR)).min(END),
                (self.now + kick_most.max(DIAL_FLOOR)).min(at),
            ),
        };
        Ok(())
    }

    /// The shortest and the longest delay of the backoff, by doubling step by step.
    fn ordinary_delay(&self) -> (Time, Time) {
        let (base, cap, jitter_percent) = self.config.backoff();
        let mut longest = span(base);
        for _ in 0..self.failures {
            longest = (longest * 2).min(span(cap));
        }
        let jitter = longest * Time::from(jitter_percent) / 100;
        (longest - jitter, longest)
    }
}

/// Endpoints beyond the last record share it.
fn record(endpoint: u8) -> u8 {
    endpoint.min(63)
}

fn is_proxy(cause: Cause) -> bool {
    matches!(cause, Cause::Http { status: 407, .. })
}

/// What a configuration puts in place of a row of the table.
fn replaced(config: &Config, cause: Cause) -> Option<RetryPolicy> {
    config
        .overrides()
        .iter()
        .find(|(signal, _)| match (*signal, cause) {
            (CauseKind::Close(wanted), Cause::Close(code) | Cause::Protocol(code)) => {
                wanted == code
            }
            (CauseKind::Http(wanted), Cause::Http { status, .. }) => wanted == status,
            (CauseKind::Refused, Cause::Refused)
            | (CauseKind::Reset, Cause::Reset)
            | (CauseKind::Eof, Cause::Eof)
            | (CauseKind::Tls, Cause::Tls)
            | (CauseKind::Io, Cause::Io)
            | (CauseKind::Session, Cause::Session(_)) => true,
            _ => false,
        })
        .map(|(_, verdict)| verdict)
}

/// The table of causes of DESIGN, row by row.
fn verdict(config: &Config, cause: Cause) -> RetryPolicy {
    match cause {
        Cause::Close(1008) if config.fixed_credentials() => RetryPolicy::Backoff,
        Cause::Protocol(1009) => RetryPolicy::Never,
        Cause::Tls | Cause::Close(1002 | 1003 | 1007 | 1009 | 1010 | 1015) => RetryPolicy::Never,
        Cause::Close(1008 | 3000 | 4401)
        | Cause::Http {
            status: 401 | 407, ..
        } => RetryPolicy::Refresh,
        Cause::Close(1012) => RetryPolicy::Spread(Duration::from_secs(5), Duration::from_secs(30)),
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
        Cause::Session(Failure::RetryAfter(after)) => RetryPolicy::After(after),
        Cause::Session(Failure::Refresh) => RetryPolicy::Refresh,
        Cause::Session(Failure::GiveUp) => RetryPolicy::Never,
        _ => RetryPolicy::Backoff,
    }
}

/// `json-type`: an object whose last top-level `type` is the string `ping`.
fn is_json_ping(text: &str) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
    text.len() <= 4096 && value.is_some_and(|value| value["type"] == "ping")
}

fn later(from: Time, span_: Duration) -> Option<Time> {
    let at = from + span(span_);
    (at < END).then_some(at)
}

fn span(duration: Duration) -> Time {
    duration.as_nanos()
}

fn duration(time: Time) -> Duration {
    Duration::from_nanos(nanos(Duration::from_nanos(time as u64)))
}
