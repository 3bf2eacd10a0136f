//! Reads everything around the rules: the ping schedule, the service's own times, and tracked values.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::time::Duration;

use serde_json::{Map, Value};

use super::loader::{Loader, slot};
use super::{Question, Schedule, WordedVerdict};
use crate::cause::RetryPolicy;
use crate::config::MIN_LIFETIME;
use crate::config::text::{VERDICT, verdict};
use crate::dialect::at::{At, Result};
use crate::dialect::json::Paths;
use crate::dialect::ping::First;
use crate::dialect::rules::{EndingRule, HelloRule, Matcher, TimeRule};
use crate::dialect::template::{BytesTemplate, Pattern};
use crate::dialect::template::{Template, Track, is_name};
use crate::renewal::Renewal;

const MAX_GREETINGS: usize = 4;
/// The most entries for close codes, or for HTTP statuses.
const MAX_VERDICTS: usize = 16;
/// The most bytes of words of a Close's reason, which has at most 123 bytes (RFC 6455 §5.5).
const MAX_WORDS: usize = 123;
const MAX_TRACKS: usize = 4;
const MAX_VARIABLES: usize = 16;
const NAME: &str = "a name of a-z, 0-9 and _ that is none of the built-in ones and no other's";
const PING: &str =
    "text, bytes, frame, every, after_silence, after_sending, first, jitter_percent, pong_timeout";

impl Loader {
    pub(crate) fn hello(&mut self, at: &At, value: &Value) -> Result<HelloRule> {
        let fields = at.object(value, "ping, idle_timeout")?;
        let mut time = |key| {
            fields
                .get(key)
                .map(|value| self.time(&at.key(key), value))
                .transpose()
        };
        let hello = HelloRule {
            ping: time("ping")?,
            idle_timeout: time("idle_timeout")?,
        };
        match hello {
            HelloRule {
                ping: None,
                idle_timeout: None,
            } => Err(at.wrong(Some(value), "\"ping\" or \"idle_timeout\"")),
            hello => Ok(hello),
        }
    }

    pub(crate) fn ending(
        &mut self,
        at: &At,
        value: &Value,
        matcher: &Matcher,
    ) -> Result<EndingRule> {
        let expected = "true, a duration such as \"30s\", or an object such as {\"ms\": \"/left\"} in a rule with \"json\"";
        match (value, matcher) {
            (Value::Bool(true), _) => Ok(EndingRule::Within(Renewal::DEFAULT_WITHIN)),
            (Value::String(_), _) => at.duration(value).map(EndingRule::Within),
            (Value::Object(_), Matcher::Json { .. }) => self.time(at, value).map(EndingRule::Told),
            _ => Err(at.wrong(Some(value), expected)),
        }
    }

    fn time(&mut self, at: &At, value: &Value) -> Result<TimeRule> {
        let expected = "an object such as {\"ms\": \"/d/heartbeat_interval\"}";
        let fields = at.object(value, "ms, s, plus, inside")?;
        let (key, unit, paths) = match (fields.get("ms"), fields.get("s")) {
            (Some(paths), None) => ("ms", Duration::from_millis(1), paths),
            (None, Some(paths)) => ("s", Duration::from_secs(1), paths),
            _ => return Err(at.wrong(Some(value), expected)),
        };
        let paths: Vec<&Value> = match paths {
            Value::Array(paths) if !paths.is_empty() => paths.iter().collect(),
            path => [path].into(),
        };
        let plus = fields
            .get("plus")
            .map(|value| at.key("plus").duration(value))
            .transpose()?;
        let mut inside = match fields.get("inside") {
            None => None,
            Some(value) => {
                let at = at.key("inside");
                let path = at.string(Some(value), "the path of a string")?;
                Some((self.slot(&at, path)?, Paths::default()))
            }
        };
        let at = at.key(key);
        let slot = |path: &Value| {
            let path = at.string(Some(path), "a path or an array of paths")?;
            match &mut inside {
                None => self.slot(&at, path),
                Some((_, paths)) => slot(paths, &at, path),
            }
        };
        let slots = paths.into_iter().map(slot).collect::<Result<_>>()?;
        Ok(TimeRule {
            unit,
            slots,
            inside,
            plus: plus.unwrap_or_default(),
        })
    }

