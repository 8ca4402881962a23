//! Permutations of `0..n` that are computed instead of stored, and the random numbers that define them.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// Creates the generator of one stream, such as that of epoch `number`, for one purpose.
///
/// The purpose is part of the key, so that other uses of the same seed, such as drawing weights, are independent.
pub(crate) fn random_of(purpose: &[u8; 24], seed: u64, number: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..].copy_from_slice(purpose);
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(number);
    random
}

/// Draws a number below `bound`, uniform except for a bias of `bound / 2^64`.
pub(crate) fn below(bound: u64, random: &mut impl RngCore) -> u64 {
    let product = u128::from(random.next_u64()) * u128::from(bound);
    (product >> 64) as u64
}

/// Number of Feistel rounds. Four pseudo-random round functions make a pseudo-random permutation (Luby and Rackoff
/// 1988). The other rounds are for small domains, where round functions of few bits are weak.
const ROUNDS: usize = 8;

/// Permutation of `0..size`.
///
/// A Feistel network permutes `0..4^k`, the smallest such range that contains the domain. Following its cycle until it
/// returns to the domain gives a permutation of the domain (Black and Rogaway 2002). The expected number of steps is
/// below four.
pub(crate) struct Permutation {
    size: u64,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// Draws a permutation of `0..size`; `size` is at least 1.
    pub(crate) fn draw(size: u64, random: &mut impl RngCore) -> Self {
        Self {
            size,
            keys: std::array::from_fn(|_| random.next_u64()),
        }
    }

    /// Returns the image of `index`, which is below `size`.
    pub(crate) fn apply(&self, mut index: u64) -> u64 {
        let bits = u64::BITS - (self.size - 1).leading_zeros();
        let half = bits.div_ceil(2);
        let mask = (1u64 << half) - 1;
        loop {
            let (mut left, mut right) = (index >> half, index & mask);
            for key in self.keys {
                (left, right) = (right, left ^ (mix(right ^ key) & mask));
            }
            index = (left << half) | right;
            if index < self.size {
                return index;
            }
        }
    }
}

/// Spreads each bit of `x` over all 64: the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn draw(size: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
        let permutation = Permutation::draw(size as u64, random);
        (0..size as u64)
            .map(|index| permutation.apply(index) as usize)
            .collect()
    }

    #[test]
    fn every_size_is_permuted() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for size in 1..300 {
            let mut image = draw(size, &mut random);
            image.sort_unstable();
            assert_eq!(image, (0..size).collect::<Vec<_>>());
        }
    }

    /// The image of each number and the first two numbers are uniform. A size of 64 fills the range of the Feistel
    /// network; 20 and 5 do not.
    #[test]
    fn permutations_are_uniform() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for size in [5, 20, 64] {
            let mut places = vec![0u32; size * size];
            let mut firsts = vec![0u32; size * size];
            for _ in 0..20_000 {
                let image = draw(size, &mut random);
                for (place, &number) in image.iter().enumerate() {
                    places[place * size + number] += 1;
                }
                firsts[image[0] * size + image[1]] += 1;
            }
            // A permutation fills one cell in every row and column of `places`. This leaves (n - 1)^2 degrees of
            // freedom and makes Pearson's statistic larger by n / (n - 1).
            let ratio = size as f64 / (size - 1) as f64;
            check_uniform(&places, ratio, (size - 1).pow(2));
            // No number occurs twice, so the cells of equal pairs are left out.
            let pairs: Vec<u32> = (0..size * size)
                .filter(|cell| cell / size != cell % size)
                .map(|cell| firsts[cell])
                .collect();
            check_uniform(&pairs, 1.0, pairs.len() - 1);
        }
    }

    /// Does what [`check_shares`] does, for cells that are equally likely.
    pub(crate) fn check_uniform(counts: &[u32], ratio: f64, freedom: usize) {
        let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
        check_shares(counts, &vec![expected; counts.len()], ratio, freedom);
    }

    /// Checks that Pearson's chi-square statistic, divided by `ratio`, is within 5 standard deviations of its mean.
    pub(crate) fn check_shares(counts: &[u32], expected: &[f64], ratio: f64, freedom: usize) {
        let square =
            |(&count, expected): (&u32, &f64)| (f64::from(count) - expected).powi(2) / expected;
        let statistic = counts.iter().zip(expected).map(square).sum::<f64>() / ratio;
        let (mean, deviation) = (freedom as f64, (2.0 * freedom as f64).sqrt());
        println!(
            "{} cells: {statistic:.1}, expected {mean} ± {deviation:.1}",
            counts.len()
        );
        assert!((statistic - mean).abs() < 5.0 * deviation, "not uniform");
    }
}
