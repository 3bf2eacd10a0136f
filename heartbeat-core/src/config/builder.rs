//! Builds a configuration and checks it.

use core::fmt;
use core::time::Duration;

use super::{
    Config, MAX_DURATION, MIN_BACKOFF_BASE, MIN_DURATION, MIN_LIFETIME, Origin, PermanentErrors,
    Ping,
};
use crate::backoff::{Backoff, DIAL_FLOOR};
use crate::cause::{CauseKind, Overrides, RetryPolicy};
use crate::duration_text::DurationText;
use crate::time::Span;

/// Builds a [`Config`]. Every time lies between [`MIN_DURATION`] and [`MAX_DURATION`].
#[derive(Clone, Debug)]
pub struct ConfigBuilder {
    pub(super) config: Config,
    pub(super) complaint: Option<ConfigError>,
    pub(super) set: Set,
}

/// Which of the settings that others depend on were set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    idle_timeout: bool,
    ping: bool,
    pong_timeout: bool,
    backoff_cap: bool,
}

impl Set {
    /// Where a configuration is changed: it does not remember what was set.
    pub(super) const ALL: Self = Self {
        idle_timeout: true,
        ping: true,
        pong_timeout: true,
        backoff_cap: true,
    };
    const NONE: Self = Self {
        idle_timeout: false,
        ping: false,
        pong_timeout: false,
        backoff_cap: false,
    };
}

/// `ping` and `pong_timeout` where only `idle_timeout` was set: a third of it, at most 30 s, and the rest. Whole
/// milliseconds, where there are some.
pub(super) fn following(idle_timeout: Duration) -> (Ping, Duration) {
    let third = idle_timeout / 3;
    let whole = Duration::from_millis(u64::try_from(third.as_millis()).unwrap_or(u64::MAX));
    let silence = whole.clamp(MIN_DURATION, Duration::from_secs(30));
    if silence < idle_timeout {
        let rest = (idle_timeout - silence).max(MIN_DURATION);
        (Ping::AfterSilence(silence), rest)
    } else {
        // No time is left for a question.
        (Ping::Never, idle_timeout)
    }
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        let seconds = |seconds| Span::new(Duration::from_secs(seconds));
        let config = Config {
            idle_timeout: seconds(90),
            check_interval: seconds(30),
            ping_after_silence: seconds(30),
            ping_every: Span::OFF,
            keepalive: Span::OFF,
            pong_timeout: seconds(60),
            pong_timeout_floor: Span::OFF,
            data_timeout: Span::OFF,
            connect_timeout: seconds(10),
            write_timeout: seconds(60),
            close_timeout: seconds(5),
            late_grace: seconds(1),
            backoff: Backoff {
                base: seconds(2),
                cap: seconds(60),
                jitter_percent: 50,
            },
            stable_after: seconds(30),
            max_attempts: None,
            session_timeout: Span::OFF,
            lifetime: Span::OFF,
            time_to_live: seconds(60),
            overrides: Overrides::default(),
            permanent_errors: PermanentErrors::default(),
            fixed_credentials: false,
            ping_origin: Origin::Set,
        };
        Self {
            config,
            complaint: None,
            set: Set::NONE,
        }
    }
}

