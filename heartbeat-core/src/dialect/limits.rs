//! The limits that a service sets for its clients.

use core::fmt;
use core::time::Duration;

use crate::config::{Config, Ping};
use crate::duration_text::DurationText;
use crate::limiter::{Limiter, LimiterError};

/// A number of turns in each span of a given length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The most turns; at least one.
    pub most: u32,
    /// The length of the span.
    pub per: Duration,
}

/// Writes the form used in a description: `5/1s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.most, DurationText(self.per))
    }
}

impl Rate {
    /// Returns true if a sender at this rate can exceed `limit`.
    #[must_use]
    pub const fn exceeds(&self, limit: &Self) -> bool {
        self.most as u128 * limit.per.as_nanos() > limit.most as u128 * self.per.as_nanos()
    }

    /// Splits the turns of a span: those at once after a quiet time, and those that are evenly spread after them.
    fn split(&self) -> (u32, u32) {
        let burst = (self.most / 2).max(1);
        // A single turn cannot be a burst. Spread the turns evenly.
        let spread = if self.most > 1 {
            self.most - burst
        } else {
            self.most
        };
        (burst, spread)
    }

    /// The lower one of two rates, in the long run.
    fn lower(self, other: Self) -> Self {
        if self.exceeds(&other) { other } else { self }
    }
}

/// The rates that a service sets for one thing: one at least, and at most [`Rates::MAX`]. A client must keep to each of
/// them.
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use core::time::Duration;
/// use heartbeat_tokio::core::{Rate, Rates}; // or heartbeat_core
///
/// let second = Rate { most: 20, per: Duration::from_secs(1) };
/// let minute = Rate { most: 600, per: Duration::from_secs(60) };
/// let rates = Rates::from([second, minute]);
/// assert_eq!(rates.to_string(), "20/1s and 600/60s");
/// assert_eq!(rates.lowest(), minute);
/// assert_eq!(rates.exceeded_by(&Rate { most: 15, ..second }), Some(minute));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    first: Rate,
    others: [Option<Rate>; Self::MAX - 1],
}

impl From<Rate> for Rates {
    fn from(rate: Rate) -> Self {
        Self {
            first: rate,
            others: [None; 2],
        }
    }
}

impl From<[Rate; 2]> for Rates {
    fn from([first, second]: [Rate; 2]) -> Self {
        Self {
            first,
            others: [Some(second), None],
        }
    }
}

impl From<[Rate; 3]> for Rates {
    fn from([first, second, third]: [Rate; 3]) -> Self {
        Self {
            first,
            others: [Some(second), Some(third)],
        }
    }
}

/// Writes the rates with `and` between them: `20/1s and 600/60s`.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.iter()
            .skip(1)
            .try_for_each(|rate| write!(f, " and {rate}"))
    }
}

impl Rates {
    /// The most rates that a service can set for one thing: 3. Services name one for a second, a minute and an hour.
    pub const MAX: usize = 3;

    /// Returns the rates, in the order of the description.
    pub fn iter(&self) -> impl Iterator<Item = Rate> {
        core::iter::once(self.first).chain(self.others.into_iter().flatten())
    }

    /// Returns the rate that is the lowest in the long run.
    #[must_use]
    pub fn lowest(&self) -> Rate {
        self.iter().fold(self.first, Rate::lower)
    }

    /// Returns the first rate that a sender at `rate` can exceed.
    #[must_use]
    pub fn exceeded_by(&self, rate: &Rate) -> Option<Rate> {
        self.iter().find(|limit| rate.exceeds(limit))
    }

    /// Returns a limiter for these rates: no span of a rate's `per` holds more than its `most` turns.
    ///
    /// After a quiet time half of the turns of the smallest `most` come at once. The others are evenly spread.
    ///
    /// # Errors
    /// [`LimiterError`] if a `most` is 0, or two turns would lie less than 1 ns or more than a day apart.
    pub fn limiter(&self) -> Result<Limiter, LimiterError> {
        let spread = |rate: Rate| Rate {
            most: rate.split().1,
            ..rate
        };
        // Bursts no larger and turns no closer than each rate alone would have them.
        let burst = self.iter().map(|rate| rate.split().0).min().unwrap_or(1);
        let lowest = self
            .iter()
            .map(spread)
            .fold(spread(self.first), Rate::lower);
        Limiter::new(lowest.most, lowest.per, burst)
    }
}

impl Limits {
    /// Returns the part of [`messages`](Self::messages) that a client's heartbeats leave to the application: at
    /// least one message. Of several rates, the lowest in the long run: messages that are evenly spread at that rate
    /// keep to all of them. Returns `None` if the service has no such limit.
    ///
    /// The heartbeats are the pings and keepalives of `config`. If it has neither, one answer to a ping of the
    /// service counts.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::{Config, Description}; // or heartbeat_core
    /// // Five messages a second; a ping every 30 s may be one of them.
    /// let limits = Description::named("binance").unwrap().limits();
    /// assert_eq!(limits.messages_beside(&Config::default()).unwrap().to_string(), "4/1s");
    /// ```
    #[must_use]
    pub fn messages_beside(&self, config: &Config) -> Option<Rate> {
        let pings = match config.ping() {
            Ping::Never => None,
            Ping::AfterSilence(period) | Ping::Every(period) => Some(period),
        };
        let left = |limit: Rate| {
            let times = |period: Duration| limit.per.as_nanos() / period.as_nanos().max(1) + 1;
            let asked = pings.map_or(0, times) + config.keepalive().map_or(0, times);
            // Without pings, count one answer to a ping of the service.
            let heartbeats = u32::try_from(asked.max(1)).unwrap_or(u32::MAX);
            let most = limit.most.saturating_sub(heartbeats).max(1);
            Rate { most, ..limit }
        };
        self.messages?.iter().map(left).reduce(Rate::lower)
    }
}

/// The limits of a service. `None`: the service states no limit, or it is unknown.
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use core::time::Duration;
/// use heartbeat_tokio::core::{Description, Rate}; // or heartbeat_core
///
/// let binance = Description::named("binance").unwrap();
/// let limits = binance.limits();
/// assert_eq!(limits.messages, Some(Rate { most: 5, per: Duration::from_secs(1) }.into()));
/// assert_eq!(limits.dials, Some(Rate { most: 300, per: Duration::from_secs(300) }.into()));
/// assert_eq!(binance.lifetime(), Some(Duration::from_secs(24 * 3600)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Messages that one connection may send, including heartbeats.
    pub messages: Option<Rates>,
    /// New connections that one client (an address, an account) may make.
    pub dials: Option<Rates>,
    /// Connections that one client may have at once.
    pub connections: Option<u32>,
}
