//! Do a configuration and a service's limits fit? What happens if not, and when.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::catalogue::CatalogueEntry;
use super::description::Schedule;
use super::rule::Outcome;
use crate::config::{Config, Ping};
use crate::duration_text::DurationText;

/// Why a connection will be closed that need not be, or may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lint {
    /// Nothing is ever sent unasked.
    #[error(
        "no ping is sent, and {who} closes a connection on which it hears nothing for {}: an idle one ends then; \
         ping at least every {}",
        DurationText(*limit), DurationText(*limit / 2)
    )]
    Never {
        /// Whose limit it is.
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
        /// Whose limit it is.
        who: String,
        /// The limit.
        limit: Duration,
        /// The time between pings.
        period: Duration,
    },
    /// One lost or late ping is enough.
    #[error(
        "a ping is sent after {}, and {who} closes a connection on which it hears nothing for {}: a single ping \
         that is lost or late ends it; ping at least every {}",
        DurationText(*period), DurationText(*limit), DurationText(*limit / 2)
    )]
    NoMargin {
        /// Whose limit it is.
        who: String,
        /// The limit.
        limit: Duration,
        /// The time between pings.
        period: Duration,
    },
    /// Pings wait for inbound silence, and the service waits for pings.
    #[error(
        "a ping is sent only after silence of {who}'s, which wants to hear one every {}: while it sends data it \
         hears none, and closes; use \"every\" or \"keepalive\"",
        DurationText(*wanted)
    )]
    OnlyAfterSilence {
        /// The service.
        who: String,
        /// How often it wants a ping.
        wanted: Duration,
    },
}

/// Whether `config` keeps a connection alive through something that closes it after `limit` without
/// traffic: a proxy (nginx: 60 s), a load balancer, a service.
///
/// ```
/// use core::time::Duration;
/// use heartbeat_core::{Config, lint_limit};
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
    /// What speaks against using this configuration with this service.
    ///
    /// ```
    /// use heartbeat_core::{CatalogueEntry, Config};
    /// let bitget = CatalogueEntry::named("bitget").unwrap();
    /// assert_eq!(bitget.lint(&bitget.dialect.configure(&Config::default())?), []);
    /// assert_eq!(bitget.lint(&Config::default()).len(), 1);
    /// # Ok::<(), heartbeat_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn lint(&self, config: &Config) -> Vec<Lint> {
        let mut lints = Vec::new();
        let question = &self.dialect.question;
        let asks_us = |rule: &super::rule::Rule| matches!(rule.outcome, Outcome::Reply(_));
        // Where the service asks, its limit may be the time in which it wants an answer.
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
        lints
    }
}
