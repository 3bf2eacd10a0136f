//! A budget of dials shared by many clients, so that a program with a thousand clients does not dial a thousand
//! times at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use heartbeat_core::{Clock, Instant, Limiter, LimiterError, Rates};
use tracing::{Span, debug};

/// Decides when a dial may begin. Shared by many clients through
/// [`Options::dial_budget`](crate::Options::dial_budget).
///
/// [`DialLimiter`] implements a budget for one process. A budget that several machines share must not block
/// while it asks them: it returns [`Grant::AskAgain`] until it knows.
pub trait DialBudget: Send + Sync {
    /// Requests a turn for a dial. Called from the client's own task or thread, so it must not block.
    fn ask(&self) -> Grant;
}

/// The answer to a request for a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The dial may begin after this time. A turn that is not used within 10 s of that is lost (the machine
    /// slept).
    After(Duration),
    /// Not known yet. Ask again after this time, at least 1 ms.
    AskAgain(Duration),
}

/// A [`DialBudget`] for the clients of one process. It grants turns at an even rate, in the order of the
/// requests.
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
    /// Allows `count` dials in each `period`, evenly spread, and up to `burst` at once after a quiet time.
    ///
    /// # Errors
    /// [`LimiterError`] names the argument and the rule.
    pub fn new(count: u32, period: Duration, burst: u32) -> Result<Self, LimiterError> {
        let clock = crate::clock::HostClock::start();
        Self::with_clock(count, period, burst, clock)
    }

    /// Like [`new`](Self::new), but with another clock, for tests.
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

/// The dial budgets of services, while they have clients.
static SERVICES: Mutex<BTreeMap<String, Weak<DialLimiter>>> = Mutex::new(BTreeMap::new());

/// The living clients of each service that limits connections.
static CLIENTS: Mutex<BTreeMap<String, Weak<()>>> = Mutex::new(BTreeMap::new());

/// Counts a new client of a service, until the returned value is dropped. Also returns how many clients the
/// service now has in this process.
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
    /// Creates a budget that never allows more dials than this rate, or than any of several: half of them at once
    /// after a quiet time, the others evenly spread ([`Rates::limiter`]). Uses the real clock.
    ///
    /// # Errors
    /// [`LimiterError`] names the argument and the rule.
    pub fn within(rates: impl Into<Rates>) -> Result<Self, LimiterError> {
        Ok(Self {
            clock: Box::new(crate::clock::HostClock::start()),
            limiter: Mutex::new(rates.into().limiter()?),
        })
    }

    /// Returns the budget that all clients of a service in this process share. Services count dials by address
    /// or account.
    pub(crate) fn of_service(name: &str, rates: Rates) -> Result<Arc<Self>, LimiterError> {
        let mut services = SERVICES.lock().unwrap_or_else(PoisonError::into_inner);
        services.retain(|_, budget| budget.strong_count() > 0);
        if let Some(budget) = services.get(name).and_then(Weak::upgrade) {
            return Ok(budget);
        }
        let budget = Arc::new(Self::within(rates)?);
        services.insert(name.to_owned(), Arc::downgrade(&budget));
        Ok(budget)
    }
}

impl DialBudget for DialLimiter {
    fn ask(&self) -> Grant {
        // No code under this lock can panic half-way.
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that requests are in order of time.
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

/// One client's share of the budget.
#[derive(Default)]
pub(crate) struct Gate {
    budget: Option<Arc<dyn DialBudget>>,
    turn: Turn,
    /// The application asked for an immediate dial. When the turn comes, the machine gets the kick.
    kicked: bool,
}

#[derive(Clone, Copy, Default)]
enum Turn {
    #[default]
    None,
    At(Instant),
    AskAt(Instant),
}

/// A turn that was missed by more than this is lost. After a suspend all clients hold turns from the past.
const MISSED: Duration = Duration::from_secs(10);

/// The least time between two requests, so that a client does not ask in a busy loop.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

impl Gate {
    pub(crate) fn new(budget: Option<Arc<dyn DialBudget>>) -> Self {
        Self {
            budget,
            ..Self::default()
        }
    }

    /// Returns when a machine that wants to dial at `wake` must be stepped.
    pub(crate) fn wake(&self, wake: Instant) -> Instant {
        match self.turn {
            Turn::None => wake,
            Turn::At(at) | Turn::AskAt(at) if self.kicked => at,
            Turn::At(at) | Turn::AskAt(at) => wake.max(at),
        }
    }

    /// Returns true if a dial may begin now. Asks the budget if necessary.
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

    /// Keeps a kick until the turn comes.
    pub(crate) fn hold_kick(&mut self) {
        self.kicked = true;
    }

    /// Returns true, once, if a kick was kept.
    pub(crate) fn take_kick(&mut self) -> bool {
        std::mem::take(&mut self.kicked)
    }

    /// Notes that the turn was used.
    pub(crate) fn used(&mut self) {
        self.turn = Turn::None;
        self.kicked = false;
    }
}
