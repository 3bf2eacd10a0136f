//! Reads a description from JSON. Every value is checked at its place.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::{Map, Value};

use super::load_limits::limits;
use super::load_times::{close_codes, http_statuses, lifetime, separators};
use super::loader::{Loader, MAX_RULES};
use super::{Description, Question};
use crate::dialect::at::{At, Result};
use crate::dialect::error::DescriptionError;
use crate::dialect::json::Kind;
use crate::dialect::limits::Limits;
use crate::dialect::rules::Filter;
use crate::dialect::rules::{Condition, Matcher, Outcome, Rest, Rule, Test};
use crate::dialect::template::Pattern;
use crate::dialect::template::Source;
use crate::duration_text::DurationText;
use crate::json_text::Unique;

/// The longest description, in bytes.
const MAX_SOURCE: usize = 65_536;
const MAX_CONDITIONS: usize = 8;

const DESCRIPTION: &str = "rules, ping, idle_timeout, on_open, close_codes, http_statuses, lifetime, limits, separator, \
     batch, track, variables, computed, max_len";
const RULE: &str = "text, bytes, prefix, rest, json, reply, beat, pong, data, hello, ending";
const MATCHER: &str =
    "one of \"text\", \"bytes\", \"prefix\", \"json\", or \"prefix\" and \"json\" together";
const OUTCOME: &str = "one of \"reply\", \"beat\", \"pong\", \"data\", \"hello\", or \"ending\"";

impl Description {
    /// Reads a description from JSON.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::Description; // or heartbeat_core
    /// let error = Description::from_json(r#"{"rules": [{"text": "ping", "reply": "${rest}"}]}"#);
    /// assert_eq!(
    ///     error.unwrap_err().to_string(),
    ///     "`rules[0].reply`: the placeholder ${rest} needs a rule with a prefix",
    /// );
    /// # Ok::<(), heartbeat_core::DescriptionError>(())
    /// ```
    ///
    /// # Errors
    /// [`DescriptionError`] names the place, the value found, and the rule.
    pub fn from_json(text: &str) -> Result<Self> {
        if text.len() > MAX_SOURCE {
            return Err(At::root().too_many(format!("{} bytes", text.len()), MAX_SOURCE));
        }
        let value: Unique = serde_json::from_str(text)
            .map_err(|error| DescriptionError::Json(error.to_string()))?;
        Self::from_unique(value)
    }

    /// Reads a description from parsed JSON.
    ///
    /// # Errors
    /// [`DescriptionError`] names the place, the value found, and the rule.
    pub fn from_value(value: &Value) -> Result<Self> {
        let source: Box<str> = value.to_string().into();
        if source.len() > MAX_SOURCE {
            return Err(At::root().too_many(format!("{} bytes", source.len()), MAX_SOURCE));
        }
        let fields = At::root().object(value, DESCRIPTION)?;
        let mut loader = Loader::default();
        let max_len = match fields.get("max_len") {
            None => Self::DEFAULT_MAX_LEN,
            Some(value) => {
                let expected = "a whole number from 1 to 65535";
                let len = value
                    .as_u64()
                    .and_then(|len| u16::try_from(len).ok())
                    .filter(|len| *len > 0);
                len.ok_or_else(|| At::root().key("max_len").wrong(Some(value), expected))?
                    .into()
            }
        };
        let computed = loader.names(fields)?;
        let rules = match fields.get("rules") {
            None => Vec::new(),
            Some(value) => loader.rules(&At::root().key("rules"), value)?,
        };
        let question = match fields.get("ping") {
            None => Question::default(),
            Some(value) => loader.question(&At::root().key("ping"), value)?,
        };
        let tracks = match fields.get("track") {
            None => Vec::new(),
            Some(value) => loader.tracks(&At::root().key("track"), value)?,
        };
        let greetings = match fields.get("on_open") {
            None => Vec::new(),
            Some(value) => loader.greetings(&At::root().key("on_open"), value)?,
        };
        let (close_codes, close_words) = match fields.get("close_codes") {
            None => (Vec::new(), Vec::new()),
            Some(value) => close_codes(&At::root().key("close_codes"), value)?,
        };
        let http_statuses = match fields.get("http_statuses") {
            None => Vec::new(),
            Some(value) => http_statuses(&At::root().key("http_statuses"), value)?,
        };
        let limits = match fields.get("limits") {
            None => Limits::default(),
            Some(value) => limits(&At::root().key("limits"), value)?,
        };
        let idle_timeout = fields
            .get("idle_timeout")
            .map(|value| At::root().key("idle_timeout").duration(value))
            .transpose()?;
        if let (Some((key, time)), Some(limit)) = (question.schedule.asks(), idle_timeout)
            && time >= limit
        {
            return Err(DescriptionError::NotShorterThan {
                at: At::root().key("ping").key(key).text(),
                found: DurationText(time).to_string(),
                other: "idle_timeout",
                limit: DurationText(limit).to_string(),
            });
        }
        let (separator, binary_separator) = match fields.get("separator") {
            None => (None, None),
            Some(value) => separators(&At::root().key("separator"), value)?,
        };
        let is_batch = match fields.get("batch") {
            None => false,
            Some(Value::Bool(true)) if separator.is_none() => true,
            Some(value) => {
                let expected = "true, in a description without a separator of texts";
                return Err(At::root().key("batch").wrong(Some(value), expected));
            }
        };
        let longest_binary = rules.iter().filter_map(|rule| match &rule.matcher {
            Matcher::Bytes(_) if binary_separator.is_some() => Some(usize::MAX),
            Matcher::Bytes(pattern) if pattern.is_open => Some(max_len),
            Matcher::Bytes(pattern) => Some(pattern.len()),
            _ => None,
        });
        Ok(Self {
            source,
            filter: Filter::new(
                &rules,
                &loader.paths,
                max_len,
                separator.as_deref(),
                is_batch,
            ),
            longest_binary: longest_binary.max(),
            is_answered: rules
                .iter()
                .any(|rule| matches!(rule.outcome, Outcome::Pong | Outcome::Response(_))),
            rules: rules.into(),
            paths: loader.paths,
            templates: loader.templates.into(),
            separator,
            binary_separator,
            is_batch,
            max_len,
            question,
            idle_timeout,
            tracks: tracks.into(),
            greetings: greetings.into(),
            close_codes: close_codes.into(),
            close_words: close_words.into(),
            http_statuses: http_statuses.into(),
            lifetime: fields.get("lifetime").map(lifetime).transpose()?,
            limits,
            computed,
        })
    }

