//! Random numbers that are the same bits on every machine.
//!
//! A stream belongs to a (seed, name) pair: ChaCha with 8 rounds, keyed by the seed, the name's hash
//! selecting the stream. Floating-point functions come from `libm`, whose pure Rust rounds alike
//! everywhere; those of the standard library may differ between platforms.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The stream that belongs to `seed` and `name`, at its start.
pub(crate) fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(hash(name));
    rng
}

/// FNV-1a in 64 bits: short, and fixed forever, which `std`'s hasher is not.
pub(crate) fn hash(name: &str) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    name.bytes().fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

/// A number from [0, 1) with 53 random bits.
pub(crate) fn uniform(rng: &mut impl RngCore) -> f64 {
    const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
    (rng.next_u64() >> 11) as f64 * UNIT
}

/// `count` independent standard normal numbers, by the transform of Box and Muller (1958).
pub(crate) fn normals(rng: &mut impl RngCore, count: usize) -> Vec<f64> {
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform(rng)));
        let (sin, cos) = libm::sincos(TAU * uniform(rng));
        numbers.extend([radius * cos, radius * sin]);
    }
    numbers.truncate(count);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_seeds_select_streams() {
        let first = |seed, name| stream(seed, name).next_u64();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
    }

    #[test]
    fn hash_is_fnv_1a() {
        // From the test vectors of its authors.
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn normals_are_standard_normal() {
        let count = 200_000;
        let numbers = normals(&mut stream(3, "normals"), count);
        assert_eq!(numbers.len(), count);
        let moment = |power| numbers.iter().map(|z| z.powi(power)).sum::<f64>() / count as f64;
        // Five standard errors each: those of the moments are √(1, 2, 15, 96) / √count.
        for (power, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let bound = 5.0 * f64::sqrt(variance / count as f64);
            let moment = moment(power);
            assert!(
                (moment - expected).abs() < bound,
                "moment {power}: {moment}"
            );
        }
        // Neither within a pair nor between pairs does one number foretell the next.
        for lag in [1, 2] {
            let products = numbers.iter().zip(&numbers[lag..]).map(|(a, b)| a * b);
            let correlation = products.sum::<f64>() / count as f64;
            assert!(correlation.abs() < 5.0 / f64::sqrt(count as f64));
        }
    }

    #[test]
    fn an_odd_count_is_the_start_of_the_next() {
        let numbers = |count| normals(&mut stream(0, ""), count);
        assert_eq!(numbers(3), numbers(4)[..3]);
        assert!(numbers(0).is_empty());
    }
}
