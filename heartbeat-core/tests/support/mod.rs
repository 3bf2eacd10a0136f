//! What the tests of the machine share: short names for times, a machine with a script, an owned
//! form of its actions.
// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code)]

pub(crate) mod bytes;
pub(crate) mod compare;
pub(crate) mod model;

use std::fmt;
use std::time::Duration;

use heartbeat_core::trace::{Header, answer, event_line};
use heartbeat_core::{
    AbortReason, Action, AnyDialect, Cause, Config, ConfigBuilder, ConnId, Event, GiveUp,
    Heartbeat, Instant, Message, Phase, Ping, PingMessage, Renewal, Reply, Route, Step,
};

/// Nanoseconds in a microsecond, a millisecond, a second.
pub(crate) const US: u64 = 1_000;
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const S: u64 = 1_000_000_000;

/// The dialect's ping, and its answer.
pub(crate) const JSON_PING: &str = r#"{"type":"ping"}"#;
pub(crate) const JSON_PONG: &str = r#"{"type":"pong"}"#;

pub(crate) type Machine = Heartbeat<Config, AnyDialect>;

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn instant(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

pub(crate) const fn id(number: u64) -> ConnId {
    ConnId::new(number)
}

/// A configuration in which nothing happens by itself before the 1000 s of `idle_timeout`: no check,
/// no ping, no other timeout on an open connection. Tests switch on what they are about.
pub(crate) fn quiet() -> ConfigBuilder {
    Config::builder()
        .idle_timeout(secs(1000))
        .check_interval(None)
        .ping(Ping::Never)
        .pong_timeout(None)
        .write_timeout(None)
}

// ---- events, for the connection with this number ----------------------------------------------

pub(crate) const TICK: Event<'static> = Event::Tick;
pub(crate) const KICK: Event<'static> = Event::Kick;
pub(crate) const STOP: Event<'static> = Event::Stop;

pub(crate) const fn connected(conn: u64) -> Event<'static> {
    Event::Connected(id(conn))
}

pub(crate) const fn ready(conn: u64) -> Event<'static> {
    Event::Ready(id(conn))
}

pub(crate) const fn data(conn: u64) -> Event<'static> {
    Event::Received(id(conn), Message::Data)
}

pub(crate) const fn ping(conn: u64, payload: &[u8]) -> Event<'_> {
    Event::Received(id(conn), Message::Ping(payload))
}

pub(crate) const fn pong(conn: u64, payload: &[u8]) -> Event<'_> {
    Event::Received(id(conn), Message::Pong(payload))
}

pub(crate) const fn text(conn: u64, text: &str) -> Event<'_> {
    Event::Received(id(conn), Message::Text(text))
}

pub(crate) const fn progress(conn: u64) -> Event<'static> {
    Event::Progress(id(conn))
}

pub(crate) const fn write_blocked(conn: u64) -> Event<'static> {
    Event::WriteBlocked(id(conn))
}

pub(crate) const fn wrote(conn: u64) -> Event<'static> {
    Event::Wrote(id(conn))
}

pub(crate) const fn ping_waiting(conn: u64) -> Event<'static> {
    Event::PingWaiting(id(conn))
}

pub(crate) const fn ping_written(conn: u64) -> Event<'static> {
    Event::PingWritten(id(conn))
}

pub(crate) const fn ping_unsent(conn: u64) -> Event<'static> {
    Event::PingUnsent(id(conn))
}

pub(crate) const fn routed(conn: u64, route: Route) -> Event<'static> {
    Event::Routed(id(conn), route)
}

pub(crate) const fn read_paused(conn: u64) -> Event<'static> {
    Event::ReadPaused(id(conn))
}

pub(crate) const fn read_resumed(conn: u64) -> Event<'static> {
    Event::ReadResumed(id(conn))
}

pub(crate) const fn closed(conn: u64, cause: Cause) -> Event<'static> {
    Event::Closed(id(conn), cause)
}

// ---- actions -----------------------------------------------------------------------------------

