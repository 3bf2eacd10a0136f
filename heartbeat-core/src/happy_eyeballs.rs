//! The order and times in which a host's addresses are dialled: "Happy Eyeballs" (RFC 8305 §5).

use core::time::Duration;

use crate::time::Instant;

/// The head start of an address before the next one is tried in parallel, as recommended by RFC 8305 §5.
pub const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A race between connection attempts. The first attempt to succeed wins.
///
/// The next attempt begins [`CONNECTION_ATTEMPT_DELAY`] after the last one, or as soon as one has failed. The
/// driver closes the others when one has won, and all of them at `connect_timeout`.
///
/// ```
/// use heartbeat_core::{Instant, NextAttempt, HappyEyeballs};
/// let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
/// let mut race = HappyEyeballs::new(3);
/// assert_eq!(race.next(at(0)), NextAttempt::Begin(0));
/// assert_eq!(race.next(at(0)), NextAttempt::Until(at(250)));
/// race.failed();
/// assert_eq!(race.next(at(10)), NextAttempt::Begin(1));
/// assert_eq!(race.next(at(260)), NextAttempt::Begin(2));
/// assert_eq!(race.next(at(260)), NextAttempt::Wait);
/// race.failed();
/// race.failed();
/// assert_eq!(race.next(at(300)), NextAttempt::Lost);
/// ```
#[derive(Clone, Debug)]
pub struct HappyEyeballs {
    addresses: usize,
    begun: usize,
    failed: usize,
    /// The next attempt begins at this time, or earlier if one fails.
    not_before: Instant,
}

/// The next step of a [`HappyEyeballs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAttempt {
    /// Begin to connect to this address, counted from 0, then call `next` again.
    Begin(usize),
    /// Wait for an attempt to end, at most until then.
    Until(Instant),
    /// All attempts have begun: wait for one to end.
    Wait,
    /// All attempts have failed.
    Lost,
}

impl HappyEyeballs {
    /// Creates a race between this many addresses.
    #[must_use]
    pub const fn new(addresses: usize) -> Self {
        Self {
            addresses,
            begun: 0,
            failed: 0,
            not_before: Instant::ORIGIN,
        }
    }

    /// Reports that an attempt has failed.
    pub const fn failed(&mut self) {
        self.failed = self.failed.saturating_add(1);
        self.not_before = Instant::ORIGIN;
    }

    /// Returns the next step.
    pub fn next(&mut self, now: Instant) -> NextAttempt {
        if self.begun < self.addresses {
            if self.not_before > now {
                return NextAttempt::Until(self.not_before);
            }
            let address = self.begun;
            self.begun += 1;
            self.not_before = now.saturating_add(CONNECTION_ATTEMPT_DELAY);
            return NextAttempt::Begin(address);
        }
        if self.failed < self.begun {
            NextAttempt::Wait
        } else {
            NextAttempt::Lost
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn an_address_has_its_time_to_the_nanosecond() {
        let mut race = HappyEyeballs::new(2);
        assert_eq!(race.next(at(5)), NextAttempt::Begin(0));
        let just_before = Instant::from_nanos(at(255).as_nanos() - 1);
        assert_eq!(race.next(just_before), NextAttempt::Until(at(255)));
        assert_eq!(race.next(at(255)), NextAttempt::Begin(1));
    }

    #[test]
    fn it_is_lost_when_all_have_failed_and_not_before() {
        assert_eq!(HappyEyeballs::new(0).next(at(0)), NextAttempt::Lost);
        let mut race = HappyEyeballs::new(3);
        for number in 0..3 {
            assert_eq!(
                race.next(at(0)),
                NextAttempt::Begin(number),
                "the one before has failed"
            );
            if number == 2 {
                assert_eq!(race.next(at(0)), NextAttempt::Wait);
            }
            race.failed();
        }
        assert_eq!(race.next(at(0)), NextAttempt::Lost);
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        let mut race = HappyEyeballs::new(2);
        assert_eq!(race.next(Instant::NEVER), NextAttempt::Begin(0));
        assert_eq!(race.next(Instant::NEVER), NextAttempt::Begin(1));
    }
}
