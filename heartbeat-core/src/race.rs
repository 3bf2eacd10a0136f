//! Which of a host's addresses is dialled when: "Happy Eyeballs" (RFC 8305 §5).

use core::time::Duration;

use crate::time::Instant;

/// How long an address has for itself before the next one is tried beside it: what RFC 8305 §5
/// recommends.
pub const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A race between connection attempts, of which the first to succeed wins.
///
/// The next address begins when the last one has had [`CONNECTION_ATTEMPT_DELAY`], or as soon as one
/// has failed. The driver closes the others when one has won, and everything at `connect_timeout`.
///
/// ```
/// use heartbeat_core::{Instant, Lap, Race};
/// let at = |ms| Instant::from_nanos(ms * 1_000_000);
/// let mut race = Race::new(3);
/// assert_eq!(race.next(at(0)), Lap::Begin(0));
/// assert_eq!(race.next(at(0)), Lap::Until(at(250)));
/// race.failed();
/// assert_eq!(race.next(at(10)), Lap::Begin(1));
/// assert_eq!(race.next(at(260)), Lap::Begin(2));
/// assert_eq!(race.next(at(260)), Lap::Wait);
/// race.failed();
/// race.failed();
/// assert_eq!(race.next(at(300)), Lap::Lost);
/// ```
#[derive(Clone, Debug)]
pub struct Race {
    addresses: usize,
    begun: usize,
    failed: usize,
    /// Before this the next one does not begin, unless one fails.
    not_before: Instant,
}

/// What to do in a [`Race`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lap {
    /// Begin to connect to this address, counted from 0, and ask again.
    Begin(usize),
    /// Wait for an attempt to end, at most until then.
    Until(Instant),
    /// All have begun: wait for an attempt to end.
    Wait,
    /// All have failed.
    Lost,
}

impl Race {
    /// A race of this many addresses.
    #[must_use]
    pub const fn new(addresses: usize) -> Self {
        Self {
            addresses,
            begun: 0,
            failed: 0,
            not_before: Instant::ORIGIN,
        }
    }

    /// An attempt that was begun has failed.
    pub const fn failed(&mut self) {
        self.failed = self.failed.saturating_add(1);
        self.not_before = Instant::ORIGIN;
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Lap {
        if self.begun < self.addresses {
            if self.not_before > now {
                return Lap::Until(self.not_before);
            }
            let address = self.begun;
            self.begun += 1;
            self.not_before = now.saturating_add(CONNECTION_ATTEMPT_DELAY);
            return Lap::Begin(address);
        }
        if self.failed < self.begun {
            Lap::Wait
        } else {
            Lap::Lost
        }
    }
}