/// An action that owns its bytes and names its connection by number, so that tests can write it down.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Did {
    Connect(u64, u32),
    /// A dial whose factory is told that credentials were refused.
    ConnectAfresh(u64, u32),
    PongFrame(u64, Vec<u8>),
    PongText(u64, String),
    PongBinary(u64, Vec<u8>),
    /// A ping frame with this running number.
    Ping(u64, u64),
    Close(u64, u16),
    Abort(u64, AbortReason),
    Reconnect {
        at: u64,
        attempt: u32,
        delay: u64,
    },
    Check(u64, u64),
    /// The note of a renewal, so long before it, and the renewal.
    Ending(u64, Renewal, u64),
    Renew(u64, u16, Renewal),
    GaveUp(GiveUp),
}

impl From<&Action<'_>> for Did {
    fn from(action: &Action<'_>) -> Self {
        match *action {
            Action::Connect {
                conn,
                attempt,
                refresh,
            } if refresh => Self::ConnectAfresh(conn.get(), attempt),
            Action::Connect { conn, attempt, .. } => Self::Connect(conn.get(), attempt),
            Action::SendPong { conn, reply } => match reply {
                Reply::Frame(bytes) => Self::PongFrame(conn.get(), bytes.to_vec()),
                Reply::Text(text) => Self::PongText(conn.get(), text.to_owned()),
                Reply::Binary(bytes) => Self::PongBinary(conn.get(), bytes.to_vec()),
                other => panic!("an answer that the tests do not know: {other:?}"),
            },
            Action::SendPing {
                conn,
                ping: PingMessage::Frame(number),
            } => Self::Ping(conn.get(), u64::from_be_bytes(number)),
            Action::SendPing { ping, .. } => panic!("a ping that the tests do not know: {ping:?}"),
            Action::Close { conn, code } => Self::Close(conn.get(), code),
            Action::Abort { conn, reason } => Self::Abort(conn.get(), reason),
            Action::ReconnectAt {
                at, attempt, delay, ..
            } => Self::Reconnect {
                at: at.as_nanos(),
                attempt,
                delay: nanos(delay),
            },
            Action::Ending { conn, why, within } => Self::Ending(conn.get(), why, nanos(within)),
            Action::Renew { conn, code, why } => Self::Renew(conn.get(), code, why),
            Action::Check { conn, idle } => Self::Check(conn.get(), nanos(idle)),
            Action::GaveUp { reason } => Self::GaveUp(reason),
        }
    }
}

/// Times in seconds: `Ping(1, 0)`, `Reconnect { at: 12.5 s, … }`.
impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |nanos: &u64| Duration::from_nanos(*nanos);
        match self {
            Self::Connect(conn, attempt) => write!(f, "Connect({conn}, {attempt})"),
            Self::ConnectAfresh(conn, attempt) => write!(f, "ConnectAfresh({conn}, {attempt})"),
            Self::PongFrame(conn, bytes) => write!(f, "PongFrame({conn}, {bytes:?})"),
            Self::PongText(conn, text) => write!(f, "PongText({conn}, {text})"),
            Self::PongBinary(conn, bytes) => write!(f, "PongBinary({conn}, {bytes:?})"),
            Self::Ping(conn, number) => write!(f, "Ping({conn}, {number})"),
            Self::Close(conn, code) => write!(f, "Close({conn}, {code})"),
            Self::Abort(conn, reason) => write!(f, "Abort({conn}, {reason})"),
            Self::Reconnect { at, attempt, delay } => write!(
                f,
                "Reconnect {{ at: {:?}, attempt: {attempt}, delay: {:?} }}",
                seconds(at),
                seconds(delay)
            ),
            Self::Ending(conn, why, within) => {
                write!(f, "Ending({conn}, {why}, {:?})", seconds(within))
            }
            Self::Renew(conn, code, why) => write!(f, "Renew({conn}, {code}, {why})"),
            Self::Check(conn, idle) => write!(f, "Check({conn}, {:?})", seconds(idle)),
            Self::GaveUp(reason) => write!(f, "GaveUp({reason:?})"),
        }
    }
}

pub(crate) fn did(step: &Step<'_>) -> Vec<Did> {
    step.actions.iter().map(Did::from).collect()
}

/// Saturates like the machine's own times.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

// ---- a machine with a script -------------------------------------------------------------------

/// A machine whose steps are kept, so that a failing assertion can show the whole trace.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) trace: String,
}

impl Rig {
    /// Starts at the origin with seed 7.
    pub(crate) fn new(config: Config) -> Self {
        Self::starting_at(config, 0)
    }

