//! The objective: the negative log-likelihood of each target under the model.

use burn::tensor::{Int, Tensor};

use crate::ops;

/// What training adds to the negative log-likelihood of its targets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Objective {
    /// The share of a target that all tokens of the vocabulary have evenly instead (Szegedy et al. 2016,
    /// <https://arxiv.org/abs/1512.00567>), from 0 to below 1.
    pub label_smoothing: f64,
    /// Times the square of `ln Σ exp(logits)`, which keeps that near 0 (Chowdhery et al. 2022,
    /// <https://arxiv.org/abs/2204.02311>, has 1e-4).
    pub z_loss: f64,
}

/// What is to be predicted.
///
/// In every pass, fused or plain, on every backend: a target below 0 is ignored, that is its loss, its nats, its hit and
/// its gradient are 0. A target that is no token of the vocabulary is a caller's mistake; its loss, its nats and its
/// gradient are NaN, since a device can not panic and is not waited for.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Token ids, `[batch, length]`.
    pub ids: Tensor<2, Int>,
    /// How much each counts, `[batch, length]`, where not all count 1.
    pub weights: Option<Tensor<2>>,
}

impl From<Tensor<2, Int>> for Targets {
    fn from(ids: Tensor<2, Int>) -> Self {
        Self { ids, weights: None }
    }
}

/// How well each target was predicted.
#[derive(Debug, Clone)]
pub struct TokenLoss {
    /// What is optimised, in nats: `-ln p(target)` with what the [`Objective`] adds, times the target's weight.
    /// `[batch, length]`.
    pub loss: Tensor<2>,
    /// `-ln p(target)`, in nats, whatever it counts. `[batch, length]`, no gradient.
    pub nats: Tensor<2>,
    /// 1 where the target is the most probable token, 0 elsewhere. `[batch, length]`, no gradient.
    pub correct: Tensor<2, Int>,
}

impl TokenLoss {
    /// The loss of `logits`, `[batch, length, vocab_size]`, at `targets`, `[batch, length]`: of all alike, and nothing
    /// but the negative log-likelihood. [`Targets`] says what becomes of those that are no tokens.
    ///
    /// Exact for logits of any size: `ln Σ exp(logits)` is taken relative to the largest. Logits in half
    /// precision are made f32 first: their sum over a vocabulary is not worth having otherwise.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn from_logits(logits: Tensor<3>, targets: Tensor<2, Int>) -> Self {
        let [batch, length, vocabulary] = logits.dims();
        let logits = at_least_f32(logits);
        let column = targets.clone().reshape([batch, length, 1]);

        let (maximum, predicted) = logits.clone().detach().max_dim_with_indices(2);
        let correct = predicted.equal(column.clone()).int();

        let token = column.clamp(0, vocabulary as i64 - 1);
        let target = logits.clone().gather(2, token);
        let total = log_total_over(&maximum, logits);
        // In this order: the two large numbers cancel before the small one is added.
        let nats = (maximum - target) + total;
        Self::exact(
            counted(nats.reshape([batch, length]), targets, vocabulary),
            correct.reshape([batch, length]),
        )
    }

    /// Of targets that all count alike, of which nothing but the negative log-likelihood is optimised.
    pub(crate) fn exact(nats: Tensor<2>, correct: Tensor<2, Int>) -> Self {
        Self {
            nats: nats.clone().detach(),
            loss: nats,
            correct,
        }
    }

    /// The same where more is optimised than that; `logits` and `targets` are those that it is of.
    pub(crate) fn toward(self, objective: Objective, logits: Tensor<3>, targets: Targets) -> Self {
        let [batch, length, vocabulary] = logits.dims();
        let shape = [batch, length];
        let logits = at_least_f32(logits);
        let maximum = logits.clone().detach().max_dim(2);
        let total = log_total_over(&maximum, logits.clone());
        let Objective {
            label_smoothing: smoothing,
            z_loss,
        } = objective;
        let mut loss = self.loss;
        if smoothing > 0.0 {
            let even = (maximum.clone() - logits.mean_dim(2)) + total.clone();
            loss = loss * (1.0 - smoothing) + even.reshape(shape) * smoothing;
        }
        if z_loss > 0.0 {
            let log_total = (maximum + total).reshape(shape);
            loss = loss + log_total.clone() * log_total * z_loss;
        }
        // Of what is added too, ignored targets have nothing.
        loss = counted(loss, targets.ids, vocabulary);
        if let Some(weights) = targets.weights {
            let weights = weights.cast(loss.dtype());
            loss = loss * weights;
        }
        Self { loss, ..self }
    }

    /// That of `hidden`, `[batch, length, width]`, at `targets`, through `head`, without its logits.
    pub(crate) fn through(
        head: Tensor<2>,
        rule: ops::Head,
        hidden: Tensor<3>,
        targets: Targets,
    ) -> Self {
        let [batch, length, width] = hidden.dims();
        let (rows, shape) = (batch * length, [batch, length]);
        let (loss, nats, correct) = ops::cross_entropy(
            hidden.reshape([rows, width]),
            head,
            targets.ids.reshape([rows]),
            targets.weights.map(|weights| weights.reshape([rows])),
            rule,
        );
        Self {
            loss: loss.reshape(shape),
            nats: nats.reshape(shape),
            correct: correct.reshape(shape),
        }
    }

    /// The mean of what is optimised over all targets. `[1]`.
    pub fn mean(&self) -> Tensor<1> {
        self.loss.clone().mean()
    }
}

