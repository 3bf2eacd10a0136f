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

    /// Returns a limiter for this rate: no span of `per` holds more than `most` turns.
    ///
    /// After a quiet time half of the turns come at once. The others are evenly spread.
    ///
    /// # Errors
    /// [`LimiterError`] if `most` is 0, or two turns would lie less than 1 ns or more than a day apart.
    pub fn limiter(&self) -> Result<Limiter, LimiterError> {
        let burst = (self.most / 2).max(1);
        // A single turn cannot be a burst. Spread the turns evenly.
        let spread = if self.most > 1 {
            self.most - burst
        } else {
            self.most
        };
        Limiter::new(spread, self.per, burst)
    }
}

impl Limits {
    /// Returns the part of [`messages`](Self::messages) that a client's heartbeats leave to the application: at
    /// least one message. Returns `None` if the service has no such limit.
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
        let limit = self.messages?;
        let times = |period: Duration| limit.per.as_nanos() / period.as_nanos().max(1) + 1;
        let pings = match config.ping() {
            Ping::Never => None,
            Ping::AfterSilence(period) | Ping::Every(period) => Some(period),
        };
        let asked = pings.map_or(0, times) + config.keepalive().map_or(0, times);
        // Without pings, count one answer to a ping of the service.
        let heartbeats = u32::try_from(asked.max(1)).unwrap_or(u32::MAX);
        let most = limit.most.saturating_sub(heartbeats).max(1);
        Some(Rate { most, ..limit })
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
/// assert_eq!(limits.messages, Some(Rate { most: 5, per: Duration::from_secs(1) }));
/// assert_eq!(limits.dials, Some(Rate { most: 300, per: Duration::from_secs(300) }));
/// assert_eq!(binance.lifetime(), Some(Duration::from_secs(24 * 3600)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Messages that one connection may send, including heartbeats.
    pub messages: Option<Rate>,
    /// New connections that one client (an address, an account) may make.
    pub dials: Option<Rate>,
    /// Connections that one client may have at once.
    pub connections: Option<u32>,
}
