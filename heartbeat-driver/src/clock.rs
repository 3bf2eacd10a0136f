//! The only place in this crate that asks the operating system for the time.

use std::time::{Instant, SystemTime};

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