    pub(crate) fn question(&mut self, at: &At, value: &Value) -> Result<Question> {
        let mut question = Question::default();
        match value.as_str() {
            Some("never") => question.schedule = Schedule::Never,
            Some("frame") => {}
            Some(_) => return Err(at.wrong(Some(value), "\"never\", \"frame\" or an object")),
            None => {}
        }
        if value.is_string() {
            return Ok(question);
        }
        let fields = at.object(value, PING)?;
        match (fields.get("text"), fields.get("bytes"), fields.get("frame")) {
            (Some(text), None, None) => {
                question.template = Some(self.template(&at.key("text"), text, None)?)
            }
            (None, Some(bytes), None) => {
                let at = at.key("bytes");
                let bytes = BytesTemplate::parse(&at, bytes, None, &self.known)?;
                question.template = Some(self.add(&at, Template::Binary(bytes))?);
            }
            (None, None, Some(Value::Bool(true))) => {}
            _ => {
                return Err(at.wrong(
                    Some(value),
                    "one of \"text\", \"bytes\" and \"frame\": true",
                ));
            }
        }
        let mut schedules = 0;
        for (key, schedule) in [
            ("every", Schedule::Every as fn(Duration) -> Schedule),
            ("after_silence", Schedule::AfterSilence),
            ("after_sending", Schedule::AfterSending),
        ] {
            if let Some(value) = fields.get(key) {
                question.schedule = schedule(at.key(key).duration(value)?);
                schedules += 1;
            }
        }
        if schedules > 1 {
            return Err(at.wrong(
                Some(value),
                "one of \"every\", \"after_silence\" and \"after_sending\"",
            ));
        }
        question.first = match fields.get("first").map(|first| (first, first.as_str())) {
            None | Some((_, Some("after"))) => First::After,
            Some((_, Some("at_once"))) => First::AtOnce,
            Some((_, Some("jittered"))) => First::Jittered,
            Some((first, _)) => {
                let expected = "\"after\", \"at_once\" or \"jittered\"";
                return Err(at.key("first").wrong(Some(first), expected));
            }
        };
        if let Some(value) = fields.get("jitter_percent") {
            let percent = value
                .as_u64()
                .and_then(|percent| u8::try_from(percent).ok());
            let percent = percent.filter(|percent| {
                *percent <= 100 && matches!(question.schedule, Schedule::Every(_))
            });
            let expected = "a whole number from 0 to 100, in a ping with \"every\"";
            question.jitter_percent =
                percent.ok_or_else(|| at.key("jitter_percent").wrong(Some(value), expected))?;
        }
        let timeout = fields.get("pong_timeout");
        question.pong_timeout = timeout
            .map(|value| at.key("pong_timeout").duration(value))
            .transpose()?;
        Ok(question)
    }

    pub(crate) fn tracks(&mut self, at: &At, value: &Value) -> Result<Vec<Track>> {
        let expected = "an object such as {\"seq\": {\"path\": \"/s\", \"initial\": \"null\"}}";
        let fields = value
            .as_object()
            .ok_or_else(|| at.wrong(Some(value), expected))?;
        if fields.len() > MAX_TRACKS {
            return Err(at.too_many(format!("{} values", fields.len()), MAX_TRACKS));
        }
        let track = |(name, value): (&String, &Value)| {
            let at = at.key(name);
            if !is_name(name) {
                return Err(at.wrong(Some(value), NAME));
            }
            let fields = at.object(value, "path, initial")?;
            let path = at
                .key("path")
                .string(fields.get("path"), "a path, such as \"/s\"")?;
            let initial = fields.get("initial");
            Ok(Track {
                name: name.as_str().into(),
                slot: self.slot(&at.key("path"), path)?,
                initial: initial
                    .map(|value| at.key("initial").literal(value, 0))
                    .transpose()?,
            })
        };
        fields.iter().map(track).collect()
    }

    /// Reads the names that templates may use: the application's own, those it computes, and the tracked ones.
    /// Returns those that it computes.
    pub(crate) fn names(&mut self, fields: &Map<String, Value>) -> Result<Box<[Box<str>]>> {
        let tracked = fields.get("track").and_then(Value::as_object);
        self.listed(fields, "variables", tracked)?;
        let before = self.known.len();
        self.listed(fields, "computed", tracked)?;
        let computed = self.known.iter().skip(before);
        let computed = computed.map(|name| name.as_str().into()).collect();
        let tracked = tracked.into_iter().flatten();
        self.known.extend(tracked.map(|(name, _)| name.clone()));
        Ok(computed)
    }

    fn listed(
        &mut self,
        fields: &Map<String, Value>,
        key: &str,
        tracked: Option<&Map<String, Value>>,
    ) -> Result<()> {
        let at = At::root().key(key);
        let listed = match fields.get(key) {
            None => &[][..],
            Some(value) => at.array(value, MAX_VARIABLES, "an array of names")?,
        };
        for (index, value) in listed.iter().enumerate() {
            let at = at.index(index);
            let name = at.string(Some(value), NAME)?;
            let is_taken = self.known.iter().any(|known| known == name)
                || tracked.is_some_and(|names| names.contains_key(name));
            if !is_name(name) || is_taken {
                return Err(at.wrong(Some(value), NAME));
            }
            self.known.push(name.into());
        }
        Ok(())
    }

