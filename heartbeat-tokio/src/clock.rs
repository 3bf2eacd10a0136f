//! The only place in this crate that asks for the time.

use heartbeat_driver::core::{Clock, Instant};
use tokio::time::Instant as TokioInstant;

/// tokio's clock, which a test can pause and move.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokioClock {
    origin: TokioInstant,
}

impl TokioClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn start() -> Self {
        Self {
            origin: TokioInstant::now(),
        }
    }

    /// The machine's instant as tokio's; a day ahead at the most, for what lies beyond what tokio
    /// can say (a timer that fires too early is a superfluous turn, nothing worse).
    pub(crate) fn to_tokio(self, at: Instant) -> TokioInstant {
        let ahead = at.saturating_duration_since(self.now());
        self.origin + self.now().saturating_duration_since(Instant::ORIGIN) + ahead.min(DAY)
    }
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

impl Clock for TokioClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Instant {
        Instant::ORIGIN.saturating_add(TokioInstant::now() - self.origin)
    }
}
