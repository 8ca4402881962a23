//! The model in training: a transformer with its objective.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{ExecutionError, Int, Tensor};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use foretoken_datasets::TokenBatch;
use foretoken_model::ops::among_threads;
use foretoken_model::{Dropout, Objective, Pass, Targets, Transformer, Watch};

use super::totals::{Sums, Totals};
use crate::experiment::Experiment;

/// A transformer together with its objective, the next token.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// The network.
    pub transformer: Transformer,
    /// Seed of dropout, together with the number of a batch.
    #[module(skip)]
    pub dropout_seed: u64,
    /// Whether passes use fused operations. Otherwise, and in a watched pass, they use Burn's own.
    #[module(skip)]
    pub fused: bool,
    /// Terms that training adds to the negative log-likelihood. Evaluation does not.
    #[module(skip)]
    pub objective: Objective,
}

impl LanguageModel {
    /// Returns a model with fused operations.
    pub fn new(transformer: Transformer, dropout_seed: u64) -> Self {
        Self {
            transformer,
            dropout_seed,
            fused: true,
            objective: Objective::default(),
        }
    }

    /// Returns the model with the operations and the objective that an experiment names.
    pub fn of(self, experiment: &Experiment) -> Self {
        Self {
            fused: experiment.backend.fused,
            objective: experiment.train.objective(),
            ..self
        }
    }

    /// Returns the model with fused operations, or with Burn's own operations.
    pub fn with_fused(self, fused: bool) -> Self {
        Self { fused, ..self }
    }

    /// Returns the pass with the operations of this model and an observer.
    fn pass<'a>(&self, pass: Pass<'a>, watch: Option<&'a dyn Watch>) -> Pass<'a> {
        let pass = match self.fused {
            true => pass,
            false => pass.plain(),
        };
        match watch {
            Some(watch) => pass.watched(watch),
            None => pass,
        }
    }

    /// Computes the logits of a training step for the first `sequences` of a batch: `[sequences, length, vocab_size]`.
    pub(crate) fn logits(
        &self,
        batch: TokenBatch,
        sequences: usize,
        watch: Option<&dyn Watch>,
    ) -> Tensor<3> {
        let dropout = Dropout::new(self.dropout_seed, batch.first_row as u64);
        let inputs = batch.inputs.narrow(0, 0, sequences);
        let pass = self.pass(Pass::training(&dropout), watch);
        self.transformer.logits_in(pass, inputs)
    }

    /// Computes the logits of the last `positions` of each row in a pass without dropout:
    /// `[batch, length] -> [batch, positions, vocab_size]`.
    pub(crate) fn last_logits(&self, tokens: Tensor<2, Int>, positions: usize) -> Tensor<3> {
        let pass = self.pass(Pass::default(), None);
        self.transformer.last_logits_in(pass, tokens, positions)
    }

    /// Computes the gradients of the sum over a batch's targets, and the reported sums. Operations are not fused if
    /// `watch` observes them.
    pub(crate) fn backward(
        &self,
        batch: TokenBatch,
        watch: Option<&dyn Watch>,
    ) -> (GradientsParams, Sums) {
        self.gradients(batch, watch, |sum| sum)
    }

    /// Computes the gradients of an objective, which is a function of the sum over a batch's targets, `[1]`.
    fn gradients(
        &self,
        batch: TokenBatch,
        watch: Option<&dyn Watch>,
        objective: impl FnOnce(Tensor<1>) -> Tensor<1> + Send,
    ) -> (GradientsParams, Sums) {
        among_threads(&self.transformer.device(), || {
            let dropout = Dropout::new(self.dropout_seed, batch.first_row as u64);
            let pass = Pass::training(&dropout).toward(self.objective);
            let (sum, sums) = self.sums(self.pass(pass, watch), batch);
            let gradients = objective(sum).backward();
            (GradientsParams::from_grads(gradients, self), sums)
        })
    }

    /// Computes the sums over a batch without gradients and dropout.
    pub(crate) fn score(&self, batch: TokenBatch, watch: Option<&dyn Watch>) -> Sums {
        among_threads(&self.transformer.device(), || {
            self.sums(self.pass(Pass::default(), watch), batch).1
        })
    }

    /// Computes the sum of the weighted objective over the targets, `[1]`, and the reported sums of nats and correct
    /// predictions, which exclude the terms that the objective adds.
    fn sums(&self, pass: Pass<'_>, batch: TokenBatch) -> (Tensor<1>, Sums) {
        let targets = Targets {
            ids: batch.targets,
            weights: batch.weights.clone(),
        };
        let exact = pass.objective() == Objective::default();
        let loss = self
            .transformer
            .next_token_loss_in(pass, batch.inputs, targets);
        let dtype = loss.nats.dtype();
        let weighted = |values: Tensor<2>| match &batch.weights {
            Some(weights) => values * weights.clone().cast(dtype),
            None => values,
        };
        let correct = weighted(loss.correct.float().cast(dtype));
        let sum = loss.loss.sum();
        let nats = match exact {
            true => sum.clone(),
            false => weighted(loss.nats).sum(),
        };
        let sums = Sums {
            nats_and_correct: Tensor::cat(vec![nats.detach(), correct.sum()], 0),
            weight: batch.target_weight,
            tokens: batch.target_tokens,
            bytes: batch.target_bytes,
        };
        (sum, sums)
    }
}

