//! The clock. No other file of this crate reads the time.

use std::time::{Duration, Instant};

/// Returns the time `after` from now, for a thread that waits on a condition. `None` if it is too far off for `Instant`.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn std_deadline(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}
