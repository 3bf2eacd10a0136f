//! A service as a whole: its messages, times and limits, and checks of a configuration against them.
//!
//! A name or a description goes in. Out come its entry in the catalogue and the configuration that the service asks
//! for. `catalogue.rs` holds the entries, `lint.rs` finds likely mistakes in an entry or a configuration. Read this
//! file first.

mod catalogue;
mod lint;

pub use self::catalogue::{CatalogueEntry, catalogue};
pub use self::lint::{Lint, lint_limit};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use crate::config::{Config, ConfigError, Ping};
use crate::dialect::any::AnyDialect;
use crate::dialect::description::{Description, Schedule};
use crate::dialect::error::UnknownService;
use crate::dialect::limits::Rate;
use crate::duration_text::DurationText;

debug_as_display!(Contradiction);

impl FromStr for AnyDialect {
    type Err = UnknownService;

    /// Returns the dialect with this name or alias.
    fn from_str(name: &str) -> Result<Self, UnknownService> {
        Self::named(name).ok_or_else(|| UnknownService {
            name: name.into(),
            near: CatalogueEntry::names_near(name),
        })
    }
}

impl From<Description> for AnyDialect {
    fn from(described: Description) -> Self {
        Self::Described(Box::new(described))
    }
}

impl From<CatalogueEntry> for AnyDialect {
    fn from(entry: CatalogueEntry) -> Self {
        Self::Named(Box::new(entry))
    }
}

/// Writes a ping schedule in words.
struct PingText(Ping);

impl fmt::Display for PingText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ping::Never => f.write_str("never"),
            Ping::AfterSilence(time) => write!(f, "after {} of silence", DurationText(time)),
            Ping::Every(time) => write!(f, "every {}", DurationText(time)),
        }
    }
}

/// The reason why a configuration does not fit a service. Each variant names the setting, its value, and the
/// service's value.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Contradiction {
    /// A time of the configuration contradicts one of the service.
    #[error("with the times of {service}, {error}")]
    Times {
        /// The service.
        service: String,
        /// The two times.
        error: ConfigError,
    },
    /// The configuration's pings do not keep the connection alive.
    #[error("`ping` of the configuration is {}, which does not go with {service}: {lint}", PingText(*ping))]
    Ping {
        /// The service.
        service: String,
        /// The configuration's pings.
        ping: Ping,
        /// The consequence.
        lint: Lint,
    },
    /// The configuration never pings, but the service wants pings.
    #[error("`ping` of the configuration is never, and {service} wants one every {}", DurationText(*wanted))]
    Never {
        /// The service.
        service: String,
        /// The interval that the service wants.
        wanted: Duration,
    },
    /// The configuration's keepalives come less often than the service wants them.
    #[error(
        "`keepalive` of the configuration is {}, and {service} wants to hear something every {}",
        DurationText(*value), DurationText(*wanted)
    )]
    Keepalive {
        /// The service.
        service: String,
        /// The configuration's value.
        value: Duration,
        /// The interval that the service wants.
        wanted: Duration,
    },
    /// The healthy service is silent for longer than the configuration allows.
    #[error(
        "`idle_timeout` of the configuration is {}, nothing is asked, and {service} says something every {}",
        DurationText(*value), DurationText(*interval)
    )]
    Silence {
        /// The service.
        service: String,
        /// The configuration's value.
        value: Duration,
        /// The interval at which the service sends something by itself.
        interval: Duration,
    },
    /// The configuration's lifetime is longer than the service's.
    #[error(
        "`lifetime` of the configuration is {}, and {service} ends a connection after {}",
        DurationText(*value), DurationText(*limit)
    )]
    Lifetime {
        /// The service.
        service: String,
        /// The configuration's value.
        value: Duration,
        /// The service's limit.
        limit: Duration,
    },
    /// The client sends more messages than the service allows.
    #[error("`send_rate` is {rate}, and {service} allows {limit}")]
    SendRate {
        /// The service.
        service: String,
        /// The rate that was set.
        rate: Rate,
        /// The service's limit.
        limit: Rate,
    },
}

impl AnyDialect {
    /// Returns the service's name for errors and log lines: the name of its entry, or `the service` for a
    /// description.
    #[must_use]
    pub fn service_name(&self) -> &str {
        match self {
            Self::JsonType => "json-type",
            Self::Frames => "frames",
            Self::Named(entry) => &entry.name,
            Self::Described(_) => "the service",
        }
    }

