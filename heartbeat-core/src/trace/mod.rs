//! The trace format: JSON Lines for events and answers, shared by the core and both adapters.
//!
//! The first line is a [`Header`]. Every further line is one event ([`read_event`]). Each event has one line as its
//! answer ([`answer`], [`Replay::answer`]). `examples/replay.rs` applies this module to standard input.
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

mod read;
mod write;

use alloc::string::{String, ToString};

use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::config::text::ConfigTextError;
use crate::dialect::{AnyDialect, DescriptionError, Dialect, Variables};
use crate::json_text::Unique;
use crate::machine::{Event, Message};
use crate::machine::{Heartbeat, Memory};
use crate::time::Instant;

pub use read::{RecordedEvent, read_event};
pub use write::{answer, cause_value, event_line, event_line_with, give_up_value};

debug_as_display!(TraceError);

/// The reason why a line of a trace cannot be read. It says what was expected.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The line is not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// A key appears twice, so its value is ambiguous.
    #[error("`{key}` is there twice")]
    Twice {
        /// The place.
        key: String,
    },
    /// The line is JSON, but a value is missing, unknown or of the wrong kind.
    #[error("`{key}` is {found}: expected {expected}")]
    Expected {
        /// The place.
        key: &'static str,
        /// The value found; "missing" if there is none.
        found: String,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// A key is not known at this place.
    #[error("unknown key `{key}`: expected {expected}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that are allowed.
        expected: &'static str,
    },
    /// The header's configuration is not valid.
    #[error("config: {0}")]
    Config(#[from] ConfigTextError),
    /// The header's dialect is not valid.
    #[error("dialect: {0}")]
    Dialect(#[from] DescriptionError),
}

type Result<T, E = TraceError> = core::result::Result<T, E>;

/// The first line of a trace: everything needed to create the machine. Every key is optional.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Header {
    /// The timing rules. Without this key, the defaults with the times that the dialect asks for.
    pub config: Config,
    /// The dialect: a name of the catalogue, or a description.
    pub dialect: AnyDialect,
    /// Seed of the jitter.
    pub seed: u64,
    /// The time at which the machine is created.
    pub start: Instant,
    /// The machine is a server's: its only connection is open from the start ([`Heartbeat::accepted`]).
    pub accepted: bool,
    /// The machine's state, if the trace begins in the middle of its life. `seed` and `start` then have no effect.
    pub memory: Option<Memory>,
    /// The values for the dialect's templates, besides those that the dialect tracks.
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
        header.config = match config {
            Some(config) => config,
            None => {
                let configured = header.dialect.configure(&Config::default());
                configured.map_err(ConfigTextError::Rule)?
            }
        };
        Ok(header)
    }

    /// Writes the header as a line.
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

    /// Creates the machine that the header describes.
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

/// A machine that replays a trace, together with the values for its dialect's messages.
///
/// ```
/// use heartbeat_core::trace::{Header, Replay, read_event};
///
/// let mut replay = Replay::new(Header::read(r#"{"dialect": "discord", "seed": 7}"#)?);
/// for line in [r#"{"at": 0, "event": "tick"}"#, r#"{"at": 0, "event": "connected", "conn": 1}"#] {
///     replay.answer(&read_event(line)?);
/// }
/// // Discord asks for a heartbeat. The answer contains the number of its last event (`s`).
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
    /// Creates the machine at the beginning of the trace.
    #[must_use]
    pub fn new(header: Header) -> Self {
        Self {
            variables: header.variables.clone(),
            machine: header.heartbeat(),
        }
    }

    /// Returns the answer to the next event, as a line. Templates get the time since the trace's origin as the time
    /// since 1970, so that equal traces give equal lines. A message whose template needs an unknown variable is
    /// `null`.
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
        write::answer_in(dialect, &self.variables, recorded.at, &step, phase)
    }
}

fn object(key: &'static str, line: &str, expected: &'static str) -> Result<Map<String, Value>> {
    let value: Unique =
        serde_json::from_str(line).map_err(|error| TraceError::Json(error.to_string()))?;
    match value.value().map_err(|key| TraceError::Twice { key })? {
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

    #[test]
    fn a_header_in_which_a_key_stands_twice_is_refused_by_its_place() {
        for (line, key) in [
            (r#"{"seed":1,"seed":2}"#, "seed"),
            (
                r#"{"config":{"idle_timeout":"9s","idle_timeout":"1m"}}"#,
                "config.idle_timeout",
            ),
            (
                r#"{"dialect":{"rules":[{"text":"a","text":"b","beat":true}]}}"#,
                "dialect.rules[0].text",
            ),
        ] {
            let refused = Header::read(line).expect_err(line);
            let TraceError::Twice { key: found } = refused else {
                panic!("{refused}");
            };
            assert_eq!(found, key);
        }
    }
}