/// Training step for `burn_train::Learner`, with gradients of the mean over the batch. The [step](super::step) of a
/// session also accumulates and clips gradients.
impl TrainStep for LanguageModel {
    type Input = TokenBatch;
    type Output = Figures;

    fn step(&self, batch: TokenBatch) -> TrainOutput<Figures> {
        let weight = batch.target_weight;
        let (grads, sums) = self.gradients(batch, None, |sum| sum.div_scalar(weight));
        TrainOutput {
            grads,
            item: Figures::read(sums),
        }
    }
}

impl InferenceStep for LanguageModel {
    type Input = TokenBatch;
    type Output = Figures;

    fn step(&self, batch: TokenBatch) -> Figures {
        Figures::read(self.score(batch, None))
    }
}

/// Numbers of a step, or of a batch of an evaluation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Sums over the targets.
    pub totals: Totals,
    /// Duration in seconds, including reading of data and a device sync.
    pub seconds: f64,
    /// Learning rate of the update; 0 without one.
    pub learning_rate: f64,
    /// Global norm of the gradient before clipping; 0 without one.
    pub gradient_norm: f64,
}

impl Figures {
    /// Adds a later step. Learning rate and gradient norm are replaced, because they have no meaningful sum.
    pub fn add(&mut self, later: &Self) {
        self.totals += later.totals;
        self.seconds += later.seconds;
        self.learning_rate = later.learning_rate;
        self.gradient_norm = later.gradient_norm;
    }

    /// Waits for the device. Panics if the device fails, because Burn's steps cannot return an error.
    fn read(sums: Sums) -> Self {
        let totals = sums.read();
        Self {
            totals: totals.unwrap_or_else(|error| panic!("the device failed: {error}")),
            ..Self::default()
        }
    }
}

impl ItemLazy for Figures {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

#[cfg(all(test, feature = "flex"))]
pub(crate) mod tests {
    use burn::tensor::{Device, TensorData};
    use foretoken_model::{ModelConfig, Place};

    use super::*;
    use crate::backend::Backend;

    /// Observer that changes no operation.
    struct PassiveWatch;

    impl Watch for PassiveWatch {
        fn operation(
            &self,
            _: &Place,
            inputs: Vec<Tensor<2>>,
            compute: Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + '_>,
        ) -> Tensor<2> {
            compute(inputs)
        }
    }

    /// Returns one window of 16 tokens. Only the last target has weight, because a sum over more would hide the last
    /// bits.
    pub(crate) fn window(number: usize, device: &Device) -> TokenBatch {
        let ids = |start: usize| {
            let ids = (start..start + 16).map(|at| (at * at * (number + 3) % 17) as i64);
            Tensor::<2, Int>::from_data(TensorData::new(ids.collect(), [1, 16]), device)
        };
        let mut weights = vec![0.0f32; 16];
        weights[15] = 1.0;
        TokenBatch {
            inputs: ids(0),
            targets: ids(1),
            weights: Some(Tensor::from_data(TensorData::new(weights, [1, 16]), device)),
            target_tokens: 1,
            target_bytes: 1,
            target_weight: 1.0,
            first_row: number,
        }
    }

    #[test]
    fn operations_are_fused_unless_refused_or_watched() {
        let device = Backend::Flex.device().unwrap().autodiff();
        let transformer = ModelConfig::new(17, 16, 2, 2, 32).init(3, &device).unwrap();
        let fused = LanguageModel::new(transformer, 0);
        let plain = fused.clone().with_fused(false);
        let windows = || (0..40).map(|number| window(number, &device));
        let loss = |sums: Sums| sums.read().unwrap().loss().to_bits();
        type Computed<'a> = &'a dyn Fn(&LanguageModel, Option<&dyn Watch>) -> Vec<u64>;
        let trained = |model: &LanguageModel, watch: Option<&dyn Watch>| -> Vec<u64> {
            let sums = windows().map(|batch| model.backward(batch, watch).1);
            sums.map(loss).collect()
        };
        let inferred = |model: &LanguageModel, watch: Option<&dyn Watch>| -> Vec<u64> {
            let sums = windows().map(|batch| model.score(batch, watch));
            sums.map(loss).collect()
        };
        let logits = |model: &LanguageModel, watch: Option<&dyn Watch>| -> Vec<u64> {
            let logits = windows().map(|batch| model.logits(batch, 1, watch));
            let values = logits.flat_map(|logits| logits.try_into_vec_as::<f64>().unwrap());
            values.map(f64::to_bits).collect()
        };
        for computed in [&trained as Computed<'_>, &inferred, &logits] {
            assert_eq!(
                computed(&plain, None),
                computed(&fused, Some(&PassiveWatch))
            );
            assert_ne!(computed(&plain, None), computed(&fused, None));
        }
        // Burn's learner would call this step.
        let by_burn = TrainStep::step(&fused, window(0, &device)).item.totals;
        assert_eq!(by_burn.loss().to_bits(), trained(&fused, None)[0]);
    }
}
