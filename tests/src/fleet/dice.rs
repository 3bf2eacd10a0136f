//! Repeatable random numbers for the simulation, apart from the machines' jitter.

use std::sync::LazyLock;

use crate::split_mix::SplitMix;

/// Eight bytes for each of a million owners.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(SplitMix);

/// `-ln(1 - u)` at the middle of 4096 equal steps of `u`, in 1/65536. The mean is 1 to within 0.1 %, the
/// largest value 9.01. A table, because computing a logarithm for each of three billion pings would take
/// most of a run.
static EXPONENTIAL: LazyLock<[u32; 4096]> = LazyLock::new(|| {
    std::array::from_fn(|step| {
        let u = (step as f64 + 0.5) / 4096.0;
        (-(1.0 - u).ln() * 65_536.0) as u32
    })
});

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(SplitMix::new(seed))
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0.roll()
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }

    /// An exponentially distributed number with this mean.
    pub(crate) fn exponential(&mut self, mean: u64) -> u64 {
        let step = (self.roll() >> 52) as usize;
        ((u128::from(mean) * u128::from(EXPONENTIAL[step])) >> 16) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_mean_of_the_distribution() {
        let mut dice = Dice::new(7);
        let sum: u64 = (0..200_000).map(|_| dice.exponential(1_000_000)).sum();
        let mean = sum / 200_000;
        assert!((985_000..1_015_000).contains(&mean), "{mean}");
    }
}
