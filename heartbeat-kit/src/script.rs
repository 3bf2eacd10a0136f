//! Scripts of events. A script gives times and connections relative to the machine's state: exactly at `wake` or near it, on
//! an earlier connection or a future one. Each [`Op`] becomes an event when its turn comes.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use heartbeat_core::trace::{Header, event_line};
use heartbeat_core::{
    Cause, Config, ConnId, Dialect, Event, Heartbeat, Instant, Message, Ping, Route,
};

use crate::Audited;

/// An event and its time, both relative to the machine's state when its turn comes.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// The time.
    pub when: When,
    /// The event.
    pub what: What,
}

/// A time, in nanoseconds, relative to the machine's wake or to the latest time.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// At the machine's `wake`.
    Wake,
    /// This long before the machine's `wake`.
    BeforeWake(u64),
    /// This long after the machine's `wake`.
    AfterWake(u64),
    /// This long after the latest time.
    Later(u64),
    /// This long before the latest time, so that time runs backwards.
    Back(u64),
    /// This time, independent of the machine.
    At(u64),
}

/// An [`Event`] whose connection is determined when its turn comes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each variant is the event of that name")]
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

/// A connection id, relative to the latest one that the machine handed out.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// The latest id.
    Current,
    /// The latest id minus this.
    Earlier(u64),
    /// The latest id plus this. The machine has not handed it out yet.
    Future(u64),
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// A message that the driver has classified as data.
    Data,
    /// A ping frame.
    Ping(&'static [u8]),
    /// A pong for the ping that is this many before the next one: 1 is the latest ping sent, and 0 is not sent yet.
    PongTo(u8),
    /// A pong frame with this payload.
    Pong(&'static [u8]),
    /// A text message.
    Text(&'static str),
    /// A binary message.
    Binary(&'static [u8]),
}

/// Texts that are pings in another form, and texts that only look like pings.
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

/// Turns each [`Op`] into an event for the machine's current state.
#[derive(Clone, Debug)]
pub struct Resolver {
    now: u64,
}

impl Resolver {
    /// Creates a resolver for a machine that was created at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self {
            now: start.as_nanos(),
        }
    }

    /// Returns the time and the event for the machine's current state.
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
    // An accepted connection counts as a connection without a dial.
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

/// A machine and its events.
#[derive(Clone)]
#[non_exhaustive]
pub struct Script {
    /// The machine's configuration, seed and start.
    pub header: Header,
    /// The events, in order.
    pub ops: Vec<Op>,
}

impl Script {
    /// Creates a script.
    #[must_use]
    pub fn new(header: Header, ops: Vec<Op>) -> Self {
        Self { header, ops }
    }

    /// Runs the script on a machine with your dialect, and judges each step.
    ///
    /// # Panics
    /// If a rule is broken. The message has the rule and the trace.
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

    /// Runs the script on a machine with the header's own dialect, and returns the trace, which `heartbeat explain` can read.
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

/// Shows only the number of events. The trace is long, and the panic has already printed it.
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

/// Creates a header from its parts.
pub(crate) fn header(config: Config, seed: u64, start: u64) -> Header {
    let mut header = Header::default();
    header.config = config;
    header.seed = seed;
    header.start = Instant::from_nanos(start);
    header
}

/// Shortens a ping interval below the idle timeout, as a valid configuration requires.
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
