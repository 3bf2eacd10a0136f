//! A budget that many clients share: so many dials (or messages) a second, and a burst.

use core::time::Duration;

use crate::duration_text::DurationText;
use crate::time::{Instant, Span};

/// A token bucket that hands out times instead of tokens: who asks is told when it is its turn.
///
/// For the dials of many clients in one process, and for what a service counts (Binance: 5 messages a
/// second on a connection, pings among them). It is the generic cell rate algorithm (ITU-T I.371): one
/// time is all its state, so it needs no queue, no clock and no allocation, however many wait. Turns are
/// handed out in the order of asking.
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use core::time::Duration;
/// use heartbeat_tokio::core::{Instant, Limiter}; // or heartbeat_core
///
/// let mut dials = Limiter::new(2, Duration::from_secs(1), 1)?;     // 2 a second, one at a time
/// let now = Instant::ORIGIN;
/// let turns = [(); 3].map(|()| dials.reserve(now).expect("a place").as_nanos() / 1_000_000);
/// assert_eq!(turns, [0, 500, 1000]);
/// # Ok::<(), heartbeat_core::LimiterError>(())
/// ```
///
/// In any span of time `s`, at most `burst + s · rate` turns come. A turn that is not used is lost, unless
/// it is [given back](Self::give_back) before another is handed out.
#[derive(Clone, Debug)]
pub struct Limiter {
    /// Between two turns of a long row.
    interval: Span,
    /// How far turns may come before their place in an even row: `(burst − 1) · interval`.
    ahead: Span,
    /// Nobody is told to wait for longer.
    longest_wait: Span,
    /// The place of the next turn in an even row.
    next: Instant,
    /// The latest time seen.
    now: Instant,
}

debug_as_display!(LimiterError, Crowded);

/// Why a limiter was refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimiterError {
    /// Nothing would ever be allowed.
    #[error("`{key}` is 0: it must be at least 1")]
    Zero {
        /// The argument.
        key: &'static str,
    },
    /// No whole nanoseconds are left between two turns, or more than a day.
    #[error("{count} in {} is no rate: two turns must lie between 1ns and 1 day apart", DurationText(*period))]
    Rate {
        /// The argument `count`.
        count: u32,
        /// The argument `period`.
        period: Duration,
    },
}

/// So many wait already that the turn would come after more than [`Limiter::LONGEST_WAIT`].
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wait: ask again in {}", DurationText(*ask_again))]
pub struct Crowded {
    /// From then on there is a place, if nobody else takes it.
    pub ask_again: Duration,
}

impl Limiter {
    /// The longest wait that is promised: 10 minutes. A place further off would be held for clients that
    /// may be gone by then.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(600);

    /// `count` turns in each `period`, evenly spread, and up to `burst` at once after a quiet time.
    ///
    /// # Errors
    /// [`LimiterError`] names the argument and the rule.
    pub fn new(count: u32, period: Duration, burst: u32) -> Result<Self, LimiterError> {
        for (key, value) in [("count", count), ("burst", burst)] {
            if value == 0 {
                return Err(LimiterError::Zero { key });
            }
        }
        let refused = LimiterError::Rate { count, period };
        // Rounded up: never more than was allowed.
        let nanos = Span::new(period).as_nanos().div_ceil(u64::from(count));
        if nanos == 0 || Duration::from_nanos(nanos) > Duration::from_secs(86_400) {
            return Err(refused);
        }
        Ok(Self {
            interval: Span::from_nanos(nanos),
            ahead: Span::from_nanos(nanos.saturating_mul(u64::from(burst - 1))),
            longest_wait: Span::new(Self::LONGEST_WAIT),
            next: Instant::ORIGIN,
            now: Instant::ORIGIN,
        })
    }

    /// Takes the next free turn: the time at which it comes, now or later.
    ///
    /// A `now` before the latest one counts as the latest one.
    ///
    /// # Errors
    /// [`Crowded`] if it lies more than [`Limiter::LONGEST_WAIT`] ahead; nothing is taken then.
    pub fn reserve(&mut self, now: Instant) -> Result<Instant, Crowded> {
        self.now = self.now.max(now);
        let place = self.next.max(self.now);
        let turn = self.turn_of(place);
        let wait = turn.since(self.now);
        if wait > self.longest_wait {
            let ask_again = wait.less(self.longest_wait).duration();
            return Err(Crowded { ask_again });
        }
        self.next = place.after(self.interval);
        Ok(turn)
    }

    /// Gives back a turn that was not used. It is saved only if it was the last one handed out: others
    /// have been told theirs already.
    pub fn give_back(&mut self, turn: Instant) {
        let place = Instant::from_nanos(
            self.next
                .as_nanos()
                .saturating_sub(self.interval.as_nanos()),
        );
        if turn >= self.now && self.turn_of(place) == turn {
            self.next = place;
        }
    }

    /// When the turn with this place in an even row comes.
    fn turn_of(&self, place: Instant) -> Instant {
        let early = place.as_nanos().saturating_sub(self.ahead.as_nanos());
        Instant::from_nanos(early).max(self.now)
    }
}
