//! The only place in this crate that asks for the time.

use std::time::Instant as StdInstant;

use heartbeat_driver::core::{Clock, Instant};

/// The operating system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StdClock {
    origin: StdInstant,
}

impl StdClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn start() -> Self {
        Self {
            origin: StdInstant::now(),
        }
    }

    /// The moment `after` from now; `None` if it is too far off to be told.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn std_deadline(after: std::time::Duration) -> Option<StdInstant> {
        StdInstant::now().checked_add(after)
    }
}

impl Clock for StdClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Instant {
        Instant::ORIGIN.saturating_add(StdInstant::now() - self.origin)
    }
}
