//! One rule: what a message must look like, and what it is then.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use crate::config::Ping;
use crate::dialect::class::Hello;
use crate::dialect::json::Kind;
use crate::dialect::json::{MAX_PATHS, Paths, Slots};
use crate::dialect::json::{characters, is_string, unquoted};
use crate::dialect::template::Pattern;
use crate::renewal::Renewal;

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) matcher: Matcher,
    pub(crate) outcome: Outcome,
    pub(crate) hello: Option<HelloRule>,
    /// It announces that the connection is about to end.
    pub(crate) ending: Option<EndingRule>,
}

#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    /// Exactly this text message.
    Text(Box<str>),
    /// A binary message that looks so.
    Bytes(Pattern),
    /// A text message that begins so.
    Prefix { prefix: Box<str>, rest: Rest },
    /// A text message that is this prefix, which may be empty, and JSON of which all of this is true.
    Json {
        prefix: Box<str>,
        conditions: Box<[Condition]>,
    },
}

impl Matcher {
    /// Whether this one certainly matches whatever the other one matches.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Matcher::Text(one), Matcher::Text(other)) => one == other,
            (Matcher::Bytes(one), Matcher::Bytes(other)) => one.covers(other),
            (
                Matcher::Prefix {
                    prefix,
                    rest: Rest::Any,
                },
                Matcher::Text(other),
            ) => other.starts_with(&**prefix),
            (
                Matcher::Prefix {
                    prefix,
                    rest: Rest::Any,
                },
                Matcher::Prefix { prefix: other, .. } | Matcher::Json { prefix: other, .. },
            ) => other.starts_with(&**prefix),
            (
                Matcher::Json { prefix, conditions },
                Matcher::Json {
                    prefix: other,
                    conditions: narrower,
                },
            ) => {
                prefix == other
                    && conditions
                        .iter()
                        .all(|condition| narrower.contains(condition))
            }
            _ => false,
        }
    }
}

/// What must follow a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Any,
    /// One digit or more, and nothing else.
    Digits,
}

impl Rest {
    pub(crate) fn holds(self, rest: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Digits => !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) slot: usize,
    pub(crate) test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// This string, however it is escaped.
    String(Box<str>),
    /// A number, `true`, `false` or `null`, written so. Whole numbers have one spelling only.
    Literal(Box<str>),
    Exists,
    Absent,
    Is(Kind),
}

impl Condition {
    pub(crate) fn holds(&self, slots: &Slots<'_>) -> bool {
        let Some(raw) = slots[self.slot] else {
            return self.test == Test::Absent;
        };
        match &self.test {
            Test::String(expected) => is_string(raw, expected),
            Test::Literal(expected) => raw == &**expected,
            Test::Exists => true,
            Test::Absent => false,
            Test::Is(kind) => Kind::of(raw) == *kind,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Data,
    Beat,
    Pong,
    /// The response to the request whose id stands in this slot.
    Response(usize),
    /// A ping; the number of the reply's template.
    Reply(u16),
}

/// Where a hello says its times.
#[derive(Clone, Debug)]
pub(crate) struct HelloRule {
    pub(crate) ping: Option<TimeRule>,
    pub(crate) idle_timeout: Option<TimeRule>,
}

impl HelloRule {
    /// The announced times; `schedule` says what the one for pings is the time of.
    pub(crate) fn read(&self, slots: &Slots<'_>, schedule: fn(Duration) -> Ping) -> Hello {
        let time = |rule: &Option<TimeRule>| rule.as_ref().and_then(|rule| rule.read(slots));
        Hello {
            ping: time(&self.ping).map(schedule),
            idle_timeout: time(&self.idle_timeout),
        }
    }
}

/// Within which time an announced end comes.
#[derive(Clone, Debug)]
pub(crate) enum EndingRule {
    Within(Duration),
    /// The message says so itself.
    Told(TimeRule),
}

impl EndingRule {
    pub(crate) fn read(&self, slots: &Slots<'_>) -> Duration {
        match self {
            Self::Within(time) => *time,
            Self::Told(rule) => rule.read(slots).unwrap_or(Renewal::DEFAULT_WITHIN),
        }
    }
}

/// A time: numbers of a unit at some paths, added up, and a constant on top.
#[derive(Clone, Debug)]
pub(crate) struct TimeRule {
    pub(crate) unit: Duration,
    pub(crate) slots: Box<[usize]>,
    /// The paths are not the message's own: they lead on inside the JSON text that is the string in
    /// this slot.
    pub(crate) inside: Option<(usize, Paths)>,
    pub(crate) plus: Duration,
}

impl TimeRule {
    fn read(&self, slots: &Slots<'_>) -> Option<Duration> {
        match &self.inside {
            None => self.sum(slots),
            Some((slot, paths)) => {
                // Once in a connection's life: here a string may be decoded.
                let text: String = characters(unquoted(slots[*slot]?)?).collect();
                let mut within = [None; MAX_PATHS];
                paths.scan(&text, &mut within).then(|| self.sum(&within))?
            }
        }
    }

    fn sum(&self, slots: &Slots<'_>) -> Option<Duration> {
        let mut sum = Duration::ZERO;
        for slot in &self.slots {
            // Some write numbers as strings, and protobuf's JSON writes a duration as `"3.5s"`.
            let raw = slots[*slot].map(|raw| match unquoted(raw) {
                Some(text) if self.unit.as_secs() == 1 => text.strip_suffix('s').unwrap_or(text),
                text => text.unwrap_or(raw),
            })?;
            let raw = Some(raw).filter(|raw| Kind::of(raw) == Kind::Number)?;
            let number = raw.parse::<f64>().ok()?;
            let time = Duration::try_from_secs_f64(number * self.unit.as_secs_f64()).ok()?;
            sum = sum.checked_add(time)?;
        }
        // Zero is how services say that there is no such time.
        (!sum.is_zero()).then(|| sum.saturating_add(self.plus))
    }
}
