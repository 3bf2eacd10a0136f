//! Writing of events, causes and answers.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write as _;

use serde_json::{Value, json};

use crate::cause::{Cause, Failure};
use crate::dialect::Reply;
use crate::dialect::{Buffer, Dialect, JsonType, Outgoing, TemplateRef, Values, Variables};
use crate::duration_text::DurationText;
use crate::machine::Phase;
use crate::machine::{Action, GiveUp, PingMessage, Step};
use crate::machine::{Event, Message};
use crate::time::Instant;

/// Writes one event as a line that [`read_event`](super::read_event) reads.
#[must_use]
pub fn event_line(at: Instant, event: &Event<'_>) -> String {
    event_line_with(at, event, &Variables::new())
}

/// Writes one event like [`event_line`], with the variables that have changed since the line before.
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
        | Event::PingWaiting(conn)
        | Event::PingWritten(conn)
        | Event::PingUnsent(conn)
        | Event::Routed(conn, _)
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
        Event::Routed(_, route) => {
            line["endpoint"] = route.endpoint.into();
            line["endpoints"] = route.endpoints.into();
            line["more_addresses"] = route.more_addresses.into();
        }
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
        Event::PingWaiting(_) => "ping_waiting",
        Event::PingWritten(_) => "ping_written",
        Event::PingUnsent(_) => "ping_unsent",
        Event::Routed(..) => "routed",
        Event::ReadPaused(_) => "read_paused",
        Event::ReadResumed(_) => "read_resumed",
        Event::Closed(..) => "closed",
        Event::Kick => "kick",
        Event::Stop => "stop",
    }
}

/// Returns a cause as JSON, in the spelling of traces.
#[must_use]
pub fn cause_value(cause: Cause) -> Value {
    match cause {
        Cause::Refused => json!("refused"),
        Cause::Reset => json!("reset"),
        Cause::Eof => json!("eof"),
        Cause::Tls => json!("tls"),
        Cause::Io => json!("io"),
        Cause::Close(code) => json!({"close": code}),
        Cause::Protocol(code) => json!({"protocol": code}),
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

/// Returns a reason to give up as JSON: `"max_attempts"`, `"credentials"`, or the cause.
#[must_use]
pub fn give_up_value(reason: GiveUp) -> Value {
    match reason {
        GiveUp::MaxAttempts(_) => json!("max_attempts"),
        GiveUp::Credentials(_) => json!("credentials"),
        GiveUp::Cause(cause) => cause_value(cause),
    }
}

/// Writes the answer to one event as a line: the actions in order, the wake, whether the event was stale, and the
/// phase afterwards.
#[must_use]
pub fn answer(at: Instant, step: &Step<'_>, phase: Phase) -> String {
    answer_in(&JsonType, &Variables::new(), at, step, phase)
}

pub(super) fn answer_in(
    dialect: &dyn Dialect,
    variables: &Variables,
    at: Instant,
    step: &Step<'_>,
    phase: Phase,
) -> String {
    // The keys' order matters, because readers compare lines byte for byte. Therefore the line is written by hand.
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

/// Returns a message made from a template, as the key and value of its action.
fn written(
    dialect: &dyn Dialect,
    variables: &Variables,
    at: Instant,
    draft: &TemplateRef<'_>,
) -> (&'static str, Value) {
    let mut buffer = Buffer::default();
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
    written: &dyn Fn(&TemplateRef<'_>) -> (&'static str, Value),
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
                Reply::Template(draft) => written(draft),
            };
            write!(
                line,
                r#"{{"action":"send_pong","conn":{conn},"{key}":{value}}}"#
            )
        }
        Action::SendPing { conn, ping } => {
            let (key, value) = match ping {
                PingMessage::Frame(bytes) => ("frame", Value::from(to_hex(bytes))),
                PingMessage::Template(draft) => written(draft),
            };
            write!(
                line,
                r#"{{"action":"send_ping","conn":{conn},"{key}":{value}}}"#
            )
        }
        Action::Ending { conn, why, within } => write!(
            line,
            r#"{{"action":"ending","conn":{conn},"why":"{why}","within":{}}}"#,
            within.as_nanos()
        ),
        Action::Renew { conn, code, why } => write!(
            line,
            r#"{{"action":"renew","conn":{conn},"code":{code},"why":"{why}"}}"#
        ),
        Action::Close { conn, code } => {
            write!(line, r#"{{"action":"close","conn":{conn},"code":{code}}}"#)
        }
        Action::Abort { conn, reason } => write!(
            line,
            r#"{{"action":"abort","conn":{conn},"reason":"{reason}"}}"#
        ),
        Action::ReconnectAt {
            at,
            attempt,
            delay,
            tolerated,
        } => {
            let (at, delay) = (at.as_nanos(), delay.as_nanos());
            write!(
                line,
                r#"{{"action":"reconnect_at","at":{at},"attempt":{attempt},"delay":{delay}"#
            )
            .and_then(|()| match tolerated {
                Some(cause) => write!(line, r#","tolerated":{}}}"#, cause_value(*cause)),
                None => line.write_char('}'),
            })
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

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
