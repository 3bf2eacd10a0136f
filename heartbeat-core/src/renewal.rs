//! Renewal of a connection before the service ends it.

use core::fmt;
use core::time::Duration;

use crate::backoff::Rng;
use crate::time::{Instant, Span};

/// The reason why a healthy connection is closed and dialled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Renewal {
    /// The connection is close to the service's limit
    /// ([`ConfigBuilder::lifetime`](crate::ConfigBuilder::lifetime)).
    Lifetime,
    /// The service has announced the end ([`Composite::ending`](crate::Composite::ending)).
    Announced,
}

impl Renewal {
    /// The time within which an announced end is expected if neither the service nor its catalogue entry gives one:
    /// 10 s. The client then closes the connection 2.5 to 7.5 s after the announcement.
    pub const DEFAULT_WITHIN: Duration = Duration::from_secs(10);

    /// The shortest announced time that the machine accepts: 1 s.
    const LEAST: Duration = Duration::from_secs(1);

    /// Returns the name for logs and traces (`lifetime`, `announced`).
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

/// The longest time between the note and the renewal. In this time a successor becomes ready
/// (`RotationTimes::DEFAULT_READY_WITHIN`).
const NOTICE: Span = Span::new(Duration::from_secs(60));

/// The planned end of an open connection: first a note, then the renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Ends {
    pub(crate) why: Renewal,
    is_told: bool,
    /// The time of the next of the two.
    pub(crate) next: Instant,
    /// The time from the note to the renewal.
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
    /// Plans the end of a connection that opens now: the note after 80 to 90 % of the lifetime, the renewal a
    /// twentieth of the lifetime later.
    pub(crate) fn after(lifetime: Span, rng: &mut Rng, now: Instant) -> Self {
        if lifetime.is_off() {
            return Self::default();
        }
        let tenth = lifetime.as_nanos() / 10;
        let told = rng.between(Span::from_nanos(8 * tenth), Span::from_nanos(9 * tenth));
        Self::at(Renewal::Lifetime, now.after(told), tenth / 2)
    }

    /// Plans the end that the service has announced for `within`: the note in the first half of that time, the renewal
    /// a quarter of it later. A repeated announcement changes nothing, and no announcement postpones what is already
    /// due.
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
        // If the renewal never comes, plan no note.
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

    /// Returns the event that is due now, and returns each event once: the note, or the renewal.
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
