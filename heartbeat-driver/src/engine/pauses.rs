//! Log lines about pauses of reading: a warning at the first pause of a connection and at its end, and a
//! summary when the connection ends.

use std::time::Duration;

use heartbeat_core::Instant;
use tracing::{Span, debug, warn};

use crate::event::Seconds;

/// The pauses of reading on the current connection.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    count: u32,
    /// Total length of the finished pauses.
    total: Duration,
    /// The start of the current pause, and whether a warning has reported it.
    present: Option<(Instant, bool)>,
}

impl Pauses {
    pub(super) fn begin(&mut self, now: Instant, connection: &Span) {
        let warns = self.count == 0;
        if warns {
            warn!(
                parent: connection,
                "reading is paused: the application takes no events, and the queue is full; it goes on when events are \
                 taken (Options::queue and Options::overflow choose otherwise)"
            );
        } else {
            debug!(parent: connection, "reading is paused");
        }
        self.count += 1;
        self.present = Some((now, warns));
    }

    pub(super) fn end(&mut self, now: Instant, connection: &Span) {
        let Some((since, warned)) = self.present.take() else {
            return;
        };
        let lasted = now.saturating_duration_since(since);
        self.total += lasted;
        let lasted = Seconds(lasted);
        if warned {
            warn!(parent: connection, "reading goes on after {lasted}");
        } else {
            debug!(parent: connection, "reading goes on after {lasted}");
        }
    }

    /// Logs the summary. A pause may outlast its connection.
    pub(super) fn connection_ended(&mut self, now: Instant, connection: &Span) {
        let Self { count, total, .. } = *self;
        if count > 1 {
            let present = self
                .present
                .map(|(since, _)| now.saturating_duration_since(since));
            let total = Seconds(total + present.unwrap_or_default());
            warn!(parent: connection, "reading was paused {count} times on this connection, for {total} in all");
        }
        (self.count, self.total) = (0, Duration::ZERO);
    }
}
