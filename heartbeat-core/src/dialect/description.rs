//! A dialect as data: rules, read from JSON and checked, and how a message is held against them.

use alloc::boxed::Box;
use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::First;
use super::error::DescriptionError;
use super::prefilter::Filter;
use super::rule::Rule;
use super::scan::Paths;
use super::template::Template;
use crate::cause::Verdict;
use crate::config::{Config, Ping};

/// A dialect described by data: ordered rules that tell heartbeats from data, and what to send.
///
/// Holding one means that it is valid. It is read from JSON ([`Description::from_json`]) or from any
/// format that serde reads. Every key is optional:
///
/// ```
/// use heartbeat_core::{Class, Description, Dialect, Values, Variables};
///
/// let dialect = Description::from_json(r#"{
///     "rules": [
///         {"json": {"/op": "ping", "/ret_msg": "pong"}, "pong": true},
///         {"json": {"/op": "ping", "/ts": {"is": "number"}}, "reply": "{\"op\":\"pong\",\"ts\":${/ts}}"},
///         {"json": {"/channel": "heartbeat", "/data": {"exists": false}}, "beat": true}
///     ],
///     "ping": {"text": "{\"op\":\"ping\",\"req_id\":\"${id}\"}", "every": "20s"}
/// }"#)?;
/// let Class::Ping(heartbeat_core::Reply::Draft(draft)) =
///     dialect.classify_text(r#"{"ts": 18446744073709551616, "op": "\u0070ing"}"#) else { panic!() };
/// let (mut buffer, variables) = (String::new(), Variables::new());
/// let values = Values { unix_ms: 0, variables: &variables };
/// let reply = dialect.render(&draft, &values, &mut buffer);
/// assert_eq!(reply, Some(heartbeat_core::Outgoing::Text(r#"{"op":"pong","ts":18446744073709551616}"#)));
/// # Ok::<(), heartbeat_core::DescriptionError>(())
/// ```
///
/// # Rules
///
/// The first rule that matches decides; a message that none matches is data. Each rule says what a
/// message must look like:
///
/// | key | matches |
/// |---|---|
/// | `"text": "ping"` | exactly this text message |
/// | `"bytes": "029106"` | exactly this binary message, in hex |
/// | `"prefix": "PING :"` | a text message that begins so; with `"rest": "digits"` only digits may follow |
/// | `"json": {"/op": "ping", …}` | a JSON object or array of which each condition is true; after a `prefix`, the text behind it |
///
/// A condition is a path (a JSON Pointer of at most three steps) and a value that must stand there:
/// a string, a whole number, `true`, `false` or `null`; or `{"exists": true}`, `{"exists": false}`,
/// `{"is": "number"}`. A value that a reply repeats must exist for the rule to match.
///
/// And each says what it is then: `"reply": "…"` (a ping that wants this answer), `"beat": true`
/// (life, never answered), `"pong": true` or `"pong": {"id": "/id"}` (an answer to us, told from other
/// responses by its id), `"data": true` (the application's, whatever later rules say). Next to any
/// of them, or alone, `"hello"` says where the service announces its own times:
/// `"hello": {"ping": {"ms": "/d/heartbeat_interval"}, "idle_timeout": {"ms": ["/a", "/b"], "plus": "10s"}}`,
/// unit `ms` or `s`; `"inside": "/data"` where they stand in JSON that is a string.
///
/// # Templates
///
/// A text with placeholders: `${/data/ts}` is the value at that path exactly as it came, quotes and
/// digits included; `${rest}` what follows the rule's prefix; `${message}` the whole message; `${id}` a
/// running number; `${now_ms}`, `${now_s}` the time since 1970; any other name a variable of the
/// application's. `$${` is a literal `${`. A binary message is written `{"bytes": "029106"}`.
///
/// # Around the rules
///
/// - `ping`: `"never"`, `"frame"`, or an object with `text`, `bytes` or `"frame": true`; when:
///   `every`, `after_silence` or `after_sending` (after silence of our own) with a duration;
///   `"first": "at_once"` or `"jittered"`; `pong_timeout`.
/// - `idle_timeout`: how long the service may be silent.
/// - `on_open`: an array of templates, sent in this order when a connection is open.
/// - `close_codes`: what the service's own codes ask for, `{"4004": "never", "4100-4199": "backoff"}`.
/// - `separator`: messages are records with this text between or behind them.
/// - `track`: `{"seq": {"path": "/s", "initial": "null"}}` keeps the last value that is not null, for `${seq}`.
/// - `max_len`: longer texts (records, if there is a separator) are data; default 4096.
#[derive(Clone)]
pub struct Description {
    pub(super) source: Box<str>,
    pub(super) rules: Box<[Rule]>,
    pub(super) paths: Paths,
    pub(super) templates: Box<[Template]>,
    pub(super) filter: Filter,
    pub(super) separator: Option<Box<str>>,
    pub(super) max_len: usize,
    /// The longest binary message that a rule matches.
    pub(super) longest_binary: Option<usize>,
    pub(super) question: Question,
    /// Some rule tells the answer to a question.
    pub(super) is_answered: bool,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) tracks: Box<[Track]>,
    /// Templates to send when the connection is open.
    pub(super) greetings: Box<[u16]>,
    pub(super) close_codes: Box<[(RangeInclusive<u16>, Verdict)]>,
}

