//! Descriptions: dialects as data, with rules that are read from JSON, checked, and applied to messages.
//!
//! JSON goes in. A [`Description`], which is a dialect, comes out. `load.rs`, `load_times.rs` and `load_limits.rs`
//! read it, `classify.rs` applies it, `build.rs` builds one in Rust. Read this file first.

mod build;
mod classify;
mod load;
mod load_limits;
mod load_times;
mod loader;

pub use self::build::{DescriptionBuilder, Rule};

use alloc::boxed::Box;
use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use crate::cause::RetryPolicy;
use crate::config::{Config, ConfigError, Ping};
use crate::dialect::Dialect;
use crate::dialect::json::Paths;
use crate::dialect::limits::Limits;
use crate::dialect::ping::First;
use crate::dialect::rules::{self, Filter};
use crate::dialect::template::{Template, Track};

/// A dialect described by data: ordered rules that distinguish heartbeats from data, and the messages to send.
///
/// A `Description` is always valid. [`Description::from_json`] reads it from JSON, and serde reads it from any
/// self-describing format. Every key is optional:
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use heartbeat_tokio::core::{Buffer, Class, Description, Dialect, Values, Variables}; // or heartbeat_core
///
/// let dialect = Description::from_json(r#"{
///     "rules": [
///         {"json": {"/op": "ping", "/ret_msg": "pong"}, "pong": true},
///         {"json": {"/op": "ping", "/ts": {"is": "number"}}, "reply": "{\"op\":\"pong\",\"ts\":${/ts}}"},
///         {"json": {"/channel": "heartbeat", "/data": {"exists": false}}, "beat": true}
///     ],
///     "ping": {"text": "{\"op\":\"ping\",\"req_id\":\"${id}\"}", "every": "20s"}
/// }"#)?;
/// let Class::Ping(heartbeat_tokio::core::Reply::Template(template)) =
///     dialect.classify_text(r#"{"ts": 18446744073709551616, "op": "\u0070ing"}"#) else { panic!() };
/// let (mut buffer, variables) = (Buffer::default(), Variables::new());
/// let values = Values { unix_ms: 0, variables: &variables };
/// let reply = dialect.render(&template, &values, &mut buffer);
/// assert_eq!(reply, Some(heartbeat_tokio::core::Outgoing::Text(r#"{"op":"pong","ts":18446744073709551616}"#)));
/// # Ok::<(), heartbeat_core::DescriptionError>(())
/// ```
///
/// # Rules
///
/// The first rule that matches decides. A message that no rule matches is data. Each rule has a pattern for
/// messages:
///
/// | key | matches |
/// |---|---|
/// | `"text": "ping"` | exactly this text message |
/// | `"bytes": "0291??*"` | this binary message, in hex; `??` is any byte, `*` at the end any further bytes |
/// | `"prefix": "PING :"` | a text message with this prefix; with `"rest": "digits"` only digits may follow |
/// | `"json": {"/op": "ping", …}` | a JSON object or array that fulfils each condition; after a `prefix`, the text behind it |
///
/// A condition is a path (a JSON Pointer of at most five steps) and the value required there: a string, a whole
/// number, `true`, `false` or `null`; or `{"exists": true}`, `{"exists": false}`, `{"is": "number"}`. A rule
/// matches only if every value that its reply repeats exists.
///
/// Each rule also has an outcome, the classification of a matching message:
///
/// - `"reply": "…"`: a ping, to be answered with this message.
/// - `"beat": true`: a heartbeat that needs no answer.
/// - `"pong": true` or `"pong": {"id": "/id"}`: the answer to a ping of the client. With an id, the id
///   distinguishes a pong from other responses.
/// - `"data": true`: data for the application, whatever later rules say.
/// - `"hello"`, alone or next to another outcome: the places of the service's own times, `"hello": {"ping": {"ms":
///   "/d/heartbeat_interval"}, "idle_timeout": {"ms": ["/a", "/b"], "plus": "10s"}}`. The unit is `ms` or `s`.
///   Values are numbers or strings of digits (for `s` also `"3.5s"`, protobuf's form of a duration in JSON).
///   `"inside": "/data"` reads the times from JSON that is a string.
/// - `"ending"`, alone or next to another outcome: the service announces that it will end this connection, within
///   `"30s"`, within a time in the message (`{"ms": "/left"}`, units as in `hello`), or soon (`true`: within 10 s).
///   The machine renews the connection before then.
///
/// # Templates
///
/// A template is a text with placeholders:
///
/// | placeholder | stands for |
/// |---|---|
/// | `${/data/ts}` | the value at that path exactly as it came, including quotes and digits; `${/data/ts:bare}` omits the quotes |
/// | `${rest}` | the text after the rule's prefix |
/// | `${message}` | the whole message |
/// | `${id}` | a running number |
/// | `${now_s}`, `${now_ms}`, `${now_us}`, `${now_ns}` | the time since 1970 |
/// | `${now_iso}` | the time as `2023-11-14T22:13:20.123Z`; `${now_iso_s}` and `${now_iso_us}` have none or six digits after the second |
/// | `${uuid}` | a new UUID |
/// | `${name}` | a value that is listed in `variables` or `computed`, or tracked |
/// | `$${` | a literal `${` |
///
/// A binary message is written `{"bytes": "029106"}`. In it, `${2..10}` and `${4..}` are bytes of the binary
/// message to answer. `${id:FORMAT}`, `${now_ms:FORMAT}` and the other times, and `${name:FORMAT}` are numbers,
/// written as `u32be`, `u32le`, `u64be`, `u64le`, `varint` (protobuf's) or `text`.
///
/// # Around the rules
///
/// - `ping`: `"never"`, `"frame"`, or an object with `text`, `bytes` or `"frame": true`. Its times are `every`,
///   `after_silence` or `after_sending` (after silence of the client) with a duration; `"first": "at_once"` or
///   `"jittered"`; `"jitter_percent": 20`, the largest part of the interval by which a ping comes early; and
///   `pong_timeout`.
/// - `idle_timeout`: the longest silence of a healthy service.
/// - `on_open`: an array of templates, sent in this order when a connection opens.
/// - `close_codes`: policies for close codes (1000–4999), `{"4004": "never", "4100-4199": {"after": "30s"}}`. A
///   policy is `"backoff"`, `"refresh"`, `"never"`, `{"after": …}`, `{"spread": ["5s", "30s"]}` or any other policy
///   of a configuration's `causes`. A key with words, `"1008 no pong"`, applies to a Close whose reason contains
///   these words: [`Description::close_policy_with`].
/// - `http_statuses`: policies for HTTP statuses in place of the upgrade, `{"418": {"after": "2m"}, "500-599":
///   "backoff"}`.
/// - `lifetime`: the longest life of a connection, `"24h"`, at least 1 s: [`Description::lifetime`].
/// - `limits`: a client's limits, `{"messages": "5/1s", "dials": ["20/1s", "600/1m"], "connections": 10}`. A rate
///   counts per time of at most 24 h; up to three rates may hold at once: [`Description::limits`].
/// - `separator`: messages are records with this text between or after them; `{"bytes": "0a"}` for binary ones.
/// - `batch`: `true` if a JSON array may hold several messages. The rules apply to each object or array in it, and
///   the application gets the whole array if any of its messages is data.
/// - `track`: `{"seq": {"path": "/s", "initial": "null"}}` keeps the last value that is not null, for `${seq}`.
/// - `variables`: the names of the application's own values, `["session"]` for `${session}`. `computed`: the names
///   of those that the application computes anew for each message, such as a signature. A name that is neither
///   listed nor tracked is refused, because it would never get a value.
/// - `max_len`: longer texts (records, if there is a separator) are data; default 4096.
///
/// # Each key by example
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use heartbeat_tokio::core::{Class, Config, Description, Dialect, Ping, RetryPolicy}; // or heartbeat_core
/// use core::time::Duration;
///
/// let read = |json: &str| Description::from_json(json).unwrap();
/// let is_ping = |dialect: &Description, text: &str| matches!(dialect.classify_text(text), Class::Ping(_));
///
/// // Exactly this text; this binary message, answered by another one.
/// let dialect = read(r#"{"rules": [{"text": "2", "reply": "3"}, {"bytes": "029106", "reply": {"bytes": "03"}}]}"#);
/// assert!(is_ping(&dialect, "2") && !is_ping(&dialect, "22"));
/// assert!(matches!(dialect.classify_binary(&[2, 0x91, 6]), Class::Ping(_)));
///
/// // A prefix, followed by digits alone or by JSON.
/// let dialect = read(r#"{"rules": [
///     {"prefix": "primus::ping::", "rest": "digits", "reply": "primus::pong::${rest}"},
///     {"prefix": "0", "json": {"/sid": {"is": "string"}}, "beat": true}
/// ]}"#);
/// assert!(is_ping(&dialect, "primus::ping::17") && !is_ping(&dialect, "primus::ping::x"));
/// assert_eq!(dialect.classify_text(r#"0{"sid":"a"}"#), Class::Beat);
///
/// // Conditions: a string, a number, a word; any value of a kind, any value, no value.
/// let dialect = read(r#"{"rules": [
///     {"json": {"/0": 2, "/1": null, "/2/ok": true}, "beat": true},
///     {"json": {"/op": "ping", "/ts": {"is": "number"}, "/id": {"exists": true}, "/data": {"exists": false}}, "pong": true}
/// ]}"#);
/// assert_eq!(dialect.classify_text(r#"[2,null,{"ok":true}]"#), Class::Beat);
/// assert_eq!(dialect.classify_text(r#"{"ts":1,"op":"ping","id":"x"}"#), Class::Pong);
/// assert_eq!(dialect.classify_text(r#"{"ts":1,"op":"ping","id":"x","data":0}"#), Class::Data);
///
/// // A pong recognized only by its id; data, whatever later rules say.
/// let dialect = read(r#"{"rules": [
///     {"json": {"/error": {"exists": true}}, "data": true},
///     {"json": {"/result": {"exists": true}}, "pong": {"id": "/id"}}
/// ]}"#);
/// assert_eq!(dialect.classify_text(r#"{"id":7,"result":null}"#), Class::Response("7"));
/// assert_eq!(dialect.classify_text(r#"{"id":7,"result":null,"error":1}"#), Class::Data);
///
/// // A service's own times: a sum plus a constant; or times in JSON inside a string.
/// let dialect = read(r#"{"rules": [
///     {"json": {"/v": 1}, "hello": {"idle_timeout": {"ms": ["/interval", "/timeout"], "plus": "1s"}}},
///     {"json": {"/v": 2}, "hello": {"ping": {"s": "/every", "inside": "/data"}}}
/// ]}"#);
/// let hello = |text| match dialect.classify_text(text) {
///     Class::Composite(carried) => carried.hello,
///     other => panic!("{other:?}"),
/// };
/// let told = hello(r#"{"v":1,"interval":20000,"timeout":5000}"#);
/// assert_eq!(told.idle_timeout, Some(Duration::from_secs(26)));
/// let told = hello(r#"{"v":2,"data":"{\"every\":15}"}"#);
/// assert_eq!(told.ping, Some(Ping::Every(Duration::from_secs(15))));
///
/// // The time of pings, and the longest time for an answer and for silence.
/// let dialect = read(r#"{
///     "ping": {"text": "ping ${now_ms}", "every": "20s", "first": "jittered", "pong_timeout": "5s"}, "idle_timeout": "45s"
/// }"#);
/// let config = dialect.configure(&Config::default()).unwrap();
/// assert_eq!((config.ping(), config.idle_timeout().as_secs()), (Ping::Every(Duration::from_secs(20)), 45));
/// assert_eq!(read(r#"{"ping": "never"}"#).configure(&config).unwrap().ping(), Ping::Never);
/// let frame = read(r#"{"ping": {"frame": true, "after_silence": "10s"}}"#).configure(&config).unwrap();
/// assert_eq!(frame.ping(), Ping::AfterSilence(Duration::from_secs(10)));
/// let beat = read(r#"{"ping": {"bytes": "09", "after_sending": "15s"}}"#).configure(&config).unwrap();
/// assert_eq!(beat.keepalive(), Some(Duration::from_secs(15)));
///
/// // Binary messages by position; an announced end; policies; a client's limits.
/// let dialect = read(r#"{
///     "rules": [{"bytes": "0801??*", "reply": {"bytes": "0802${2..}"}}, {"json": {"/e": "bye"}, "ending": true}],
///     "ping": {"bytes": "08${now_ms:u64le}", "every": "20s", "jitter_percent": 10},
///     "close_codes": {"1008 no pong": "backoff"}, "http_statuses": {"418": {"after": "2m"}},
///     "lifetime": "24h", "limits": {"messages": "5/1s"}
/// }"#);
/// assert!(matches!(dialect.classify_binary(&[8, 1, 7]), Class::Ping(_)));
/// assert!(matches!(dialect.classify_text(r#"{"e":"bye"}"#), Class::Composite(carried) if carried.ending.is_some()));
/// assert_eq!(dialect.close_policy_with(1008, "no pong for 60 s"), Some(RetryPolicy::Backoff));
/// assert_eq!(dialect.http_policy(418), Some(RetryPolicy::After(Duration::from_secs(120))));
/// assert_eq!((dialect.lifetime().unwrap().as_secs(), dialect.limits().messages.unwrap().lowest().most), (86_400, 5));
///
/// // On open; close codes; records; tracked values; the longest text that rules apply to.
/// let dialect = read(r#"{
///     "rules": [{"text": "{}", "reply": "{}"}],
///     "on_open": ["{\"op\":\"resume\",\"seq\":${seq},\"token\":${token}}"], "variables": ["token"],
///     "track": {"seq": {"path": "/s", "initial": "null"}},
///     "close_codes": {"4004": "never", "4100-4199": "refresh"}, "separator": "\n", "max_len": 100
/// }"#);
/// assert!(dialect.greeting(0).is_some() && dialect.greeting(1).is_none());
/// assert_eq!(dialect.variables().collect::<Vec<_>>(), ["token"], "the application's to set");
/// assert_eq!(dialect.close_policy(4150), Some(RetryPolicy::Refresh));
/// assert!(is_ping(&dialect, "{}\n{}") && dialect.tracks());
/// ```
#[derive(Clone)]
pub struct Description {
    pub(crate) source: Box<str>,
    pub(crate) rules: Box<[rules::Rule]>,
    pub(crate) paths: Paths,
    pub(crate) templates: Box<[Template]>,
    pub(crate) filter: Filter,
    pub(crate) separator: Option<Box<str>>,
    pub(crate) binary_separator: Option<Box<[u8]>>,
    /// A JSON array may hold several messages.
    pub(crate) is_batch: bool,
    pub(crate) max_len: usize,
    /// The longest binary message that can match.
    pub(crate) longest_binary: Option<usize>,
    pub(crate) question: Question,
    /// Some rule recognizes the answer to a ping.
    pub(crate) is_answered: bool,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) tracks: Box<[Track]>,
    /// Templates to send when a connection opens.
    pub(crate) greetings: Box<[u16]>,
    pub(crate) close_codes: Policies,
    /// Policies for close codes whose reason contains these words.
    pub(crate) close_words: Box<[WordedVerdict]>,
    pub(crate) http_statuses: Policies,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) computed: Box<[Box<str>]>,
}

