//! The objective: the negative log-likelihood of each target under the model.

use burn::tensor::{DType, Int, Tensor};

/// How well each target was predicted.
#[derive(Debug, Clone)]
pub struct TokenLoss {
    /// `-ln p(target)`, in nats. `[batch, length]`.
    pub nats: Tensor<2>,
    /// 1 where the target is the most probable token, 0 elsewhere. `[batch, length]`, no gradient.
    pub correct: Tensor<2, Int>,
}

impl TokenLoss {
    /// The loss of `logits`, `[batch, length, vocab_size]`, at `targets`, `[batch, length]`.
    ///
    /// Exact for logits of any size: `ln Σ exp(logits)` is taken relative to the largest. Logits in half
    /// precision are made f32 first: their sum over a vocabulary is not worth having otherwise.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn from_logits(logits: Tensor<3>, targets: Tensor<2, Int>) -> Self {
        let [batch, length, _] = logits.dims();
        let logits = match logits.dtype() {
            DType::F16 | DType::BF16 => logits.cast(DType::F32),
            _ => logits,
        };
        let targets = targets.reshape([batch, length, 1]);

        // The maximum cancels out of the result and needs no gradient.
        let (maximum, predicted) = logits.clone().detach().max_dim_with_indices(2);
        let correct = predicted.equal(targets.clone()).int();

        let target = logits.clone().gather(2, targets);
        let log_total = (logits - maximum.clone()).exp().sum_dim(2).log();
        // In this order: the two large numbers cancel before the small one is added.
        let nats = (maximum - target) + log_total;

        Self {
            nats: nats.reshape([batch, length]),
            correct: correct.reshape([batch, length]),
        }
    }

    /// What is optimised: nats per target. `[1]`.
    pub fn mean(&self) -> Tensor<1> {
        self.nats.clone().mean()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn loss(logits: [[f32; 4]; 3], targets: [i64; 3]) -> TokenLoss {
        let device = Device::default();
        TokenLoss::from_logits(
            Tensor::from_data([logits], &device),
            Tensor::from_data([targets], &device),
        )
    }

    fn nats(loss: &TokenLoss) -> Vec<f32> {
        loss.nats.clone().try_into_vec_as().unwrap()
    }

    #[test]
    fn is_minus_the_log_probability_of_the_target() {
        let logits = [[0.5, -1.0, 2.0, 0.0], [1.0; 4], [3.0, 1.0, -2.0, 0.0]];
        let loss = loss(logits, [2, 3, 1]);
        let probability = |row: usize, target: usize| {
            let total: f64 = logits[row].iter().map(|l| f64::from(*l).exp()).sum();
            f64::from(logits[row][target]).exp() / total
        };
        let expected = [(0, 2), (1, 3), (2, 1)].map(|(row, target)| -probability(row, target).ln());
        for (nats, expected) in nats(&loss).into_iter().zip(expected) {
            assert!(
                (f64::from(nats) - expected).abs() < 1e-6,
                "{nats} {expected}"
            );
        }
        let correct: Vec<i64> = loss.correct.clone().try_into_vec_as().unwrap();
        assert_eq!([correct[0], correct[2]], [1, 0]);
        let mean: f64 = loss.mean().into_scalar();
        assert!((mean - expected.iter().sum::<f64>() / 3.0).abs() < 1e-6);
    }

    #[test]
    fn stays_exact_at_extreme_logits() {
        let loss = loss(
            [
                [1e4, -1e4, 0.0, 1e4],
                [-1e4, -1e4, -1e4, 1e4],
                [1e4, 1e4 - 1.0, -1e4, -1e4],
            ],
            [0, 0, 1],
        );
        // Two tokens share the probability; the target is 20 000 nats away; odds of e to 1.
        let expected = [2f64.ln(), 2e4, 1.0 + (1.0 + (-1f64).exp()).ln()];
        for (nats, expected) in nats(&loss).into_iter().zip(expected) {
            let error = (f64::from(nats) - expected).abs();
            assert!(error <= 1e-6 * expected, "{nats} instead of {expected}");
        }
    }

    #[test]
    fn gradient_is_probability_minus_target() {
        let device = Device::default().autodiff();
        let values = [2.0, -1e4, 1.0, 1e4];
        let logits = Tensor::<3>::from_data([[values]], &device).require_grad();
        let targets = Tensor::from_data([[0]], &device);
        let loss = TokenLoss::from_logits(logits.clone(), targets);
        let gradients = loss.mean().backward();
        let gradient: Vec<f32> = logits.grad(&gradients).unwrap().try_into_vec_as().unwrap();
        assert_eq!(gradient, [-1.0, 0.0, 0.0, 1.0]);
    }
}
