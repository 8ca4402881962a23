//! Numbers on the host: read, rounded, and moved by as much as one rounding moves them.

use burn::tensor::{DType, Device, Tensor, TensorData};
use foretoken_model::{Operation, Transformer};
use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::Error;
use crate::backend::precision::Precision;
use crate::engine::parameters;

/// Scores at or below this are those of keys that are not to be seen, in f16 too. How far below is no matter: their
/// exponential is 0.
pub(super) const HIDDEN: f64 = -16384.0;

pub(super) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f64>, Error> {
    tensor.try_into_vec_as().map_err(Error::device)
}

pub(super) fn tensor(
    values: &[f64],
    shape: [usize; 2],
    device: &Device,
    dtype: DType,
) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), shape);
    Tensor::from_data(data, (device, dtype))
}

/// What an operation's output is held in: a loss is not held in half precision.
pub(super) fn held_in(operation: Operation, precision: Precision) -> Precision {
    match (operation, precision) {
        (Operation::Loss, Precision::BF16 | Precision::F16) => Precision::F32,
        _ => precision,
    }
}

pub(super) fn rounded(values: &[f64], precision: Precision) -> Vec<f64> {
    let round = |value: &f64| match precision {
        Precision::F64 => *value,
        Precision::F32 => f64::from(*value as f32),
        Precision::BF16 => bf16::from_f64(*value).to_f64(),
        Precision::F16 => f16::from_f64(*value).to_f64(),
    };
    values.iter().map(round).collect()
}

/// Below this, errors are no longer relative: numbers lose bits here, or are flushed to 0 by processors that
/// save themselves the trouble. Half precision is too short of range to be flushed.
pub(super) fn smallest(precision: Precision) -> f64 {
    match precision {
        Precision::F64 => f64::MIN_POSITIVE,
        Precision::F32 | Precision::BF16 => f64::from(f32::MIN_POSITIVE),
        Precision::F16 => 2f64.powi(-24),
    }
}

/// Moves numbers by one unit roundoff, up or down at random, always the same for the same seed.
pub(super) struct Mover {
    random: ChaCha8Rng,
}

impl Mover {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub(super) fn moved(&mut self, values: &[f64], precision: Precision) -> Vec<f64> {
        let unit = precision.unit_roundoff();
        let mut bits = 0;
        values
            .iter()
            .enumerate()
            .map(|(index, value)| {
                if index.is_multiple_of(64) {
                    bits = self.random.next_u64();
                }
                let up = bits >> (index % 64) & 1 == 1;
                // Infinities stay where they are.
                value * (1.0 + if up { unit } else { -unit })
            })
            .collect()
    }

    /// The same network with every weight moved.
    pub(super) fn moved_weights(
        &mut self,
        model: Transformer,
        precision: Precision,
    ) -> Transformer {
        parameters::changed(model, |values| self.moved(&values, precision))
    }
}

/// ‖a − b‖ / ‖b‖ in the Euclidean norm, leaving out what is hidden in both.
pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    let seen = |(a, b): &(&f64, &f64)| !(**a <= HIDDEN && **b <= HIDDEN);
    let (mut difference, mut size) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b).filter(seen) {
        difference += (a - b) * (a - b);
        size += b * b;
    }
    if difference == 0.0 {
        return 0.0;
    }
    (difference / size).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_moved_by_one_unit_up_and_down() {
        for precision in Precision::ALL {
            let mut mover = Mover::new(7);
            let ones = vec![1.0; 1000];
            let moved = mover.moved(&ones, precision);
            let u = precision.unit_roundoff();
            let up = moved.iter().filter(|value| **value == 1.0 + u).count();
            let down = moved.iter().filter(|value| **value == 1.0 - u).count();
            // In f64, 1 + u is no number.
            let up = if precision == Precision::F64 {
                1000 - down
            } else {
                up
            };
            assert_eq!(up + down, 1000);
            assert!((400..600).contains(&up), "{up}");
            assert_ne!(mover.moved(&ones, precision), moved);
            assert_eq!(Mover::new(7).moved(&ones, precision), moved);
        }
        let far = [f64::NEG_INFINITY, 0.0];
        assert_eq!(Mover::new(1).moved(&far, Precision::F16), far);
    }

    #[test]
    fn what_is_hidden_in_both_is_no_difference() {
        assert_eq!(distance(&[1.0, -1e9], &[1.0, -1e9 + 64.0]), 0.0);
        assert_eq!(distance(&[1.0, f64::NEG_INFINITY], &[1.0, -1e9]), 0.0);
        assert!(distance(&[1.0, 2.0], &[1.0, -1e9]) > 0.9);
        assert!(distance(&[f64::NAN, 2.0], &[1.0, 2.0]).is_nan());
        assert_eq!(distance(&[2.0, 0.0], &[1.0, 0.0]), 1.0);
    }
}
