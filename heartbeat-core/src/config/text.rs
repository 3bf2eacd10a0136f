//! Reading and writing a [`Config`] as text: JSON, or any self-describing format that serde reads.

use alloc::string::{String, ToString};
use alloc::{format, vec};
use core::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::cause::{CauseKind, RetryPolicy};
use crate::config::{Config, ConfigBuilder, ConfigError, MIN_BACKOFF_BASE, PermanentErrors, Ping};
use crate::duration_text::{DurationError, DurationText, parse_duration};
use crate::json_text::Unique;

debug_as_display!(ConfigTextError);

/// The reason why a text is not a configuration. Each variant names the key, the value and the rule.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigTextError {
    /// The text is not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// A key appears twice, so its value is ambiguous.
    #[error("`{key}` is there twice")]
    Twice {
        /// The key.
        key: String,
    },
    /// No setting has this key.
    #[error("unknown key `{key}`; known are {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that are allowed.
        known: &'static str,
    },
    /// A value has the wrong kind.
    #[error("`{key}` is {found}: expected {expected}")]
    WrongKind {
        /// The key.
        key: String,
        /// The value found.
        found: String,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// A text is not a duration.
    #[error("`{key}` is \"{text}\": {error}")]
    Duration {
        /// The key.
        key: String,
        /// The text found.
        text: String,
        /// The error in the text.
        error: DurationError,
    },
    /// The text is readable, but a setting is out of range or two settings contradict each other.
    #[error(transparent)]
    Rule(#[from] ConfigError),
}

type Result<T, E = ConfigTextError> = core::result::Result<T, E>;

impl Config {
    /// Reads a configuration from a JSON object. Every key is optional. A duration is text with a unit (`"90s"`,
    /// `"1500ms"`), and `null` switches an optional setting off.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::Config; // or heartbeat_core
    /// let config = Config::from_json(r#"{
    ///     "idle_timeout": "20s", "check_interval": null, "ping": {"after_silence": "5s"},
    ///     "pong_timeout": "5s", "keepalive": null, "data_timeout": "1m", "connect_timeout": "5s",
    ///     "write_timeout": "10s", "close_timeout": "2s", "late_grace": "1s",
    ///     "backoff": {"base": "500ms", "cap": "30s", "jitter_percent": 50},
    ///     "stable_after": "10s", "max_attempts": 8, "session_timeout": "10s", "lifetime": "24h", "time_to_live": "30s",
    ///     "permanent_errors": "give_up_unless_stable", "fixed_credentials": false,
    ///     "causes": {"close 1000": "never", "http 403": {"after": "5m"}, "http 418": "retry_after"}
    /// }"#)?;
    /// assert_eq!(config.worst_case_detection().as_secs(), 10);
    ///
    /// let error = Config::from_json(r#"{"ping": {"every": "2m"}}"#).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "`ping` is 120s: it must be shorter than `idle_timeout`, which is 90s (default); \
    ///      set `idle_timeout` to more than 120s, too",
    /// );
    /// # Ok::<(), heartbeat_core::ConfigTextError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigTextError`] names the key and the rule.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Unique =
            serde_json::from_str(text).map_err(|error| ConfigTextError::Json(error.to_string()))?;
        Self::from_unique(value)
    }

    fn from_unique(value: Unique) -> Result<Self> {
        let value = value.value();
        Self::from_value(&value.map_err(|key| ConfigTextError::Twice { key })?)
    }

    /// Reads a configuration from parsed JSON. See [`from_json`](Self::from_json).
    ///
    /// # Errors
    /// [`ConfigTextError`] names the key and the rule.
    pub fn from_value(value: &Value) -> Result<Self> {
        let object = value
            .as_object()
            .ok_or_else(|| wrong_kind("config", value, "an object"))?;
        let mut builder = Config::builder();
        for (key, value) in object {
            builder = read_setting(builder, key, value)?;
        }
        Ok(builder.build()?)
    }

    /// Returns the configuration as a JSON object with all keys. [`Config::from_value`] reads the object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let (base, cap, jitter_percent) = self.backoff();
        let mut object = json!({
            "idle_timeout": text(self.idle_timeout()),
            "check_interval": self.check_interval().map(text),
            "ping": match self.ping() {
                Ping::Never => json!("never"),
                Ping::AfterSilence(silence) => json!({"after_silence": text(silence)}),
                Ping::Every(interval) => json!({"every": text(interval)}),
            },
            "keepalive": self.keepalive().map(text),
            "pong_timeout": self.pong_timeout().map(text),
            "pong_timeout_floor": self.pong_timeout_floor().map(text),
            "data_timeout": self.data_timeout().map(text),
            "connect_timeout": text(self.connect_timeout()),
            "write_timeout": self.write_timeout().map(text),
            "close_timeout": text(self.close_timeout()),
            "late_grace": text(self.late_grace()),
            "backoff": {"base": text(base), "cap": text(cap), "jitter_percent": jitter_percent},
            "stable_after": text(self.stable_after()),
            "max_attempts": self.max_attempts(),
            "session_timeout": self.session_timeout().map(text),
            "lifetime": self.lifetime().map(text),
            "time_to_live": text(self.time_to_live()),
            "permanent_errors": match self.permanent_errors() {
                PermanentErrors::GiveUp => "give_up",
                PermanentErrors::GiveUpUnlessStable => "give_up_unless_stable",
                PermanentErrors::Retry => "retry",
            },
            "fixed_credentials": self.fixed_credentials(),
        });
        let causes: Map<String, Value> = self
            .overrides()
            .iter()
            .map(|(signal, verdict)| (signal_text(signal), verdict_value(verdict)))
            .collect();
        if let (false, Some(object)) = (causes.is_empty(), object.as_object_mut()) {
            object.insert("causes".into(), causes.into());
        }
        object
    }
}

