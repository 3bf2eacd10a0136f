//! A budget of dials that many clients share, so that a program with a thousand of them does not come
//! back as a thousand dials at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use heartbeat_core::{Clock, Instant, Limiter, LimiterError, Rate};
use tracing::{Span, debug};

/// Says when a dial may begin. Lent to many clients by [`Options::dial_budget`](crate::Options::dial_budget).
///
/// [`DialLimiter`] is the one for a process. One that several machines share must never wait for them in
/// here: it answers [`Grant::AskAgain`] until it knows.
pub trait DialBudget: Send + Sync {
    /// A client wants to dial. Called from the client's own task or thread: must not block.
    fn ask(&self) -> Grant;
}

/// The answer to a client that wants to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Its turn comes after this time. A turn that is not used within 10 s is lost (the machine slept).
    After(Duration),
    /// Not known yet: ask again after this time, at least 1 ms.
    AskAgain(Duration),
}

/// A [`DialBudget`] for the clients of one process: turns at an even rate, in the order of asking.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{DialLimiter, Options}; // or heartbeat_blocking
///
/// # if cfg!(not(feature = "tls")) { return Ok(()) }
/// // 20 dials a second for all clients together, up to 5 at once.
/// let dials = Arc::new(DialLimiter::new(20, Duration::from_secs(1), 5)?);
/// let first = Options::new("wss://example.org/a")?.dial_budget(Arc::clone(&dials));
/// let second = Options::new("wss://example.org/b")?.dial_budget(dials);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DialLimiter {
    clock: Box<dyn Clock + Send + Sync>,
    limiter: Mutex<Limiter>,
}

impl DialLimiter {
    /// `count` dials in each `period`, evenly spread, and up to `burst` at once after a quiet time.
    ///
    /// # Errors
    /// [`LimiterError`] names the argument and the rule.
    pub fn new(count: u32, period: Duration, burst: u32) -> Result<Self, LimiterError> {
        let clock = crate::clock::HostClock::start();
        Self::with_clock(count, period, burst, clock)
    }

    /// The same on another clock: that of a test.
    ///
    /// # Errors
    /// [`LimiterError`] names the argument and the rule.
    pub fn with_clock(
        count: u32,
        period: Duration,
        burst: u32,
        clock: impl Clock + Send + Sync + 'static,
    ) -> Result<Self, LimiterError> {
        Ok(Self {
            clock: Box::new(clock),
            limiter: Mutex::new(Limiter::new(count, period, burst)?),
        })
    }
}

/// What the clients of a service have left of its dials, while there are any.
static SERVICES: Mutex<BTreeMap<String, Weak<DialLimiter>>> = Mutex::new(BTreeMap::new());

/// The living clients of each service whose connections are limited.
static CLIENTS: Mutex<BTreeMap<String, Weak<()>>> = Mutex::new(BTreeMap::new());

/// One more client of a service, until this is dropped, and how many it has with that in this process.
pub(crate) fn client_of(service: &str) -> (Arc<()>, usize) {
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    clients.retain(|_, living| living.strong_count() > 0);
    let living = clients.get(service).and_then(Weak::upgrade);
    let client = living.unwrap_or_default();
    clients.insert(service.to_owned(), Arc::downgrade(&client));
    let count = Arc::strong_count(&client);
    (client, count)
}

impl DialLimiter {
    /// A budget that never allows more dials than this rate: half of them at once after a quiet time, the others evenly
    /// spread ([`Rate::limiter`]). The real clock.
    ///
    /// # Errors
    /// [`LimiterError`] names the argument and the rule.
    pub fn within(rate: Rate) -> Result<Self, LimiterError> {
        Ok(Self {
            clock: Box::new(crate::clock::HostClock::start()),
            limiter: Mutex::new(rate.limiter()?),
        })
    }

    /// The budget that all of the process's clients of a service share: services count dials by address or account.
    pub(crate) fn of_service(name: &str, rate: Rate) -> Result<Arc<Self>, LimiterError> {
        let mut services = SERVICES.lock().unwrap_or_else(PoisonError::into_inner);
        services.retain(|_, budget| budget.strong_count() > 0);
        if let Some(budget) = services.get(name).and_then(Weak::upgrade) {
            return Ok(budget);
        }
        let budget = Arc::new(Self::within(rate)?);
        services.insert(name.to_owned(), Arc::downgrade(&budget));
        Ok(budget)
    }
}

impl DialBudget for DialLimiter {
    fn ask(&self) -> Grant {
        // Nothing in there can panic half-way.
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the order of asking is the order of time.
        let now = self.clock.now();
        match limiter.reserve(now) {
            Ok(turn) => Grant::After(turn.saturating_duration_since(now)),
            Err(crowded) => Grant::AskAgain(crowded.ask_again),
        }
    }
}

impl fmt::Debug for DialLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialLimiter").finish_non_exhaustive()
    }
}

/// What one client holds of the budget.
#[derive(Default)]
pub(crate) struct Gate {
    budget: Option<Arc<dyn DialBudget>>,
    turn: Turn,
    /// The user wanted a dial at once: when the turn comes, the machine is told so.
    kicked: bool,
}

#[derive(Clone, Copy, Default)]
enum Turn {
    #[default]
    None,
    At(Instant),
    AskAt(Instant),
}

/// A turn that was missed by more than this is lost: after a suspend all clients hold turns of the past.
const MISSED: Duration = Duration::from_secs(10);

/// A budget that wants to be asked again is not asked in a busy loop.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

impl Gate {
    pub(crate) fn new(budget: Option<Arc<dyn DialBudget>>) -> Self {
        Self {
            budget,
            ..Self::default()
        }
    }

    /// When a machine that wants to dial at `wake` must be told of the time.
    pub(crate) fn wake(&self, wake: Instant) -> Instant {
        match self.turn {
            Turn::None => wake,
            Turn::At(at) | Turn::AskAt(at) if self.kicked => at,
            Turn::At(at) | Turn::AskAt(at) => wake.max(at),
        }
    }

    /// Whether a dial may begin now; asks the budget if there is need.
    pub(crate) fn is_open(&mut self, now: Instant, client: &Span) -> bool {
        let Some(budget) = &self.budget else {
            return true;
        };
        match self.turn {
            Turn::At(at) if at > now => return false,
            Turn::At(at) if now.saturating_duration_since(at) <= MISSED => return true,
            Turn::AskAt(at) if at > now => return false,
            Turn::None | Turn::At(_) | Turn::AskAt(_) => {}
        }
        match budget.ask() {
            Grant::After(wait) => {
                let at = now.saturating_add(wait);
                self.turn = Turn::At(at);
                if at > now {
                    debug!(parent: client, "the dial's turn comes in {}", crate::Seconds(wait));
                }
                at <= now
            }
            Grant::AskAgain(pause) => {
                self.turn = Turn::AskAt(now.saturating_add(pause.max(LEAST_PAUSE)));
                false
            }
        }
    }

    /// A kick has to wait for the turn.
    pub(crate) fn hold_kick(&mut self) {
        self.kicked = true;
    }

    /// Whether a kick waited.
    pub(crate) fn take_kick(&mut self) -> bool {
        std::mem::take(&mut self.kicked)
    }

    /// The turn was used.
    pub(crate) fn used(&mut self) {
        self.turn = Turn::None;
        self.kicked = false;
    }
}
