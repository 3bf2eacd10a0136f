//! A rule: a pattern for messages, and the classification of a message that matches.

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
    /// The message announces that the connection is about to end.
    pub(crate) ending: Option<EndingRule>,
}

#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    /// Exactly this text message.
    Text(Box<str>),
    /// A binary message with this pattern.
    Bytes(Pattern),
    /// A text message with this prefix.
    Prefix { prefix: Box<str>, rest: Rest },
    /// A text message made of this prefix, which may be empty, and JSON that fulfils all conditions.
    Json {
        prefix: Box<str>,
        conditions: Box<[Condition]>,
    },
}

impl Matcher {
    /// Returns true if this matcher certainly matches every message that the other one matches.
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

/// The text that must follow a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Any,
    /// One or more digits, and nothing else.
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
    /// This string, with any escapes.
    String(Box<str>),
    /// This number, `true`, `false` or `null`. Each whole number has a single spelling.
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
    /// The response to the request with the id in this slot.
    Response(usize),
    /// A ping. Holds the number of the reply's template.
    Reply(u16),
}

/// The places of the times that a hello announces.
#[derive(Clone, Debug)]
pub(crate) struct HelloRule {
    pub(crate) ping: Option<TimeRule>,
    pub(crate) idle_timeout: Option<TimeRule>,
}

impl HelloRule {
    /// Reads the announced times. `schedule` makes a ping schedule from the time for pings.
    pub(crate) fn read(&self, slots: &Slots<'_>, schedule: fn(Duration) -> Ping) -> Hello {
        let time = |rule: &Option<TimeRule>| rule.as_ref().and_then(|rule| rule.read(slots));
        Hello {
            ping: time(&self.ping).map(schedule),
            idle_timeout: time(&self.idle_timeout),
        }
    }
}

/// The time within which an announced end comes.
#[derive(Clone, Debug)]
pub(crate) enum EndingRule {
    Within(Duration),
    /// The message gives the time.
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

/// A time: the sum of numbers of a unit at some paths, plus a constant.
#[derive(Clone, Debug)]
pub(crate) struct TimeRule {
    pub(crate) unit: Duration,
    pub(crate) slots: Box<[usize]>,
    /// The paths lead on inside the JSON text that is the string in this slot, not inside the message itself.
    pub(crate) inside: Option<(usize, Paths)>,
    pub(crate) plus: Duration,
}

impl TimeRule {
    fn read(&self, slots: &Slots<'_>) -> Option<Duration> {
        match &self.inside {
            None => self.sum(slots),
            Some((slot, paths)) => {
                // A hello comes once in a connection's life, so decoding a string here is cheap enough.
                let text: String = characters(unquoted(slots[*slot]?)?).collect();
                let mut within = [None; MAX_PATHS];
                paths.scan(&text, &mut within).then(|| self.sum(&within))?
            }
        }
    }

    fn sum(&self, slots: &Slots<'_>) -> Option<Duration> {
        let mut sum = Duration::ZERO;
        for slot in &self.slots {
            // Some services write numbers as strings. Protobuf's JSON writes a duration as `"3.5s"`.
            let raw = slots[*slot].map(|raw| match unquoted(raw) {
                Some(text) if self.unit.as_secs() == 1 => text.strip_suffix('s').unwrap_or(text),
                text => text.unwrap_or(raw),
            })?;
            let raw = Some(raw).filter(|raw| Kind::of(raw) == Kind::Number)?;
            let number = raw.parse::<f64>().ok()?;
            let time = Duration::try_from_secs_f64(number * self.unit.as_secs_f64()).ok()?;
            sum = sum.checked_add(time)?;
        }
        // Services send zero for "no such time".
        (!sum.is_zero()).then(|| sum.saturating_add(self.plus))
    }
}
