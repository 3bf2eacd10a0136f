//! The only place in this crate that asks for the time.

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

/// A timer that is armed for the wanted time or earlier. Moved only to fire earlier, never because
/// something was heard: where it fires too early, it is set anew.
#[derive(Debug)]
pub(crate) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(crate) fn new(clock: TokioClock) -> Self {
        Self(Box::pin(sleep_until(clock.to_tokio(clock.now()))))
    }

    /// Ready at `wake`; never, if there is none.
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
            // It was armed before something was heard.
            self.0.as_mut().reset(wake);
        }
    }
}

/// A look of tokio's at its poller, so that what it knows of its sockets is new.
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
    /// Ready when tokio has looked since this was asked first, however often it is asked meanwhile.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.seen.task.register(cx.waker());
        if !std::mem::replace(&mut self.under_way, true) {
            self.seen.done.store(false, Ordering::Release);
        }
        if !self.seen.done.load(Ordering::Acquire) {
            let waker = Waker::from(Arc::clone(&self.seen));
            // tokio wakes whoever yields after it has looked; without a scheduler of its, at once. Asked each time: a
            // `block_on` that ends meanwhile forgets whom it was to wake.
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
