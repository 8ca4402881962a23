//! Random numbers of bootstraps: a stream for each draw, so that the draws do not depend on the number of threads.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A seeded stream of random numbers.
pub(in crate::science) struct Random(ChaCha8Rng);

impl Random {
    /// Returns the stream with this number of a seed.
    pub(in crate::science) fn stream(seed: u64, number: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(number);
        Self(random)
    }

    /// Returns a number between 0 and 1, both excluded.
    pub(in crate::science) fn uniform(&mut self) -> f64 {
        (self.0.next_u32() as f64 + 0.5) / 2f64.powi(32)
    }

    /// Returns a number of `0..count`.
    pub(in crate::science) fn index(&mut self, count: usize) -> usize {
        ((self.uniform() * count as f64) as usize).min(count - 1)
    }

    /// Returns a number of the standard normal distribution (Box & Muller 1958).
    pub(in crate::science) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