    pub(crate) fn greetings(&mut self, at: &At, value: &Value) -> Result<Vec<u16>> {
        let values = at.array(value, MAX_GREETINGS, "an array of templates")?;
        let template = |(index, value)| self.template(&at.index(index), value, None);
        values.iter().enumerate().map(template).collect()
    }
}

fn verdicts(
    at: &At,
    value: &Value,
    numbers: RangeInclusive<u16>,
    expected: [&'static str; 2],
) -> Result<Vec<WordedVerdict>> {
    let fields = value
        .as_object()
        .ok_or_else(|| at.wrong(Some(value), expected[0]))?;
    if fields.len() > MAX_VERDICTS {
        return Err(at.too_many(format!("{} entries", fields.len()), MAX_VERDICTS));
    }
    let mut rows: Vec<WordedVerdict> = Vec::new();
    for (key, value) in fields {
        let at = at.key(key);
        let (span, words) = key.split_once(' ').unwrap_or((key, ""));
        let (from, to) = span.split_once('-').unwrap_or((span, span));
        // Accept only the canonical spelling, so that a duplicate entry is visible.
        let number = |text: &str| {
            let number = text.parse().ok().filter(|number| numbers.contains(number));
            number.filter(|number| number.to_string() == text)
        };
        let range = match (number(from), number(to)) {
            (Some(from), Some(to)) if from <= to => from..=to,
            _ => return Err(at.found(key.clone(), expected[1])),
        };
        if words.len() > MAX_WORDS {
            return Err(at.too_many(format!("{} bytes of words", words.len()), MAX_WORDS));
        }
        let overlaps = |row: &&WordedVerdict| {
            *row.1 == *words && row.0.start() <= range.end() && range.start() <= row.0.end()
        };
        if let Some((other, ..)) = rows.iter().find(overlaps) {
            let found = format!("{key}, which {}-{} has too", other.start(), other.end());
            return Err(at.found(found, "numbers that no other entry has"));
        }
        let verdict = verdict(key, value).map_err(|_| at.wrong(Some(value), VERDICT))?;
        rows.push((range, words.into(), verdict));
    }
    Ok(rows)
}

type Rows = Vec<(RangeInclusive<u16>, RetryPolicy)>;

/// Reads the policies for close codes, without and with words of the reason.
pub(crate) fn close_codes(at: &At, value: &Value) -> Result<(Rows, Vec<WordedVerdict>)> {
    let expected = [
        "an object such as {\"4004\": \"never\", \"4100-4199\": \"backoff\"}",
        "a code from 1000 to 4999 or a range of them, and maybe a space and words of the reason",
    ];
    // RFC 6455 §7.4.2: lower numbers are not used as codes, and higher ones are reserved.
    let rows = verdicts(at, value, 1000..=4999, expected)?;
    let (plain, with_words): (Vec<WordedVerdict>, Vec<WordedVerdict>) =
        rows.into_iter().partition(|(_, words, _)| words.is_empty());
    Ok((without_words(plain), with_words))
}

/// Reads the policies for HTTP statuses.
pub(crate) fn http_statuses(at: &At, value: &Value) -> Result<Rows> {
    let expected = [
        "an object such as {\"418\": {\"after\": \"2m\"}, \"500-599\": \"backoff\"}",
        "a status from 100 to 599, or a range of them",
    ];
    let rows = verdicts(at, value, 100..=599, expected)?;
    match rows.iter().find(|(_, words, _)| !words.is_empty()) {
        Some((_, words, _)) => Err(at.found((**words).into(), expected[1])),
        None => Ok(without_words(rows)),
    }
}

fn without_words(rows: Vec<WordedVerdict>) -> Rows {
    let rows = rows.into_iter();
    rows.map(|(range, _, verdict)| (range, verdict)).collect()
}

/// Reads the service's limit for the age of a connection.
pub(crate) fn lifetime(value: &Value) -> Result<Duration> {
    let at = At::root().key("lifetime");
    let time = at.duration(value)?;
    if time < MIN_LIFETIME {
        return Err(at.wrong(Some(value), "a duration of at least 1s"));
    }
    Ok(time)
}

type Separators = (Option<Box<str>>, Option<Box<[u8]>>);

/// Reads the separators of records in text messages and in binary messages.
pub(crate) fn separators(at: &At, value: &Value) -> Result<Separators> {
    let Value::Object(_) = value else {
        return Ok((Some(at.literal(value, 1)?), None));
    };
    let fields = at.object(value, "bytes")?;
    let at = at.key("bytes");
    let bytes = fields.get("bytes").unwrap_or(&Value::Null);
    let pattern = Pattern::read(&at, bytes)?;
    let exact = pattern.exact().filter(|bytes| !bytes.is_empty());
    let exact = exact.ok_or_else(|| at.wrong(Some(bytes), "one byte in hex, or more"))?;
    Ok((None, Some(exact)))
}