/// How and when the client asks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Question {
    /// The template; none: a ping frame.
    pub(super) template: Option<u16>,
    pub(super) schedule: Schedule,
    pub(super) first: First,
    pub(super) pong_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Schedule {
    /// The configuration's.
    #[default]
    Default,
    Never,
    Every(Duration),
    AfterSilence(Duration),
    AfterSending(Duration),
}

/// A value of the application's messages that a template needs.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) name: Box<str>,
    pub(super) slot: usize,
    pub(super) initial: Option<Box<str>>,
}

impl Description {
    /// The longest text that a rule looks at, unless `max_len` says otherwise, in bytes.
    pub const DEFAULT_MAX_LEN: usize = 4096;

    /// Reads a description from JSON.
    ///
    /// ```
    /// use heartbeat_core::Description;
    /// let error = Description::from_json(r#"{"rules": [{"text": "ping", "reply": "${rest}"}]}"#);
    /// assert_eq!(
    ///     error.unwrap_err().to_string(),
    ///     "`rules[0].reply`: the placeholder ${rest} needs a rule with a prefix",
    /// );
    /// # Ok::<(), heartbeat_core::DescriptionError>(())
    /// ```
    ///
    /// # Errors
    /// [`DescriptionError`] names the place, what stands there, and the rule.
    pub fn from_json(text: &str) -> Result<Self, DescriptionError> {
        super::load::from_json(text)
    }

    /// The same from JSON that was parsed already.
    ///
    /// # Errors
    /// [`DescriptionError`] names the place, what stands there, and the rule.
    pub fn from_value(value: &Value) -> Result<Self, DescriptionError> {
        super::load::from_value(value)
    }

    /// The JSON text that it was read from, in its shortest form.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.source
    }

    /// `base` with the times that this service asks for: its ping schedule, and silence timeouts
    /// that fit it. What the description does not say stays as it is.
    #[must_use]
    pub fn configure(&self, base: &Config) -> Config {
        let mut builder = base.to_builder();
        let (mut idle, mut ping) = (
            self.idle_timeout.unwrap_or(base.idle_timeout()),
            base.ping(),
        );
        match self.question.schedule {
            Schedule::Default => {}
            Schedule::Never => ping = Ping::Never,
            Schedule::Every(interval) => ping = Ping::Every(interval),
            Schedule::AfterSilence(silence) => ping = Ping::AfterSilence(silence),
            Schedule::AfterSending(silence) => builder = builder.keepalive(silence),
        }
        if let Ping::Every(time) | Ping::AfterSilence(time) = &mut ping {
            let is_base = matches!(
                self.question.schedule,
                Schedule::Default | Schedule::AfterSending(_)
            );
            if self.idle_timeout.is_some() && is_base {
                // The base's schedule is of no use in a shorter silence.
                *time = (*time).min(idle / 2);
            }
            // Three questions before silence is judged, where the service says nothing else.
            if *time >= idle {
                idle = time.saturating_mul(3);
            }
        }
        builder = builder.idle_timeout(idle).ping(ping);
        if let Some(timeout) = self.question.pong_timeout {
            builder = builder.pong_timeout(timeout);
        }
        builder.build().unwrap_or_else(|_| base.clone())
    }

    /// The names of the variables that its templates need from the application.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let is_tracked = |name: &str| self.tracks.iter().any(|track| *track.name == *name);
        self.templates
            .iter()
            .flat_map(Template::variables)
            .filter(move |name| !is_tracked(name))
    }
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Description").field(&self.source).finish()
    }
}

impl PartialEq for Description {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Description {}

impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Description {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: Value = serde_json::from_str(&self.source).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}
