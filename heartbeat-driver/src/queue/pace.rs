//! The rate of the application's messages, for services that count messages.

use heartbeat_core::{Instant, Limiter};

/// Turns for messages, one after the other. The limiter sets their times.
#[derive(Debug)]
pub(crate) struct Pace {
    limiter: Limiter,
    /// Before this time a request for the next turn is pointless.
    ask_at: Instant,
}

impl Pace {
    pub(crate) const fn new(limiter: Limiter) -> Self {
        Self {
            limiter,
            ask_at: Instant::NEVER,
        }
    }

    /// Returns true if a message may go now; the caller must then send it. A turn that is still to come is
    /// given back, so that it is not used late, together with the next one.
    pub(crate) fn takes_turn(&mut self, now: Instant) -> bool {
        self.ask_at = match self.limiter.reserve(now) {
            Ok(turn) if turn <= now => return true,
            Ok(turn) => {
                self.limiter.give_back(turn);
                turn
            }
            Err(crowded) => now.saturating_add(crowded.ask_again),
        };
        false
    }

    /// Counts a message that goes without waiting, so that later ones wait for it.
    pub(crate) fn spend(&mut self, now: Instant) {
        // If too many wait, the next message asks again.
        let _ = self.limiter.reserve(now);
    }

    /// Returns when the next message may go, if that is later than now.
    pub(crate) fn wake(&self, now: Instant) -> Instant {
        if self.ask_at > now {
            self.ask_at
        } else {
            Instant::NEVER
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_message_goes_at_its_turn_and_none_is_saved_up() {
        let mut pace = Pace::new(Limiter::new(5, Duration::from_secs(1), 1).unwrap());
        assert_eq!(pace.wake(at(0)), Instant::NEVER);
        assert!(pace.takes_turn(at(1000)));
        assert!(!pace.takes_turn(at(1000)));
        assert!(!pace.takes_turn(at(1199)));
        assert_eq!(pace.wake(at(1199)), at(1200));
        assert!(pace.takes_turn(at(1200)), "not a nanosecond later");
        assert!(pace.takes_turn(at(9000)));
        assert!(!pace.takes_turn(at(9000)), "no credit for a quiet time");
    }

    #[test]
    fn what_waits_for_nothing_puts_the_others_off() {
        let mut pace = Pace::new(Limiter::new(5, Duration::from_secs(1), 1).unwrap());
        pace.spend(at(0));
        pace.spend(at(0));
        assert!(!pace.takes_turn(at(399)));
        assert!(pace.takes_turn(at(400)));
    }

    #[test]
    fn who_would_wait_for_too_long_asks_again() {
        let mut pace = Pace::new(Limiter::new(1, Duration::from_secs(3600), 1).unwrap());
        assert!(pace.takes_turn(at(0)));
        assert!(!pace.takes_turn(at(0)));
        assert_eq!(pace.wake(at(0)), at(3_000_000), "ten minutes before");
        assert!(!pace.takes_turn(at(3_000_000)));
        assert!(pace.takes_turn(at(3_600_000)));
    }
}
