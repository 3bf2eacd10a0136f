//! What stands around the rules: when to ask, what a service says about its times, what is kept.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::time::Duration;

use serde_json::{Map, Value};

use super::First;
use super::at::{At, Result};
use super::description::{Question, Schedule, Track};
use super::load::{Loader, slot};
use super::rule::{HelloRule, TimeRule};
use super::scan::Paths;
use super::template::{Template, is_name};
use crate::cause::Verdict;

const MAX_GREETINGS: usize = 4;
const MAX_CLOSE_CODES: usize = 16;
const MAX_TRACKS: usize = 4;
const MAX_VARIABLES: usize = 16;
const NAME: &str = "a name of a-z, 0-9 and _ that is none of the built-in ones and no other's";
const PING: &str = "text, bytes, frame, every, after_silence, after_sending, first, pong_timeout";

impl Loader {
    pub(super) fn hello(&mut self, at: &At, value: &Value) -> Result<HelloRule> {
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

    pub(super) fn question(&mut self, at: &At, value: &Value) -> Result<Question> {
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
                let bytes = Template::Binary(at.key("bytes").bytes(bytes)?);
                question.template = Some(self.add(&at.key("bytes"), bytes)?);
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
        let timeout = fields.get("pong_timeout");
        question.pong_timeout = timeout
            .map(|value| at.key("pong_timeout").duration(value))
            .transpose()?;
        Ok(question)
    }

    pub(super) fn tracks(&mut self, at: &At, value: &Value) -> Result<Vec<Track>> {
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

    /// The names that templates may ask for: the application's, and what is tracked.
    pub(super) fn names(&mut self, fields: &Map<String, Value>) -> Result<()> {
        let at = At::root().key("variables");
        let listed = match fields.get("variables") {
            None => &[][..],
            Some(value) => at.array(value, MAX_VARIABLES, "an array of names")?,
        };
        let tracked = fields.get("track").and_then(Value::as_object);
        for (index, value) in listed.iter().enumerate() {
            let at = at.index(index);
            let name = at.string(Some(value), NAME)?;
            let is_taken = self.known.iter().any(|known| known == name);
            if !is_name(name) || is_taken || tracked.is_some_and(|names| names.contains_key(name)) {
                return Err(at.wrong(Some(value), NAME));
            }
            self.known.push(name.into());
        }
        let tracked = tracked.into_iter().flatten();
        self.known.extend(tracked.map(|(name, _)| name.clone()));
        Ok(())
    }

    pub(super) fn greetings(&mut self, at: &At, value: &Value) -> Result<Vec<u16>> {
        let values = at.array(value, MAX_GREETINGS, "an array of templates")?;
        let template = |(index, value)| self.template(&at.index(index), value, None);
        values.iter().enumerate().map(template).collect()
    }
}

/// Close codes and ranges of them, and what each asks for.
pub(super) fn close_codes(at: &At, value: &Value) -> Result<Vec<(RangeInclusive<u16>, Verdict)>> {
    let expected = "an object such as {\"4004\": \"never\", \"4100-4199\": \"backoff\"}";
    let fields = value
        .as_object()
        .ok_or_else(|| at.wrong(Some(value), expected))?;
    if fields.len() > MAX_CLOSE_CODES {
        return Err(at.too_many(format!("{} entries", fields.len()), MAX_CLOSE_CODES));
    }
    let entry = |(key, value): (&String, &Value)| {
        let at = at.key(key);
        let (from, to) = key.split_once('-').unwrap_or((key, key));
        // RFC 6455 §7.4.2: 4000–4999 are for private use; the others mean the same everywhere.
        let code = |text: &str| {
            text.parse()
                .ok()
                .filter(|code| (4000..=4999).contains(code))
        };
        let range = match (code(from), code(to)) {
            (Some(from), Some(to)) if from <= to => from..=to,
            _ => return Err(at.found(key.clone(), "a code from 4000 to 4999, or a range of them")),
        };
        let verdict = match value.as_str() {
            Some("backoff") => Verdict::Backoff,
            Some("refresh") => Verdict::Refresh,
            Some("never") => Verdict::Never,
            _ => return Err(at.wrong(Some(value), "\"backoff\", \"refresh\" or \"never\"")),
        };
        Ok((range, verdict))
    };
    fields.iter().map(entry).collect()
}
