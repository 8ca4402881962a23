//! Dropout that is the same on every backend, and the same after a resumed run as in one piece.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData};
use rand_chacha::rand_core::RngCore;

use crate::random;

/// Which elements one forward pass of training leaves out (Srivastava et al. 2014,
/// <https://jmlr.org/papers/v15/srivastava14a.html>): a function of a seed, the number of the batch and the
/// place in the network, drawn on the host.
#[derive(Debug)]
pub struct Dropout {
    seed: u64,
    batch: u64,
    places: Cell<u64>,
}

impl Dropout {
    /// For the batch with this number, counted over the whole training.
    pub fn new(seed: u64, batch: u64) -> Self {
        Self {
            seed,
            batch,
            places: Cell::new(0),
        }
    }

    /// Sets each element to 0 with probability `rate`, and divides the others by `1 - rate`.
    pub(crate) fn apply<const D: usize>(&self, x: Tensor<D>, rate: f64) -> Tensor<D> {
        let place = self.places.replace(self.places.get() + 1);
        let mut rng = random::stream(self.seed, &format!("dropout.{}.{place}", self.batch));
        let dropped = (rate * 2f64.powi(32)) as u32;
        let kept = (1.0 / (1.0 - rate)) as f32;
        let shape = x.shape();
        let factors: Vec<f32> = (0..shape.num_elements())
            .map(|_| if rng.next_u32() < dropped { 0.0 } else { kept })
            .collect();
        let data = TensorData::new(factors, shape);
        let factors = Tensor::from_data(data, (&x.device(), x.dtype()));
        x * factors
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn factors(seed: u64, batch: u64, rate: f64) -> [Vec<f32>; 2] {
        let dropout = Dropout::new(seed, batch);
        let ones = || Tensor::<2>::ones([100, 200], &Device::default());
        [(); 2].map(|()| dropout.apply(ones(), rate).try_into_vec_as().unwrap())
    }

    #[test]
    fn seed_batch_and_place_decide_what_is_left_out() {
        let [first, second] = factors(1, 2, 0.5);
        assert_ne!(first, second);
        assert_eq!([first.clone(), second.clone()], factors(1, 2, 0.5));
        for other in [factors(1, 3, 0.5), factors(2, 2, 0.5)] {
            assert_ne!(first, other[0]);
            assert_ne!(second, other[1]);
        }
    }

    #[test]
    fn leaves_out_its_share_and_keeps_the_mean() {
        for rate in [0.01, 0.1, 0.5, 0.9] {
            let [factors, _] = factors(7, 0, rate);
            let count = factors.len() as f64;
            let dropped = factors.iter().filter(|factor| **factor == 0.0).count() as f64;
            // Five standard errors of a binomial share.
            let error = 5.0 * (rate * (1.0 - rate) / count).sqrt();
            assert!((dropped / count - rate).abs() < error, "{rate}: {dropped}");
            let kept = (1.0 / (1.0 - rate)) as f32;
            assert!(factors.iter().all(|factor| [0.0, kept].contains(factor)));
        }
    }
}
