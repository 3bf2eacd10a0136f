//! Checks of a configuration against a service's limits, with the consequence of each mismatch.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::Value;

use super::catalogue::CatalogueEntry;
use crate::config::{Config, Ping};
use crate::dialect::Dialect;
use crate::dialect::class::Class;
use crate::dialect::description::{Description, Schedule};
use crate::dialect::rules::Outcome;
use crate::duration_text::DurationText;

/// The reason why a connection will or may be closed needlessly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lint {
    /// The client sends nothing by itself.
    #[error(
        "no ping is sent, and {who} closes a connection on which it hears nothing for {}: an idle one ends then; \
         ping at least every {}",
        DurationText(*limit), DurationText(*limit / 2)
    )]
    Never {
        /// The side that sets the limit.
        who: String,
        /// The limit.
        limit: Duration,
    },
    /// Pings come too late.
    #[error(
        "a ping is sent after {}, and {who} closes a connection on which it hears nothing for {}: an idle one \
         ends then; ping at least every {}",
        DurationText(*period), DurationText(*limit), DurationText(*limit / 2)
    )]
    TooLate {
        /// The side that sets the limit.
        who: String,
        /// The limit.
        limit: Duration,
        /// The time between pings.
        period: Duration,
    },
    /// A single lost or late ping ends the connection.
    #[error(
        "a ping is sent after {}, and {who} closes a connection on which it hears nothing for {}: a single ping \
         that is lost or late ends it; ping at least every {}",
        DurationText(*period), DurationText(*limit), DurationText(*limit / 2)
    )]
    NoMargin {
        /// The side that sets the limit.
        who: String,
        /// The limit.
        limit: Duration,
        /// The time between pings.
        period: Duration,
    },
    /// Pings come less often than the service documents.
    #[error(
        "a ping is sent every {}, and {who} wants one every {}",
        DurationText(*period), DurationText(*wanted)
    )]
    TooRare {
        /// The service.
        who: String,
        /// The interval that the service wants.
        wanted: Duration,
        /// The time between pings.
        period: Duration,
    },
    /// No rule recognizes the answer to the client's pings.
    #[error(
        "{who} is asked by a message, and no rule tells its answer: every pong reaches the application; add a rule with \
         \"pong\", or say \"unanswered\" in its entry"
    )]
    PongIsData {
        /// The service, or "the service" if it has no name.
        who: String,
    },
    /// A message looks like the answer to a ping, and is classified as data.
    #[error("{message} looks like a pong, and reaches the application; add a rule with \"pong\"")]
    LooksLikePong {
        /// The message, or its beginning.
        message: String,
    },
    /// A message looks like a heartbeat of the service, and is classified as data.
    #[error(
        "{message} looks like a ping or a heartbeat, and nobody answers it; add a rule with \"reply\" or \"beat\""
    )]
    LooksLikePing {
        /// The message, or its beginning.
        message: String,
    },
    /// An entry names no source of its facts.
    #[error("{who} names no source, or one that is no URL: {source_text}")]
    NoSource {
        /// The service.
        who: String,
        /// The text found as a source.
        source_text: String,
    },
    /// An entry does not say when its facts were checked.
    #[error("{who} does not say when it was checked, as \"2026-11-29\": \"{checked}\"")]
    NoDate {
        /// The service.
        who: String,
        /// The text found as a date.
        checked: String,
    },
    /// Pings wait for inbound silence, but the service waits for pings.
    #[error(
        "a ping is sent only after silence of {who}'s, which wants to hear one every {}: while it sends data it \
         hears none, and closes; use \"every\" or \"keepalive\"",
        DurationText(*wanted)
    )]
    OnlyAfterSilence {
        /// The service.
        who: String,
        /// The interval that the service wants.
        wanted: Duration,
    },
}

