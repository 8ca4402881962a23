//! The model as burn-train's learner sees it: a training step, an inference step.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use foretoken_datasets::TokenBatch;
use foretoken_model::{Dropout, TokenLoss, Transformer};

use crate::metrics::StepOutput;

/// A transformer together with its objective, the next token.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// The network.
    pub transformer: Transformer,
    /// Decides, with the number of a batch, what dropout leaves out.
    #[module(skip)]
    pub dropout_seed: u64,
}

impl LanguageModel {
    /// The sum of nats over the targets, each as much as it counts, `[1]`, with what is measured beside it.
    fn sum(loss: TokenLoss, batch: TokenBatch) -> (Tensor<1>, StepOutput) {
        let correct = loss.correct.float();
        let (nats, correct) = match batch.weights {
            Some(weights) => (loss.nats * weights.clone(), correct * weights),
            None => (loss.nats, correct),
        };
        let nats = nats.sum();
        let output = StepOutput::Pending {
            sums: Box::new(Tensor::cat(vec![nats.clone().detach(), correct.sum()], 0)),
            weight: batch.target_weight,
            tokens: batch.target_tokens,
            bytes: batch.target_bytes,
        };
        (nats, output)
    }
}

/// Rows × context of a batch: how many targets it has room for.
pub(crate) fn places(batch: &TokenBatch) -> f64 {
    batch.targets.shape().num_elements() as f64
}

impl TrainStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepOutput;

    /// Gradients of the sum over the batch's targets, divided by the number of places in the batch. Where
    /// all targets count alike, that is the mean; where not, the mean is [`places`] over the weight of
    /// all targets of the step times as much, which only the step knows.
    fn step(&self, batch: TokenBatch) -> TrainOutput<StepOutput> {
        let places = places(&batch);
        let dropout = Dropout::new(self.dropout_seed, batch.first_row as u64);
        let (inputs, targets) = (batch.inputs.clone(), batch.targets.clone());
        let loss = self
            .transformer
            .next_token_loss_with(&dropout, inputs, targets);
        let (nats, output) = Self::sum(loss, batch);
        let gradients = nats.div_scalar(places).backward();
        TrainOutput::new(self, gradients, output)
    }
}

impl InferenceStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepOutput;

    fn step(&self, batch: TokenBatch) -> StepOutput {
        let (inputs, targets) = (batch.inputs.clone(), batch.targets.clone());
        Self::sum(self.transformer.next_token_loss(inputs, targets), batch).1
    }
}
