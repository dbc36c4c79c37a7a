//! One seed, one run, on every machine.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A seeded source of numbers.
#[derive(Debug)]
pub(crate) struct Random(StdRng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// From what another source has forked off.
    pub(crate) fn from(forked: StdRng) -> Self {
        Self(forked)
    }

    /// A source of its own, for one process in one of its lives.
    pub(crate) fn fork(&mut self) -> StdRng {
        StdRng::from_rng(&mut self.0)
    }

    /// From `low` up to and without `high`.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..high.max(low + 1))
    }

    /// An index below `count`.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.0.random_ratio(percent, 100)
    }
}
