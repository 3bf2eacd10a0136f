//! Descriptions made in Rust. What is built is the JSON of the same description, checked like any other.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Map, Value, json};

use super::Description;
use crate::cause::RetryPolicy;
use crate::config::text::verdict_value;
use crate::dialect::error::DescriptionError;
use crate::dialect::limits::{Limits, Rate};
use crate::dialect::ping::First;
use crate::duration_text::DurationText;

/// Makes a [`Description`] in Rust, key by key as its documentation lists them.
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use core::time::Duration;
/// use heartbeat_tokio::core::{Description, First, Rule}; // or heartbeat_core
///
/// let dialect = Description::builder()
///     .rule(Rule::json("/op", "ping").and("/ts", Rule::is("number")).reply(r#"{"op":"pong","ts":${/ts}}"#))
///     .rule(Rule::json("/op", "pong").pong())
///     .rule(Rule::text("hb").beat())
///     .ping_text(r#"{"op":"ping","id":${id}}"#)
///     .every(Duration::from_secs(20))
///     .first(First::Jittered)
///     .on_open(r#"{"op":"hello"}"#)
///     .build()?;
/// assert_eq!(dialect, Description::from_json(dialect.as_json())?);
/// # Ok::<(), heartbeat_core::DescriptionError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct DescriptionBuilder {
    rules: Vec<Value>,
    ping: Map<String, Value>,
    greetings: Vec<Value>,
    close_codes: Map<String, Value>,
    http_statuses: Map<String, Value>,
    limits: Map<String, Value>,
    track: Map<String, Value>,
    rest: Map<String, Value>,
}

impl Description {
    /// A description in Rust, which begins with no rule.
    #[must_use]
    pub fn builder() -> DescriptionBuilder {
        DescriptionBuilder::default()
    }
}

