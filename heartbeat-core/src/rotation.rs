//! Rotation replaces a connection before its service ends it: connect the successor first, hand over once its
//! session is ready, then close the old connection.

use core::fmt;
use core::time::Duration;

use crate::backoff::{Backoff, Rng};
use crate::config::{MAX_DURATION, MIN_DURATION};
use crate::duration_text::DurationText;
use crate::time::{Instant, Span};

/// The jitter of a lifetime in percent, longer or shorter. A fleet that connected together then does not rotate
/// together.
const JITTER_PERCENT: u64 = 10;

/// The number of a client within a rotation: the first one is 1, and each successor has the next number. A
/// [`ConnId`](crate::ConnId) cannot replace it, because each client counts its own connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    const FIRST: Self = Self(1);

    /// Returns the number, from 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The times of a [`Rotation`].
///
/// ```
/// # mod heartbeat_tokio { pub use heartbeat_core as core; }
/// use core::time::Duration;
/// use heartbeat_tokio::core::RotationTimes; // or heartbeat_core
///
/// // Binance ends every connection after 24 h.
/// let times = RotationTimes::before(Duration::from_secs(24 * 3600))?;
/// // Or in full: a lifetime between 17 h 17 min and 21 h 7 min, and a minute to become ready.
/// let times = RotationTimes::new(Duration::from_secs(69_120))?
///     .ready_within(Duration::from_secs(60))?
///     .overlap(Duration::from_secs(1))?;
/// # Ok::<(), heartbeat_core::RotationError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationTimes {
    lifetime: Duration,
    ready_within: Duration,
    overlap: Duration,
}

debug_as_display!(RotationError);

/// The reason why times were refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// A time is out of range.
    #[error("`{key}` is {}: it must lie between {} and {}", DurationText(*value), DurationText(*min), DurationText(*max))]
    Range {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The minimum.
        min: Duration,
        /// The maximum.
        max: Duration,
    },
}

impl RotationTimes {
    /// The default of [`ready_within`](Self::ready_within): 60 s.
    pub const DEFAULT_READY_WITHIN: Duration = Duration::from_secs(60);

    /// The default of [`overlap`](Self::overlap): 1 s.
    pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(1);

    /// Starts a successor when a session has been ready for `lifetime`, 10 % more or less by chance. Choose
    /// `lifetime` such that 1.1 times of it, a dial and a few failed dials fit into the service's limit.
    ///
    /// # Errors
    /// [`RotationError`] if `lifetime` does not lie between 10 ms and [`MAX_DURATION`].
    pub fn new(lifetime: Duration) -> Result<Self, RotationError> {
        check("lifetime", lifetime, MIN_DURATION * 10, MAX_DURATION)?;
        Ok(Self {
            lifetime,
            ready_within: Self::DEFAULT_READY_WITHIN.min(lifetime / 2),
            overlap: Self::DEFAULT_OVERLAP.min(lifetime / 10),
        })
    }

    /// Returns times for a service that ends connections after `limit`. The lifetime is 80 % of `limit`. With
    /// jitter a successor starts after 72 to 88 %. The rest is left for failed dials.
    ///
    /// # Errors
    /// [`RotationError`] as for [`new`](Self::new).
    pub fn before(limit: Duration) -> Result<Self, RotationError> {
        Self::new(limit / 5 * 4)
    }

    /// Sets the time within which the successor's session must be ready, including its client's retries. Otherwise
    /// the successor is closed, and another one starts later. Default 60 s, or half the lifetime if that is less.
    ///
    /// # Errors
    /// [`RotationError`] if the time does not lie between [`MIN_DURATION`] and the lifetime.
    pub fn ready_within(mut self, time: Duration) -> Result<Self, RotationError> {
        check("ready_within", time, MIN_DURATION, self.lifetime)?;
        self.ready_within = time;
        Ok(self)
    }

    /// Sets how long the old connection stays open after the hand-over. In this time the client still receives
    /// messages that the service sends on the old connection alone. Default 1 s, or a tenth of the lifetime if that
    /// is less.
    ///
    /// # Errors
    /// [`RotationError`] if the time is longer than half the lifetime.
    pub fn overlap(mut self, time: Duration) -> Result<Self, RotationError> {
        check("overlap", time, Duration::ZERO, self.lifetime / 2)?;
        self.overlap = time;
        Ok(self)
    }

    /// Returns the pauses between successors that do not become ready: from `ready_within`, doubling, up to a
    /// twentieth of the lifetime.
    fn backoff(&self) -> Backoff {
        let base = Span::new(self.ready_within);
        Backoff {
            base,
            cap: Span::new(self.lifetime / 20).max(base),
            jitter_percent: 50,
        }
    }
}

fn check(
    key: &'static str,
    value: Duration,
    min: Duration,
    max: Duration,
) -> Result<(), RotationError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(RotationError::Range {
        key,
        value,
        min,
        max,
    })
}

