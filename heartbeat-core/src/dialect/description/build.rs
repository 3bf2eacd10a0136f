//! Builds descriptions in Rust. The builder makes the JSON of the description, which is checked like any other.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Map, Value, json};

use super::Description;
use crate::cause::RetryPolicy;
use crate::config::text::verdict_value;
use crate::dialect::error::DescriptionError;
use crate::dialect::limits::{Limits, Rates};
use crate::dialect::ping::First;
use crate::duration_text::DurationText;

/// Builds a [`Description`] in Rust, key by key, as listed in its documentation.
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
    /// Returns a builder without rules.
    #[must_use]
    pub fn builder() -> DescriptionBuilder {
        DescriptionBuilder::default()
    }
}

impl DescriptionBuilder {
    /// Adds a rule. The first rule that matches decides.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(Value::Object(rule.0));
        self
    }

    /// Pings with the message of this template.
    #[must_use]
    pub fn ping_text(mut self, template: &str) -> Self {
        self.ping.insert("text".into(), template.into());
        self
    }

    /// Pings with this binary message.
    #[must_use]
    pub fn ping_bytes(self, bytes: &[u8]) -> Self {
        self.ping_bytes_of(&hex(bytes))
    }

    /// Pings with the binary message of this template: hex with placeholders, `"0801${now_ms:varint}"`.
    #[must_use]
    pub fn ping_bytes_of(mut self, template: &str) -> Self {
        self.ping.insert("bytes".into(), template.into());
        self
    }

    /// Pings at this interval.
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        self.schedule("every", interval)
    }

    /// Pings after this much silence of the service.
    #[must_use]
    pub fn after_silence(self, silence: Duration) -> Self {
        self.schedule("after_silence", silence)
    }

    /// Pings after this much silence of the client.
    #[must_use]
    pub fn after_sending(self, silence: Duration) -> Self {
        self.schedule("after_sending", silence)
    }

    fn schedule(mut self, key: &str, time: Duration) -> Self {
        self.ping.insert(key.into(), text(time));
        self
    }

    /// Sets the time of a connection's first ping.
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

    /// Sets the largest part of the interval, in percent, by which a ping comes early. Each ping draws its part
    /// anew.
    #[must_use]
    pub fn jitter_percent(mut self, percent: u8) -> Self {
        self.ping.insert("jitter_percent".into(), percent.into());
        self
    }

    /// Sets the time that an answer may take.
    #[must_use]
    pub fn pong_timeout(self, timeout: Duration) -> Self {
        self.schedule("pong_timeout", timeout)
    }

    /// Sets the longest silence of a healthy service.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.rest.insert("idle_timeout".into(), text(timeout));
        self
    }

    /// Adds a template to send when a connection opens.
    #[must_use]
    pub fn on_open(mut self, template: &str) -> Self {
        self.greetings.push(template.into());
        self
    }

    /// Sets the policy for a close code of this service.
    #[must_use]
    pub fn close_code(mut self, code: u16, verdict: RetryPolicy) -> Self {
        self.close_codes
            .insert(code.to_string(), verdict_value(verdict));
        self
    }

    /// Sets the policy for a close code whose reason contains these words: [`Description::close_policy_with`].
    #[must_use]
    pub fn close_reason(mut self, code: u16, words: &str, verdict: RetryPolicy) -> Self {
        let key = alloc::format!("{code} {words}");
        self.close_codes.insert(key, verdict_value(verdict));
        self
    }

    /// Sets the policy for an HTTP status in place of the upgrade.
    #[must_use]
    pub fn http_status(mut self, status: u16, verdict: RetryPolicy) -> Self {
        self.http_statuses
            .insert(status.to_string(), verdict_value(verdict));
        self
    }

    /// Sets how long the service lets a connection live.
    #[must_use]
    pub fn lifetime(mut self, time: Duration) -> Self {
        self.rest.insert("lifetime".into(), text(time));
        self
    }

    /// Sets the service's limits for a client.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        let rates = |rates: Rates| {
            let mut rates: Vec<Value> = rates.iter().map(|rate| rate.to_string().into()).collect();
            match rates.len() {
                1 => rates.remove(0),
                _ => rates.into(),
            }
        };
        let all = [
            ("messages", limits.messages.map(rates)),
            ("dials", limits.dials.map(rates)),
            ("connections", limits.connections.map(Value::from)),
        ];
        for (key, value) in all {
            if let Some(value) = value {
                self.limits.insert(key.into(), value);
            }
        }
        self
    }

    /// Splits text messages into records, with this text between or after them.
    #[must_use]
    pub fn separator(mut self, separator: &str) -> Self {
        self.rest.insert("separator".into(), separator.into());
        self
    }

    /// Splits binary messages into records, with these bytes between or after them.
    #[must_use]
    pub fn binary_separator(mut self, separator: &[u8]) -> Self {
        let separator = json!({"bytes": hex(separator)});
        self.rest.insert("separator".into(), separator);
        self
    }

    /// Lets a JSON array hold several messages. The rules apply to each of them.
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

    /// Adds the name of a value of the application, for `${name}`.
    #[must_use]
    pub fn variable(self, name: &str) -> Self {
        self.name("variables", name)
    }

    /// Adds the name of a value that the application computes anew for each message, for `${name}`.
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

    /// Sets the longest text that rules apply to. Longer texts are data.
    #[must_use]
    pub fn max_len(mut self, bytes: u16) -> Self {
        self.rest.insert("max_len".into(), bytes.into());
        self
    }

    /// Checks and returns the description.
    ///
    /// # Errors
    /// [`DescriptionError`] names the place, the value found, and the rule.
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