    pub(crate) fn starting_at(config: Config, start: u64) -> Self {
        Self::made(config, start, false)
    }

    /// A server's machine: its connection 1 was accepted at `at`.
    pub(crate) fn accepted_at(config: Config, at: u64) -> Self {
        Self::made(config, at, true)
    }

    fn made(config: Config, start: u64, accepted: bool) -> Self {
        let mut header = Header::default();
        header.config = config;
        header.seed = 7;
        header.start = instant(start);
        header.accepted = accepted;
        Self {
            trace: header.line() + "\n",
            machine: header.heartbeat(),
        }
    }

    /// A machine whose connection 1 has been open since `at`; the dial began then, too.
    pub(crate) fn open_at(config: Config, at: u64) -> Self {
        let mut rig = Self::starting_at(config, at);
        assert_eq!(rig.step(at, TICK), [Did::Connect(1, 0)]);
        assert_eq!(rig.step(at, connected(1)), []);
        rig
    }

    /// One step: what it did.
    #[track_caller]
    pub(crate) fn step(&mut self, at: u64, event: Event<'_>) -> Vec<Did> {
        self.step_whole(at, event).0
    }

    /// One step: what it did, and whether the event was stale.
    #[track_caller]
    pub(crate) fn step_whole(&mut self, at: u64, event: Event<'_>) -> (Vec<Did>, bool) {
        self.trace.push_str(&event_line(instant(at), &event));
        self.trace.push('\n');
        let step = self.machine.step(instant(at), event);
        let answer = answer(instant(at), &step, self.machine.phase());
        self.trace.push_str("  ");
        self.trace.push_str(&answer);
        self.trace.push('\n');
        assert_eq!(step.wake, self.machine.wake(), "{}", self.trace);
        (did(&step), step.stale)
    }

    /// Ticks exactly when asked to, up to and including `until`: what was done, and when.
    #[track_caller]
    pub(crate) fn run(&mut self, until: u64) -> Vec<(u64, Did)> {
        let mut all = Vec::new();
        while let Some(wake) = self.wake().filter(|wake| *wake <= until) {
            all.extend(self.step(wake, TICK).into_iter().map(|did| (wake, did)));
            self.went_on(wake);
        }
        all
    }

    /// Ticks exactly when asked to until the machine aborts: when, and why.
    #[track_caller]
    pub(crate) fn run_to_abort(&mut self) -> (u64, AbortReason) {
        for _ in 0..10_000 {
            let wake = self.wake().expect("a wake before the abort");
            for did in self.step(wake, TICK) {
                if let Did::Abort(_, reason) = did {
                    return (wake, reason);
                }
            }
            self.went_on(wake);
        }
        panic!("10000 ticks and no abort:\n{}", self.trace);
    }

    /// A machine that wants the same tick again would have a test run for ever.
    #[track_caller]
    fn went_on(&self, from: u64) {
        let wake = self.wake().unwrap_or(u64::MAX);
        assert!(wake > from, "no progress:\n{}", self.trace);
    }

    /// Ticks until the next dial and reports that it succeeded at once: when.
    #[track_caller]
    pub(crate) fn reconnect(&mut self) -> u64 {
        assert_eq!(self.phase(), Phase::Waiting, "{}", self.trace);
        let wake = self.wake().expect("a planned dial");
        self.step(wake, TICK);
        let conn = self.machine.conn().expect("a dial").get();
        assert_eq!(self.step(wake, connected(conn)), []);
        wake
    }

    pub(crate) fn wake(&self) -> Option<u64> {
        self.machine.wake().map(Instant::as_nanos)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.machine.phase()
    }

    pub(crate) fn conn(&self) -> u64 {
        self.machine.conn().expect("a current connection").get()
    }
}

/// The delay of the one `Reconnect` among these.
#[track_caller]
pub(crate) fn delay_of(dids: &[Did]) -> u64 {
    let delays: Vec<u64> = dids
        .iter()
        .filter_map(|did| match did {
            Did::Reconnect { delay, .. } => Some(*delay),
            _ => None,
        })
        .collect();
    assert_eq!(delays.len(), 1, "one Reconnect in {dids:?}");
    delays[0]
}