/// A range of codes, words of the reason, and the policy for both together.
pub(crate) type WordedVerdict = (RangeInclusive<u16>, Box<str>, RetryPolicy);

/// Policies for ranges of numbers. No two ranges overlap.
pub(crate) type Policies = Box<[(RangeInclusive<u16>, RetryPolicy)]>;

/// The form and the times of the client's pings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Question {
    /// The template; `None`: a ping frame.
    pub(crate) template: Option<u16>,
    pub(crate) schedule: Schedule,
    pub(crate) first: First,
    pub(crate) jitter_percent: u8,
    pub(crate) pong_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// The configuration's schedule.
    #[default]
    Default,
    Never,
    Every(Duration),
    AfterSilence(Duration),
    AfterSending(Duration),
}

impl Schedule {
    /// Returns the key and the time of a schedule that expects answers.
    pub(crate) const fn asks(self) -> Option<(&'static str, Duration)> {
        match self {
            Self::Every(time) => Some(("every", time)),
            Self::AfterSilence(time) => Some(("after_silence", time)),
            Self::Default | Self::Never | Self::AfterSending(_) => None,
        }
    }
}

impl Description {
    /// The longest text that rules apply to without `max_len`, in bytes.
    pub const DEFAULT_MAX_LEN: usize = 4096;

