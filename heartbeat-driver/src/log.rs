//! The log lines about a client. Both drivers share their wording.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heartbeat_core::{Cause, ConnId, GiveUp};
use tracing::{Span, error_span, field, info, warn};

use crate::event::{Reason, Seconds};
use crate::queue::AtomicU64;

/// The target of the only recurring line, so that a filter can turn the line off alone. The documentation of
/// [`Options::name`](crate::Options::name) mentions this target.
const CHECK: &str = "heartbeat_driver::check";

/// The target of the spans. Spans have the level ERROR, so a filter that passes a line also passes its spans.
const SPANS: &str = "heartbeat_driver";

/// The name of a client without a URL and without a name.
const NAMELESS: &str = "client";

/// A client's identity in the log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) name: Arc<str>,
    /// The span that names the client. Its parent is the span in which the client was created.
    pub(crate) span: Span,
}

impl Default for Log {
    /// A log without a client.
    fn default() -> Self {
        Self {
            name: NAMELESS.into(),
            span: Span::none(),
        }
    }
}

impl Log {
    /// Creates the log of a new client in this process.
    pub(crate) fn new(name: Option<Arc<str>>) -> Self {
        static CLIENTS: AtomicU64 = AtomicU64::new(1);
        let mut log = Self::default();
        let id = CLIENTS.fetch_add(1, Ordering::Relaxed);
        if let Some(name) = name {
            log.name = name;
        }
        log.span = error_span!(target: SPANS, "client", id, name = &*log.name);
        log
    }

    /// Creates the span of a connection, which begins with its dial.
    pub(crate) fn connection(&self, conn: ConnId) -> Span {
        error_span!(target: SPANS, parent: &self.span, "connection", %conn, host = field::Empty)
    }

    /// Logs the plan after an end. `attempt` is 0 if a connection is renewed, because no failure came before.
    pub(crate) fn retry(&self, attempt: u32, delay: Duration, tolerated: Option<Cause>) {
        let delay = Seconds(delay);
        match tolerated {
            Some(cause) => warn!(
                parent: &self.span,
                "retry {attempt} in {delay}: {cause} is a permanent error, not believed of this endpoint"
            ),
            None if attempt == 0 => info!(parent: &self.span, "the next dial in {delay}"),
            None => warn!(parent: &self.span, "retry {attempt} in {delay}"),
        }
    }

    pub(crate) fn gave_up(&self, reason: GiveUp) {
        warn!(parent: &self.span, "gave up: {reason}");
    }

    /// Logs the end of a client. `late` is the time for which the peer left the Close unanswered.
    pub(crate) fn stopped(
        &self,
        unsent: usize,
        uncertain: usize,
        in_doubt: usize,
        late: Option<Duration>,
    ) {
        let (unsent, uncertain, in_doubt) = (some(unsent), some(uncertain), some(in_doubt));
        if let Some(timeout) = late {
            let timeout = Seconds(timeout);
            warn!(parent: &self.span, unsent, uncertain, in_doubt, "stopped: the peer did not answer the Close within {timeout}");
        } else if unsent.or(uncertain).or(in_doubt).is_some() {
            warn!(parent: &self.span, unsent, uncertain, in_doubt, "stopped");
        } else {
            info!(parent: &self.span, "stopped");
        }
    }
}

/// The end of a connection or a dial.
pub(crate) struct End<'e> {
    pub(crate) reason: Reason,
    pub(crate) detail: Option<&'e str>,
    pub(crate) idle: Duration,
    pub(crate) open: Duration,
    /// The connection was open. False for a failed dial.
    pub(crate) was_open: bool,
    pub(crate) unsent: usize,
    pub(crate) uncertain: usize,
    pub(crate) in_doubt: usize,
}

impl End<'_> {
    pub(crate) fn tell(&self, connection: &Span) {
        let (unsent, uncertain) = (some(self.unsent), some(self.uncertain));
        let in_doubt = some(self.in_doubt);
        let detail = self.detail;
        let is_planned = matches!(self.reason, Reason::Renewal(_));
        if is_planned && unsent.or(uncertain).or(in_doubt).is_none() {
            info!(parent: connection, detail, "{self}");
        } else {
            warn!(parent: connection, unsent, uncertain, in_doubt, detail, "{self}");
        }
    }
}

impl fmt::Display for End<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason;
        if !self.was_open {
            return write!(f, "dial failed: {reason}");
        }
        let (idle, open) = (Seconds(self.idle), Seconds(self.open));
        write!(
            f,
            "disconnected: {reason}, idle for {idle}, open for {open}"
        )
    }
}

pub(crate) fn check(connection: &Span, idle: Duration) {
    info!(target: CHECK, parent: connection, "idle for {}", Seconds(idle));
}

/// Returns `None` for 0, so that the log leaves the field out.
pub(crate) fn some(count: usize) -> Option<usize> {
    (count > 0).then_some(count)
}
