//! Numbers on the host: read from a device, rounded to a precision, and moved by one rounding.

use burn::tensor::{DType, Device, Tensor, TensorData};
use foretoken_model::{Operation, Transformer};
use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::Error;
use crate::backend::precision::Precision;
use crate::engine::parameters;

/// Largest score of a masked key, in f16 too. Scores at or below it are equal to each other, because their
/// exponential is 0.
pub(super) const MASKED: f64 = -16384.0;

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

/// Returns the precision that an operation's output is stored in. A loss is never stored in half precision.
pub(super) fn storage_precision(operation: Operation, precision: Precision) -> Precision {
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

/// Returns the size below which errors are absolute: smaller numbers lose bits or are flushed to 0. Processors do not
/// flush half precision, whose range is too short.
pub(super) fn absolute_floor(precision: Precision) -> f64 {
    match precision {
        Precision::F64 => f64::MIN_POSITIVE,
        Precision::F32 | Precision::BF16 => f64::from(f32::MIN_POSITIVE),
        Precision::F16 => 2f64.powi(-24),
    }
}

/// A generator of random moves by one unit roundoff, up or down. The same seed gives the same moves.
pub(super) struct Jitter {
    random: ChaCha8Rng,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub(super) fn apply(&mut self, values: &[f64], precision: Precision) -> Vec<f64> {
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
                // Infinities stay infinite.
                value * (1.0 + if up { unit } else { -unit })
            })
            .collect()
    }

    /// Returns the network with every weight moved.
    pub(super) fn apply_to_weights(
        &mut self,
        model: Transformer,
        precision: Precision,
    ) -> Transformer {
        parameters::changed(model, |values| self.apply(&values, precision))
    }
}

/// Returns ‖a − b‖ / ‖b‖ in the Euclidean norm, without the elements that are masked in both.
pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    let unmasked = |(a, b): &(&f64, &f64)| !(**a <= MASKED && **b <= MASKED);
    let (mut difference, mut size) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b).filter(unmasked) {
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
    fn jitter_moves_numbers_by_one_unit_up_or_down() {
        for precision in Precision::ALL {
            let mut jitter = Jitter::new(7);
            let ones = vec![1.0; 1000];
            let moved = jitter.apply(&ones, precision);
            let u = precision.unit_roundoff();
            let up = moved.iter().filter(|value| **value == 1.0 + u).count();
            let down = moved.iter().filter(|value| **value == 1.0 - u).count();
            // In f64, 1 + u is not representable.
            let up = if precision == Precision::F64 {
                1000 - down
            } else {
                up
            };
            assert_eq!(up + down, 1000);
            assert!((400..600).contains(&up), "{up}");
            assert_ne!(jitter.apply(&ones, precision), moved);
            assert_eq!(Jitter::new(7).apply(&ones, precision), moved);
        }
        let far = [f64::NEG_INFINITY, 0.0];
        assert_eq!(Jitter::new(1).apply(&far, Precision::F16), far);
    }

    #[test]
    fn distance_ignores_elements_masked_in_both() {
        assert_eq!(distance(&[1.0, -1e9], &[1.0, -1e9 + 64.0]), 0.0);
        assert_eq!(distance(&[1.0, f64::NEG_INFINITY], &[1.0, -1e9]), 0.0);
        assert!(distance(&[1.0, 2.0], &[1.0, -1e9]) > 0.9);
        assert!(distance(&[f64::NAN, 2.0], &[1.0, 2.0]).is_nan());
        assert_eq!(distance(&[2.0, 0.0], &[1.0, 0.0]), 1.0);
    }
}