/// Checks if `config` keeps a connection alive through a proxy (nginx: 60 s), a load balancer or a service that
/// closes idle connections after `limit`.
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use core::time::Duration;
/// use heartbeat_tokio::core::{Config, lint_limit}; // or heartbeat_core
/// let nginx = Duration::from_secs(60);
/// assert_eq!(lint_limit(&Config::default(), "nginx", nginx), None);
/// let lint = lint_limit(&Config::thrifty(), "nginx", nginx).unwrap();
/// assert_eq!(
///     lint.to_string(),
///     "a ping is sent after 230s, and nginx closes a connection on which it hears nothing for 60s: \
///      an idle one ends then; ping at least every 30s",
/// );
/// ```
#[must_use]
pub fn lint_limit(config: &Config, who: &str, limit: Duration) -> Option<Lint> {
    let ping = match config.ping() {
        Ping::Never => None,
        Ping::AfterSilence(period) | Ping::Every(period) => Some(period),
    };
    let period = [ping, config.keepalive()].into_iter().flatten().min();
    let who = who.into();
    match period {
        None => Some(Lint::Never { who, limit }),
        Some(period) if period >= limit => Some(Lint::TooLate { who, limit, period }),
        Some(period) if period > limit / 2 => Some(Lint::NoMargin { who, limit, period }),
        Some(_) => None,
    }
}

impl CatalogueEntry {
    /// Returns the objections to using this configuration with this service.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::{CatalogueEntry, Config}; // or heartbeat_core
    /// let bitget = CatalogueEntry::named("bitget").unwrap();
    /// assert_eq!(bitget.lint(&bitget.dialect.configure(&Config::default())?), []);
    /// assert_eq!(bitget.lint(&Config::default()).len(), 1);
    /// # Ok::<(), heartbeat_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn lint(&self, config: &Config) -> Vec<Lint> {
        let mut lints = Vec::new();
        let question = &self.dialect.question;
        let asks_us =
            |rule: &crate::dialect::rules::Rule| matches!(rule.outcome, Outcome::Reply(_));
        // If the service sends pings, its limit may be the time in which it wants an answer.
        let is_asked = question.template.is_some()
            && (self.any_message_counts.is_some() || !self.dialect.rules.iter().any(asks_us));
        if let Some(limit) = self.server_timeout.filter(|_| is_asked) {
            lints.extend(lint_limit(config, &self.name, limit));
        }
        if let (Schedule::Every(wanted), Ping::AfterSilence(_), None) =
            (question.schedule, config.ping(), config.keepalive())
        {
            let who = self.name.clone();
            lints.push(Lint::OnlyAfterSilence { who, wanted });
        }
        let period = match config.ping() {
            Ping::Never => None,
            Ping::AfterSilence(period) | Ping::Every(period) => Some(period),
        };
        if let (true, Some(wanted), Some("documented"), Some(_), Some(period)) = (
            is_asked && lints.is_empty(),
            self.interval,
            self.interval_basis.as_deref(),
            question.schedule.asks(),
            period,
        ) && period > wanted
        {
            let who = self.name.clone();
            lints.push(Lint::TooRare {
                who,
                wanted,
                period,
            });
        }
        lints
    }

    /// Returns the objections to the entry itself: no source, no date, pongs that no rule recognizes.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::CatalogueEntry; // or heartbeat_core
    /// let mut okx = CatalogueEntry::named("okx").unwrap();
    /// assert_eq!(okx.lint_entry(), []);
    /// okx.checked = "lately".into();
    /// assert_eq!(
    ///     okx.lint_entry()[0].to_string(),
    ///     "okx does not say when it was checked, as \"2026-11-29\": \"lately\"",
    /// );
    /// ```
    #[must_use]
    pub fn lint_entry(&self) -> Vec<Lint> {
        let mut lints = Vec::new();
        let who = || self.name.clone();
        let wrong = self.source.iter().find(|source| !is_url(source));
        if self.source.is_empty() || wrong.is_some() {
            lints.push(Lint::NoSource {
                who: who(),
                source_text: wrong.cloned().unwrap_or_default(),
            });
        }
        if !is_date(&self.checked) {
            lints.push(Lint::NoDate {
                who: who(),
                checked: self.checked.clone(),
            });
        }
        if !self.unanswered && self.dialect.leaves_pongs() {
            lints.push(Lint::PongIsData { who: who() });
        }
        lints
    }
}

fn is_url(source: &str) -> bool {
    let host = source.strip_prefix("https://").unwrap_or_default();
    host.split(['/', ' ', '#'])
        .next()
        .is_some_and(|host| host.contains('.'))
}

/// Returns true if the text is a date in ISO 8601 form.
fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut number = |len: usize, most: u32| {
        let part = parts.next().filter(|part| part.len() == len);
        let digits = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse::<u32>().ok());
        number.is_some_and(|number| (1..=most).contains(&number))
    };
    number(4, 9999) && number(2, 12) && number(2, 31) && parts.next().is_none()
}

