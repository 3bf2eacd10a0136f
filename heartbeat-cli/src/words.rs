//! Writes events as lines, in words or as JSON.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

use heartbeat_tokio::core::trace::{cause_value, give_up_value};
use heartbeat_tokio::{Config, Event, Message, Ping, Reason, Seconds};
use serde_json::{Value, json};

use crate::heartbeats::Heartbeats;
use crate::sums::counted;

/// Describes the times of a configuration in one line.
pub(crate) fn times(config: &Config) -> String {
    let mut words = match config.ping() {
        Ping::Never => "no pings".to_owned(),
        Ping::Every(period) => format!("ping every {}", Seconds(period)),
        Ping::AfterSilence(silence) => format!("ping after {} of silence", Seconds(silence)),
    };
    let _ = write!(
        words,
        ", dead after {} of silence",
        Seconds(config.idle_timeout())
    );
    if let Some(timeout) = config.pong_timeout() {
        let _ = write!(words, " or {} after an unanswered ping", Seconds(timeout));
    }
    let (base, cap, jitter) = config.backoff();
    let _ = write!(
        words,
        "; dial within {}, retry after {} to {}{}",
        Seconds(config.connect_timeout()),
        Seconds(base),
        Seconds(cap),
        match jitter {
            0 => String::new(),
            percent => format!(" less up to {percent} %"),
        }
    );
    words
}

/// Returns an event as a JSON object.
pub(crate) fn json_line(event: &Event) -> Value {
    match event {
        Event::Connecting { conn, attempt } => {
            json!({"event": "connecting", "conn": conn.get(), "attempt": attempt})
        }
        Event::Connected { conn, after, .. } => {
            json!({"event": "connected", "conn": conn.get(), "after_ms": millis(*after)})
        }
        Event::Message {
            conn,
            message: Message::Text(text),
        } => {
            json!({"event": "message", "conn": conn.get(), "text": text.as_str()})
        }
        Event::Message {
            conn,
            message: Message::Binary(bytes),
        } => {
            json!({"event": "message", "conn": conn.get(), "bytes": hex(bytes)})
        }
        Event::PongSent { conn } => json!({"event": "pong_sent", "conn": conn.get()}),
        Event::PingSent { conn } => json!({"event": "ping_sent", "conn": conn.get()}),
        Event::PongReceived { conn, rtt } => {
            json!({"event": "pong_received", "conn": conn.get(), "rtt_ms": rtt.map(millis)})
        }
        Event::Check { conn, idle } => {
            json!({"event": "check", "conn": conn.get(), "idle_ms": millis(*idle)})
        }
        Event::Disconnected {
            conn,
            reason,
            detail,
            idle,
            open,
            unsent,
            in_doubt,
            ..
        } => json!({
            "event": "disconnected", "conn": conn.get(), "reason": reason_value(*reason), "detail": detail,
            "idle_ms": millis(*idle), "open_ms": millis(*open), "unsent": unsent.len(), "in_doubt": in_doubt,
        }),
        Event::Ending { conn, why, within } => {
            json!({"event": "ending", "conn": conn.get(), "why": why.as_str(), "within_ms": millis(*within)})
        }
        Event::Reconnect { attempt, delay } => {
            json!({"event": "reconnect", "attempt": attempt, "delay_ms": millis(*delay)})
        }
        Event::GaveUp { reason, detail, .. } => {
            json!({"event": "gave_up", "reason": give_up_value(*reason), "detail": detail})
        }
        Event::Gap {
            conn,
            down_for,
            cause,
            attempts,
            unsent,
            in_doubt,
            ..
        } => json!({
            "event": "gap", "conn": conn.get(), "down_for_ms": millis(*down_for),
            "cause": reason_value(*cause), "attempts": attempts, "unsent": unsent, "in_doubt": in_doubt,
        }),
        Event::Ready { conn } => json!({"event": "ready", "conn": conn.get()}),
        Event::Expired { unsent } => json!({"event": "expired", "unsent": unsent.len()}),
        Event::Stopped {
            unsent, in_doubt, ..
        } => {
            json!({"event": "stopped", "unsent": unsent.len(), "in_doubt": in_doubt})
        }
        other => json!({"event": "unknown", "debug": format!("{other:?}")}),
    }
}