/// Decides when a successor replaces a client, so that no gap arises when a service limits the age of connections
/// or announces their end. The type does no I/O and reads no clock. Report events, and perform what
/// [`next`](Self::next) returns until it returns a wait.
///
/// A rotation works outside the machine. The current client and its successor are separate clients, each with its own
/// [`Heartbeat`](crate::Heartbeat), dials, backoff and verdicts.
///
/// - There are two clients while rotating, and one otherwise.
/// - A successor takes over when its session is ready. Until then the current client stays in use.
/// - If the current connection is lost meanwhile, the successor takes over at once.
/// - A successor that is not ready in time is closed. Another one follows after a pause that doubles each time.
/// - A client is closed only if another one has taken over, or if it is a successor that was not ready in time.
/// - A connection that was lost and came back by itself gets a new lifetime.
///
/// ```
/// use core::time::Duration;
/// use heartbeat_core::{Instant, Rotation, RotationTimes, Turnover};
/// let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
///
/// let times = RotationTimes::new(Duration::from_secs(100))?.overlap(Duration::from_secs(1))?;
/// let mut rotation = Rotation::new(times, 7);
/// let Turnover::Start(first) = rotation.next(at(0)) else { panic!() };
/// rotation.ready(first, at(1));
/// let Turnover::Until(due) = rotation.next(at(1)) else { panic!() };
/// assert!(due >= at(91) && due <= at(111));
///
/// let Turnover::Start(second) = rotation.next(due) else { panic!() };
/// rotation.ready(second, at(120));
/// assert_eq!(rotation.next(at(120)), Turnover::HandOver { from: first, to: second, seamless: true });
/// assert_eq!(rotation.next(at(120)), Turnover::Until(at(121)));
/// assert_eq!(rotation.next(at(121)), Turnover::Close(first));
/// # Ok::<(), heartbeat_core::RotationError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rotation {
    times: RotationTimes,
    rng: Rng,
    current: Generation,
    /// The newest client started.
    newest: Option<Generation>,
    phase: Current,
    other: Other,
    /// A hand-over that `next` has not returned yet.
    handed_over: Option<(Generation, bool)>,
    /// Successors in a row that did not become ready.
    failures: u32,
    /// The latest time seen.
    now: Instant,
}

/// The state of the client in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    /// Without a ready session. Nothing needs to be replaced.
    Away,
    /// Ready. Its successor is due at `rotate_at`.
    Ready { rotate_at: Instant },
    /// Ended for good.
    Ended,
}

/// The other client, if there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    None,
    /// A successor, which must be ready by this time.
    Successor {
        generation: Generation,
        until: Instant,
    },
    /// The old client, no longer in use.
    Leaving {
        generation: Generation,
        close_at: Instant,
    },
    /// A client that was told to close.
    Closing {
        generation: Generation,
    },
}

/// The next step of a [`Rotation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turnover {
    /// Start a client of this generation, then call `next` again.
    Start(Generation),
    /// Use `to` from now on, then call `next` again.
    HandOver {
        /// The client in use until now.
        from: Generation,
        /// The client in use from now on.
        to: Generation,
        /// True if `to` is ready and `from` was not lost. Otherwise messages may be missing, between the last byte
        /// from `from` and the moment when `to` becomes ready.
        seamless: bool,
    },
    /// Close this client gracefully (write what it has accepted, deliver what it has read), then call `next` again.
    /// Report its end with [`Rotation::ended`].
    Close(Generation),
    /// Wait for an event, at most until this time.
    Until(Instant),
    /// Wait for an event.
    Wait,
    /// All clients have ended.
    Over,
}

impl Rotation {
    /// Creates a rotation that begins with its first client.
    #[must_use]
    pub const fn new(times: RotationTimes, seed: u64) -> Self {
        Self {
            times,
            rng: Rng::new(seed),
            current: Generation::FIRST,
            newest: None,
            phase: Current::Away,
            other: Other::None,
            handed_over: None,
            failures: 0,
            now: Instant::ORIGIN,
        }
    }

    /// Returns the client in use.
    #[must_use]
    pub const fn current(&self) -> Generation {
        self.current
    }

    /// Reports that this client's session is ready.
    pub fn ready(&mut self, generation: Generation, now: Instant) {
        self.pass(now);
        match self.other {
            Other::Successor {
                generation: successor,
                ..
            } if successor == generation => {
                self.hand_over(generation, true);
                self.failures = 0;
                self.begin_life();
            }
            _ if generation == self.current && self.phase == Current::Away => self.begin_life(),
            _ => {}
        }
    }

    /// Reports that this client's connection has ended, or its dial failed. The client may come back by itself.
    pub fn lost(&mut self, generation: Generation, now: Instant) {
        self.pass(now);
        if generation == self.current {
            self.current_is(Current::Away);
        } else if let Other::Leaving {
            generation: leaving,
            close_at,
        } = &mut self.other
            && *leaving == generation
        {
            // An old client must not come back.
            *close_at = self.now;
        }
    }

