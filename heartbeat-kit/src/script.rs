//! Scripts of events, told so that things coincide: steps exactly at `wake` and around it, events about the connection
//! before and the one to come. When its turn comes, each is an event for the machine as it then stands.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use heartbeat_core::trace::{Header, event_line};
use heartbeat_core::{
    Cause, Config, ConnId, Dialect, Event, Heartbeat, Instant, Message, Ping, Route,
};

use crate::Audited;

/// An event and its time, relative to where the machine stands when its turn comes.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Its time.
    pub when: When,
    /// The event.
    pub what: What,
}

/// A time beside the machine's own.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// At the machine's `wake`.
    Wake,
    /// That many nanoseconds before it.
    BeforeWake(u64),
    /// That many after it.
    AfterWake(u64),
    /// That many after the latest time.
    Later(u64),
    /// That many before the latest time: time goes backwards.
    Back(u64),
    /// Whatever the machine's time.
    At(u64),
}

/// An [`Event`] of a connection that is found when its turn comes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each is the event of that name")]
pub enum What {
    Tick,
    Connected(Which),
    Ready(Which),
    Received(Which, Content),
    Progress(Which),
    WriteBlocked(Which),
    Wrote(Which),
    PingWaiting(Which),
    PingWritten(Which),
    PingUnsent(Which),
    Routed(Which, Route),
    ReadPaused(Which),
    ReadResumed(Which),
    Closed(Which, Cause),
    Kick,
    Stop,
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// The latest one.
    Current,
    /// The latest id, live or not, less this.
    Earlier(u64),
    /// An id that was not handed out yet.
    Future(u64),
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// Data, which the driver has looked at.
    Data,
    /// A ping frame.
    Ping(&'static [u8]),
    /// A pong that answers the ping with this number.
    PongTo(u8),
    /// A pong frame with this payload.
    Pong(&'static [u8]),
    /// A text message.
    Text(&'static str),
    /// A binary message.
    Binary(&'static [u8]),
}

/// Pings in other words, and what only looks like one.
pub(crate) const TEXTS: &[&str] = &[
    "",
    "ping",
    r#"{"type":"pong"}"#,
    r#"{"type":"ping"#,
    r#"{"type":["ping"]}"#,
    r#"[{"type":"ping"}]"#,
    r#"{"type":"ping","type":"trade"}"#,
    r#"{"type":7,"type":"ping"}"#,
    r#" {"t\u0079pe" : "\u0070ing", "a": {"b": [1]}} "#,
];

/// The payloads of the machine's first 256 pings.
static NUMBERS: [[u8; 8]; 256] = {
    let mut numbers = [[0; 8]; 256];
    let mut number = 0;
    while number < 256 {
        numbers[number] = (number as u64).to_be_bytes();
        number += 1;
    }
    numbers
};

/// Turns ops into events as the machine goes along.
#[derive(Clone, Debug)]
pub struct Resolver {
    now: u64,
}

impl Resolver {
    /// For a machine that was made at this time.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self {
            now: start.as_nanos(),
        }
    }

    /// The event, and when it happens, for the machine as it stands.
    pub fn resolve<C: Borrow<Config>, D: Dialect>(
        &mut self,
        machine: &Heartbeat<C, D>,
        op: Op,
    ) -> (Instant, Event<'static>) {
        let wake = machine.wake().map_or(self.now, Instant::as_nanos);
        let at = match op.when {
            When::Wake => wake,
            When::BeforeWake(span) => wake.saturating_sub(span),
            When::AfterWake(span) => wake.saturating_add(span),
            When::Later(span) => self.now.saturating_add(span),
            When::Back(span) => self.now.saturating_sub(span),
            When::At(at) => at,
        };
        self.now = self.now.max(at);
        (Instant::from_nanos(at), event(machine, op.what))
    }
}

fn event<C: Borrow<Config>, D: Dialect>(machine: &Heartbeat<C, D>, what: What) -> Event<'static> {
    let stats = machine.stats();
    // An accepted connection is the first without a dial.
    let latest = u64::from(stats.dials.max(stats.connects));
    let conn = |which| {
        ConnId::new(match which {
            Which::Current => latest,
            Which::Earlier(back) => latest.saturating_sub(back),
            Which::Future(ahead) => latest.saturating_add(ahead),
        })
    };
    match what {
        What::Tick => Event::Tick,
        What::Connected(which) => Event::Connected(conn(which)),
        What::Ready(which) => Event::Ready(conn(which)),
        What::Received(which, content) => Event::Received(
            conn(which),
            match content {
                Content::Data => Message::Data,
                Content::Ping(bytes) => Message::Ping(bytes),
                Content::PongTo(back) => {
                    let latest = machine.stats().pings_sent as u8;
                    Message::Pong(&NUMBERS[usize::from(latest.wrapping_sub(back))])
                }
                Content::Pong(bytes) => Message::Pong(bytes),
                Content::Text(text) => Message::Text(text),
                Content::Binary(bytes) => Message::Binary(bytes),
            },
        ),
        What::Progress(which) => Event::Progress(conn(which)),
        What::WriteBlocked(which) => Event::WriteBlocked(conn(which)),
        What::Wrote(which) => Event::Wrote(conn(which)),
        What::PingWaiting(which) => Event::PingWaiting(conn(which)),
        What::PingWritten(which) => Event::PingWritten(conn(which)),
        What::PingUnsent(which) => Event::PingUnsent(conn(which)),
        What::Routed(which, route) => Event::Routed(conn(which), route),
        What::ReadPaused(which) => Event::ReadPaused(conn(which)),
        What::ReadResumed(which) => Event::ReadResumed(conn(which)),
        What::Closed(which, cause) => Event::Closed(conn(which), cause),
        What::Kick => Event::Kick,
        What::Stop => Event::Stop,
    }
}

/// A machine and what happens to it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Script {
    /// The machine: configuration, seed, start.
    pub header: Header,
    /// What happens, in order.
    pub ops: Vec<Op>,
}

