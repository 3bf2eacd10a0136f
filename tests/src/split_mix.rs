//! Repeatable random numbers: the same seed, the same draws.

/// The fraction of the golden ratio, made odd.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64, as in the machine's backoff, but written independently. Any seed is a good one, and the
/// state takes 8 bytes.
#[derive(Clone, Copy, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// A sequence of draws.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Draw `number` of the sequence with seed 0, counted from 1.
    #[must_use]
    pub const fn nth(number: u64) -> u64 {
        Self::mixed(number.wrapping_mul(STEP))
    }

    /// The next draw.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        Self::mixed(self.0)
    }

    /// A uniform draw below `limit`, or 0 if `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(limit)) >> 64) as u64
    }

    const fn mixed(state: u64) -> u64 {
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first draws of seed 1234567, as other implementations publish them.
    #[test]
    fn the_draws_are_those_of_splitmix64() {
        let mut row = SplitMix::new(1_234_567);
        let draws = [row.roll(), row.roll(), row.roll()];
        assert_eq!(
            draws,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
        let mut row = SplitMix::new(0);
        assert_eq!(
            (row.roll(), row.roll()),
            (SplitMix::nth(1), SplitMix::nth(2))
        );
    }
}