impl ConfigBuilder {
    /// The connection is dead when no byte was heard for this long. Default 90 s.
    ///
    /// If `ping` is not set, it follows: after a third of this time, at most 30 s, of silence. If neither `ping` nor
    /// `pong_timeout` is set, `pong_timeout` is the rest of this time.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core::*; }
    /// use std::time::Duration;
    /// use heartbeat_tokio::{Config, Ping}; // or heartbeat_blocking
    ///
    /// let config = Config::builder().idle_timeout(Duration::from_secs(15)).build()?;
    /// assert_eq!(config.ping(), Ping::AfterSilence(Duration::from_secs(5)));
    /// assert_eq!(config.pong_timeout(), Some(Duration::from_secs(10)));
    /// assert_eq!(config.worst_case_detection(), Duration::from_secs(15));
    /// # Ok::<(), heartbeat_tokio::ConfigError>(())
    /// ```
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.set.idle_timeout = true;
        self.config.idle_timeout = self.time("idle_timeout", timeout);
        self
    }

    /// How often an open connection reports its silence (`Check`). `None`: never.
    #[must_use]
    pub fn check_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.config.check_interval = self.optional("check_interval", interval.into());
        self
    }

    /// When to ask the peer for a sign of life. Must be shorter than `idle_timeout`. Default: after 30 s of silence, or
    /// what follows from [`idle_timeout`](Self::idle_timeout).
    #[must_use]
    pub fn ping(mut self, ping: Ping) -> Self {
        self.set.ping = true;
        self.config.ping_origin = Origin::Set;
        let (silence, every) = match ping {
            Ping::Never => (None, None),
            Ping::AfterSilence(silence) => (Some(silence), None),
            Ping::Every(interval) => (None, Some(interval)),
        };
        self.config.ping_after_silence = self.optional("ping", silence);
        self.config.ping_every = self.optional("ping", every);
        self
    }

    /// Ping after this much *outbound* silence, for servers and proxies that count what the client sends. An
    /// unanswered ping of this kind is no verdict. `None`: never.
    #[must_use]
    pub fn keepalive(mut self, silence: impl Into<Option<Duration>>) -> Self {
        self.config.keepalive = self.optional("keepalive", silence.into());
        self
    }

    /// The connection is dead when nothing at all was heard for this long after a probe. After the probe that
    /// a late tick sends, the time is at most 20 s. `None`: only `idle_timeout` decides. Default: 60 s, or what follows
    /// from [`idle_timeout`](Self::idle_timeout).
    #[must_use]
    pub fn pong_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.set.pong_timeout = true;
        self.config.pong_timeout = self.optional("pong_timeout", timeout.into());
        self
    }

    /// Lets `pong_timeout` follow the connection's measured round-trip times. `None`: `pong_timeout` is
    /// fixed.
    ///
    /// The timeout is the smoothed round trip + 4 · variation, as RFC 6298 §2 computes it, but no less than
    /// this floor and no more than `pong_timeout`. Until the connection's first pong, and for a late tick's
    /// probe, `pong_timeout` holds.
    ///
    /// Round trips are measured once a ping. A floor below the time of the peer's slowest moment kills
    /// healthy connections: leave the floor at some seconds.
    #[must_use]
    pub fn pong_timeout_floor(mut self, floor: impl Into<Option<Duration>>) -> Self {
        self.config.pong_timeout_floor = self.optional("pong_timeout_floor", floor.into());
        self
    }

    /// The feed is dead when no data came for this long, whether or not heartbeats came. `None`: not watched.
    #[must_use]
    pub fn data_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.data_timeout = self.optional("data_timeout", timeout.into());
        self
    }

    /// How long a dial (DNS, TCP, TLS and upgrade together) may take.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = self.time("connect_timeout", timeout);
        self
    }

    /// The connection is dead when bytes waited this long to be written and none moved. `None`: not watched.
    #[must_use]
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.write_timeout = self.optional("write_timeout", timeout.into());
        self
    }

    /// How long a graceful close may take before the transport is dropped.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.config.close_timeout = self.time("close_timeout", timeout);
        self
    }

    /// How late a tick may come and still judge silence. A later tick is a sign of a stopped process, not of a
    /// dead peer.
    #[must_use]
    pub fn late_grace(mut self, grace: Duration) -> Self {
        self.config.late_grace = self.time("late_grace", grace);
        self
    }

    /// The delay before dial n + 1 after n failures in a row: `min(cap, base · 2ⁿ)`, shortened by an even
    /// draw of up to `jitter_percent` (0 to 100) percent.
    ///
    /// `base` is at least [`MIN_BACKOFF_BASE`] and at most `cap`. No draw makes a delay shorter than
    /// [`DIAL_FLOOR`](crate::DIAL_FLOOR).
    #[must_use]
    pub fn backoff(mut self, base: Duration, cap: Duration, jitter_percent: u8) -> Self {
        self.set.backoff_cap = true;
        let base = self.time("backoff.base", base);
        let cap = self.time("backoff.cap", cap);
        self.config.backoff = Backoff {
            base,
            cap,
            jitter_percent,
        };
        self
    }

    /// How long a connection must be open before the count of failures restarts.
    #[must_use]
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.config.stable_after = self.time("stable_after", time);
        self
    }

    /// Give up after this many dials in a row that led to no stable connection. 1: one dial and no retry. `None`: never.
    ///
    /// A stable connection (`stable_after`) starts the count anew: as many dials follow its loss. A connection
    /// that ends before it is stable counts as a dial that failed: with 1 the client gives up then. For one dial at the
    /// start and any number later, leave this unset, and see the guide `connecting` of `heartbeat-tokio`.
    #[must_use]
    pub fn max_attempts(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.config.max_attempts = attempts.into();
        if self.config.max_attempts == Some(0) {
            self.complain(ConfigError::Zero {
                key: "max_attempts",
            });
        }
        self
    }

    /// An open connection must be [`Ready`](crate::Event::Ready) within this time, or it is dropped. `None`:
    /// a connection is ready as soon as it is open.
    ///
    /// The application authenticates and subscribes first. Until the connection is ready, and for
    /// `stable_after` from then on, the count of failures goes on. If a session is asked for and no time is
    /// given, drivers use [`DEFAULT_SESSION_TIMEOUT`](super::DEFAULT_SESSION_TIMEOUT).
    #[must_use]
    pub fn session_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.session_timeout = self.optional("session_timeout", timeout.into());
        self
    }

    /// How long the service lets a connection live. `None`: for ever.
    ///
    /// The client renews a connection before that. A moment drawn from 80 to 90 % of this time, it says that the
    /// connection is about to end ([`Action::Ending`](crate::Action::Ending)). A twentieth of this time later, at
    /// most 60 s, it closes the connection and dials again at once, with no backoff
    /// ([`Action::Renew`](crate::Action::Renew)). At least [`MIN_LIFETIME`](crate::MIN_LIFETIME). A connection that a
    /// server has accepted is not renewed.
    #[must_use]
    pub fn lifetime(mut self, time: impl Into<Option<Duration>>) -> Self {
        let time = time.into();
        self.config.lifetime = self.optional("lifetime", time);
        if let Some(value) = time.filter(|time| (MIN_DURATION..MIN_LIFETIME).contains(time)) {
            self.complain(ConfigError::TooShort {
                key: "lifetime",
                value,
                min: MIN_LIFETIME,
            });
        }
        self
    }

    /// How long a driver may hold a message while no connection can take it. Then the driver hands the
    /// message back. Matters only if the driver is told to hold messages.
    #[must_use]
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.config.time_to_live = self.time("time_to_live", time);
        self
    }

    /// Policy for an end that says "hopeless" (see [`PermanentErrors`]). Default:
    /// [`PermanentErrors::GiveUpUnlessStable`].
    #[must_use]
    pub fn permanent_errors(mut self, policy: PermanentErrors) -> Self {
        self.config.permanent_errors = policy;
        self
    }

    /// Says that each dial brings the same credentials, or none: the client has no fresh ones to ask for. Default false.
    ///
    /// Close code 1008 is backoff then. The adapters set this by themselves for a client of a fixed URL.
    #[must_use]
    pub fn fixed_credentials(mut self, fixed: bool) -> Self {
        self.config.fixed_credentials = fixed;
        self
    }

    /// Replaces a row of the table of causes (see [`Cause::default_verdict`](crate::Cause::default_verdict)).
    #[must_use]
    pub fn on(mut self, signal: CauseKind, verdict: RetryPolicy) -> Self {
        if !self.config.overrides.set(signal, verdict) {
            self.complain(ConfigError::TooManyOverrides);
        }
        self
    }

    /// Says that the backoff's cap is the default: it was not the user's to give.
    #[cfg(feature = "serde")]
    pub(crate) fn with_default_cap(mut self) -> Self {
        self.set.backoff_cap = false;
        self
    }

    /// Checks all settings and returns the configuration.
    ///
    /// # Errors
    /// Names the first setting that is out of its range or does not fit another setting.
    pub fn build(self) -> Result<Config, ConfigError> {
        if let Some(complaint) = self.complaint {
            return Err(complaint);
        }
        let set = self.set;
        let mut config = self.config;
        if set.idle_timeout && !set.ping {
            let (ping, rest) = following(config.idle_timeout.duration());
            config.ping_after_silence = match ping {
                Ping::AfterSilence(silence) => Span::new(silence),
                Ping::Never | Ping::Every(_) => Span::OFF,
            };
            config.ping_origin = Origin::Follows;
            if !set.pong_timeout {
                config.pong_timeout = Span::new(rest);
            }
        }
        let unset = |key, is_set: bool| (!is_set).then_some(key);
        let Backoff {
            base,
            cap,
            jitter_percent,
        } = config.backoff;
        if base.duration() < MIN_BACKOFF_BASE {
            return Err(ConfigError::TooShort {
                key: "backoff.base",
                value: base.duration(),
                min: MIN_BACKOFF_BASE,
            });
        }
        if cap.duration() < MIN_BACKOFF_BASE {
            return Err(ConfigError::TooShort {
                key: "backoff.cap",
                value: cap.duration(),
                min: MIN_BACKOFF_BASE,
            });
        }
        if base > cap {
            return Err(ConfigError::LongerThan {
                key: "backoff.base",
                value: base.duration(),
                other: "backoff.cap",
                limit: cap.duration(),
                default: unset("backoff.cap", set.backoff_cap),
            });
        }
        let floor = config.pong_timeout_floor;
        if !floor.is_off() && floor > config.pong_timeout {
            return Err(ConfigError::LongerThan {
                key: "pong_timeout_floor",
                value: floor.duration(),
                other: "pong_timeout",
                limit: config.pong_timeout.duration(),
                default: unset("pong_timeout", set.pong_timeout),
            });
        }
        if jitter_percent > 100 {
            return Err(ConfigError::Percent {
                key: "backoff.jitter_percent",
                value: jitter_percent,
            });
        }
        for ping in [config.ping_after_silence, config.ping_every] {
            if !ping.is_off() && ping >= config.idle_timeout {
                return Err(ConfigError::NotShorterThan {
                    key: "ping",
                    value: ping.duration(),
                    other: "idle_timeout",
                    limit: config.idle_timeout.duration(),
                    default: unset("idle_timeout", set.idle_timeout),
                });
            }
        }
        debug_assert!(base.duration() >= DIAL_FLOOR);
        Ok(config)
    }

    fn optional(&mut self, key: &'static str, time: Option<Duration>) -> Span {
        time.map_or(Span::OFF, |time| self.time(key, time))
    }

    fn time(&mut self, key: &'static str, value: Duration) -> Span {
        if value.is_zero() {
            self.complain(ConfigError::Zero { key });
        } else if value < MIN_DURATION {
            self.complain(ConfigError::TooShort {
                key,
                value,
                min: MIN_DURATION,
            });
        } else if value > MAX_DURATION {
            self.complain(ConfigError::TooLong {
                key,
                value,
                max: MAX_DURATION,
            });
        }
        Span::new(value)
    }

    fn complain(&mut self, error: ConfigError) {
        self.complaint.get_or_insert(error);
    }
}