    /// Returns the JSON text from which the description was read, in its shortest form.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.source
    }

    /// Returns `base` with the times that this service asks for. Its ping schedule, `idle_timeout` and
    /// `pong_timeout` replace those of `base`. Times that the description does not give stay, except for the ping
    /// schedule and the `idle_timeout` of [`Config::default`], which adapt to the description's times.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::{Config, Description}; // or heartbeat_core
    ///
    /// let dialect = Description::from_json(r#"{"ping": {"text": "ping", "every": "99s"}}"#)?;
    /// assert_eq!(dialect.configure(&Config::default())?.idle_timeout().as_secs(), 297);
    ///
    /// let base = Config::from_json(r#"{"idle_timeout": "80s"}"#)?;
    /// assert_eq!(
    ///     dialect.configure(&base).unwrap_err().to_string(),
    ///     "`ping` is 99s: it must be shorter than `idle_timeout`, which is 80s",
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] names a time of the description, the time of `base` that contradicts it, and the rule.
    pub fn configure(&self, base: &Config) -> Result<Config, ConfigError> {
        let default = Config::default();
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
            if self.idle_timeout.is_some() && is_base && base.follows().0 {
                // The default schedule is useless if it is longer than the silence allowed.
                *time = (*time).min(idle / 2);
            }
            let is_default = base.idle_timeout() == default.idle_timeout();
            // Without any other setting, three pings fit in before silence is judged.
            if *time >= idle && self.idle_timeout.is_none() && is_default {
                idle = time.saturating_mul(3);
            }
        }
        builder = builder.idle_timeout(idle).ping(ping);
        if let Some(timeout) = self.question.pong_timeout {
            builder = builder.pong_timeout(timeout);
        }
        builder.build()
    }

    /// Iterates over the names of the variables that the templates need from the application. The application sets
    /// them once, or whenever they change.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let is_tracked = |name: &str| self.tracks.iter().any(|track| *track.name == *name);
        self.templates
            .iter()
            .flat_map(Template::variables)
            .filter(move |name| !is_tracked(name) && !self.is_computed(name))
    }

    fn is_computed(&self, name: &str) -> bool {
        self.computed.iter().any(|computed| **computed == *name)
    }

    /// Iterates over the names of the values that the application computes anew for each message that contains
    /// them, such as a signature over the time. The application stores them among the variables before a template
    /// is filled in.
    pub fn computed(&self) -> impl Iterator<Item = &str> {
        self.computed.iter().map(|name| &**name)
    }

    /// Returns how long the service lets a connection live, whatever its traffic; `None`: without limit, or
    /// unknown.
    #[must_use]
    pub const fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Returns the service's limits for a client.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns the policy for a Close with this code and reason. The description's words take precedence over the
    /// code alone. `None`: the common table decides.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::{Description, RetryPolicy}; // or heartbeat_core
    /// let dialect = Description::from_json(r#"{"close_codes": {"1008 no pong": "backoff", "1008": "never"}}"#)?;
    /// assert_eq!(dialect.close_policy_with(1008, "closed: no pong for 60 s"), Some(RetryPolicy::Backoff));
    /// assert_eq!(dialect.close_policy_with(1008, "banned"), Some(RetryPolicy::Never));
    /// assert_eq!(dialect.close_policy_with(1001, "no pong"), None);
    /// # Ok::<(), heartbeat_core::DescriptionError>(())
    /// ```
    #[must_use]
    pub fn close_policy_with(&self, code: u16, reason: &str) -> Option<RetryPolicy> {
        let mut rows = self.close_words.iter();
        let by_words = rows
            .find(|(codes, words, _)| codes.contains(&code) && reason.contains(&**words))
            .map(|(.., verdict)| *verdict);
        by_words.or_else(|| self.close_policy(code))
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

impl Serialize for Description {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: Value = serde_json::from_str(&self.source).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}