    fn from_unique(value: Unique) -> Result<Self> {
        let value = value.value();
        Self::from_value(&value.map_err(|at| DescriptionError::Twice { at })?)
    }
}

impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        Self::from_unique(Unique::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Loader {
    fn rules(&mut self, at: &At, value: &Value) -> Result<Vec<Rule>> {
        let values = at.array(value, MAX_RULES, "an array of rules")?;
        let mut rules: Vec<Rule> = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let at = at.index(index);
            let rule = self.rule(&at, value)?;
            if let Some(earlier) = rules
                .iter()
                .position(|earlier| earlier.matcher.covers(&rule.matcher))
            {
                return Err(DescriptionError::Unreachable {
                    at: at.text(),
                    why: format!("rules[{earlier}] comes first and matches the same messages"),
                });
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    fn rule(&mut self, at: &At, value: &Value) -> Result<Rule> {
        let fields = at.object(value, RULE)?;
        let mut matcher = self.matcher(at, fields)?;
        let mut needed = Vec::new();
        let outcome = self.outcome(at, fields, &matcher, &mut needed)?;
        let hello = match (fields.get("hello"), &matcher) {
            (None, _) => None,
            (Some(value), Matcher::Json { .. }) => Some(self.hello(&at.key("hello"), value)?),
            (Some(value), _) => {
                return Err(at.key("hello").wrong(Some(value), "a rule with \"json\""));
            }
        };
        if let Matcher::Json { conditions, .. } = &mut matcher {
            let mut all = core::mem::take(conditions).into_vec();
            for slot in needed {
                if !all.iter().any(|c| c.slot == slot && c.test != Test::Absent) {
                    all.push(Condition {
                        slot,
                        test: Test::Exists,
                    });
                }
            }
            *conditions = all.into();
        }
        let ending = match fields.get("ending") {
            None => None,
            Some(value) => Some(self.ending(&at.key("ending"), value, &matcher)?),
        };
        Ok(Rule {
            matcher,
            outcome,
            hello,
            ending,
        })
    }

    fn matcher(&mut self, at: &At, fields: &Map<String, Value>) -> Result<Matcher> {
        let rest = match fields.get("rest") {
            None => Rest::Any,
            Some(value) if value == "digits" => Rest::Digits,
            Some(value) => return Err(at.key("rest").wrong(Some(value), "\"digits\"")),
        };
        let field = |key: &'static str| fields.get(key).map(|value| (at.key(key), value));
        let matcher = match (
            field("text"),
            field("bytes"),
            field("prefix"),
            field("json"),
        ) {
            (Some((at, text)), None, None, None) => Matcher::Text(at.literal(text, 0)?),
            (None, Some((at, bytes)), None, None) => Matcher::Bytes(Pattern::read(&at, bytes)?),
            (None, None, Some((at, prefix)), None) => {
                let prefix = at.literal(prefix, 1)?;
                return Ok(Matcher::Prefix { prefix, rest });
            }
            (None, None, prefix, Some((at, json))) => Matcher::Json {
                conditions: self.conditions(&at, json)?,
                prefix: match prefix {
                    Some((at, prefix)) => at.literal(prefix, 1)?,
                    None => Box::default(),
                },
            },
            _ => return Err(at.found("several of them or none".into(), MATCHER)),
        };
        match fields.get("rest") {
            Some(value) => Err(at
                .key("rest")
                .wrong(Some(value), "a rule with \"prefix\" alone")),
            None => Ok(matcher),
        }
    }

    fn conditions(&mut self, at: &At, value: &Value) -> Result<Box<[Condition]>> {
        let expected = "an object of conditions, such as {\"/type\": \"ping\"}";
        let fields = value.as_object().filter(|fields| !fields.is_empty());
        let fields = fields.ok_or_else(|| at.wrong(Some(value), expected))?;
        if fields.len() > MAX_CONDITIONS {
            return Err(at.too_many(format!("{} conditions", fields.len()), MAX_CONDITIONS));
        }
        let condition = |(path, value): (&String, &Value)| {
            let at = at.key(path);
            Ok(Condition {
                slot: self.slot(&at, path)?,
                test: test(&at, value)?,
            })
        };
        fields.iter().map(condition).collect()
    }

    fn outcome(
        &mut self,
        at: &At,
        fields: &Map<String, Value>,
        matcher: &Matcher,
        needed: &mut Vec<usize>,
    ) -> Result<Outcome> {
        let mut outcomes = ["reply", "beat", "pong", "data"]
            .iter()
            .filter_map(|key| fields.get_key_value(*key));
        let Some((key, value)) = outcomes.next() else {
            return match fields.get("hello").or(fields.get("ending")) {
                Some(_) => Ok(Outcome::Data),
                None => Err(at.found("without an outcome".into(), OUTCOME)),
            };
        };
        if outcomes.next().is_some() {
            return Err(at.found("with several outcomes".into(), OUTCOME));
        }
        let at = at.key(key);
        match (key.as_str(), value) {
            ("reply", value) => {
                let template = self.template(&at, value, Some(matcher))?;
                needed.extend(
                    self.templates[usize::from(template)]
                        .captures()
                        .iter()
                        .filter_map(|source| match source {
                            Source::Slot(slot) | Source::Bare(slot) => Some(*slot),
                            Source::Rest | Source::Message | Source::Range(..) => None,
                        }),
                );
                Ok(Outcome::Reply(template))
            }
            ("beat", Value::Bool(true)) => Ok(Outcome::Beat),
            ("pong", Value::Bool(true)) => Ok(Outcome::Pong),
            ("data", Value::Bool(true)) => Ok(Outcome::Data),
            ("pong", Value::Object(_)) if matches!(matcher, Matcher::Json { .. }) => {
                let fields = at.object(value, "id")?;
                let path = at
                    .key("id")
                    .string(fields.get("id"), "a path, such as \"/id\"")?;
                let slot = self.slot(&at.key("id"), path)?;
                needed.push(slot);
                Ok(Outcome::Response(slot))
            }
            ("pong", value) => Err(at.wrong(Some(value), "true, or for JSON {\"id\": \"/id\"}")),
            (_, value) => Err(at.wrong(Some(value), "true")),
        }
    }
}

fn test(at: &At, value: &Value) -> Result<Test> {
    let expected = "a string, a whole number, true, false, null, {\"exists\": …} or {\"is\": …}";
    Ok(match value {
        Value::String(_) => Test::String(at.literal(value, 0)?),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            Test::Literal(number.to_string().into())
        }
        Value::Bool(_) | Value::Null => Test::Literal(value.to_string().into()),
        Value::Object(_) => {
            let fields = at.object(value, "exists, is")?;
            match (fields.get("exists"), fields.get("is"), fields.len()) {
                (Some(Value::Bool(true)), _, 1) => Test::Exists,
                (Some(Value::Bool(false)), _, 1) => Test::Absent,
                (None, Some(kind), 1) => {
                    let kind_named = kind.as_str().and_then(Kind::named);
                    Test::Is(kind_named.ok_or_else(|| at.key("is").wrong(Some(kind), Kind::WORDS))?)
                }
                _ => return Err(at.wrong(Some(value), expected)),
            }
        }
        Value::Number(_) | Value::Array(_) => return Err(at.wrong(Some(value), expected)),
    })
}
