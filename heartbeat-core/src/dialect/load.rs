//! A description from JSON: every value is checked where it stands.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value};

use super::Limits;
use super::at::{At, Result};
use super::bytes::{BytesTemplate, Pattern};
use super::description::{Description, Question};
use super::error::DescriptionError;
use super::kind::Kind;
use super::load_times::{close_codes, http_statuses, lifetime, limits, separators};
use super::path::Path;
use super::prefilter::Filter;
use super::rule::{Condition, Matcher, Outcome, Rest, Rule, Test};
use super::scan::{MAX_PATHS, Paths};
use super::template::{FindPath, Source, Template};
use crate::duration_text::DurationText;
use crate::json_text::Unique;

/// The longest description, in bytes.
const MAX_SOURCE: usize = 65_536;
const MAX_RULES: usize = 32;
const MAX_CONDITIONS: usize = 8;

const DESCRIPTION: &str = "rules, ping, idle_timeout, on_open, close_codes, http_statuses, lifetime, limits, separator, \
     batch, track, variables, computed, max_len";
const RULE: &str = "text, bytes, prefix, rest, json, reply, beat, pong, data, hello, ending";
const MATCHER: &str =
    "one of \"text\", \"bytes\", \"prefix\", \"json\", or \"prefix\" and \"json\" together";
const OUTCOME: &str = "one of \"reply\", \"beat\", \"pong\", \"data\", \"hello\", or \"ending\"";

pub(super) fn from_json(text: &str) -> Result<Description> {
    if text.len() > MAX_SOURCE {
        return Err(At::root().too_many(format!("{} bytes", text.len()), MAX_SOURCE));
    }
    let value: Unique =
        serde_json::from_str(text).map_err(|error| DescriptionError::Json(error.to_string()))?;
    from_unique(value)
}

pub(super) fn from_unique(value: Unique) -> Result<Description> {
    let value = value.value();
    from_value(&value.map_err(|at| DescriptionError::Twice { at })?)
}

pub(super) fn from_value(value: &Value) -> Result<Description> {
    let source: Box<str> = value.to_string().into();
    if source.len() > MAX_SOURCE {
        return Err(At::root().too_many(format!("{} bytes", source.len()), MAX_SOURCE));
    }
    let fields = At::root().object(value, DESCRIPTION)?;
    let mut loader = Loader::default();
    let max_len = match fields.get("max_len") {
        None => Description::DEFAULT_MAX_LEN,
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
    Ok(Description {
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

/// What is collected on the way.
#[derive(Default)]
pub(super) struct Loader {
    pub(super) paths: Paths,
    pub(super) templates: Vec<Template>,
    /// What templates may ask for by name.
    pub(super) known: Vec<String>,
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

    pub(super) fn template(
        &mut self,
        at: &At,
        value: &Value,
        matcher: Option<&Matcher>,
    ) -> Result<u16> {
        let expected = "a text, or {\"bytes\": \"029106\"}";
        let template = match value {
            Value::String(text) => {
                let has_prefix = match matcher {
                    Some(Matcher::Prefix { .. }) => true,
                    Some(Matcher::Json { prefix, .. }) => !prefix.is_empty(),
                    Some(Matcher::Text(_) | Matcher::Bytes(_)) | None => false,
                };
                let is_json = matches!(matcher, Some(Matcher::Json { .. }));
                let paths = &mut self.paths;
                let mut find = |at: &At, path: &str| match is_json {
                    true => slot(paths, at, path),
                    false => Err(at.placeholder(path, "needs a rule with \"json\"")),
                };
                let find: Option<FindPath<'_>> = match matcher {
                    // A binary message is no text to take slices from.
                    Some(Matcher::Bytes(_)) | None => None,
                    Some(_) => Some(&mut find),
                };
                Template::parse(at, text, find, has_prefix, &self.known)?
            }
            Value::Object(fields) => match fields.get("bytes") {
                Some(bytes) if fields.len() == 1 => {
                    let message = match matcher {
                        Some(Matcher::Bytes(pattern)) => Some(pattern),
                        _ => None,
                    };
                    let at = at.key("bytes");
                    Template::Binary(BytesTemplate::parse(&at, bytes, message, &self.known)?)
                }
                _ => return Err(at.wrong(Some(value), expected)),
            },
            _ => return Err(at.wrong(Some(value), expected)),
        };
        self.add(at, template)
    }

    pub(super) fn add(&mut self, at: &At, template: Template) -> Result<u16> {
        // At most one a rule, and the client's own.
        let number = u16::try_from(self.templates.len());
        let number = number.map_err(|_| at.too_many("65536 templates".into(), MAX_RULES))?;
        self.templates.push(template);
        Ok(number)
    }

    pub(super) fn slot(&mut self, at: &At, path: &str) -> Result<usize> {
        slot(&mut self.paths, at, path)
    }
}

pub(super) fn slot(paths: &mut Paths, at: &At, path: &str) -> Result<usize> {
    let parsed = Path::parse(path).map_err(|why| DescriptionError::Path {
        at: at.text(),
        path: path.into(),
        why,
    })?;
    paths
        .add(parsed)
        .ok_or_else(|| at.too_many("one different path too many".into(), MAX_PATHS))
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