/// The longest message, in bytes, that can look like a heartbeat.
const LOOKS: usize = 256;

impl Description {
    /// Returns true if the client pings by a message and no rule recognizes a pong or a beat. The pongs then reach
    /// the application.
    fn leaves_pongs(&self) -> bool {
        let tells = |rule: &crate::dialect::rules::Rule| {
            matches!(
                rule.outcome,
                Outcome::Pong | Outcome::Response(_) | Outcome::Beat
            )
        };
        self.question.template.is_some() && !self.rules.iter().any(tells)
    }

    /// Returns the objection to the description itself: [`Lint::PongIsData`].
    #[must_use]
    pub fn lint_rules(&self) -> Option<Lint> {
        let who = "the service".into();
        self.leaves_pongs().then_some(Lint::PongIsData { who })
    }

    /// Returns a warning if a text message of the service looks like a heartbeat and is data to this dialect. This
    /// is a guess: a chat may mention a ping, too.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::{Description, Lint}; // or heartbeat_core
    /// let dialect = Description::from_json(r#"{"rules": [{"json": {"/channel": "spot.pong"}, "pong": true}]}"#)?;
    /// assert_eq!(dialect.lint_message(r#"{"time":1,"channel":"spot.pong"}"#), None);
    /// let told = dialect.lint_message(r#"{"time":1,"channel":"futures.pong"}"#);
    /// assert!(matches!(told, Some(Lint::LooksLikePong { .. })), "{told:?}");
    /// # Ok::<(), heartbeat_core::DescriptionError>(())
    /// ```
    #[must_use]
    pub fn lint_message(&self, text: &str) -> Option<Lint> {
        if text.len() > LOOKS || !matches!(self.classify_text(text), Class::Data) {
            return None;
        }
        let message = || String::from(text.trim());
        match looks(text)? {
            Looks::Pong => Some(Lint::LooksLikePong { message: message() }),
            Looks::Ping => Some(Lint::LooksLikePing { message: message() }),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    Ping,
    Pong,
}

/// Returns the kind of heartbeat that a message looks like: it is or begins with a typical word, or it is JSON with
/// such a word as a key or string near the top.
fn looks(text: &str) -> Option<Looks> {
    match serde_json::from_str(text) {
        Ok(value) => looks_within(&value, NEAR),
        Err(_) => word(text.split(' ').next()?),
    }
}

/// The greatest depth that counts as near the top.
const NEAR: usize = 3;

fn looks_within(value: &Value, depth: usize) -> Option<Looks> {
    let found = |items: &mut dyn Iterator<Item = Option<Looks>>| {
        let mut first = None;
        for looks in items {
            match looks {
                Some(Looks::Pong) => return looks,
                other => first = first.or(other),
            }
        }
        first
    };
    match value {
        Value::String(text) => word(text),
        Value::Array(items) if items.len() <= 4 && depth > 0 => {
            found(&mut items.iter().map(|item| looks_within(item, depth - 1)))
        }
        Value::Object(object) if depth > 0 => {
            // A subscription, an error or application data may mention a heartbeat without being one.
            let is_about_one = |key: &str| match key {
                "error" | "errors" | "args" | "params" => true,
                "message" => object.len() > 1,
                _ => false,
            };
            let is_own = |key: &str| matches!(key, "data" | "payload" | "d" | "body");
            let fields = object.iter().filter(|(key, _)| !is_about_one(key));
            found(&mut fields.map(|(key, value)| {
                let depth = if is_own(key) { 0 } else { depth - 1 };
                word(key).or_else(|| looks_within(value, depth))
            }))
        }
        _ => None,
    }
}

fn word(text: &str) -> Option<Looks> {
    let text = text.trim().trim_matches('"').to_ascii_lowercase();
    // Services put their own name in front: `futures.pong`, `pusher:ping`, `public/heartbeat`.
    match text.rsplit(['.', ':', '/', '_']).next()? {
        "pong" => Some(Looks::Pong),
        "ping" | "hb" | "heartbeat" | "heartbeats" | "keepalive" | "alive" | "ka" | "probe" => {
            Some(Looks::Ping)
        }
        _ => None,
    }
}
