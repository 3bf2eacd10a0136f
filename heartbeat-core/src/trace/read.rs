//! Reading of event lines.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value};

use super::{Result, TraceError, event_line_with, object, variables, whole, wrong};
use crate::cause::{Cause, Failure};
use crate::config::text::duration;
use crate::dialect::Variables;
use crate::machine::{ConnId, Event, Message, Route};
use crate::time::Instant;

/// An event read from a line, with its time. It owns its payload, and [`RecordedEvent::event`] lends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The time of the event.
    pub at: Instant,
    /// The template variables that have changed: those that the application has set, and those that the dialect
    /// tracked in messages that are not in the trace. They hold from this event on.
    pub variables: Variables,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// An event that borrows nothing.
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
    /// Records an event, with a copy of its payload.
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
            Event::PingWaiting(conn) => Kind::Plain(Event::PingWaiting(conn)),
            Event::PingWritten(conn) => Kind::Plain(Event::PingWritten(conn)),
            Event::PingUnsent(conn) => Kind::Plain(Event::PingUnsent(conn)),
            Event::Routed(conn, route) => Kind::Plain(Event::Routed(conn, route)),
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

    /// Writes the event as a line that [`read_event`] reads.
    #[must_use]
    pub fn line(&self) -> String {
        event_line_with(self.at, &self.event(), &self.variables)
    }

    /// Returns the event, for [`Heartbeat::step`](crate::Heartbeat::step).
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

const EVENTS: &str = "tick, connected, ready, received, progress, write_blocked, wrote, ping_waiting, ping_written, \
     ping_unsent, routed, read_paused, read_resumed, closed, kick or stop";
const PAYLOADS: &str = "one of text, binary, ping, pong (the last three as hex) or \"data\": true";
const CAUSES: &str = r#"{"close": 1012}, {"protocol": 1002}, {"http": 429, "retry_after": "7s"}, "refused", "reset", "eof", "tls", "io" or {"session": "retry"}"#;

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
        "ping_waiting" => Kind::Plain(Event::PingWaiting(conn()?)),
        "ping_written" => Kind::Plain(Event::PingWritten(conn()?)),
        "ping_unsent" => Kind::Plain(Event::PingUnsent(conn()?)),
        "routed" => {
            let conn = conn()?;
            Kind::Plain(Event::Routed(conn, read_route(&mut fields)?))
        }
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

fn read_route(fields: &mut Map<String, Value>) -> Result<Route> {
    let mut number = |key: &'static str, default: u8| match fields.remove(key) {
        None => Ok(default),
        Some(value) => value
            .as_u64()
            .and_then(|number| u8::try_from(number).ok())
            .ok_or_else(|| wrong(key, Some(&value), "a whole number from 0 to 255")),
    };
    let (endpoint, endpoints) = (number("endpoint", 0)?, number("endpoints", 1)?);
    let more_addresses = match fields.remove("more_addresses") {
        None => false,
        Some(Value::Bool(more)) => more,
        Some(value) => return Err(wrong("more_addresses", Some(&value), "true or false")),
    };
    Ok(Route {
        endpoint,
        endpoints,
        more_addresses,
    })
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
            (None, None, None) if fields.len() == 1 && fields.contains_key("protocol") => {
                Ok(Cause::Protocol(code(&fields["protocol"])?))
            }
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

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let high = char::from(*pair.first()?).to_digit(16)?;
        let low = char::from(*pair.get(1)?).to_digit(16)?;
        u8::try_from(high * 16 + low).ok()
    };
    digits.map(byte).collect()
}