const KEYS: &str = "idle_timeout, check_interval, ping, keepalive, pong_timeout, pong_timeout_floor, data_timeout, \
     connect_timeout, write_timeout, close_timeout, late_grace, backoff, stable_after, max_attempts, session_timeout, \
     lifetime, time_to_live, permanent_errors, fixed_credentials, causes";

fn read_setting(builder: ConfigBuilder, key: &str, value: &Value) -> Result<ConfigBuilder> {
    Ok(match key {
        "idle_timeout" => builder.idle_timeout(duration(key, value)?),
        "check_interval" => builder.check_interval(optional_duration(key, value)?),
        "ping" => builder.ping(ping(value)?),
        "keepalive" => builder.keepalive(optional_duration(key, value)?),
        "pong_timeout" => builder.pong_timeout(optional_duration(key, value)?),
        "pong_timeout_floor" => builder.pong_timeout_floor(optional_duration(key, value)?),
        "data_timeout" => builder.data_timeout(optional_duration(key, value)?),
        "connect_timeout" => builder.connect_timeout(duration(key, value)?),
        "write_timeout" => builder.write_timeout(optional_duration(key, value)?),
        "close_timeout" => builder.close_timeout(duration(key, value)?),
        "late_grace" => builder.late_grace(duration(key, value)?),
        "backoff" => backoff(builder, value)?,
        "stable_after" => builder.stable_after(duration(key, value)?),
        "max_attempts" => builder.max_attempts(attempts(key, value)?),
        "session_timeout" => builder.session_timeout(optional_duration(key, value)?),
        "lifetime" => builder.lifetime(optional_duration(key, value)?),
        "time_to_live" => builder.time_to_live(duration(key, value)?),
        "permanent_errors" => builder.permanent_errors(permanent_errors(value)?),
        "fixed_credentials" => {
            let fixed = value.as_bool();
            builder.fixed_credentials(fixed.ok_or_else(|| wrong_kind(key, value, "true or false"))?)
        }
        "causes" => causes(builder, value)?,
        _ => return Err(unknown(key, KEYS)),
    })
}