impl DescriptionBuilder {
    /// One more rule: the first that matches decides.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(Value::Object(rule.0));
        self
    }

    /// PingMessage by this message, a template.
    #[must_use]
    pub fn ping_text(mut self, template: &str) -> Self {
        self.ping.insert("text".into(), template.into());
        self
    }

    /// PingMessage by this binary message.
    #[must_use]
    pub fn ping_bytes(self, bytes: &[u8]) -> Self {
        self.ping_bytes_of(&hex(bytes))
    }

    /// PingMessage by a binary message that this template makes: hex with placeholders, `"0801${now_ms:varint}"`.
    #[must_use]
    pub fn ping_bytes_of(mut self, template: &str) -> Self {
        self.ping.insert("bytes".into(), template.into());
        self
    }

    /// PingMessage at this interval.
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        self.schedule("every", interval)
    }

    /// PingMessage after so much silence of the service's.
    #[must_use]
    pub fn after_silence(self, silence: Duration) -> Self {
        self.schedule("after_silence", silence)
    }

    /// Send the ping after so much silence of our own.
    #[must_use]
    pub fn after_sending(self, silence: Duration) -> Self {
        self.schedule("after_sending", silence)
    }

    fn schedule(mut self, key: &str, time: Duration) -> Self {
        self.ping.insert(key.into(), text(time));
        self
    }

    /// When the first ping of a connection comes.
    #[must_use]
    pub fn first(mut self, first: First) -> Self {
        let word = match first {
            First::After => "after",
            First::AtOnce => "at_once",
            First::Jittered => "jittered",
        };
        self.ping.insert("first".into(), word.into());
        self
    }

    /// By how much of the interval, in percent, each ping comes earlier at most, drawn anew each time.
    #[must_use]
    pub fn jitter_percent(mut self, percent: u8) -> Self {
        self.ping.insert("jitter_percent".into(), percent.into());
        self
    }

    /// How long an answer may take.
    #[must_use]
    pub fn pong_timeout(self, timeout: Duration) -> Self {
        self.schedule("pong_timeout", timeout)
    }

    /// How long the service may be silent.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.rest.insert("idle_timeout".into(), text(timeout));
        self
    }

    /// One more message to send when a connection is open, a template.
    #[must_use]
    pub fn on_open(mut self, template: &str) -> Self {
        self.greetings.push(template.into());
        self
    }

    /// The verdict on a close code of this service.
    #[must_use]
    pub fn close_code(mut self, code: u16, verdict: RetryPolicy) -> Self {
        self.close_codes
            .insert(code.to_string(), verdict_value(verdict));
        self
    }

    /// The verdict on a close code whose reason has these words: [`Description::close_policy_with`].
    #[must_use]
    pub fn close_reason(mut self, code: u16, words: &str, verdict: RetryPolicy) -> Self {
        let key = alloc::format!("{code} {words}");
        self.close_codes.insert(key, verdict_value(verdict));
        self
    }

    /// The verdict on an HTTP status that comes in place of the upgrade.
    #[must_use]
    pub fn http_status(mut self, status: u16, verdict: RetryPolicy) -> Self {
        self.http_statuses
            .insert(status.to_string(), verdict_value(verdict));
        self
    }

    /// How long the service lets a connection live.
    #[must_use]
    pub fn lifetime(mut self, time: Duration) -> Self {
        self.rest.insert("lifetime".into(), text(time));
        self
    }

    /// What the service allows a client to do in what time.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        let rate = |rate: Rate| rate.to_string().into();
        let all = [
            ("messages", limits.messages.map(rate)),
            ("dials", limits.dials.map(rate)),
            ("connections", limits.connections.map(Value::from)),
        ];
        for (key, value) in all {
            if let Some(value) = value {
                self.limits.insert(key.into(), value);
            }
        }
        self
    }

    /// Messages are records with this text between or behind them.
    #[must_use]
    pub fn separator(mut self, separator: &str) -> Self {
        self.rest.insert("separator".into(), separator.into());
        self
    }

    /// Binary messages are records with these bytes between or behind them.
    #[must_use]
    pub fn binary_separator(mut self, separator: &[u8]) -> Self {
        let separator = json!({"bytes": hex(separator)});
        self.rest.insert("separator".into(), separator);
        self
    }

    /// A JSON array may be a message of messages, each of which is held against the rules by itself.
    #[must_use]
    pub fn batch(mut self) -> Self {
        self.rest.insert("batch".into(), true.into());
        self
    }

    /// Keeps the last value at this path that is not null, for `${name}`.
    #[must_use]
    pub fn track(mut self, name: &str, path: &str, initial: Option<&str>) -> Self {
        let mut track = json!({"path": path});
        if let Some(initial) = initial {
            track["initial"] = initial.into();
        }
        self.track.insert(name.into(), track);
        self
    }

    /// One more name of the application's own values, for `${name}`.
    #[must_use]
    pub fn variable(self, name: &str) -> Self {
        self.name("variables", name)
    }

    /// One more name of what the application computes anew for each message, for `${name}`.
    #[must_use]
    pub fn computed(self, name: &str) -> Self {
        self.name("computed", name)
    }

    fn name(mut self, key: &str, name: &str) -> Self {
        let names = self.rest.entry(key).or_insert_with(|| json!([]));
        if let Value::Array(names) = names {
            names.push(name.into());
        }
        self
    }

    /// Longer texts are data.
    #[must_use]
    pub fn max_len(mut self, bytes: u16) -> Self {
        self.rest.insert("max_len".into(), bytes.into());
        self
    }

    /// The description.
    ///
    /// # Errors
    /// [`DescriptionError`] names the place, what stands there, and the rule.
    pub fn build(mut self) -> Result<Description, DescriptionError> {
        let mut fields = self.rest;
        if !self.ping.is_empty() {
            if !self.ping.contains_key("text") && !self.ping.contains_key("bytes") {
                self.ping.insert("frame".into(), true.into());
            }
            fields.insert("ping".into(), self.ping.into());
        }
        for (key, list) in [("rules", self.rules), ("on_open", self.greetings)] {
            if !list.is_empty() {
                fields.insert(key.into(), list.into());
            }
        }
        for (key, map) in [
            ("close_codes", self.close_codes),
            ("http_statuses", self.http_statuses),
            ("limits", self.limits),
            ("track", self.track),
        ] {
            if !map.is_empty() {
                fields.insert(key.into(), map.into());
            }
        }
        Description::from_value(&fields.into())
    }
}

/// One rule of a [`DescriptionBuilder`]: what a message must look like, and what it is then. What does not
/// go together is refused when the description is built.
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use heartbeat_tokio::core::{Description, Rule}; // or heartbeat_core
/// let rule = Rule::json("/op", "ping");
/// let error = Description::builder().rule(rule).build().unwrap_err();
/// assert!(error.to_string().starts_with("`rules[0]` is without an outcome"), "{error}");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a rule is given to a builder"]
pub struct Rule(Map<String, Value>);

