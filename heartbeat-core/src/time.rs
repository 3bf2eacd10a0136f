//! The machine's time: a number of nanoseconds that a driver passes in.

use core::fmt;
use core::time::Duration;

/// A point in time: nanoseconds since an origin that the driver chose.
///
/// This is not `std::time::Instant`, which needs `std`, cannot be constructed in a test, and panics on some
/// subtractions. This type is a plain number with saturating arithmetic.
///
/// The largest value, [`Instant::NEVER`], is the end of time. Nothing is ever due then.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(transparent))]
pub struct Instant(u64);

impl Instant {
    /// The origin that the driver chose.
    pub const ORIGIN: Self = Self(0);

    /// Later than anything that happens (`u64::MAX` nanoseconds, 584 years after the origin).
    pub const NEVER: Self = Self(u64::MAX);

    /// Returns the instant `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns `self + duration`, at most [`Instant::NEVER`].
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        self.after(Span::new(duration))
    }

    /// Returns the time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the instant `span` later, or [`Instant::NEVER`] if the span is off or reaches past the end.
    #[inline]
    pub(crate) const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Returns the span from `earlier` to `self`.
    #[inline]
    pub(crate) const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// Returns true if a deadline at `self` has come at `now`. [`Instant::NEVER`] never comes.
    #[inline]
    pub(crate) const fn is_due(self, now: Self) -> bool {
        self.0 <= now.0 && self.0 != u64::MAX
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("never");
        }
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

/// A length of time in nanoseconds, in eight bytes. All ones mean "off": the deadline never comes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(transparent))]
pub(crate) struct Span(u64);

/// Writes `90s` or `off`, because people read a configuration's `Debug`.
impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.option() {
            Some(duration) => duration.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl Span {
    pub(crate) const OFF: Self = Self(u64::MAX);
    pub(crate) const ZERO: Self = Self(0);

    /// Saturates at 584 years, which has the effect of "off".
    pub(crate) const fn new(duration: Duration) -> Self {
        let nanos = duration.as_nanos();
        if nanos > u64::MAX as u128 {
            Self::OFF
        } else {
            Self(nanos as u64)
        }
    }

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    pub(crate) const fn is_off(self) -> bool {
        self.0 == u64::MAX
    }

    pub(crate) const fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    pub(crate) const fn option(self) -> Option<Duration> {
        if self.is_off() {
            None
        } else {
            Some(self.duration())
        }
    }

    /// Subtracts. A span that is off stays off.
    pub(crate) const fn less(self, other: Self) -> Self {
        if self.is_off() {
            self
        } else {
            Self(self.0.saturating_sub(other.0))
        }
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// The source of a driver's time.
///
/// The machine never reads a clock. A driver reads one once per wake-up, and passes the time to
/// [`Heartbeat::step`](crate::Heartbeat::step). A test passes any time.
pub trait Clock {
    /// Returns the present time. It should be monotonic: the machine replaces an earlier `now` by the latest one
    /// that it saw.
    fn now(&self) -> Instant;
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now(&self) -> Instant {
        (**self).now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_shows_itself_as_people_write_it() {
        let spans = [Duration::from_secs(90), Duration::from_millis(1500)].map(Span::new);
        assert_eq!(
            alloc::format!("{spans:?} {:?}", Span::OFF),
            "[90s, 1.5s] off"
        );
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let end = Instant::from_nanos(u64::MAX - 1);
        assert_eq!(end.saturating_add(Duration::from_secs(1)), Instant::NEVER);
        assert_eq!(
            Instant::ORIGIN.saturating_duration_since(end),
            Duration::ZERO
        );
        assert!(Span::new(Duration::MAX).is_off());
    }

    #[test]
    fn the_end_of_time_is_never_due() {
        assert!(!Instant::NEVER.is_due(Instant::NEVER));
        assert!(Instant::from_nanos(7).is_due(Instant::from_nanos(7)));
    }
}
