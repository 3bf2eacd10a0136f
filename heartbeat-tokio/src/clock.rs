//! The only place in this crate that asks for the time.

use std::time::Duration;

use heartbeat_driver::Suspended;
use heartbeat_driver::core::{Clock, Instant};
use tokio::time::Instant as TokioInstant;

/// tokio's clock, which a test can pause and move, and the time for which the host was suspended,
/// which tokio's does not count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokioClock {
    origin: TokioInstant,
    suspended: Suspended,
    /// As of the last [`refresh`](Self::refresh).
    so_far: Duration,
}

impl TokioClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn start() -> Self {
        Self {
            origin: TokioInstant::now(),
            suspended: Suspended::start(),
            so_far: Duration::ZERO,
        }
    }

    /// Learns of a suspend: to be called when a task begins to run again.
    pub(crate) fn refresh(&mut self) {
        self.so_far = self.suspended.so_far();
    }

    /// The machine's instant as tokio's; a day ahead at the most, for what lies beyond what tokio
    /// can say (a timer that fires too early is a superfluous turn, nothing worse).
    pub(crate) fn to_tokio(self, at: Instant) -> TokioInstant {
        let now = self.now();
        let ahead = at.saturating_duration_since(now).min(DAY);
        let since = now
            .saturating_add(ahead)
            .saturating_duration_since(Instant::ORIGIN);
        self.origin + since.saturating_sub(self.so_far)
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl Clock for TokioClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Instant {
        let awake = TokioInstant::now() - self.origin;
        Instant::ORIGIN.saturating_add(awake + self.so_far)
    }
}
