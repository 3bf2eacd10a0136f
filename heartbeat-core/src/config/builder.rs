//! Building and checking a configuration.

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

/// Builds a [`Config`]. All times lie between [`MIN_DURATION`] and [`MAX_DURATION`].
#[derive(Clone, Debug)]
pub struct ConfigBuilder {
    pub(super) config: Config,
    pub(super) complaint: Option<ConfigError>,
    pub(super) set: Set,
}

/// Records which of the settings that depend on others were set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    idle_timeout: bool,
    ping: bool,
    pong_timeout: bool,
    backoff_cap: bool,
}

impl Set {
    /// All settings count as set: a configuration to be changed does not remember which ones were.
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

/// Returns the `ping` and `pong_timeout` that follow an `idle_timeout`: a third of it, at most 30 s, and the rest,
/// in whole milliseconds if it has some.
pub(super) fn following(idle_timeout: Duration) -> (Ping, Duration) {
    let third = idle_timeout / 3;
    let whole = Duration::from_millis(u64::try_from(third.as_millis()).unwrap_or(u64::MAX));
    let silence = whole.clamp(MIN_DURATION, Duration::from_secs(30));
    if silence < idle_timeout {
        let rest = (idle_timeout - silence).max(MIN_DURATION);
        (Ping::AfterSilence(silence), rest)
    } else {
        // There is no time for a ping.
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
    /// Sets the time of silence after which the connection is dead. Any byte ends a silence. Default 90 s.
    ///
    /// If `ping` is not set, it is sent after a third of this time, at most 30 s, of silence. If neither `ping` nor
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

    /// Sets the interval at which an open connection reports its silence (`Check`). `None`: never. Default
    /// 30 s.
    #[must_use]
    pub fn check_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.config.check_interval = self.optional("check_interval", interval.into());
        self
    }

    /// Sets when to ping. The time must be shorter than `idle_timeout`. Default: after 30 s of silence, or after
    /// the time that follows from [`idle_timeout`](Self::idle_timeout).
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

    /// Sends a ping after this much *outbound* silence, for servers and proxies that expect traffic from the
    /// client. A missing answer to such a ping causes no verdict. `None`: never. Default `None`.
    #[must_use]
    pub fn keepalive(mut self, silence: impl Into<Option<Duration>>) -> Self {
        self.config.keepalive = self.optional("keepalive", silence.into());
        self
    }

    /// Sets the time after a probe within which any byte must arrive, or the connection is dead. After the probe of
    /// a late tick the time is at most 20 s. `None`: only `idle_timeout` decides. Default: 60 s, or the time that
    /// follows from [`idle_timeout`](Self::idle_timeout).
    #[must_use]
    pub fn pong_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.set.pong_timeout = true;
        self.config.pong_timeout = self.optional("pong_timeout", timeout.into());
        self
    }

    /// Adapts `pong_timeout` to the connection's measured round-trip times. `None`: `pong_timeout` is fixed.
    /// Default `None`.
    ///
    /// The timeout is the smoothed round trip + 4 · variation (RFC 6298 §2), but no less than this floor and no
    /// more than `pong_timeout`. Until the connection's first pong, and for a late tick's probe, the timeout is
    /// `pong_timeout`.
    ///
    /// Each ping gives one measurement. If the floor is shorter than the peer's slowest moment, healthy connections
    /// are dropped. Choose a floor of several seconds.
    #[must_use]
    pub fn pong_timeout_floor(mut self, floor: impl Into<Option<Duration>>) -> Self {
        self.config.pong_timeout_floor = self.optional("pong_timeout_floor", floor.into());
        self
    }