/// What to set where a default is in the way.
struct Advice(Option<&'static str>, &'static str, Duration);

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(default, comparison, value) = *self;
        let value = DurationText(value);
        default.map_or(Ok(()), |key| {
            write!(f, " (default); set `{key}` to {comparison} {value}, too")
        })
    }
}

debug_as_display!(ConfigError);

/// Why a configuration was refused. Each names the setting, its value and the rule.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Zero is no time. `None` (JSON: `null`) switches off a setting that can be off.
    #[error("`{key}` is zero: it must be positive (an optional one is switched off by null)")]
    Zero {
        /// The setting.
        key: &'static str,
    },
    /// Below the setting's minimum.
    #[error("`{key}` is {}: it must be at least {}", DurationText(*value), DurationText(*min))]
    TooShort {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The least it may be.
        min: Duration,
    },
    /// Above the setting's maximum.
    #[error("`{key}` is {}: it must be at most {}", DurationText(*value), DurationText(*max))]
    TooLong {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The most it may be.
        max: Duration,
    },
    /// Longer than another setting allows.
    #[error("`{key}` is {}: it must not be longer than `{other}`, which is {}{}", DurationText(*value), DurationText(*limit), Advice(*default, "at least", *value))]
    LongerThan {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The setting that limits it.
        other: &'static str,
        /// The limiting setting's value.
        limit: Duration,
        /// The limiting setting again, if it was not set and its value is the default.
        default: Option<&'static str>,
    },
    /// As long as another setting or longer, but it must be shorter.
    #[error("`{key}` is {}: it must be shorter than `{other}`, which is {}{}", DurationText(*value), DurationText(*limit), Advice(*default, "more than", *value))]
    NotShorterThan {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The setting that limits it.
        other: &'static str,
        /// The limiting setting's value.
        limit: Duration,
        /// The limiting setting again, if it was not set and its value is the default.
        default: Option<&'static str>,
    },
    /// Not a percentage.
    #[error("`{key}` is {value}: it must lie between 0 and 100")]
    Percent {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: u8,
    },
    /// More rows of the table of causes were replaced than fit.
    #[error(
        "`causes` replaces more than {} rows of the table of causes",
        Overrides::MAX
    )]
    TooManyOverrides,
}
