//! Applies a description's rules to a message.

use core::time::Duration;

use super::{Description, Policies, Schedule};
use crate::cause::RetryPolicy;
use crate::config::Ping;
use crate::dialect::Dialect;
use crate::dialect::class::{Class, Composite, Hello, Reply};
use crate::dialect::json::Walk;
use crate::dialect::json::unquoted;
use crate::dialect::json::{MAX_PATHS, Slots};
use crate::dialect::ping::PingSpec;
use crate::dialect::rules::{Matcher, Outcome, Rule};
use crate::dialect::template::{Buffer, Outgoing, Source, Template, Values, Variables};
use crate::dialect::template_ref::TemplateRef;

impl Dialect for Description {
    #[inline]
    fn classify_text<'a>(&self, text: &'a str) -> Class<'a> {
        if self.filter.is_too_long(text.len()) {
            Class::Data
        } else {
            self.filter_and_classify(text)
        }
    }

    fn classify_binary<'a>(&self, bytes: &'a [u8]) -> Class<'a> {
        if self
            .longest_binary
            .is_none_or(|longest| bytes.len() > longest)
        {
            return Class::Data;
        }
        match &self.binary_separator {
            None => self.classify_binary_record(bytes),
            Some(separator) => self.classify_binary_records(bytes, separator),
        }
    }

    fn close_policy(&self, code: u16) -> Option<RetryPolicy> {
        verdict(&self.close_codes, code)
    }

    fn http_policy(&self, status: u16) -> Option<RetryPolicy> {
        verdict(&self.http_statuses, status)
    }

    fn ping(&self) -> PingSpec {
        PingSpec {
            message: self.question.template.map(TemplateRef::of),
            is_answered: self.is_answered,
            first: self.question.first,
            jitter_percent: self.question.jitter_percent,
        }
    }

    fn greeting(&self, number: usize) -> Option<TemplateRef<'static>> {
        self.greetings.get(number).copied().map(TemplateRef::of)
    }

    fn separator(&self) -> Option<&str> {
        self.separator.as_deref()
    }

    fn binary_separator(&self) -> Option<&[u8]> {
        self.binary_separator.as_deref()
    }

    fn render<'d>(
        &'d self,
        draft: &TemplateRef<'_>,
        values: &Values<'_>,
        buffer: &'d mut Buffer,
    ) -> Option<Outgoing<'d>> {
        self.templates
            .get(usize::from(draft.origin.template))?
            .render(draft, values, buffer, &self.tracks)
    }

    fn tracks(&self) -> bool {
        !self.tracks.is_empty()
    }

    fn track(&self, text: &str, variables: &mut Variables) {
        let mut slots = [None; MAX_PATHS];
        if !self.paths.scan(text, &mut slots) {
            return;
        }
        for track in &self.tracks {
            if let Some(raw) =
                slots[track.slot].filter(|raw| *raw != "null" && raw.len() <= MAX_TRACKED)
            {
                // A known name keeps its buffer: no allocation per message.
                if let Some(value) = variables.get_mut(&*track.name) {
                    value.clear();
                    value.push_str(raw);
                } else {
                    variables.insert((*track.name).into(), raw.into());
                }
            }
        }
    }
}

/// The longest tracked value. A tracked value is a number or a short text; a longer one is not kept.
const MAX_TRACKED: usize = 256;

