//! The clock. No other file of this crate reads the time.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use heartbeat_driver::Suspended;
use heartbeat_driver::core::{Clock, Instant};
use tokio::task::yield_now;
use tokio::time::{Instant as TokioInstant, Sleep, sleep_until};

/// tokio's clock, plus the time for which the host was suspended, which tokio's clock does not count. A test can pause
/// and advance it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokioClock {
    origin: TokioInstant,
    suspended: Suspended,
    /// The suspended time as of the last [`refresh`](Self::refresh).
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

    /// Notices a suspend of the host. Call it when the task runs again after a wait.
    pub(crate) fn refresh(&mut self) {
        self.so_far = self.suspended.so_far();
    }

    /// Converts the machine's instant to tokio's. The result is at most a day ahead, because tokio cannot express every
    /// instant of the machine. A timer that fires early costs one superfluous turn and does no harm.
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

/// A timer that is armed for the wanted time or earlier. It is moved only to fire earlier. Received bytes postpone the
/// wanted time, but do not move the timer. It then fires early, and is set again.
#[derive(Debug)]
pub(crate) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(crate) fn new(clock: TokioClock) -> Self {
        Self(Box::pin(sleep_until(clock.to_tokio(clock.now()))))
    }

    /// Ready at `wake`. Never ready if `wake` is `None`.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: TokioClock,
        wake: Option<Instant>,
    ) -> Poll<()> {
        let Some(wake) = wake else {
            return Poll::Pending;
        };
        let wake = clock.to_tokio(wake);
        if self.0.is_elapsed() || wake < self.0.deadline() {
            self.0.as_mut().reset(wake);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if wake <= self.0.deadline() {
                return Poll::Ready(());
            }
            // The timer fired early: the wanted time was postponed since it was armed.
            self.0.as_mut().reset(wake);
        }
    }
}

/// Waits until tokio has polled the operating system, so that tokio's record of socket readiness is current.
#[derive(Debug, Default)]
pub(crate) struct Look {
    seen: Arc<Seen>,
    under_way: bool,
}

#[derive(Debug, Default)]
struct Seen {
    done: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Seen {
    fn wake(self: Arc<Self>) {
        self.done.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Look {
    /// Ready once tokio has polled the operating system since the first call. Further calls before that start nothing
    /// new.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.seen.task.register(cx.waker());
        if !std::mem::replace(&mut self.under_way, true) {
            self.seen.done.store(false, Ordering::Release);
        }
        if !self.seen.done.load(Ordering::Acquire) {
            let waker = Waker::from(Arc::clone(&self.seen));
            // tokio wakes a task that yields after its next look at the poller, or at once if no tokio scheduler runs
            // the task. Yields on every call, because a `block_on` that ends meanwhile drops its pending wake-ups.
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        }
        if self.seen.done.swap(false, Ordering::AcqRel) {
            self.under_way = false;
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