/// Describes an event in words.
pub(crate) fn words(event: &Event, heartbeats: &Heartbeats) -> String {
    match event {
        Event::Connecting { conn, attempt: 0 } => format!("connecting ({conn})"),
        Event::Connecting { conn, attempt } => format!("connecting ({conn}), retry {attempt}"),
        Event::Connected { conn, after, .. } => {
            format!("connected ({conn}) after {}", Seconds(*after))
        }
        Event::Message {
            message: Message::Text(text),
            ..
        } => format!("message: {}", printable(text)),
        Event::Message {
            message: Message::Binary(bytes),
            ..
        } => format!("message: {} bytes", bytes.len()),
        Event::PongSent { conn } => format!("{} answered", heartbeats.next_answered(*conn)),
        Event::PingSent { conn } => format!("{} sent", heartbeats.next_asked(*conn)),
        Event::PongReceived { rtt: Some(rtt), .. } => format!("pong after {}", Seconds(*rtt)),
        Event::PongReceived { .. } => "pong without a ping".into(),
        Event::Check { idle, .. } => format!("idle for {}", Seconds(*idle)),
        Event::Disconnected {
            conn,
            reason,
            detail,
            idle,
            open,
            unsent,
            in_doubt,
            ..
        } => {
            let detail = in_brackets(detail.as_deref());
            let mut words = format!("DISCONNECTED ({conn}): {reason}{detail}");
            if !open.is_zero() {
                let _ = write!(
                    words,
                    ", silent for {}, open for {}",
                    Seconds(*idle),
                    Seconds(*open)
                );
            }
            if !unsent.is_empty() {
                let _ = write!(
                    words,
                    ", {} unsent",
                    counted(unsent.len() as u64, "message")
                );
            }
            if *in_doubt > 0 {
                let _ = write!(words, ", {} in doubt", counted(*in_doubt as u64, "message"));
            }
            words
        }
        Event::Gap { down_for, .. } => format!("gap of {}", Seconds(*down_for)),
        Event::Ready { conn } => format!("ready ({conn})"),
        Event::Expired { unsent } => format!(
            "{} held for too long",
            counted(unsent.len() as u64, "message")
        ),
        Event::Ending { why, within, .. } => {
            format!("ends soon ({why}): renewed in {}", Seconds(*within))
        }
        Event::Reconnect { attempt: 0, delay } => format!("next dial in {}", Seconds(*delay)),
        Event::Reconnect { attempt, delay } => {
            format!("retry {attempt} in {}", Seconds(*delay))
        }
        Event::GaveUp { reason, detail, .. } => {
            format!("GAVE UP: {reason}{}", in_brackets(detail.as_deref()))
        }
        Event::Stopped { .. } => "stopped".into(),
        other => format!("{other:?}"),
    }
}

/// Returns ` (detail)`, or an empty string.
fn in_brackets(detail: Option<&str>) -> String {
    detail.map_or_else(String::new, |detail| format!(" ({})", printable(detail)))
}

/// Escapes control characters, which could move a terminal's cursor or break the line.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        false => text.into(),
        true => text
            .chars()
            .flat_map(|c| match c.is_control() {
                true => c.escape_default().collect::<Vec<_>>(),
                false => vec![c],
            })
            .collect(),
    }
}

fn reason_value(reason: Reason) -> Value {
    match reason {
        Reason::Aborted(verdict) => verdict.as_str().into(),
        Reason::Cause(cause) => cause_value(cause),
        Reason::Renewal(why) => format!("renewal_{why}").into(),
        other => other.to_string().into(),
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Displays the seconds since the start, to the millisecond, right-aligned.
pub(crate) struct Stamp(pub(crate) Duration);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.3}", self.0.as_secs_f64())
    }
}
