//! The objective: the negative log-likelihood of each target under the model.

use burn::tensor::{Int, Tensor};

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
    /// Exact for logits of any size: `ln Σ exp(logits)` is taken relative to the largest.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn from_logits(logits: Tensor<3>, targets: Tensor<2, Int>) -> Self {
        let [batch, length, _] = logits.dims();
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