impl Script {
    /// Of a machine and what happens to it.
    #[must_use]
    pub fn new(header: Header, ops: Vec<Op>) -> Self {
        Self { header, ops }
    }

    /// Lets it happen to a machine with a dialect of yours, under the auditor's eyes.
    ///
    /// # Panics
    /// If a rule is broken: with the rule and the trace.
    pub fn run<D: Dialect + Clone>(&self, dialect: D) {
        let Header { seed, start, .. } = self.header;
        let config = self.header.config.clone();
        let machine = if self.header.accepted {
            Heartbeat::accepted(config, dialect, seed, start)
        } else {
            Heartbeat::new(config, dialect, seed, start)
        };
        let mut machine = Audited::new(machine, start);
        let mut resolver = Resolver::new(start);
        for op in &self.ops {
            let (now, event) = resolver.resolve(&machine, *op);
            let _ = machine.step(now, event);
        }
    }

    /// The trace of what happens to the header's own machine, in the form that `heartbeat explain` reads.
    #[must_use]
    pub fn trace(&self) -> String {
        let mut machine = self.header.clone().heartbeat();
        let mut resolver = Resolver::new(self.header.start);
        let mut trace = self.header.line() + "\n";
        for op in &self.ops {
            let (now, event) = resolver.resolve(&machine, *op);
            trace.push_str(&event_line(now, &event));
            trace.push('\n');
            let _ = machine.step(now, event);
        }
        trace
    }
}

/// The trace is long, and told by the failure itself.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the trace above, {} events", self.ops.len())
    }
}

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const S: u64 = 1_000_000_000;
pub(crate) const JSON_PING: &str = r#"{"type":"ping"}"#;

#[cfg(feature = "proptest")]
pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A header from its parts.
pub(crate) fn header(config: Config, seed: u64, start: u64) -> Header {
    let mut header = Header::default();
    header.config = config;
    header.seed = seed;
    header.start = Instant::from_nanos(start);
    header
}

/// A ping must come before the idle timeout.
pub(crate) fn shorter_than(idle: Duration, ping: Ping) -> Ping {
    let nearly = idle - Duration::from_nanos(1);
    match ping {
        Ping::AfterSilence(_) | Ping::Every(_) if nearly < heartbeat_core::MIN_DURATION => {
            Ping::Never
        }
        Ping::AfterSilence(silence) => Ping::AfterSilence(silence.min(nearly)),
        Ping::Every(interval) => Ping::Every(interval.min(nearly)),
        Ping::Never => Ping::Never,
    }
}