fn ping(value: &Value) -> Result<Ping> {
    let expected = "\"never\", {\"after_silence\": \"30s\"} or {\"every\": \"20s\"}";
    if value == "never" {
        return Ok(Ping::Never);
    }
    let (key, value) = single_entry("ping", value, expected)?;
    match key {
        "after_silence" => Ok(Ping::AfterSilence(duration("ping.after_silence", value)?)),
        "every" => Ok(Ping::Every(duration("ping.every", value)?)),
        _ => Err(unknown(&format!("ping.{key}"), "after_silence, every")),
    }
}

fn backoff(builder: ConfigBuilder, value: &Value) -> Result<ConfigBuilder> {
    let object = value
        .as_object()
        .ok_or_else(|| wrong_kind("backoff", value, "an object"))?;
    let (default, mut cap, mut jitter_percent) = Config::default().backoff();
    let (mut base, mut has_cap) = (None, false);
    for (key, value) in object {
        match key.as_str() {
            "base" => base = Some(duration("backoff.base", value)?),
            "cap" => (cap, has_cap) = (duration("backoff.cap", value)?, true),
            "jitter_percent" => {
                let percent = value
                    .as_u64()
                    .and_then(|percent| u8::try_from(percent).ok())
                    .filter(|p| *p <= 100);
                let expected = "a whole number from 0 to 100";
                jitter_percent =
                    percent.ok_or_else(|| wrong_kind("backoff.jitter_percent", value, expected))?;
            }
            _ => {
                return Err(unknown(
                    &format!("backoff.{key}"),
                    "base, cap, jitter_percent",
                ));
            }
        }
    }
    // If the cap alone is set and lower than the default base, the base is lowered to it.
    let base = base.unwrap_or(default.min(cap).max(MIN_BACKOFF_BASE));
    let builder = builder.backoff(base, cap, jitter_percent);
    Ok(match has_cap {
        true => builder,
        false => builder.with_default_cap(),
    })
}

fn permanent_errors(value: &Value) -> Result<PermanentErrors> {
    match value.as_str() {
        Some("give_up") => Ok(PermanentErrors::GiveUp),
        Some("give_up_unless_stable") => Ok(PermanentErrors::GiveUpUnlessStable),
        Some("retry") => Ok(PermanentErrors::Retry),
        _ => Err(wrong_kind(
            "permanent_errors",
            value,
            "\"give_up\", \"give_up_unless_stable\" or \"retry\"",
        )),
    }
}

fn attempts(key: &str, value: &Value) -> Result<Option<u32>> {
    if value.is_null() {
        return Ok(None);
    }
    let attempts = value
        .as_u64()
        .and_then(|attempts| u32::try_from(attempts).ok());
    attempts
        .map(Some)
        .ok_or_else(|| wrong_kind(key, value, "a whole number up to 4294967295, or null"))
}

fn causes(mut builder: ConfigBuilder, value: &Value) -> Result<ConfigBuilder> {
    let object = value
        .as_object()
        .ok_or_else(|| wrong_kind("causes", value, "an object"))?;
    for (key, value) in object {
        let signal = signal(key).ok_or_else(|| {
            unknown(
                &format!("causes.{key}"),
                "close CODE, http STATUS, refused, reset, eof, tls, io, session",
            )
        })?;
        builder = builder.on(signal, verdict(&format!("causes.{key}"), value)?);
    }
    Ok(builder)
}

fn signal(text: &str) -> Option<CauseKind> {
    Some(match text {
        "refused" => CauseKind::Refused,
        "reset" => CauseKind::Reset,
        "eof" => CauseKind::Eof,
        "tls" => CauseKind::Tls,
        "io" => CauseKind::Io,
        "session" => CauseKind::Session,
        _ => match text.split_once(' ')? {
            ("close", code) => CauseKind::Close(number(code)?),
            ("http", status) => CauseKind::Http(number(status)?),
            _ => return None,
        },
    })
}

