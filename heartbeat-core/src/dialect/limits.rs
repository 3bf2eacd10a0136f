//! What a client may do in what time, as a service says.

use core::fmt;
use core::time::Duration;

use crate::config::{Config, Ping};
use crate::duration_text::DurationText;
use crate::limiter::{Limiter, LimiterError};

/// So many, in each span of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at most; at least one.
    pub most: u32,
    /// In which time.
    pub per: Duration,
}

/// As a description writes it: `5/1s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.most, DurationText(self.per))
    }
}

impl Rate {
    /// True if a sender at this rate can go beyond `limit`.
    #[must_use]
    pub const fn exceeds(&self, limit: &Self) -> bool {
        self.most as u128 * limit.per.as_nanos() > limit.most as u128 * self.per.as_nanos()
    }

    /// A limiter that keeps to this rate: no span of `per` holds more than `most` turns.
    ///
    /// After a quiet time half of the turns come at once; the others are evenly spread.
    ///
    /// # Errors
    /// [`LimiterError`] if `most` is 0, or two turns would lie less than 1 ns or more than a day apart.
    pub fn limiter(&self) -> Result<Limiter, LimiterError> {
        let burst = (self.most / 2).max(1);
        // A single turn is no burst; it comes evenly.
        let spread = if self.most > 1 {
            self.most - burst
        } else {
            self.most
        };
        Limiter::new(spread, self.per, burst)
    }
}

impl Limits {
    /// The part of [`messages`](Self::messages) that a client's heartbeats leave to the application, at least one
    /// message. `None` if the service has no such limit.
    ///
    /// Heartbeats are the pings and the keepalives of `config`; if it has neither, one answer to a ping of the
    /// service's.
    ///
    /// ```
    /// # mod heartbeat_tokio { pub use heartbeat_core as core; }
    /// use heartbeat_tokio::core::{Config, Description}; // or heartbeat_core
    /// // Five in a second; a ping every 30 s may be one of them.
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
        // An answer to a ping of the service's, where nothing is asked.
        let heartbeats = u32::try_from(asked.max(1)).unwrap_or(u32::MAX);
        let most = limit.most.saturating_sub(heartbeats).max(1);
        Some(Rate { most, ..limit })
    }
}

/// What a service allows its clients. `None`: it says nothing, or nobody has found out.
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
    /// Messages that one connection may send, heartbeats among them.
    pub messages: Option<Rate>,
    /// New connections that one client (an address, an account) may make.
    pub dials: Option<Rate>,
    /// Connections that one client may have at once.
    pub connections: Option<u32>,
}