impl Description {
    /// Each stage is a function of its own, so that a message rejected early does not pay for the stack of later
    /// stages.
    #[inline(never)]
    fn filter_and_classify<'a>(&self, text: &'a str) -> Class<'a> {
        if !self.filter.passes(text.as_bytes()) {
            return Class::Data;
        }
        match &self.separator {
            None if self.is_batch => self.classify_batch(text),
            None => self.classify_record(text),
            Some(separator) => self.classify_records(text, separator),
        }
    }

    /// Returns the rule that this record matches, and the text after the rule's prefix.
    #[inline]
    fn rule_of<'a>(&self, text: &'a str, slots: &mut Slots<'a>) -> Option<(&Rule, &'a str)> {
        if text.len() > self.max_len {
            return None;
        }
        let mut scanned: Option<(usize, bool)> = None;
        for rule in &self.rules {
            match &rule.matcher {
                Matcher::Text(exactly) if text == &**exactly => return Some((rule, "")),
                Matcher::Text(_) | Matcher::Bytes(_) => {}
                Matcher::Prefix { prefix, rest } => {
                    let after = text.strip_prefix(&**prefix);
                    if let Some(after) = after.filter(|after| rest.holds(after)) {
                        return Some((rule, after));
                    }
                }
                Matcher::Json { prefix, conditions } => {
                    let Some(after) = text.strip_prefix(&**prefix) else {
                        continue;
                    };
                    let is_json = match scanned {
                        Some((len, is_json)) if len == prefix.len() => is_json,
                        Some(_) => {
                            *slots = [None; MAX_PATHS];
                            self.paths.scan(after, slots)
                        }
                        None => self.paths.scan(after, slots),
                    };
                    scanned = Some((prefix.len(), is_json));
                    if is_json && conditions.iter().all(|condition| condition.holds(slots)) {
                        return Some((rule, after));
                    }
                }
            }
        }
        None
    }

    /// Returns the class of a record that matches this rule, without its hello.
    #[inline]
    fn class_of<'a>(
        &self,
        rule: &Rule,
        text: &'a str,
        rest: &'a str,
        slots: &Slots<'a>,
    ) -> Class<'a> {
        match rule.outcome {
            Outcome::Data => Class::Data,
            Outcome::Beat => Class::Beat,
            Outcome::Pong => Class::Pong,
            Outcome::Response(slot) => slots[slot].map_or(Class::Data, Class::Response),
            Outcome::Reply(template) => {
                Class::Ping(Reply::Template(self.draft(template, text, rest, slots)))
            }
        }
    }

    #[inline(never)]
    fn classify_record<'a>(&self, text: &'a str) -> Class<'a> {
        let mut slots = [None; MAX_PATHS];
        match self.rule_of(text, &mut slots) {
            Some((rule, rest)) => self.told(rule, text, rest, &slots),
            None => Class::Data,
        }
    }

    /// Returns the class of a record that matches this rule.
    #[inline]
    fn told<'a>(&self, rule: &Rule, text: &'a str, rest: &'a str, slots: &Slots<'a>) -> Class<'a> {
        let class = self.class_of(rule, text, rest, slots);
        if rule.hello.is_none() && rule.ending.is_none() {
            return class;
        }
        let schedule = match self.question.schedule {
            Schedule::AfterSilence(_) => Ping::AfterSilence,
            _ => Ping::Every,
        };
        let hello = rule.hello.as_ref().map(|hello| hello.read(slots, schedule));
        let ending = rule.ending.as_ref().map(|ending| ending.read(slots));
        with_hello(class, hello.unwrap_or_default(), ending)
    }

    fn draft<'a>(
        &self,
        number: u16,
        text: &'a str,
        rest: &'a str,
        slots: &Slots<'a>,
    ) -> TemplateRef<'a> {
        let mut draft = TemplateRef::answering(number, text);
        let template = self.templates.get(usize::from(number));
        let sources = template.map_or(&[][..], Template::captures);
        for (source, range) in sources.iter().zip(&mut draft.origin.captures) {
            let slice = match source {
                Source::Slot(slot) => slots[*slot].unwrap_or_default(),
                Source::Bare(slot) => {
                    let raw = slots[*slot].unwrap_or_default();
                    unquoted(raw).unwrap_or(raw)
                }
                Source::Rest => rest,
                Source::Message => text,
                Source::Range(..) => "",
            };
            // Every slice is a part of `text`, and `text` has at most `u16::MAX` bytes.
            let from = (slice.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
            let at = |at: usize| u16::try_from(at).unwrap_or_default();
            *range = (at(from), at(from.wrapping_add(slice.len())));
        }
        draft
    }

    /// Classifies each record separately.
    fn classify_records<'a>(&self, text: &'a str, separator: &str) -> Class<'a> {
        let text = text.strip_suffix(separator).unwrap_or(text);
        let mut sum = Sum::default();
        for record in text.split(separator) {
            sum.add(self.classify_record(record));
        }
        sum.class()
    }

    /// Classifies the message as a whole, and, if no rule matches and it is an array, each object and array in it.
    #[inline(never)]
    fn classify_batch<'a>(&self, text: &'a str) -> Class<'a> {
        let mut slots = [None; MAX_PATHS];
        if let Some((rule, rest)) = self.rule_of(text, &mut slots) {
            return self.told(rule, text, rest, &slots);
        }
        let Some(mut walk) = Walk::start(text).filter(Walk::is_array) else {
            return Class::Data;
        };
        let mut sum = Sum::default();
        let walked = walk.elements(|walk, _| {
            let one = walk.value()?;
            sum.add(match one.starts_with(['{', '[']) {
                true => self.classify_record(one),
                false => Class::Data,
            });
            Some(())
        });
        match walked.is_some() && walk.is_at_end() {
            true => sum.class(),
            false => Class::Data,
        }
    }

    fn classify_binary_record<'a>(&self, bytes: &'a [u8]) -> Class<'a> {
        let matches = |rule: &&Rule| match &rule.matcher {
            Matcher::Bytes(pattern) => {
                pattern.matches(bytes) && !(pattern.is_open && bytes.len() > self.max_len)
            }
            _ => false,
        };
        let Some(rule) = self.rules.iter().find(matches) else {
            return Class::Data;
        };
        let class = match rule.outcome {
            Outcome::Reply(template) => {
                Class::Ping(Reply::Template(self.binary_draft(template, bytes)))
            }
            _ => self.class_of(rule, "", "", &[None; MAX_PATHS]),
        };
        let ending = rule.ending.as_ref();
        let ending = ending.map(|ending| ending.read(&[None; MAX_PATHS]));
        with_hello(class, Hello::NONE, ending)
    }

    fn binary_draft<'a>(&self, number: u16, bytes: &'a [u8]) -> TemplateRef<'a> {
        let mut draft = TemplateRef::answering_bytes(number, bytes);
        let template = self.templates.get(usize::from(number));
        let sources = template.map_or(&[][..], Template::captures);
        for (source, range) in sources.iter().zip(&mut draft.origin.captures) {
            if let Source::Range(from, to) = source {
                // A message that a rule matches has at most `u16::MAX` bytes.
                let end = u16::try_from(bytes.len()).unwrap_or_default();
                *range = (*from, to.unwrap_or(end));
            }
        }
        draft
    }

    fn classify_binary_records<'a>(&self, bytes: &'a [u8], separator: &[u8]) -> Class<'a> {
        let mut left = Some(bytes.strip_suffix(separator).unwrap_or(bytes));
        let mut sum = Sum::default();
        while let Some(records) = left {
            let end = memchr::memmem::find(records, separator);
            let (record, after) = match end {
                None => (records, None),
                Some(end) => (&records[..end], records.get(end + separator.len()..)),
            };
            left = after;
            sum.add(self.classify_binary_record(record));
        }
        sum.class()
    }
}

