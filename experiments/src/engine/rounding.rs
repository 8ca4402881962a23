//! Weights moved by one unit in the last place: how far rounding alone carries a result.

use burn::module::Module;
use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::parameters;
use crate::backend::precision::Precision;

/// Largest multiple of the effect of moved weights that counts as rounding: backends add in different orders and have
/// different exponentials.
pub(crate) const FACTOR: f64 = 16.0;

/// Moves each weight by one unit in the last place of its precision, in random directions with the seed `member`. Zeros
/// stay, because the neighbours of 0 are farther away than a rounding.
pub(crate) fn nudged<M: Module>(module: M, precision: Precision, member: u64) -> M {
    let mut random = ChaCha8Rng::seed_from_u64(member);
    parameters::changed(module, |mut values| {
        for value in &mut values {
            *value = next_to(*value, precision, random.next_u32() & 1 == 0);
        }
        values
    })
}

/// Returns the neighbour of `value` in this precision, away from 0 or towards it.
fn next_to(value: f64, precision: Precision, away: bool) -> f64 {
    if value == 0.0 {
        return value;
    }
    let step16 = |bits: u16| if away { bits + 1 } else { bits - 1 };
    match precision {
        Precision::F64 => {
            let bits = value.to_bits();
            f64::from_bits(if away { bits + 1 } else { bits - 1 })
        }
        Precision::F32 => {
            let bits = (value as f32).to_bits();
            f64::from(f32::from_bits(if away { bits + 1 } else { bits - 1 }))
        }
        Precision::BF16 => bf16::from_bits(step16(bf16::from_f64(value).to_bits())).to_f64(),
        Precision::F16 => f16::from_bits(step16(f16::from_f64(value).to_bits())).to_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_are_one_unit_in_the_last_place_away() {
        for precision in Precision::ALL {
            let u = precision.unit_roundoff();
            assert_eq!(next_to(1.0, precision, true), 1.0 + 2.0 * u);
            assert_eq!(next_to(1.0, precision, false), 1.0 - u);
            assert_eq!(next_to(-1.0, precision, true), -1.0 - 2.0 * u);
            assert_eq!(next_to(0.0, precision, true), 0.0);
        }
    }
}
