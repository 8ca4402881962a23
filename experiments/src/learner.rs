//! The model as burn-train's learner sees it: a training step, an inference step.

use std::fmt;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use foretoken_datasets::TokenBatch;
use foretoken_model::{Dropout, Pass, TokenLoss, Transformer, Watch};

use crate::metrics::StepOutput;

/// A transformer together with its objective, the next token.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// The network.
    pub transformer: Transformer,
    /// Decides, with the number of a batch, what dropout leaves out.
    #[module(skip)]
    pub dropout_seed: u64,
    /// Who sees every operation of its passes.
    #[module(skip)]
    pub watched_by: WatchedBy,
}

/// Somebody who watches, or nobody.
#[derive(Clone, Default)]
pub struct WatchedBy(pub Option<Arc<dyn Watch>>);

impl WatchedBy {
    fn over<'a>(&'a self, pass: Pass<'a>) -> Pass<'a> {
        match &self.0 {
            Some(watch) => pass.watched(&**watch),
            None => pass,
        }
    }
}

impl fmt::Debug for WatchedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "WatchedBy",
            None => "nobody",
        })
    }
}

impl LanguageModel {
    /// A model that nobody watches.
    pub fn new(transformer: Transformer, dropout_seed: u64) -> Self {
        Self {
            transformer,
            dropout_seed,
            watched_by: WatchedBy::default(),
        }
    }

    /// The sum of nats over the targets, each as much as it counts, `[1]`, with what is measured beside it.
    fn sum(loss: TokenLoss, batch: TokenBatch) -> (Tensor<1>, StepOutput) {
        let dtype = loss.nats.dtype();
        let correct = loss.correct.float().cast(dtype);
        let (nats, correct) = match batch.weights {
            Some(weights) => {
                let weights = weights.cast(dtype);
                (loss.nats * weights.clone(), correct * weights)
            }
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
        let pass = self.watched_by.over(Pass::training(&dropout));
        let loss = self.transformer.next_token_loss_in(pass, inputs, targets);
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
        let pass = self.watched_by.over(Pass::default());
        let loss = self.transformer.next_token_loss_in(pass, inputs, targets);
        Self::sum(loss, batch).1
    }
}