/// Reads a number in its canonical spelling, so that each cause has exactly one key.
fn number(text: &str) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn signal_text(signal: CauseKind) -> String {
    match signal {
        CauseKind::Refused => "refused".into(),
        CauseKind::Reset => "reset".into(),
        CauseKind::Eof => "eof".into(),
        CauseKind::Tls => "tls".into(),
        CauseKind::Io => "io".into(),
        CauseKind::Session => "session".into(),
        CauseKind::Close(code) => format!("close {code}"),
        CauseKind::Http(status) => format!("http {status}"),
    }
}

/// The forms in which a retry policy is written.
pub(crate) const VERDICT: &str = "\"backoff\", \"refresh\", \"never\", \"retry_after\", {\"retry_after_or\": \"2m\"}, \
         {\"after\": \"7s\"} or {\"spread\": [\"5s\", \"30s\"]}";

pub(crate) fn verdict(key: &str, value: &Value) -> Result<RetryPolicy> {
    let expected = VERDICT;
    match value.as_str() {
        Some("backoff") => return Ok(RetryPolicy::Backoff),
        Some("refresh") => return Ok(RetryPolicy::Refresh),
        Some("never") => return Ok(RetryPolicy::Never),
        Some("retry_after") => return Ok(RetryPolicy::RetryAfter { or: Duration::ZERO }),
        _ => {}
    }
    match single_entry(key, value, expected)? {
        ("after", value) => Ok(RetryPolicy::After(duration(key, value)?)),
        ("retry_after_or", value) => Ok(RetryPolicy::RetryAfter {
            or: duration(key, value)?,
        }),
        ("spread", Value::Array(range)) if range.len() == 2 => {
            let (from, to) = (duration(key, &range[0])?, duration(key, &range[1])?);
            Ok(RetryPolicy::Spread(from.min(to), from.max(to)))
        }
        _ => Err(wrong_kind(key, value, expected)),
    }
}

pub(crate) fn verdict_value(verdict: RetryPolicy) -> Value {
    match verdict {
        RetryPolicy::Backoff => json!("backoff"),
        RetryPolicy::Refresh => json!("refresh"),
        RetryPolicy::Never => json!("never"),
        RetryPolicy::RetryAfter { or: Duration::ZERO } => json!("retry_after"),
        RetryPolicy::RetryAfter { or } => json!({"retry_after_or": text(or)}),
        RetryPolicy::After(least) => json!({"after": text(least)}),
        RetryPolicy::Spread(from, to) => json!({"spread": vec![text(from), text(to)]}),
    }
}

/// Returns the only entry of an object.
fn single_entry<'v>(
    key: &str,
    value: &'v Value,
    expected: &'static str,
) -> Result<(&'v str, &'v Value)> {
    let object = value.as_object().filter(|object| object.len() == 1);
    let entry = object.and_then(|object| object.iter().next());
    entry
        .map(|(key, value)| (key.as_str(), value))
        .ok_or_else(|| wrong_kind(key, value, expected))
}

fn optional_duration(key: &str, value: &Value) -> Result<Option<Duration>> {
    if value.is_null() {
        Ok(None)
    } else {
        duration(key, value).map(Some)
    }
}

pub(crate) fn duration(key: &str, value: &Value) -> Result<Duration> {
    let text = value
        .as_str()
        .ok_or_else(|| wrong_kind(key, value, "a duration in text, such as \"90s\""))?;
    parse_duration(text).map_err(|error| ConfigTextError::Duration {
        key: key.into(),
        text: text.into(),
        error,
    })
}

fn text(duration: Duration) -> String {
    DurationText(duration).to_string()
}

fn wrong_kind(key: &str, value: &Value, expected: &'static str) -> ConfigTextError {
    ConfigTextError::WrongKind {
        key: key.into(),
        found: value.to_string(),
        expected,
    }
}