    /// Returns the configuration `base` adapted to this service, and a warning if there is one.
    ///
    /// The service sets each of `ping`, `idle_timeout`, `pong_timeout`, `keepalive` and `lifetime` that `base`
    /// leaves at the value of [`Config::default`], or lets follow from `idle_timeout`. All other values of `base`
    /// stay. A warning says what the service may object to: pings that leave no margin for a lost one, or pings
    /// that are rarer than its clients' usual ones.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use core::time::Duration;
    /// use heartbeat_tokio::core::{AnyDialect, Config, Ping}; // or heartbeat_core
    ///
    /// let kucoin: AnyDialect = "kucoin".parse()?;
    /// let (config, doubt) = kucoin.fit(&Config::default())?;
    /// assert_eq!((config.ping(), doubt), (Ping::Every(Duration::from_secs(18)), None));
    ///
    /// let rare = Config::from_json(r#"{"ping": {"every": "40s"}}"#)?;
    /// assert_eq!(
    ///     kucoin.fit(&rare).unwrap_err().to_string(),
    ///     "`ping` of the configuration is every 40s, which does not go with kucoin: \
    ///      a ping is sent every 40s, and kucoin wants one every 18s",
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Contradiction`] names a value that `base` sets, and the service's value that it contradicts.
    pub fn fit(&self, base: &Config) -> Result<(Config, Option<Lint>), Contradiction> {
        match self {
            Self::JsonType | Self::Frames => Ok((base.clone(), None)),
            Self::Named(entry) => entry.fit(base),
            Self::Described(described) => CatalogueEntry::of(described).fit(base),
        }
    }
}

impl CatalogueEntry {
    /// Makes an entry from a user's description: its times are the ones that the service wants.
    fn of(described: &Description) -> Self {
        let schedule = described.question.schedule.asks();
        Self {
            name: "the service".into(),
            aliases: Vec::new(),
            service: String::new(),
            source: Vec::new(),
            checked: String::new(),
            evidence: String::new(),
            interval: schedule.map(|(_, time)| time),
            interval_basis: Some("documented".into()),
            server_timeout: None,
            any_message_counts: None,
            unanswered: false,
            compression: None,
            notes: Vec::new(),
            dialect: described.clone(),
        }
    }

    fn fit(&self, base: &Config) -> Result<(Config, Option<Lint>), Contradiction> {
        let default = Config::default();
        let service = || self.name.clone();
        let times = |error| Contradiction::Times {
            service: service(),
            error,
        };
        let own = self.dialect.configure(&default).map_err(times)?;
        let schedule = self.dialect.question.schedule;
        let (ping_follows, pong_follows) = base.follows();
        let sets_ping = !ping_follows;
        let sets_idle = base.idle_timeout() != default.idle_timeout();
        let mut builder = base.to_builder();
        if !sets_ping && own.ping() != default.ping() {
            builder = builder.ping(own.ping());
        }
        if !sets_idle {
            builder = builder.idle_timeout(own.idle_timeout());
        }
        if pong_follows && own.pong_timeout() != default.pong_timeout() {
            builder = builder.pong_timeout(own.pong_timeout());
        }
        if base.keepalive().is_none() {
            builder = builder.keepalive(own.keepalive());
        }
        if base.lifetime().is_none() {
            builder = builder.lifetime(self.dialect.lifetime);
        }
        let config = builder.build().map_err(times)?;
        if let (Some(value), Some(limit)) = (config.lifetime(), self.dialect.lifetime)
            && value > limit
        {
            return Err(Contradiction::Lifetime {
                service: service(),
                value,
                limit,
            });
        }
        if let (Schedule::AfterSending(wanted), Some(value)) = (schedule, config.keepalive())
            && value > wanted
        {
            return Err(Contradiction::Keepalive {
                service: service(),
                value,
                wanted,
            });
        }
        let period = match config.ping() {
            Ping::Never => None,
            Ping::AfterSilence(period) | Ping::Every(period) => Some(period),
        };
        if let (None, Some((_, wanted)), None) = (period, schedule.asks(), config.keepalive()) {
            return Err(Contradiction::Never {
                service: service(),
                wanted,
            });
        }
        if let (None, true, Some(interval)) = (period, sets_idle, self.interval)
            && config.idle_timeout() <= interval
        {
            return Err(Contradiction::Silence {
                service: service(),
                value: config.idle_timeout(),
                interval,
            });
        }
        if !sets_ping {
            return Ok((config, None));
        }
        let mut doubt = None;
        for lint in self.lint(&config) {
            match lint {
                Lint::NoMargin { .. } => doubt = Some(lint),
                lint => {
                    return Err(Contradiction::Ping {
                        service: service(),
                        ping: config.ping(),
                        lint,
                    });
                }
            }
        }
        if let (None, Some((_, wanted)), Some(period)) = (&doubt, schedule.asks(), period)
            && period > wanted
        {
            let who = service();
            doubt = Some(Lint::TooRare {
                who,
                wanted,
                period,
            });
        }
        Ok((config, doubt))
    }
}
