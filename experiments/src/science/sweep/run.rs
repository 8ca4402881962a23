//! One run of a sweep, and its cost.

use foretoken_model::{ModelConfig, Part};
use serde::{Deserialize, Serialize};

use crate::Experiment;

/// One run of a sweep.
#[derive(Debug, Clone)]
pub struct Run {
    /// Name of its directory: axes with their values, such as `width32-seed1`.
    pub name: String,
    /// Values of the axes, and then those of the formulas.
    pub keys: Vec<(String, toml::Value)>,
    /// Its experiment, which has the name of the run.
    pub experiment: Experiment,
    /// `None` if it is refused.
    pub cost: Option<Cost>,
    /// Reason for which it cannot be trained.
    pub refusal: Option<String>,
    /// The run whose first steps it shares.
    pub shared: Option<Shared>,
}

/// Cost of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Optimizer steps.
    pub steps: usize,
    /// Training tokens of all steps: the targets that count. Where documents have different lengths, it is the mean of
    /// what a run reads.
    pub tokens: usize,
    /// Positions that all steps compute: tokens, and the padding of windows of documents; 0 in the index of an older
    /// version.
    #[serde(default)]
    pub positions: usize,
    /// Parameters of the model; a tied head counts once.
    pub parameters: usize,
    /// Parameters without the embeddings of tokens and positions and without the head.
    pub non_embedding_parameters: usize,
    /// Floating-point operations of training: those of a token (PaLM, appendix B) for every token. As in the FLOPs
    /// utilisation of a run, padding does not count.
    pub flops: f64,
    /// Peak of memory of a training step, in bytes: weights, gradients, moments and activations.
    pub memory_bytes: u64,
}

impl Cost {
    /// Returns the cost of training an experiment with its model. `counted` is the share of positions whose targets
    /// count.
    pub(super) fn of(experiment: &Experiment, model: &ModelConfig, counted: f64) -> Self {
        let train = &experiment.train;
        // The product is bounded by a check of the experiment and by the size of a context.
        let positions = positions_per_step(experiment, model).saturating_mul(train.steps);
        let tokens = match counted {
            1.0 => positions,
            // A cast of a float saturates.
            share => (share * positions as f64).round() as usize,
        };
        let memory = model.training_memory(train.batch, model.context);
        let precision = experiment.backend.dtype;
        let in_precision = |bytes: u64, per_number: u64| (bytes / 4).saturating_mul(per_number);
        let bytes = precision.bytes();
        Self {
            steps: train.steps,
            tokens,
            positions,
            parameters: model.parameters(),
            non_embedding_parameters: non_embedding_parameters(model),
            flops: model.flops_per_token() * tokens as f64,
            memory_bytes: in_precision(memory.weights, bytes)
                .saturating_add(in_precision(memory.gradients, bytes))
                .saturating_add(in_precision(memory.activations, bytes))
                .saturating_add(in_precision(
                    memory.moments,
                    precision.of_statistics().bytes(),
                )),
        }
    }
}

/// Returns the positions that a step computes.
pub(super) fn positions_per_step(experiment: &Experiment, model: &ModelConfig) -> usize {
    let train = &experiment.train;
    train
        .batch
        .saturating_mul(train.accumulation)
        .saturating_mul(model.context)
}

/// Returns the parameters without the embeddings of tokens and positions and without the head.
pub(super) fn non_embedding_parameters(model: &ModelConfig) -> usize {
    let outside = [Part::Embeddings, Part::Head].map(|part| model.parameters_of(part));
    model.parameters() - outside.iter().sum::<usize>()
}

/// The first steps of a run, which another run takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Name of the run that takes them.
    pub trunk: String,
    /// Their number.
    pub step: usize,
}