    /// Reports that this client has ended, of its own accord or because it was closed. It does not come back.
    pub fn ended(&mut self, generation: Generation, now: Instant) {
        self.pass(now);
        match self.other {
            Other::Successor {
                generation: other, ..
            } if other == generation => {
                self.other = Other::None;
                self.fail();
            }
            Other::Leaving {
                generation: other, ..
            }
            | Other::Closing { generation: other }
                if other == generation =>
            {
                self.other = Other::None;
            }
            _ if generation == self.current => self.current_is(Current::Ended),
            _ => {}
        }
    }

    /// Reports that the service will end this client's connection within `within`.
    ///
    /// The successor starts at a random moment in the first half of that time, so that a fleet does not come as one
    /// wave. With a time of zero it starts at once. Only the client in use is replaced, and only if it is ready:
    /// any other connection is about to be replaced anyway. A replacement that is already due is never postponed.
    pub fn rotate_within(&mut self, generation: Generation, within: Duration, now: Instant) {
        self.pass(now);
        if generation != self.current {
            return;
        }
        if let Current::Ready { rotate_at } = &mut self.phase {
            let wait = self.rng.between(Span::ZERO, Span::new(within / 2));
            *rotate_at = (*rotate_at).min(self.now.after(wait));
        }
    }

    /// Returns the next step. Call this after each report, after each step performed, and at the time of
    /// [`Turnover::Until`]. A `now` before the latest one counts as the latest one.
    pub fn next(&mut self, now: Instant) -> Turnover {
        self.pass(now);
        let Some(newest) = self.newest else {
            return self.start(Generation::FIRST);
        };
        if let Some((from, seamless)) = self.handed_over.take() {
            let to = self.current;
            return Turnover::HandOver { from, to, seamless };
        }
        match (self.other, self.phase) {
            (
                Other::Successor {
                    generation, until, ..
                },
                _,
            ) => {
                if !until.is_due(self.now) {
                    return Turnover::Until(until);
                }
                self.fail();
                self.close(generation)
            }
            (
                Other::Leaving {
                    generation,
                    close_at,
                },
                _,
            ) => {
                if !close_at.is_due(self.now) {
                    return Turnover::Until(close_at);
                }
                self.close(generation)
            }
            // There are two clients already. A successor has to wait until the old one has ended.
            (Other::Closing { .. }, _) | (Other::None, Current::Away) => Turnover::Wait,
            (Other::None, Current::Ready { rotate_at }) => {
                if !rotate_at.is_due(self.now) {
                    return Turnover::Until(rotate_at);
                }
                let successor = newest.next();
                self.other = Other::Successor {
                    generation: successor,
                    until: self.now.saturating_add(self.times.ready_within),
                };
                self.start(successor)
            }
            (Other::None, Current::Ended) => Turnover::Over,
        }
    }

    fn pass(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn start(&mut self, generation: Generation) -> Turnover {
        self.newest = Some(generation);
        Turnover::Start(generation)
    }

    fn close(&mut self, generation: Generation) -> Turnover {
        self.other = Other::Closing { generation };
        Turnover::Close(generation)
    }

    /// Notes that the client in use has lost its connection or has ended. A successor that is already connecting is
    /// closer to a connection than a new dial.
    fn current_is(&mut self, phase: Current) {
        if self.phase == Current::Ended {
            return;
        }
        self.phase = phase;
        if let Other::Successor { generation, .. } = self.other {
            self.hand_over(generation, false);
            self.phase = Current::Away;
            if phase == Current::Ended {
                self.other = Other::None;
            }
        }
    }

    fn hand_over(&mut self, to: Generation, seamless: bool) {
        let from = core::mem::replace(&mut self.current, to);
        let close_at = if seamless {
            self.now.saturating_add(self.times.overlap)
        } else {
            self.now
        };
        self.other = Other::Leaving {
            generation: from,
            close_at,
        };
        self.handed_over = Some((from, seamless));
    }

    /// Begins a lifetime for the client in use.
    fn begin_life(&mut self) {
        let lifetime = Span::new(self.times.lifetime).as_nanos();
        let jitter = lifetime / 100 * JITTER_PERCENT;
        let life = self.rng.between(
            Span::from_nanos(lifetime - jitter),
            Span::from_nanos(lifetime + jitter),
        );
        self.phase = Current::Ready {
            rotate_at: self.now.after(life),
        };
    }

    /// Notes that a successor did not become ready, and postpones the next one.
    fn fail(&mut self) {
        let backoff = self.times.backoff();
        let pause = backoff.delay(self.failures, Span::ZERO, &mut self.rng);
        self.failures = self.failures.saturating_add(1);
        if let Current::Ready { rotate_at } = &mut self.phase {
            *rotate_at = self.now.after(pause);
        }
    }
}
