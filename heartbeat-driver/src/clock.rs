//! The only place in this crate that asks the operating system for the time.

use std::time::{Instant, SystemTime};

use heartbeat_core::Clock;

/// Now, on the monotonic clock, for a thread that waits.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Now, on the wall clock. Only to tell how far off a `Retry-After` date is; no timer sees it.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970, for the dialects whose pings say the time.
pub(crate) fn unix_ms() -> u64 {
    let since = wall().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The operating system's monotonic clock, for what many clients share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monotonic {
    origin: Instant,
}

impl Monotonic {
    pub(crate) fn start() -> Self {
        Self { origin: instant() }
    }
}

impl Clock for Monotonic {
    fn now(&self) -> heartbeat_core::Instant {
        heartbeat_core::Instant::ORIGIN.saturating_add(instant() - self.origin)
    }
}
