//! A rate limit shared by many clients: a number of dials (or messages) a second, and a burst.

use core::time::Duration;

use crate::duration_text::DurationText;
use crate::time::{Instant, Span};

/// A token bucket that hands out times instead of tokens: each caller gets the time of its turn.
///
/// Use a limiter for the dials of many clients in one process, or for a service's message limit (Binance: 5
/// messages a second on a connection, including pings). It implements the generic cell rate algorithm (ITU-T
/// I.371). Its state is a single time, so a limiter needs no queue, no clock and no allocation, however many
/// callers wait. Turns are handed out in the order of the calls.
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
/// In any span of time `s`, at most `burst + s · rate` turns come. An unused turn is lost, unless the caller [gives
/// it back](Self::give_back) before another one is handed out.
#[derive(Clone, Debug)]
pub struct Limiter {
    /// The time between two turns of a long row.
    interval: Span,
    /// The time by which a turn may precede its place in an even row: `(burst − 1) · interval`.
    ahead: Span,
    /// The longest wait of any turn.
    longest_wait: Span,
    /// The place of the next turn in an even row.
    next: Instant,
    /// The latest time seen.
    now: Instant,
}

debug_as_display!(LimiterError, Crowded);

/// The reason why a limiter was refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimiterError {
    /// A count of zero allows nothing.
    #[error("`{key}` is 0: it must be at least 1")]
    Zero {
        /// The argument.
        key: &'static str,
    },
    /// Two turns are less than a nanosecond or more than a day apart.
    #[error("{count} in {} is no rate: two turns must lie between 1ns and 1 day apart", DurationText(*period))]
    Rate {
        /// The argument `count`.
        count: u32,
        /// The argument `period`.
        period: Duration,
    },
}

/// Too many callers wait: the turn would come after more than [`Limiter::LONGEST_WAIT`].
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wait: ask again in {}", DurationText(*ask_again))]
pub struct Crowded {
    /// From this time on a turn is free, unless another caller takes it.
    pub ask_again: Duration,
}

impl Limiter {
    /// The longest wait that a limiter promises: 10 minutes. A turn further ahead would be held for clients that
    /// may be gone by then.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(600);

    /// Creates a limiter of `count` turns in each `period`, evenly spread, and up to `burst` at once after a quiet
    /// time.
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
        // Round up, so that the rate never exceeds the limit.
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

    /// Takes the next free turn, and returns its time: now or later.
    ///
    /// A `now` before the latest one counts as the latest one.
    ///
    /// # Errors
    /// [`Crowded`] if the turn lies more than [`Limiter::LONGEST_WAIT`] ahead. No turn is taken then.
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

    /// Gives back an unused turn. Only the last turn handed out can be used again, because later callers already
    /// know theirs.
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

    /// Returns the time of the turn with this place in an even row.
    fn turn_of(&self, place: Instant) -> Instant {
        let early = place.as_nanos().saturating_sub(self.ahead.as_nanos());
        Instant::from_nanos(early).max(self.now)
    }
}
