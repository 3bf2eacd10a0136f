//! The delay before the next dial: exponential backoff, capped first and jittered afterwards.

use core::time::Duration;

use crate::time::Span;

/// The shortest time between two dials under any configuration: 25 ms, at most 40 dials a second.
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
    /// Returns `min(cap, base · 2ⁿ)`: the longest delay after `failures` failures in a row.
    pub(crate) fn ceiling(self, failures: u32) -> Span {
        let doubled = 1u64
            .checked_shl(failures)
            .and_then(|factor| self.base.as_nanos().checked_mul(factor))
            .map_or(self.cap, Span::from_nanos);
        doubled.min(self.cap)
    }

    /// Returns the delay after `failures` failures in a row, and at least `floor`.
    ///
    /// Jitter shortens the delay, unless a `floor` leaves no room for that. Then jitter lengthens the delay by the
    /// same amount, so that clients that got the same `Retry-After` do not dial at the same time.
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

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): eight bytes of
/// state, and any seed is good. Jitter needs spread, not secrecy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "trace", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "trace", serde(transparent))]
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

    /// Draws a time uniformly from `low..=high`.
    pub(crate) fn between(&mut self, low: Span, high: Span) -> Span {
        let width = u128::from(high.as_nanos().saturating_sub(low.as_nanos())) + 1;
        let offset = (u128::from(self.next()) * width) >> 64;
        low.plus(Span::from_nanos(offset as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Span::from_nanos(2_000_000_000),
        cap: Span::from_nanos(60_000_000_000),
        jitter_percent: 50,
    };

    #[test]
    fn the_ceiling_doubles_and_stays_at_the_cap_however_many_failures() {
        let seconds = |failures| BACKOFF.ceiling(failures).as_nanos() / 1_000_000_000;
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(seconds),
            [2, 4, 8, 16, 32, 60, 60]
        );
        for failures in [31, 32, 33, 62, 63, 64, 65, 127, 128, u32::MAX - 1, u32::MAX] {
            assert_eq!(BACKOFF.ceiling(failures), BACKOFF.cap, "{failures}");
        }
    }

    #[test]
    fn at_the_cap_there_is_still_jitter() {
        let mut rng = Rng::new(7);
        for failures in [5, 64, u32::MAX] {
            let mut delays: [Span; 100] =
                core::array::from_fn(|_| BACKOFF.delay(failures, Span::ZERO, &mut rng));
            delays.sort_unstable();
            assert!(delays[0].as_nanos() >= 30_000_000_000);
            assert!(delays[99] <= BACKOFF.cap);
            assert!(delays.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    /// The expected numbers are the first ones of Vigna's `splitmix64.c` for seed 1234567.
    #[test]
    fn the_generator_is_splitmix64() {
        let mut rng = Rng::new(1_234_567);
        for expected in [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ] {
            assert_eq!(rng.next(), expected);
        }
    }

    #[test]
    fn a_draw_lies_in_its_range_whatever_the_range() {
        let mut rng = Rng::new(7);
        let ends = [0, 1, 2, u64::MAX - 1, u64::MAX].map(Span::from_nanos);
        for low in ends {
            for high in ends {
                for _ in 0..100 {
                    let drawn = rng.between(low, high);
                    assert!(drawn >= low && drawn <= high.max(low), "{low:?}..={high:?}");
                }
            }
        }
        // Draws reach both ends of the range.
        let [zero, one, ..] = ends;
        let ones = (0..1000).filter(|_| rng.between(zero, one) == one).count();
        assert!((400..600).contains(&ones), "{ones}");
    }
}