/// One rule of a [`DescriptionBuilder`]: a pattern for messages, and the classification of a message that matches.
/// Building the description refuses parts that contradict each other.
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

    // ---- patterns ------------------------------------------------------------------------------

    /// Matches exactly this text message.
    pub fn text(text: &str) -> Self {
        Self::of("text", text.into())
    }

    /// Matches exactly this binary message.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::bytes_like(&hex(bytes))
    }

    /// Matches binary messages of this pattern: hex, with `??` for any byte and `*` at the end for any further
    /// bytes.
    pub fn bytes_like(pattern: &str) -> Self {
        Self::of("bytes", pattern.into())
    }

    /// Matches text messages with this prefix.
    pub fn prefix(prefix: &str) -> Self {
        Self::of("prefix", prefix.into())
    }

    /// Requires digits alone after the prefix.
    pub fn digits(self) -> Self {
        self.with("rest", "digits".into())
    }

    /// Matches JSON with this value at this path: a string, a whole number, `true`, `false`, null, or [`Rule::is`],
    /// [`Rule::exists`], [`Rule::absent`].
    pub fn json(path: &str, value: impl Into<Value>) -> Self {
        Self(Map::new()).and(path, value)
    }

    /// Requires a further value at another path. After [`Rule::prefix`], the condition applies to the JSON behind
    /// it.
    pub fn and(mut self, path: &str, value: impl Into<Value>) -> Self {
        let conditions = self.0.entry("json").or_insert_with(|| json!({}));
        conditions[path] = value.into();
        self
    }

    /// Returns the condition that a value is of this kind (`"number"`, `"string"`, …).
    #[must_use]
    pub fn is(kind: &str) -> Value {
        json!({"is": kind})
    }

    /// Returns the condition that there is a value.
    #[must_use]
    pub fn exists() -> Value {
        json!({"exists": true})
    }

    /// Returns the condition that there is no value.
    #[must_use]
    pub fn absent() -> Value {
        json!({"exists": false})
    }

    // ---- outcomes ------------------------------------------------------------------------------

    /// Makes the message a ping, answered with this template.
    pub fn reply(self, template: &str) -> Self {
        self.with("reply", template.into())
    }

    /// Makes the message a ping, answered with these bytes.
    pub fn reply_bytes(self, bytes: &[u8]) -> Self {
        self.reply_bytes_of(&hex(bytes))
    }

    /// Makes the message a ping, answered with the binary message of this template: hex with placeholders,
    /// `"0802${4..}"`.
    pub fn reply_bytes_of(self, template: &str) -> Self {
        self.with("reply", json!({"bytes": template}))
    }

    /// Makes the message a heartbeat that needs no answer.
    pub fn beat(self) -> Self {
        self.with("beat", true.into())
    }

    /// Makes the message the answer to a ping of the client.
    pub fn pong(self) -> Self {
        self.with("pong", true.into())
    }

    /// Makes the message a pong if the id at this path is that of the client's ping, and data otherwise.
    pub fn pong_with_id(self, path: &str) -> Self {
        self.with("pong", json!({"id": path}))
    }

    /// Makes the message data, whatever later rules say.
    pub fn data(self) -> Self {
        self.with("data", true.into())
    }

    /// Marks the message as the announcement that the service is about to end this connection, within
    /// [`Renewal::DEFAULT_WITHIN`](crate::Renewal::DEFAULT_WITHIN).
    pub fn ending(self) -> Self {
        self.with("ending", true.into())
    }

    /// Marks the message as the announcement that the service will end this connection within this time.
    pub fn ending_within(self, time: Duration) -> Self {
        self.with("ending", text(time))
    }

    /// Marks the message as the announcement that the service will end this connection within the time at this
    /// path, in milliseconds.
    pub fn ending_ms(self, path: &str) -> Self {
        self.with("ending", json!({"ms": path}))
    }

    /// Reads the ping interval that the service wants from this path, in milliseconds.
    pub fn hello_ping_ms(self, path: &str) -> Self {
        self.hello("ping", json!({"ms": path}))
    }

    /// Reads when the service wants a ping (`"ping"`), or how long it may be silent (`"idle_timeout"`). `time` is
    /// an object as in the description.
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
