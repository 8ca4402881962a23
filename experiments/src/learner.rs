//! The model as burn-train's learner sees it: a training step, an inference step.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use foretoken_datasets::TokenBatch;
use foretoken_model::Transformer;

use crate::metrics::StepOutput;

/// A transformer together with its objective, the next token.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// The network.
    pub transformer: Transformer,
}

impl LanguageModel {
    /// The sum of nats over the targets that count, `[1]`, with what is measured beside it.
    fn evaluate(&self, batch: TokenBatch) -> (Tensor<1>, StepOutput) {
        let loss = self
            .transformer
            .next_token_loss(batch.inputs, batch.targets);
        let correct = loss.correct.float();
        let (nats, correct) = match batch.weights {
            Some(weights) => (loss.nats * weights.clone(), correct * weights),
            None => (loss.nats, correct),
        };
        let nats = nats.sum();
        let output = StepOutput::Pending {
            sums: Box::new(Tensor::cat(vec![nats.clone().detach(), correct.sum()], 0)),
            tokens: batch.target_tokens,
            bytes: batch.target_bytes,
        };
        (nats, output)
    }
}

impl TrainStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepOutput;

    /// Gradients of the mean over the batch's targets.
    fn step(&self, batch: TokenBatch) -> TrainOutput<StepOutput> {
        let targets = batch.target_tokens as f64;
        let (nats, output) = self.evaluate(batch);
        let gradients = nats.div_scalar(targets).backward();
        TrainOutput::new(self, gradients, output)
    }
}

impl InferenceStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepOutput;

    fn step(&self, batch: TokenBatch) -> StepOutput {
        self.evaluate(batch).1
    }
}
