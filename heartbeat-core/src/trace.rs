//! The trace format: JSON Lines in, JSON Lines out, the same for the core and for both adapters.
//!
//! The first line is a [`Header`], every further line one event ([`read_event`]); the answer to each
//! is one line ([`answer`], [`Replay::answer`]). `examples/replay.rs` is this module with a standard input.
//!
//! ```
//! use heartbeat_core::trace::{Header, answer, read_event};
//!
//! let mut machine = Header::read(r#"{"seed": 7}"#)?.heartbeat();
//! let event = read_event(r#"{"at": 0, "event": "tick"}"#)?;
//! let step = machine.step(event.at, event.event());
//! assert_eq!(
//!     answer(event.at, &step, machine.phase()),
//!     r#"{"at":0,"actions":[{"action":"connect","conn":1,"attempt":0}],"wake":10000000000,"stale":false,"phase":"connecting"}"#,
//! );
//! # Ok::<(), heartbeat_core::trace::TraceError>(())
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::action::{Action, Ask, GiveUp, Reply, Step};
use crate::cause::{Cause, Failure};
use crate::config::Config;
use crate::config_text::{ConfigTextError, duration};
use crate::dialect::{
    AnyDialect, DescriptionError, Dialect, Draft, JsonType, Outgoing, Values, Variables,
};
use crate::duration_text::DurationText;
use crate::event::{ConnId, Event, Message};
use crate::machine::{Heartbeat, Memory, Phase};
use crate::time::Instant;

