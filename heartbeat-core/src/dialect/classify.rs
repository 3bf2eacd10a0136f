//! A message held against a description's rules.

use alloc::string::String;

use super::description::{Description, Schedule};
use super::rule::{Matcher, Outcome, Rule};
use super::scan::{MAX_PATHS, Slots};
use super::template::{Outgoing, Source, Template, Values, Variables};
use super::{AskBy, Carried, Class, Dialect, Draft, Hello};
use crate::action::Reply;
use crate::cause::Verdict;
use crate::config::Ping;

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
        let matches =
            |rule: &&Rule| matches!(&rule.matcher, Matcher::Bytes(exactly) if **exactly == *bytes);
        match self.rules.iter().find(matches) {
            Some(rule) => self.class_of(rule, "", "", &[None; MAX_PATHS]),
            None => Class::Data,
        }
    }

    fn close_verdict(&self, code: u16) -> Option<Verdict> {
        let mut rows = self.close_codes.iter();
        rows.find(|(codes, _)| codes.contains(&code))
            .map(|(_, verdict)| *verdict)
    }

    fn ask(&self) -> AskBy {
        AskBy {
            message: self.question.template.map(Draft::of),
            is_answered: self.is_answered,
            first: self.question.first,
        }
    }

    fn greeting(&self, number: usize) -> Option<Draft<'static>> {
        self.greetings.get(number).copied().map(Draft::of)
    }

    fn separator(&self) -> Option<&str> {
        self.separator.as_deref()
    }

    fn render<'d>(
        &'d self,
        draft: &Draft<'_>,
        values: &Values<'_>,
        buffer: &'d mut String,
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
                // Known names keep their room: no allocation per message.
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

/// A tracked value is a number or a short text; anything longer is not kept.
const MAX_TRACKED: usize = 256;

impl Description {
    /// Each stage is a function of its own: what a later one needs on the stack is not laid out for the
    /// messages that come no further.
    #[inline(never)]
    fn filter_and_classify<'a>(&self, text: &'a str) -> Class<'a> {
        if !self.filter.passes(text.as_bytes()) {
            return Class::Data;
        }
        match &self.separator {
            None => self.classify_record(text),
            Some(separator) => self.classify_records(text, separator),
        }
    }

    /// The rule that this record matches, and what follows the rule's prefix.
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

    /// What a record is that matches this rule, its hello aside.
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
                Class::Ping(Reply::Draft(self.draft(template, text, rest, slots)))
            }
        }
    }

    #[inline(never)]
    fn classify_record<'a>(&self, text: &'a str) -> Class<'a> {
        let mut slots = [None; MAX_PATHS];
        let Some((rule, rest)) = self.rule_of(text, &mut slots) else {
            return Class::Data;
        };
        let class = self.class_of(rule, text, rest, &slots);
        match &rule.hello {
            None => class,
            Some(hello) => {
                let schedule = match self.question.schedule {
                    Schedule::AfterSilence(_) => Ping::AfterSilence,
                    _ => Ping::Every,
                };
                with_hello(class, hello.read(&slots, schedule))
            }
        }
    }

    fn draft<'a>(&self, number: u16, text: &'a str, rest: &'a str, slots: &Slots<'a>) -> Draft<'a> {
        let mut draft = Draft::answering(number, text);
        let template = self.templates.get(usize::from(number));
        let sources = template.map_or(&[][..], Template::captures);
        for (source, range) in sources.iter().zip(&mut draft.origin.captures) {
            let slice = match source {
                Source::Slot(slot) => slots[*slot].unwrap_or_default(),
                Source::Rest => rest,
                Source::Message => text,
            };
            // Every slice is a part of `text`, and that is at most `u16::MAX` bytes long.
            let from = (slice.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
            let at = |at: usize| u16::try_from(at).unwrap_or_default();
            *range = (at(from), at(from.wrapping_add(slice.len())));
        }
        draft
    }

    /// Each record by itself. The first ping is answered, the last hello is heeded, and the
    /// application gets the whole if any record is its own.
    fn classify_records<'a>(&self, text: &'a str, separator: &str) -> Class<'a> {
        let text = text.strip_suffix(separator).unwrap_or(text);
        if !text.contains(separator) {
            return self.classify_record(text);
        }
        let mut sum = Carried::default();
        for record in text.split(separator) {
            match self.classify_record(record) {
                Class::Data | Class::Response(_) => sum.data = true,
                Class::Ping(reply) => sum.reply = sum.reply.or(Some(reply)),
                Class::Beat | Class::Pong => {}
                Class::Carrier(carried) => {
                    sum.data |= carried.data;
                    sum.reply = sum.reply.or(carried.reply);
                    sum.hello = carried.hello;
                }
            }
        }
        match (sum.data, sum.reply) {
            _ if !sum.hello.is_none() => Class::Carrier(sum),
            (true, Some(_)) => Class::Carrier(sum),
            (true, None) => Class::Data,
            (false, Some(reply)) => Class::Ping(reply),
            (false, None) => Class::Beat,
        }
    }
}

fn with_hello(class: Class<'_>, hello: Hello) -> Class<'_> {
    if hello.is_none() {
        return class;
    }
    let (reply, data) = match class {
        Class::Ping(reply) => (Some(reply), false),
        Class::Beat | Class::Pong => (None, false),
        Class::Data | Class::Response(_) | Class::Carrier(_) => (None, true),
    };
    Class::Carrier(Carried { reply, hello, data })
}
