//! How long to wait before dialling again: truncated exponential backoff, capped first and jittered after.

use core::time::Duration;

use crate::time::Span;

/// No configuration can bring two dials closer together than this: 25 ms, at most 40 dials a second.
pub const DIAL_FLOOR: Duration = Duration::from_millis(25);

const FLOOR: Span = Span::new(DIAL_FLOOR);

/// Truncated exponential backoff: `min(cap, base · 2ⁿ)`, then shortened by up to `jitter_percent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) base: Span,
    pub(crate) cap: Span,
    pub(crate) jitter_percent: u8,
}

impl Backoff {
    /// `min(cap, base · 2ⁿ)`: the longest delay after `failures` failures in a row.
    pub(crate) fn ceiling(self, failures: u32) -> Span {
        let doubled = 1u64
            .checked_shl(failures)
            .and_then(|factor| self.base.as_nanos().checked_mul(factor))
            .map_or(self.cap, Span::from_nanos);
        doubled.min(self.cap)
    }

    /// The delay after `failures` failures in a row, and not before `floor` has passed.
    ///
    /// Jitter only shortens, except above a `floor` that leaves it no room: then as much is added as
    /// would have been taken off, so that clients that were given the same `Retry-After` still part.
    pub(crate) fn delay(self, failures: u32, floor: Span, rng: &mut Rng) -> Span {
        let ceiling = self.ceiling(failures);
        let room = Span::from_nanos(percent(ceiling.as_nanos(), self.jitter_percent));
        let shortest = Span::from_nanos(ceiling.as_nanos() - room.as_nanos()).max(FLOOR);
        if floor <= shortest {
            rng.between(shortest, ceiling)
        } else {
            rng.between(floor, ceiling.max(floor.plus(room)))
        }
    }
}

fn percent(value: u64, percent: u8) -> u64 {
    (u128::from(value) * u128::from(percent.min(100)) / 100) as u64
}

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
/// eight bytes of state, any seed is a good one. Jitter needs spread, not secrecy.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// An even draw from `low..=high`.
    pub(crate) fn between(&mut self, low: Span, high: Span) -> Span {
        let width = u128::from(high.as_nanos().saturating_sub(low.as_nanos())) + 1;
        let offset = (u128::from(self.next()) * width) >> 64;
        low.plus(Span::from_nanos(offset as u64))
    }
}