/// Why a line of a trace cannot be read. Says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// JSON, but something is missing, unknown or of the wrong kind.
    #[error("`{key}` is {found}: expected {expected}")]
    Expected {
        /// Where.
        key: &'static str,
        /// What stands there; "missing" if nothing does.
        found: String,
        /// What must stand there.
        expected: &'static str,
    },
    /// A key that has no meaning there.
    #[error("unknown key `{key}`: expected {expected}")]
    UnknownKey {
        /// The key.
        key: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// The header's configuration.
    #[error("config: {0}")]
    Config(#[from] ConfigTextError),
    /// The header's dialect.
    #[error("dialect: {0}")]
    Dialect(#[from] DescriptionError),
}

type Result<T, E = TraceError> = core::result::Result<T, E>;

/// The first line of a trace: what the machine is made of. Every key is optional.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Header {
    /// The timing rules; where the line has none, the defaults with what the dialect asks for.
    pub config: Config,
    /// The dialect: a name of the catalogue's, or a description.
    pub dialect: AnyDialect,
    /// Seed of the jitter.
    pub seed: u64,
    /// When the machine is made.
    pub start: Instant,
    /// The machine is a server's: its one connection is open from the start ([`Heartbeat::accepted`]).
    pub accepted: bool,
    /// What it remembers, if the trace begins in the middle of its life; seed and start are then of no
    /// importance.
    pub memory: Option<Memory>,
    /// What the dialect's templates are filled in with, besides what it tracks.
    pub variables: Variables,
}

impl Header {
    /// Reads the first line.
    ///
    /// # Errors
    /// [`TraceError`] says what was expected.
    pub fn read(line: &str) -> Result<Self> {
        let expected =
            r#"an object such as {"config": {}, "dialect": "json-type", "seed": 7, "start": 0}"#;
        let mut header = Self::default();
        let mut config = None;
        for (key, value) in object("header", line, expected)? {
            match key.as_str() {
                "config" => config = Some(Config::from_value(&value)?),
                "dialect" => header.dialect = AnyDialect::from_value(&value)?,
                "seed" => header.seed = whole("seed", Some(&value))?,
                "memory" => {
                    let memory = serde_json::from_value(value.clone()).map_err(|error| {
                        TraceError::Expected {
                            key: "memory",
                            found: error.to_string(),
                            expected: "what `explain` has written",
                        }
                    })?;
                    header.memory = Some(memory);
                }
                "variables" => header.variables = variables(&value)?,
                "accepted" => {
                    header.accepted = value.as_bool().ok_or_else(|| TraceError::Expected {
                        key: "accepted",
                        found: value.to_string(),
                        expected: "true or false",
                    })?;
                }
                "start" => header.start = Instant::from_nanos(whole("start", Some(&value))?),
                _ => return Err(TraceError::UnknownKey { key, expected }),
            }
        }
        header.config = config.unwrap_or_else(|| header.dialect.configure(&Config::default()));
        Ok(header)
    }

    /// The header as a line.
    #[must_use]
    pub fn line(&self) -> String {
        let config = self.config.to_value();
        let mut line = json!({
            "config": config, "dialect": self.dialect.to_value(), "seed": self.seed, "start": self.start.as_nanos()
        });
        if self.accepted {
            line["accepted"] = json!(true);
        }
        if let Some(memory) = &self.memory {
            line["memory"] = json!(memory);
        }
        if !self.variables.is_empty() {
            line["variables"] = json!(self.variables);
        }
        line.to_string()
    }

    /// The machine that it describes.
    #[must_use]
    pub fn heartbeat(self) -> Heartbeat<Config, AnyDialect> {
        let make = if self.accepted {
            Heartbeat::accepted
        } else {
            Heartbeat::new
        };
        let machine = make(self.config, self.dialect, self.seed, self.start);
        match self.memory {
            Some(memory) => machine.remembering(memory),
            None => machine,
        }
    }
}

/// An event that was read, with its time. Owns its payload; [`RecordedEvent::event`] lends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// When it happened.
    pub at: Instant,
    /// What templates are filled in with from here on, where it has changed: what the application has set,
    /// and what the dialect tracked in messages that are not in the trace.
    pub variables: Variables,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Everything that borrows nothing.
    Plain(Event<'static>),
    Received(ConnId, Payload),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Payload {
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Text(String),
    Binary(Vec<u8>),
}

impl RecordedEvent {
    /// Keeps an event, with a copy of its payload.
    #[must_use]
    pub fn new(at: Instant, event: &Event<'_>) -> Self {
        let kind = match *event {
            Event::Received(conn, message) => match message {
                Message::Data => Kind::Plain(Event::Received(conn, Message::Data)),
                Message::Ping(bytes) => Kind::Received(conn, Payload::Ping(bytes.into())),
                Message::Pong(bytes) => Kind::Received(conn, Payload::Pong(bytes.into())),
                Message::Text(text) => Kind::Received(conn, Payload::Text(text.into())),
                Message::Binary(bytes) => Kind::Received(conn, Payload::Binary(bytes.into())),
            },
            Event::Tick => Kind::Plain(Event::Tick),
            Event::Connected(conn) => Kind::Plain(Event::Connected(conn)),
            Event::Ready(conn) => Kind::Plain(Event::Ready(conn)),
            Event::Progress(conn) => Kind::Plain(Event::Progress(conn)),
            Event::WriteBlocked(conn) => Kind::Plain(Event::WriteBlocked(conn)),
            Event::Wrote(conn) => Kind::Plain(Event::Wrote(conn)),
            Event::ReadPaused(conn) => Kind::Plain(Event::ReadPaused(conn)),
            Event::ReadResumed(conn) => Kind::Plain(Event::ReadResumed(conn)),
            Event::Closed(conn, cause) => Kind::Plain(Event::Closed(conn, cause)),
            Event::Kick => Kind::Plain(Event::Kick),
            Event::Stop => Kind::Plain(Event::Stop),
        };
        Self {
            at,
            variables: Variables::new(),
            kind,
        }
    }

    /// The event as a line that [`read_event`] reads.
    #[must_use]
    pub fn line(&self) -> String {
        event_line_with(self.at, &self.event(), &self.variables)
    }

    /// The event, to be passed to [`Heartbeat::step`].
    #[must_use]
    pub fn event(&self) -> Event<'_> {
        match &self.kind {
            Kind::Plain(event) => *event,
            Kind::Received(conn, payload) => {
                let message = match payload {
                    Payload::Ping(bytes) => Message::Ping(bytes),
                    Payload::Pong(bytes) => Message::Pong(bytes),
                    Payload::Text(text) => Message::Text(text),
                    Payload::Binary(bytes) => Message::Binary(bytes),
                };
                Event::Received(*conn, message)
            }
        }
    }
}

const EVENTS: &str = "tick, connected, ready, received, progress, write_blocked, wrote, read_paused, read_resumed, closed, \
     kick or stop";
const PAYLOADS: &str = "one of text, binary, ping, pong (the last three as hex) or \"data\": true";
const CAUSES: &str = r#"{"close": 1012}, {"http": 429, "retry_after": "7s"}, "refused", "reset", "eof", "tls", "io" or {"session": "retry"}"#;

/// Reads one event line.
///
/// # Errors
/// [`TraceError`] says what was expected.
pub fn read_event(line: &str) -> Result<RecordedEvent> {
    let mut fields = object(
        "event",
        line,
        r#"an object such as {"at": 0, "event": "tick"}"#,
    )?;
    let at = Instant::from_nanos(whole("at", fields.remove("at").as_ref())?);
    let name = fields.remove("event");
    let Some(name) = name.as_ref().and_then(Value::as_str) else {
        return Err(wrong("event", name.as_ref(), EVENTS));
    };
    let variables = match fields.remove("variables") {
        Some(value) => variables(&value)?,
        None => Variables::new(),
    };
    let mut conn = || whole("conn", fields.remove("conn").as_ref()).map(ConnId::new);
    let kind = match name {
        "tick" => Kind::Plain(Event::Tick),
        "kick" => Kind::Plain(Event::Kick),
        "stop" => Kind::Plain(Event::Stop),
        "connected" => Kind::Plain(Event::Connected(conn()?)),
        "ready" => Kind::Plain(Event::Ready(conn()?)),
        "progress" => Kind::Plain(Event::Progress(conn()?)),
        "write_blocked" => Kind::Plain(Event::WriteBlocked(conn()?)),
        "wrote" => Kind::Plain(Event::Wrote(conn()?)),
        "read_paused" => Kind::Plain(Event::ReadPaused(conn()?)),
        "read_resumed" => Kind::Plain(Event::ReadResumed(conn()?)),
        "closed" => Kind::Plain(Event::Closed(
            conn()?,
            read_cause(fields.remove("cause").as_ref())?,
        )),
        "received" => {
            let conn = conn()?;
            read_payload(conn, &mut fields)?
        }
        other => {
            return Err(TraceError::Expected {
                key: "event",
                found: format!("\"{other}\""),
                expected: EVENTS,
            });
        }
    };
    match fields.into_iter().next() {
        Some((key, _)) => Err(TraceError::UnknownKey {
            key,
            expected: "only the keys that this event has",
        }),
        None => Ok(RecordedEvent {
            at,
            variables,
            kind,
        }),
    }
}

fn read_payload(conn: ConnId, fields: &mut Map<String, Value>) -> Result<Kind> {
    let mut found = None;
    for key in ["text", "binary", "ping", "pong", "data"] {
        if let Some(value) = fields.remove(key)
            && found.replace((key, value)).is_some()
        {
            return Err(TraceError::Expected {
                key: "received",
                found: "several payloads".into(),
                expected: PAYLOADS,
            });
        }
    }
    let Some((key, value)) = found else {
        return Err(wrong("received", None, PAYLOADS));
    };
    let text = value.as_str();
    let bytes = || {
        text.and_then(from_hex)
            .ok_or_else(|| wrong(key, Some(&value), "bytes as hex, two digits each"))
    };
    let payload = match key {
        "data" if value == true => return Ok(Kind::Plain(Event::Received(conn, Message::Data))),
        "data" => return Err(wrong("data", Some(&value), "true")),
        "text" => Payload::Text(
            text.ok_or_else(|| wrong("text", Some(&value), "a string"))?
                .into(),
        ),
        "ping" => Payload::Ping(bytes()?),
        "pong" => Payload::Pong(bytes()?),
        _ => Payload::Binary(bytes()?),
    };
    Ok(Kind::Received(conn, payload))
}

fn read_cause(value: Option<&Value>) -> Result<Cause> {
    let refuse = || wrong("cause", value, CAUSES);
    let code = |value: &Value| {
        value
            .as_u64()
            .and_then(|code| u16::try_from(code).ok())
            .ok_or_else(refuse)
    };
    match value {
        Some(Value::String(word)) => match word.as_str() {
            "refused" => Ok(Cause::Refused),
            "reset" => Ok(Cause::Reset),
            "eof" => Ok(Cause::Eof),
            "tls" => Ok(Cause::Tls),
            "io" => Ok(Cause::Io),
            _ => Err(refuse()),
        },
        Some(Value::Object(fields)) if fields.len() == 1 && fields.contains_key("session") => {
            let failure = match fields.get("session") {
                Some(Value::String(word)) => match word.as_str() {
                    "retry" => Failure::Retry,
                    "refresh" => Failure::Refresh,
                    "give_up" => Failure::GiveUp,
                    _ => return Err(refuse()),
                },
                Some(Value::Object(after)) if after.len() == 1 => match after.get("retry_after") {
                    Some(least) => Failure::RetryAfter(duration("retry_after", least)?),
                    None => return Err(refuse()),
                },
                _ => return Err(refuse()),
            };
            Ok(Cause::Session(failure))
        }
        Some(Value::Object(fields)) => match (
            fields.get("close"),
            fields.get("http"),
            fields.get("retry_after"),
        ) {
            (Some(close), None, None) if fields.len() == 1 => Ok(Cause::Close(code(close)?)),
            (None, Some(http), None) if fields.len() == 1 => Ok(Cause::Http {
                status: code(http)?,
                retry_after: None,
            }),
            (None, Some(http), Some(after)) if fields.len() == 2 => {
                let retry_after = if after.is_null() {
                    None
                } else {
                    Some(duration("retry_after", after)?)
                };
                Ok(Cause::Http {
                    status: code(http)?,
                    retry_after,
                })
            }
            _ => Err(refuse()),
        },
        _ => Err(refuse()),
    }
}

/// One event as a line that [`read_event`] reads.
#[must_use]
pub fn event_line(at: Instant, event: &Event<'_>) -> String {
    event_line_with(at, event, &Variables::new())
}

/// The same, with the variables that have changed since the line before.
#[must_use]
pub fn event_line_with(at: Instant, event: &Event<'_>, variables: &Variables) -> String {
    let mut line = json!({"at": at.as_nanos(), "event": event_name(event)});
    let conn = match event {
        Event::Tick | Event::Kick | Event::Stop => None,
        Event::Connected(conn)
        | Event::Ready(conn)
        | Event::Received(conn, _)
        | Event::Progress(conn)
        | Event::WriteBlocked(conn)
        | Event::Wrote(conn)
        | Event::ReadPaused(conn)
        | Event::ReadResumed(conn)
        | Event::Closed(conn, _) => Some(conn.get()),
    };
    if let Some(conn) = conn {
        line["conn"] = conn.into();
    }
    if !variables.is_empty() {
        line["variables"] = json!(variables);
    }
    match event {
        Event::Received(_, Message::Data) => line["data"] = true.into(),
        Event::Received(_, Message::Ping(bytes)) => line["ping"] = to_hex(bytes).into(),
        Event::Received(_, Message::Pong(bytes)) => line["pong"] = to_hex(bytes).into(),
        Event::Received(_, Message::Binary(bytes)) => line["binary"] = to_hex(bytes).into(),
        Event::Received(_, Message::Text(text)) => line["text"] = (*text).into(),
        Event::Closed(_, cause) => line["cause"] = cause_value(*cause),
        _ => {}
    }
    line.to_string()
}

const fn event_name(event: &Event<'_>) -> &'static str {
    match event {
        Event::Tick => "tick",
        Event::Connected(_) => "connected",
        Event::Ready(_) => "ready",
        Event::Received(..) => "received",
        Event::Progress(_) => "progress",
        Event::WriteBlocked(_) => "write_blocked",
        Event::Wrote(_) => "wrote",
        Event::ReadPaused(_) => "read_paused",
        Event::ReadResumed(_) => "read_resumed",
        Event::Closed(..) => "closed",
        Event::Kick => "kick",
        Event::Stop => "stop",
    }
}

/// A cause as JSON, as traces spell it.
#[must_use]
pub fn cause_value(cause: Cause) -> Value {
    match cause {
        Cause::Refused => json!("refused"),
        Cause::Reset => json!("reset"),
        Cause::Eof => json!("eof"),
        Cause::Tls => json!("tls"),
        Cause::Io => json!("io"),
        Cause::Close(code) => json!({"close": code}),
        Cause::Http {
            status,
            retry_after: None,
        } => json!({"http": status}),
        Cause::Http {
            status,
            retry_after: Some(after),
        } => {
            json!({"http": status, "retry_after": DurationText(after).to_string()})
        }
        Cause::Session(failure) => match failure {
            Failure::Retry => json!({"session": "retry"}),
            Failure::Refresh => json!({"session": "refresh"}),
            Failure::GiveUp => json!({"session": "give_up"}),
            Failure::RetryAfter(least) => {
                json!({"session": {"retry_after": DurationText(least).to_string()}})
            }
        },
    }
}

/// A reason to give up as JSON: `"max_attempts"`, `"credentials"`, or the cause.
#[must_use]
pub fn give_up_value(reason: GiveUp) -> Value {
    match reason {
        GiveUp::MaxAttempts => json!("max_attempts"),
        GiveUp::Credentials(_) => json!("credentials"),
        GiveUp::Cause(cause) => cause_value(cause),
    }
}

/// The answer to one event as a line: its actions in order, the wake, whether the event was stale,
/// and the phase after it.
#[must_use]
pub fn answer(at: Instant, step: &Step<'_>, phase: Phase) -> String {
    answer_in(&JsonType, &Variables::new(), at, step, phase)
}

/// A machine that a trace is played to, and what fills in its dialect's messages.
///
/// ```
/// use heartbeat_core::trace::{Header, Replay, read_event};
///
/// let mut replay = Replay::new(Header::read(r#"{"dialect": "discord", "seed": 7}"#)?);
/// for line in [r#"{"at": 0, "event": "tick"}"#, r#"{"at": 0, "event": "connected", "conn": 1}"#] {
///     replay.answer(&read_event(line)?);
/// }
/// // Discord asks; what its last event was (`s`) is in the answer.
/// let asked = r#"{"at": 1, "event": "received", "conn": 1, "text": "{\"op\":1}", "variables": {"seq": "41"}}"#;
/// assert!(replay.answer(&read_event(asked)?).contains(r#"{\"op\":1,\"d\":41}"#));
/// # Ok::<(), heartbeat_core::trace::TraceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Replay {
    machine: Heartbeat<Config, AnyDialect>,
    variables: Variables,
}

impl Replay {
    /// At the trace's beginning.
    #[must_use]
    pub fn new(header: Header) -> Self {
        Self {
            variables: header.variables.clone(),
            machine: header.heartbeat(),
        }
    }

    /// The answer to the next event, as a line. The time since 1970 that a template may ask for is the time
    /// since the trace's origin here, so that the same trace gives the same lines; a message that needs a
    /// variable which is not known is `null`.
    pub fn answer(&mut self, recorded: &RecordedEvent) -> String {
        let own = recorded.variables.iter();
        self.variables
            .extend(own.map(|(name, value)| (name.clone(), value.clone())));
        let event = recorded.event();
        if let Event::Received(_, Message::Text(text)) = event {
            self.machine.dialect().track(text, &mut self.variables);
        }
        let step = self.machine.step(recorded.at, event);
        let (dialect, phase) = (self.machine.dialect(), self.machine.phase());
        answer_in(dialect, &self.variables, recorded.at, &step, phase)
    }
}

fn answer_in(
    dialect: &dyn Dialect,
    variables: &Variables,
    at: Instant,
    step: &Step<'_>,
    phase: Phase,
) -> String {
    // Written by hand where order matters: a reader compares lines byte for byte.
    let mut line = format!("{{\"at\":{},\"actions\":[", at.as_nanos());
    for (index, action) in step.actions.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        write_action(&mut line, action, &|draft| {
            written(dialect, variables, at, draft)
        });
    }
    line.push_str("],\"wake\":");
    match step.wake {
        Some(wake) => line.push_str(&wake.as_nanos().to_string()),
        None => line.push_str("null"),
    }
    let (stale, phase) = (step.stale, phase.as_str());
    line.push_str(&format!(",\"stale\":{stale},\"phase\":\"{phase}\"}}"));
    line
}

