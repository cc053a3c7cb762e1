//! Seeded chance: everything the generator decides comes from here, so that the same seed gives
//! the same events.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::hash64;

pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Evenly in `[0, 1)`.
    pub(super) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Evenly from `0` up to, not including, `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    /// Exponential: how long until something that happens every `mean` on average.
    pub(super) fn wait(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }

    pub(super) fn bytes16(&mut self) -> [u8; 16] {
        self.0.random()
    }

    /// One of `items`, which carry their weights.
    pub(super) fn weighted<'a, T>(&mut self, items: &'a [(T, f64)]) -> &'a T {
        pick(self.unit(), items)
    }
}

/// A number that belongs to `(seed, topic, index)` alone, whatever was asked before it.
pub(super) fn fixed(seed: u64, topic: &str, index: u64) -> u64 {
    let mut key = Vec::with_capacity(topic.len() + 16);
    key.extend_from_slice(&seed.to_le_bytes());
    key.extend_from_slice(&index.to_le_bytes());
    key.extend_from_slice(topic.as_bytes());
    hash64(&key)
}

/// [`fixed`], evenly in `[0, 1)`.
pub(super) fn fixed_unit(seed: u64, topic: &str, index: u64) -> f64 {
    // 53 bits are what a float holds exactly.
    (fixed(seed, topic, index) >> 11) as f64 / (1u64 << 53) as f64
}

/// The item at the point `unit` of `[0, 1)` when the items share it by their weights.
pub(super) fn pick<T>(unit: f64, items: &[(T, f64)]) -> &T {
    let total: f64 = items.iter().map(|(_, weight)| weight).sum();
    let mut left = unit * total;
    for (item, weight) in items {
        left -= weight;
        if left < 0.0 {
            return item;
        }
    }
    &items.last().expect("a list of choices is never empty").0
}