/// The combined class of the records of one message. The first ping is answered, the last hello counts, and the
/// application gets the whole message if any record is data.
#[derive(Default)]
struct Sum<'a> {
    carried: Composite<'a>,
    /// The class of the last record.
    last: Option<Class<'a>>,
    count: usize,
}

impl<'a> Sum<'a> {
    fn add(&mut self, class: Class<'a>) {
        self.count += 1;
        self.last = Some(class);
        let sum = &mut self.carried;
        match class {
            Class::Data | Class::Response(_) => sum.data = true,
            Class::Ping(reply) => sum.reply = sum.reply.or(Some(reply)),
            Class::Beat | Class::Pong => {}
            Class::Composite(carried) => {
                sum.data |= carried.data;
                sum.ending = match (sum.ending, carried.ending) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                sum.reply = sum.reply.or(carried.reply);
                if !carried.hello.is_none() {
                    sum.hello = carried.hello;
                }
            }
        }
    }

    fn class(self) -> Class<'a> {
        let sum = self.carried;
        match (sum.data, sum.reply) {
            // A single record keeps its class.
            _ if self.count < 2 => self.last.unwrap_or(Class::Data),
            _ if !sum.hello.is_none() || sum.ending.is_some() => Class::Composite(sum),
            (true, Some(_)) => Class::Composite(sum),
            (true, None) => Class::Data,
            (false, Some(reply)) => Class::Ping(reply),
            (false, None) => Class::Beat,
        }
    }
}

fn verdict(rows: &Policies, number: u16) -> Option<RetryPolicy> {
    let mut rows = rows.iter();
    rows.find(|(numbers, _)| numbers.contains(&number))
        .map(|(_, verdict)| *verdict)
}

fn with_hello(class: Class<'_>, hello: Hello, ending: Option<Duration>) -> Class<'_> {
    if hello.is_none() && ending.is_none() {
        return class;
    }
    let (reply, data) = match class {
        Class::Ping(reply) => (Some(reply), false),
        Class::Beat | Class::Pong => (None, false),
        Class::Data | Class::Response(_) | Class::Composite(_) => (None, true),
    };
    Class::Composite(Composite {
        reply,
        hello,
        data,
        ending,
    })
}