/// How well targets are predicted, beyond their loss; each `[batch, length]`. A target below 0 is ignored: its nats are
/// 0, and its other scores are undefined.
#[derive(Debug, Clone)]
pub struct TokenScores {
    /// Negative log-likelihood of the target, in nats; in f32 at least.
    pub nats: Tensor<2>,
    /// Negative log-likelihood of the most probable token, in nats; in f32 at least.
    pub top_nats: Tensor<2>,
    /// Rank of the target among all tokens: 1 for the most probable; of equals, the lower id comes first.
    pub rank: Tensor<2, Int>,
}

fn at_least_f32(logits: Tensor<3>) -> Tensor<3> {
    let dtype = ops::at_least_f32(logits.dtype());
    logits.cast(dtype)
}

/// Losses of targets: 0 of those that are ignored, and NaN of those that are no tokens, with their gradients.
fn counted(losses: Tensor<2>, targets: Tensor<2, Int>, vocabulary: usize) -> Tensor<2> {
    let beyond = targets.clone().greater_equal_scalar(vocabulary as i64);
    let factor = losses
        .clone()
        .detach()
        .ones_like()
        .mask_fill(beyond, f64::NAN);
    (losses * factor).mask_fill(targets.lower_scalar(0), 0.0)
}

/// `ln Σ exp(logits) - maximum`, `[batch, length, 1]`. The maximum cancels out of the result and needs no gradient.
fn log_total_over(maximum: &Tensor<3>, logits: Tensor<3>) -> Tensor<3> {
    (logits - maximum.clone()).exp().sum_dim(2).log()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

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

    #[test]
    fn one_objective_with_logits_and_without() {
        let device = Device::default().autodiff();
        let numbers = |seed: f64, count: usize| -> Vec<f64> {
            (0..count).map(|i| (seed + 1.7 * i as f64).sin()).collect()
        };
        let leaf = |seed, shape: [usize; 2]| {
            let data = TensorData::new(numbers(seed, shape[0] * shape[1]), shape);
            Tensor::<2>::from_data(data, &device).require_grad()
        };
        let ids = || Tensor::<2, Int>::from_data([[3, 0], [4, 2]], &device);
        let weights = || Tensor::<2>::from_data([[1.0, 0.5], [0.0, 2.0]], &device);
        for (label_smoothing, z_loss, weighted) in [
            (0.0, 0.0, false),
            (0.1, 0.0, false),
            (0.0, 0.01, true),
            (0.2, 0.05, true),
        ] {
            let objective = Objective {
                label_smoothing,
                z_loss,
            };
            let weights = || weighted.then(weights);
            let (hidden, head) = (leaf(0.3, [4, 3]), leaf(2.0, [3, 5]));
            let logits = hidden.clone().matmul(head.clone()).reshape([2, 2, 5]);
            let with = TokenLoss::from_logits(logits.clone(), ids());
            let targets = Targets {
                ids: ids(),
                weights: weights(),
            };
            let with = with.toward(objective, logits, targets);
            let rule = ops::Head {
                by_token: false,
                cap: None,
                objective,
            };
            let targets = Targets {
                ids: ids(),
                weights: weights(),
            };
            let rows = hidden.clone().reshape([2, 2, 3]);
            let without = TokenLoss::through(head.clone(), rule, rows, targets);
            let close = |one: Tensor<2>, other: Tensor<2>| {
                let [one, other] = [one, other].map(|of| of.try_into_vec_as::<f64>().unwrap());
                for (one, other) in one.into_iter().zip(other) {
                    assert!((one - other).abs() < 1e-6, "{one} {other} {objective:?}");
                }
            };
            close(with.nats.clone(), without.nats.clone());
            close(with.loss.clone(), without.loss.clone());
            let gradients = [&with, &without].map(|loss| {
                let gradients = loss.mean().backward();
                [&hidden, &head].map(|leaf| leaf.grad(&gradients).unwrap())
            });
            let [[of_hidden, of_head], [hidden_without, head_without]] = gradients;
            close(of_hidden, hidden_without);
            close(of_head, head_without);
        }
    }
}