    /// Sets the time without data after which the feed is dead, even if heartbeats arrive. `None`: not watched.
    /// Default `None`.
    #[must_use]
    pub fn data_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.data_timeout = self.optional("data_timeout", timeout.into());
        self
    }

    /// Sets the time that a dial (DNS, TCP, TLS and upgrade together) may take. Default 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = self.time("connect_timeout", timeout);
        self
    }

    /// Sets the time for which bytes may wait to be written without any progress, before the connection is dead.
    /// `None`: not watched. Default 60 s.
    #[must_use]
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.write_timeout = self.optional("write_timeout", timeout.into());
        self
    }

    /// Sets the time that a graceful close may take before the transport is dropped. Default 5 s.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.config.close_timeout = self.time("close_timeout", timeout);
        self
    }

    /// Sets how late a tick may be and still judge silence. A later tick means that the process was stopped, not
    /// that the peer is dead. Default 1 s.
    #[must_use]
    pub fn late_grace(mut self, grace: Duration) -> Self {
        self.config.late_grace = self.time("late_grace", grace);
        self
    }

    /// Sets the delay before dial n + 1 after n failures in a row: `min(cap, base · 2ⁿ)`, shortened by a random
    /// amount of up to `jitter_percent` (0 to 100) percent.
    ///
    /// Default: 2 s, 60 s and 50 percent.
    ///
    /// `base` is at least [`MIN_BACKOFF_BASE`] and at most `cap`. No delay is shorter than
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

    /// Sets how long a connection must be ready before the count of failures restarts. Default 30 s.
    #[must_use]
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.config.stable_after = self.time("stable_after", time);
        self
    }

    /// Sets the number of dials in a row without a stable connection after which the client gives up. 1: one dial
    /// and no retry. `None`: the client never gives up for this reason. At least 1. Default `None`.
    ///
    /// A stable connection (`stable_after`) restarts the count: after its loss the client makes as many dials
    /// again. A connection that ends before it is stable counts as a failed dial, and with 1 the client then gives
    /// up. For one dial at the start and any number later, leave this unset and see the guide `connecting` of
    /// `heartbeat-tokio`.
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

    /// Sets the time within which an open connection must be [`Ready`](crate::Event::Ready). Otherwise the machine
    /// drops it. `None`: a connection is ready as soon as it is open. Default `None`.
    ///
    /// Before an application reports a connection as ready, it authenticates and subscribes. The count of failures
    /// restarts only after the connection has been ready for `stable_after`. If an application asks for a session
    /// and gives no time, drivers use [`DEFAULT_SESSION_TIMEOUT`](super::DEFAULT_SESSION_TIMEOUT).
    #[must_use]
    pub fn session_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.session_timeout = self.optional("session_timeout", timeout.into());
        self
    }

    /// Sets how long the service lets a connection live. `None`: without limit. Default `None`.
    ///
    /// The client renews a connection before this time is over. At a random moment between 80 and 90 % of the time,
    /// the machine announces that the connection is about to end ([`Action::Ending`](crate::Action::Ending)). A
    /// twentieth of the time later, at most 60 s, it closes the connection and dials again at once, without backoff
    /// ([`Action::Renew`](crate::Action::Renew)). The time is at least [`MIN_LIFETIME`](crate::MIN_LIFETIME). A
    /// server's machine does not renew accepted connections.
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

    /// Sets how long a driver may hold a message while no connection can take it. Afterwards the driver hands the
    /// message back. Has an effect only if the driver is told to hold messages. Default 60 s.
    #[must_use]
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.config.time_to_live = self.time("time_to_live", time);
        self
    }

    /// Sets the policy for a permanent error (see [`PermanentErrors`]). Default:
    /// [`PermanentErrors::GiveUpUnlessStable`].
    #[must_use]
    pub fn permanent_errors(mut self, policy: PermanentErrors) -> Self {
        self.config.permanent_errors = policy;
        self
    }

    /// Says that each dial brings the same credentials, or none, and that the client cannot fetch fresh ones.
    /// Default false.
    ///
    /// Close code 1008 then leads to backoff. The adapters set this by themselves for a client of a fixed URL.
    #[must_use]
    pub fn fixed_credentials(mut self, fixed: bool) -> Self {
        self.config.fixed_credentials = fixed;
        self
    }

    /// Replaces a row of the table of causes. Default: the table of
    /// [`Cause::default_verdict`](crate::Cause::default_verdict).
    #[must_use]
    pub fn on(mut self, signal: CauseKind, verdict: RetryPolicy) -> Self {
        if !self.config.overrides.set(signal, verdict) {
            self.complain(ConfigError::TooManyOverrides);
        }
        self
    }

    /// Notes that the backoff's cap is the default, for the wording of an error.
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

/// Advice in an error: the setting to change if a default is in the way.
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

/// The reason why a configuration was refused. Each variant names the setting, its value and the rule.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A time of zero. To switch off an optional setting, use `None` (JSON: `null`).
    #[error("`{key}` is zero: it must be positive (an optional one is switched off by null)")]
    Zero {
        /// The setting.
        key: &'static str,
    },
    /// A time below the setting's minimum.
    #[error("`{key}` is {}: it must be at least {}", DurationText(*value), DurationText(*min))]
    TooShort {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The minimum.
        min: Duration,
    },
    /// A time above the setting's maximum.
    #[error("`{key}` is {}: it must be at most {}", DurationText(*value), DurationText(*max))]
    TooLong {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The maximum.
        max: Duration,
    },
    /// A time longer than another setting allows.
    #[error("`{key}` is {}: it must not be longer than `{other}`, which is {}{}", DurationText(*value), DurationText(*limit), Advice(*default, "at least", *value))]
    LongerThan {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The limiting setting.
        other: &'static str,
        /// The limiting setting's value.
        limit: Duration,
        /// The limiting setting's name if its value is the default.
        default: Option<&'static str>,
    },
    /// A time that must be shorter than another setting.
    #[error("`{key}` is {}: it must be shorter than `{other}`, which is {}{}", DurationText(*value), DurationText(*limit), Advice(*default, "more than", *value))]
    NotShorterThan {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The limiting setting.
        other: &'static str,
        /// The limiting setting's value.
        limit: Duration,
        /// The limiting setting's name if its value is the default.
        default: Option<&'static str>,
    },
    /// A number that is no percentage.
    #[error("`{key}` is {value}: it must lie between 0 and 100")]
    Percent {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: u8,
    },
    /// More replaced rows of the table of causes than fit.
    #[error(
        "`causes` replaces more than {} rows of the table of causes",
        Overrides::MAX
    )]
    TooManyOverrides,
}
