//! When a connection is renewed: before the service ends it.

use core::fmt;
use core::time::Duration;

use crate::backoff::Rng;
use crate::time::{Instant, Span};

/// Why a connection is closed and dialled anew, although it is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Renewal {
    /// It is nearly as old as the service lets a connection become
    /// ([`ConfigBuilder::lifetime`](crate::ConfigBuilder::lifetime)).
    Lifetime,
    /// The service has announced its end ([`Composite::ending`](crate::Composite::ending)).
    Announced,
}

impl Renewal {
    /// The time in which an announced end is taken to come, if neither the service nor its entry says: 10 s. A client
    /// has then closed the connection 2.5 to 7.5 s after the announcement.
    pub const DEFAULT_WITHIN: Duration = Duration::from_secs(10);

    /// No announced time is taken for less: 1 s.
    const LEAST: Duration = Duration::from_secs(1);

    /// The word for logs and traces (`lifetime`, `announced`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::Announced => "announced",
        }
    }
}

impl fmt::Display for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The longest time between the note that a connection ends and its renewal: in it a successor gets ready
/// (`RotationTimes::DEFAULT_READY_WITHIN`).
const NOTICE: Span = Span::new(Duration::from_secs(60));

/// When an open connection ends by a plan: first that is told, then it is renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Ends {
    pub(crate) why: Renewal,
    is_told: bool,
    /// When the next of the two comes.
    pub(crate) next: Instant,
    /// From the note to the renewal.
    pub(crate) notice: Span,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            why: Renewal::Lifetime,
            is_told: false,
            next: Instant::NEVER,
            notice: Span::ZERO,
        }
    }
}

impl Ends {
    /// Of a connection that opens now: told after 80 to 90 % of the lifetime, renewed a twentieth of it later.
    pub(crate) fn after(lifetime: Span, rng: &mut Rng, now: Instant) -> Self {
        if lifetime.is_off() {
            return Self::default();
        }
        let tenth = lifetime.as_nanos() / 10;
        let told = rng.between(Span::from_nanos(8 * tenth), Span::from_nanos(9 * tenth));
        Self::at(Renewal::Lifetime, now.after(told), tenth / 2)
    }

    /// The service has said that it will end the connection within this time: told in the first half of it, renewed a
    /// quarter of it later. A second word changes nothing, and none postpones what is due.
    pub(crate) fn announced(&mut self, within: Duration, rng: &mut Rng, now: Instant) {
        if self.is_told || self.why == Renewal::Announced {
            return;
        }
        let quarter = Span::new(within.max(Renewal::LEAST)).as_nanos() / 4;
        let told = now.after(rng.between(Span::ZERO, Span::from_nanos(2 * quarter)));
        let announced = Self::at(Renewal::Announced, told, quarter);
        if announced.renew_at() < self.renew_at() {
            *self = announced;
        }
    }

    fn at(why: Renewal, tell_at: Instant, notice: u64) -> Self {
        let notice = NOTICE.min(Span::from_nanos(notice));
        // What never comes is not told.
        let next = match tell_at.after(notice) {
            Instant::NEVER => Instant::NEVER,
            _ => tell_at,
        };
        Self {
            why,
            is_told: false,
            next,
            notice,
        }
    }

    pub(crate) fn renew_at(&self) -> Instant {
        match self.is_told {
            true => self.next,
            false => self.next.after(self.notice),
        }
    }

    /// What is due now, once: the note, so long before the renewal; or the renewal.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Due> {
        if !self.next.is_due(now) {
            return None;
        }
        let renew_at = self.renew_at();
        if renew_at.is_due(now) {
            return Some(Due::Renewal);
        }
        self.is_told = true;
        self.next = renew_at;
        Some(Due::Note(renew_at.saturating_duration_since(now)))
    }
}

pub(crate) enum Due {
    Note(Duration),
    Renewal,
}
