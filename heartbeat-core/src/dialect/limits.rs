//! What a client may do in what time, as a service says.

use core::time::Duration;

/// So many, in each span of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at most; at least one.
    pub most: u32,
    /// In which time.
    pub per: Duration,
}

/// What a service allows its clients. `None`: it says nothing, or nobody has found out.
///
/// ```
/// use core::time::Duration;
/// use heartbeat_core::{Description, Rate};
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