impl Rule {
    fn of(key: &str, value: Value) -> Self {
        Self(Map::from_iter([(String::from(key), value)]))
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.into(), value);
        self
    }

    // ---- what it looks like -------------------------------------------------------------------

    /// Exactly this text message.
    pub fn text(text: &str) -> Self {
        Self::of("text", text.into())
    }

    /// Exactly this binary message.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::bytes_like(&hex(bytes))
    }

    /// A binary message that looks so: hex, with `??` for any byte and `*` at the end for any more.
    pub fn bytes_like(pattern: &str) -> Self {
        Self::of("bytes", pattern.into())
    }

    /// A text message that begins so.
    pub fn prefix(prefix: &str) -> Self {
        Self::of("prefix", prefix.into())
    }

    /// Only digits follow the prefix.
    pub fn digits(self) -> Self {
        self.with("rest", "digits".into())
    }

    /// JSON with this value at this path: a string, a whole number, `true`, `false`, null, or
    /// [`Rule::is`], [`Rule::exists`], [`Rule::absent`].
    pub fn json(path: &str, value: impl Into<Value>) -> Self {
        Self(Map::new()).and(path, value)
    }

    /// And this value at that path; after [`Rule::prefix`], of the JSON behind it.
    pub fn and(mut self, path: &str, value: impl Into<Value>) -> Self {
        let conditions = self.0.entry("json").or_insert_with(|| json!({}));
        conditions[path] = value.into();
        self
    }

    /// For a condition: a value of this kind (`"number"`, `"string"`, …).
    #[must_use]
    pub fn is(kind: &str) -> Value {
        json!({"is": kind})
    }

    /// For a condition: any value.
    #[must_use]
    pub fn exists() -> Value {
        json!({"exists": true})
    }

    /// For a condition: no value.
    #[must_use]
    pub fn absent() -> Value {
        json!({"exists": false})
    }

    // ---- what it is ---------------------------------------------------------------------------

    /// A ping, which wants this answer, a template.
    pub fn reply(self, template: &str) -> Self {
        self.with("reply", template.into())
    }

    /// A ping, which wants this binary answer.
    pub fn reply_bytes(self, bytes: &[u8]) -> Self {
        self.reply_bytes_of(&hex(bytes))
    }

    /// A ping, which wants a binary answer that this template makes: hex with placeholders, `"0802${4..}"`.
    pub fn reply_bytes_of(self, template: &str) -> Self {
        self.with("reply", json!({"bytes": template}))
    }

    /// Life, never answered.
    pub fn beat(self) -> Self {
        self.with("beat", true.into())
    }

    /// The answer to a ping of ours.
    pub fn pong(self) -> Self {
        self.with("pong", true.into())
    }

    /// The same if the id at this path is our ping's, else the application's.
    pub fn pong_with_id(self, path: &str) -> Self {
        self.with("pong", json!({"id": path}))
    }

    /// The application's, whatever later rules say.
    pub fn data(self) -> Self {
        self.with("data", true.into())
    }

    /// The service announces that it is about to end this connection, within
    /// [`Renewal::DEFAULT_WITHIN`](crate::Renewal::DEFAULT_WITHIN).
    pub fn ending(self) -> Self {
        self.with("ending", true.into())
    }

    /// The service announces that it will end this connection within this time.
    pub fn ending_within(self, time: Duration) -> Self {
        self.with("ending", text(time))
    }

    /// The service announces at this path, in milliseconds, within which time it will end this connection.
    pub fn ending_ms(self, path: &str) -> Self {
        self.with("ending", json!({"ms": path}))
    }

    /// The service says at this path, in milliseconds, how often it wants a ping.
    pub fn hello_ping_ms(self, path: &str) -> Self {
        self.hello("ping", json!({"ms": path}))
    }

    /// The service says here when it wants a ping (`"ping"`), or how long it may be silent
    /// (`"idle_timeout"`): an object as the description has it.
    pub fn hello(mut self, what: &str, time: Value) -> Self {
        self.0.entry("hello").or_insert_with(|| json!({}))[what] = time;
        self
    }
}

fn text(time: Duration) -> Value {
    DurationText(time).to_string().into()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| alloc::format!("{byte:02x}"));
    digits.collect()
}