/// A draft as key and value of its action.
fn written(
    dialect: &dyn Dialect,
    variables: &Variables,
    at: Instant,
    draft: &Draft<'_>,
) -> (&'static str, Value) {
    let mut buffer = String::new();
    let values = Values {
        unix_ms: at.as_nanos() / 1_000_000,
        variables,
    };
    match dialect.render(draft, &values, &mut buffer) {
        Some(Outgoing::Text(text)) => ("text", text.into()),
        Some(Outgoing::Binary(bytes)) => ("binary", to_hex(bytes).into()),
        None => ("text", Value::Null),
    }
}

fn write_action(
    line: &mut String,
    action: &Action<'_>,
    written: &dyn Fn(&Draft<'_>) -> (&'static str, Value),
) {
    // Writing to a string cannot fail.
    let _ = match action {
        Action::Connect {
            conn,
            attempt,
            refresh: _,
        } => {
            write!(
                line,
                r#"{{"action":"connect","conn":{conn},"attempt":{attempt}}}"#
            )
        }
        Action::SendPong { conn, reply } => {
            let (key, value) = match reply {
                Reply::Frame(bytes) => ("frame", Value::from(to_hex(bytes))),
                Reply::Binary(bytes) => ("binary", Value::from(to_hex(bytes))),
                Reply::Text(text) => ("text", Value::from(*text)),
                Reply::Draft(draft) => written(draft),
            };
            write!(
                line,
                r#"{{"action":"send_pong","conn":{conn},"{key}":{value}}}"#
            )
        }
        Action::SendPing { conn, ping } => {
            let (key, value) = match ping {
                Ask::Frame(bytes) => ("frame", Value::from(to_hex(bytes))),
                Ask::Draft(draft) => written(draft),
            };
            write!(
                line,
                r#"{{"action":"send_ping","conn":{conn},"{key}":{value}}}"#
            )
        }
        Action::Close { conn, code } => {
            write!(line, r#"{{"action":"close","conn":{conn},"code":{code}}}"#)
        }
        Action::Abort { conn, reason } => write!(
            line,
            r#"{{"action":"abort","conn":{conn},"reason":"{reason}"}}"#
        ),
        Action::ReconnectAt { at, attempt, delay } => {
            let (at, delay) = (at.as_nanos(), delay.as_nanos());
            write!(
                line,
                r#"{{"action":"reconnect_at","at":{at},"attempt":{attempt},"delay":{delay}}}"#
            )
        }
        Action::Check { conn, idle } => {
            write!(
                line,
                r#"{{"action":"check","conn":{conn},"idle":{}}}"#,
                idle.as_nanos()
            )
        }
        Action::GaveUp { reason } => write!(
            line,
            r#"{{"action":"gave_up","reason":{}}}"#,
            give_up_value(*reason)
        ),
    };
}

fn object(key: &'static str, line: &str, expected: &'static str) -> Result<Map<String, Value>> {
    match serde_json::from_str(line).map_err(|error| TraceError::Json(error.to_string()))? {
        Value::Object(fields) => Ok(fields),
        other => Err(wrong(key, Some(&other), expected)),
    }
}

fn variables(value: &Value) -> Result<Variables> {
    let expected = "an object of texts, each as it is sent, such as {\"seq\": \"41\"}";
    let refuse = || wrong("variables", Some(value), expected);
    let text = |(name, value): (&String, &Value)| {
        let value = value.as_str().ok_or_else(refuse)?;
        Ok((name.clone(), value.into()))
    };
    let fields = value.as_object().ok_or_else(refuse)?;
    fields.iter().map(text).collect()
}

fn whole(key: &'static str, value: Option<&Value>) -> Result<u64> {
    value
        .and_then(Value::as_u64)
        .ok_or_else(|| wrong(key, value, "a whole number from 0 to 18446744073709551615"))
}

fn wrong(key: &'static str, value: Option<&Value>, expected: &'static str) -> TraceError {
    let found = value.map_or_else(|| "missing".into(), Value::to_string);
    TraceError::Expected {
        key,
        found,
        expected,
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let high = char::from(*pair.first()?).to_digit(16)?;
        let low = char::from(*pair.get(1)?).to_digit(16)?;
        u8::try_from(high * 16 + low).ok()
    };
    digits.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_survives_being_written_and_read() {
        for line in [
            r#"{"at":1,"event":"tick"}"#,
            r#"{"at":1,"event":"kick"}"#,
            r#"{"at":1,"event":"stop"}"#,
            r#"{"at":18446744073709551615,"conn":3,"event":"connected"}"#,
            r#"{"at":1,"conn":3,"event":"ready"}"#,
            r#"{"at":1,"conn":3,"event":"progress"}"#,
            r#"{"at":1,"conn":3,"event":"write_blocked"}"#,
            r#"{"at":1,"conn":3,"event":"wrote"}"#,
            r#"{"at":1,"conn":3,"event":"read_paused"}"#,
            r#"{"at":1,"conn":3,"event":"read_resumed"}"#,
            r#"{"at":1,"conn":3,"event":"received","text":"{\"type\":\"ping\"}"}"#,
            r#"{"at":1,"binary":"00ff","conn":3,"event":"received"}"#,
            r#"{"at":1,"conn":3,"event":"received","ping":""}"#,
            r#"{"at":1,"conn":3,"event":"received","pong":"0a"}"#,
            r#"{"at":1,"conn":3,"data":true,"event":"received"}"#,
            r#"{"at":1,"conn":3,"data":true,"event":"received","variables":{"seq":"41"}}"#,
            r#"{"at":1,"cause":{"close":1012},"conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":{"http":503},"conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":{"http":429,"retry_after":"7s"},"conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":"refused","conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":"reset","conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":"eof","conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":"tls","conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":"io","conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":{"session":"retry"},"conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":{"session":"refresh"},"conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":{"session":"give_up"},"conn":3,"event":"closed"}"#,
            r#"{"at":1,"cause":{"session":{"retry_after":"7s"}},"conn":3,"event":"closed"}"#,
        ] {
            let recorded = read_event(line).expect(line);
            let written = event_line_with(recorded.at, &recorded.event(), &recorded.variables);
            assert_eq!(read_event(&written), Ok(recorded), "{written}");
            let value: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(
                serde_json::from_str::<Value>(&written).expect("JSON"),
                value
            );
        }
    }

    #[test]
    fn a_bad_line_says_what_was_expected() {
        for (line, words) in [
            ("", "not JSON"),
            ("7", "`event` is 7: expected an object"),
            (
                r#"{"event":"tick"}"#,
                "`at` is missing: expected a whole number",
            ),
            (r#"{"at":-1,"event":"tick"}"#, "`at` is -1"),
            (r#"{"at":1.5,"event":"tick"}"#, "`at` is 1.5"),
            (
                r#"{"at":1}"#,
                "`event` is missing: expected tick, connected",
            ),
            (
                r#"{"at":1,"event":"tock"}"#,
                "`event` is \"tock\": expected tick",
            ),
            (r#"{"at":1,"event":"connected"}"#, "`conn` is missing"),
            (
                r#"{"at":1,"event":"tick","variables":{"seq":41}}"#,
                "`variables` is {\"seq\":41}: expected an object of texts",
            ),
            (r#"{"at":1,"event":"tick","conn":1}"#, "unknown key `conn`"),
            (
                r#"{"at":1,"event":"received","conn":1}"#,
                "`received` is missing: expected one of text",
            ),
            (
                r#"{"at":1,"event":"received","conn":1,"text":"","ping":""}"#,
                "several payloads",
            ),
            (
                r#"{"at":1,"event":"received","conn":1,"ping":"0"}"#,
                "`ping` is \"0\": expected bytes as hex",
            ),
            (
                r#"{"at":1,"event":"received","conn":1,"ping":"+1"}"#,
                "expected bytes as hex",
            ),
            (
                r#"{"at":1,"event":"received","conn":1,"text":5}"#,
                "`text` is 5: expected a string",
            ),
            (
                r#"{"at":1,"event":"closed","conn":1}"#,
                "`cause` is missing: expected {\"close\": 1012}",
            ),
            (
                r#"{"at":1,"event":"closed","conn":1,"cause":"bored"}"#,
                "`cause` is \"bored\"",
            ),
            (
                r#"{"at":1,"event":"closed","conn":1,"cause":{"close":70000}}"#,
                "`cause` is {\"close\":70000}",
            ),
            (
                r#"{"at":1,"event":"closed","conn":1,"cause":{"http":429,"retry_after":"soon"}}"#,
                "`retry_after` is \"soon\"",
            ),
        ] {
            let refusal = read_event(line).expect_err(line).to_string();
            assert!(refusal.contains(words), "{line}: {refusal}");
        }
    }

    #[test]
    fn a_header_that_was_written_is_read_back() {
        let header = Header {
            seed: 7,
            start: Instant::from_nanos(5),
            variables: Variables::from([("session".into(), "777".into())]),
            ..Header::default()
        };
        assert_eq!(Header::read(&header.line()), Ok(header));
        assert_eq!(Header::read("{}"), Ok(Header::default()));
        let accepted = Header {
            accepted: true,
            ..Header::default()
        };
        assert_eq!(Header::read(&accepted.line()), Ok(accepted));
        assert!(Header::read(r#"{"accepted":1}"#).is_err());
        assert!(Header::read(r#"{"seeds":7}"#).is_err());
        assert!(Header::read(r#"{"dialect":"klingon"}"#).is_err());
    }
}
