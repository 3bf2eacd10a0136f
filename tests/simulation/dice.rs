//! Repeatable random numbers: the same seed, the same draws.

use heartbeat_tests::split_mix::SplitMix;

#[derive(Clone, Debug)]
pub(crate) struct Dice(SplitMix);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut row = SplitMix::new(seed ^ 0x05EE_D0FA_5EED);
        row.roll();
        Self(row)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// A number from `low` to `high`, both included; `low` if that is the larger one.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Small and large numbers alike: uniform on a logarithmic scale.
    pub(crate) fn spread(&mut self, low: u64, high: u64) -> u64 {
        let (from, to) = ((low.max(1) as f64).ln(), (high.max(1) as f64).ln());
        let part = self.below(1 << 32) as f64 / (1_u64 << 32) as f64;
        ((from + (to - from) * part).exp() as u64).clamp(low, high.max(low))
    }

    /// The time until the next of random events that are `mean` apart on average.
    pub(crate) fn until_next(&mut self, mean: u64) -> u64 {
        let part = (self.below(1 << 32) + 1) as f64 / (1_u64 << 32) as f64;
        (-part.ln() * mean as f64) as u64
    }

    /// True this many times in a thousand.
    pub(crate) fn permille(&mut self, times: u64) -> bool {
        self.below(1000) < times
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// One of these, with a probability by its weight.
    pub(crate) fn weighted<T: Copy>(&mut self, from: &[(u64, T)]) -> T {
        let mut left = self.below(from.iter().map(|(weight, _)| weight).sum());
        for (weight, value) in from {
            if left < *weight {
                return *value;
            }
            left -= weight;
        }
        from[0].1
    }
}