fn unknown(key: &str, known: &'static str) -> ConfigTextError {
    ConfigTextError::UnknownKey {
        key: key.into(),
        known,
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_unique(Unique::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Config::from_json(text).expect_err(text).to_string()
    }

    #[test]
    fn every_refusal_names_the_key_and_the_rule() {
        for (text, words) in [
            ("[]", "`config` is []: expected an object"),
            ("{", "not JSON"),
            (
                r#"{"idle": "9s"}"#,
                "unknown key `idle`; known are idle_timeout",
            ),
            (
                r#"{"idle_timeout": 90}"#,
                "`idle_timeout` is 90: expected a duration in text",
            ),
            (r#"{"idle_timeout": null}"#, "`idle_timeout` is null"),
            (
                r#"{"idle_timeout": "90"}"#,
                "`idle_timeout` is \"90\": a duration is a number and a unit",
            ),
            (r#"{"idle_timeout": "0s"}"#, "`idle_timeout` is zero"),
            (
                r#"{"idle_timeout": "1us"}"#,
                "`idle_timeout` is 1us: it must be at least 1ms",
            ),
            (
                r#"{"idle_timeout": "200000d"}"#,
                "`idle_timeout` is 17280000000s: it must be at most",
            ),
            (
                r#"{"idle_timeout": "30s", "ping": {"every": "30s"}}"#,
                "`ping` is 30s: it must be shorter than `idle_timeout`, which is 30s",
            ),
            (
                r#"{"ping": {"every": "90s"}}"#,
                "`ping` is 90s: it must be shorter than `idle_timeout`, which is 90s (default); set `idle_timeout` to more \
                 than 90s, too",
            ),
            (
                r#"{"ping": "often"}"#,
                "`ping` is \"often\": expected \"never\"",
            ),
            (r#"{"ping": {"after": "1s"}}"#, "unknown key `ping.after`"),
            (
                r#"{"pong_timeout_floor": "61s"}"#,
                "`pong_timeout_floor` is 61s: it must not be longer than `pong_timeout`, which is 60s (default); \
                 set `pong_timeout` to at least 61s, too",
            ),
            (
                r#"{"backoff": {"base": "61s"}}"#,
                "`backoff.base` is 61s: it must not be longer than `backoff.cap`, which is 60s (default); set `backoff.cap` \
                 to at least 61s, too",
            ),
            (
                r#"{"backoff": {"base": "20ms"}}"#,
                "`backoff.base` is 20ms: it must be at least 50ms",
            ),
            (
                r#"{"backoff": {"jitter_percent": 101}}"#,
                "`backoff.jitter_percent` is 101: expected a whole number",
            ),
            (
                r#"{"backoff": {"factor": 3}}"#,
                "unknown key `backoff.factor`",
            ),
            (r#"{"max_attempts": 0}"#, "`max_attempts` is zero"),
            (r#"{"max_attempts": -1}"#, "`max_attempts` is -1"),
            (
                r#"{"ping": "never", "idle_timeout": "9s", "ping": {"every": "1s"}}"#,
                "`ping` is there twice",
            ),
            (
                r#"{"causes": {"close 1000": "never", "close 1000": "backoff"}}"#,
                "`causes.close 1000` is there twice",
            ),
            (
                r#"{"causes": {"close 1000": "never", "close 01000": "backoff"}}"#,
                "unknown key `causes.close 01000`",
            ),
            (
                r#"{"causes": {"http +503": "backoff"}}"#,
                "unknown key `causes.http +503`",
            ),
            (
                r#"{"causes": {"close": "never"}}"#,
                "unknown key `causes.close`",
            ),
            (
                r#"{"causes": {"close 1000": "maybe"}}"#,
                "`causes.close 1000` is \"maybe\"",
            ),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(words), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for config in [Config::default(), Config::brisk(), Config::thrifty()] {
            assert_eq!(Config::from_value(&config.to_value()), Ok(config));
        }
        let text = r#"{"ping": {"every": "20s"}, "pong_timeout_floor": "2s", "causes": {"close 4001": "never", "http 503": {"after": "9s"},
            "tls": {"spread": ["1s", "2s"]}, "eof": "refresh", "io": "backoff", "http 418": "retry_after",
            "http 403": {"retry_after_or": "2m"}}}"#;
        let config = Config::from_json(text).unwrap();
        assert_eq!(config.overrides().iter().count(), 7);
        assert_eq!(Config::from_value(&config.to_value()), Ok(config));
    }
}
