//! Training that a comparison repeats on every backend: as it is, with moved weights, and with other seeds.
//!
//! [`Training`] starts runs, and [`TrainingRun`] is one of them. An experiment is such a training, and so is a
//! [`Subject`](super::Subject).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::variant::{Snapshot, Variant};
use super::{Checked, Entrant, Invariance};
use crate::Error;
use crate::engine::parameters::Parameters;
use crate::record::identity::Identity;
use crate::record::run::MetricsLog;

/// Unit in which a training step is counted, which decides the units of loss and speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Tokens; the loss is in nats per token.
    #[default]
    Tokens,
    /// Items of a caller's batch; the loss is the caller's.
    Items,
}

impl Unit {
    /// Returns the name of what is counted, in the plural.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Items => "items",
        }
    }

    /// Returns the unit of speed.
    pub fn per_second(self) -> &'static str {
        match self {
            Self::Tokens => "tokens/s",
            Self::Items => "items/s",
        }
    }

    /// Returns the unit of the loss; empty if it is unknown.
    pub fn of_loss(self) -> &'static str {
        match self {
            Self::Tokens => "nats per token",
            Self::Items => "",
        }
    }
}

/// Facts about a training that do not depend on the backend.
#[derive(Debug, Clone)]
pub(super) struct Outline {
    pub(super) name: String,
    /// Largest number of steps that can be compared.
    pub(super) steps: usize,
    /// Unit in which a step is counted.
    pub(super) unit: Unit,
    /// Number of these units in a step.
    pub(super) items_per_step: usize,
    /// Number of terms of the sum that the loss of a micro-batch is.
    pub(super) terms: usize,
    /// Seed of runs that do not vary it.
    pub(super) seed: u64,
    /// Whether operations are fused.
    pub(super) fused: bool,
    /// The experiment file, resolved; empty for a caller's module.
    pub(super) experiment: String,
}

/// Training that can be started on every backend.
pub(super) trait Training {
    /// A run of it.
    type Run: TrainingRun;

    /// Returns the facts that do not depend on the backend.
    fn outline(&self) -> Outline;

    /// Returns the hashes of experiment, initial weights and data. Weights are those of the reference's backend.
    fn identity(&self, reference: Entrant) -> Result<Identity, Error>;

    /// Starts a run before its first step, or at the snapshot of another run.
    fn start(
        &self,
        entrant: Entrant,
        variant: &Variant,
        snapshot: Option<&Snapshot>,
    ) -> Result<Self::Run, Error>;

    /// Creates the run directory of a backend, and opens its metrics log; `None` if the training has none.
    fn open_log(&self, entrant: Entrant, directory: &Path) -> Result<Option<MetricsLog>, Error>;
}

/// Numbers of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakenStep {
    /// Number of earlier steps.
    pub(super) step: usize,
    /// Mean loss before the update.
    pub(super) loss: f64,
    /// Global norm of the gradient before clipping.
    pub(super) gradient_norm: f64,
    /// Wall-clock time.
    pub(super) seconds: f64,
}

/// Output of a forward pass that is checked, in f64 on the host.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) of: Checked,
    /// Name of the output; `None` for the logits of a language model.
    pub(super) name: Option<String>,
    pub(super) values: Vec<f64>,
}

/// Run of a training on one backend.
pub(super) trait TrainingRun {
    /// Returns the number of steps taken.
    fn steps(&self) -> usize;

    /// Takes the next step.
    fn step(&mut self) -> Result<TakenStep, Error>;

    /// Records the last step in the log.
    fn record(&self, log: &mut Option<MetricsLog>) -> Result<(), Error>;

    /// Returns loss and gradients of the next step without an update. A second call gives the same.
    fn gradients(&mut self) -> Result<(f64, Parameters), Error>;

    /// Updates the weights with these gradients, rounded to the precision of the run.
    fn update(&mut self, gradients: &Parameters) -> Result<(), Error>;

    /// Returns outputs of the next step's forward pass, each cut to at most about `elements` elements.
    fn outputs(&mut self, elements: usize) -> Result<Vec<Output>, Error>;

    /// Returns the weights.
    fn weights(&self) -> Result<Parameters, Error>;

    /// Returns a checkpoint in memory.
    fn snapshot(&self) -> Result<Snapshot, Error>;

    /// Evaluates the weights, and records the evaluation in the log; `None` if `stop` breaks the evaluation off.
    fn evaluate(
        &mut self,
        log: &mut Option<MetricsLog>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<f64>, Error>;

    /// Compares outputs with those of the same weights, computed in other ways.
    fn invariance(&self) -> Result<Vec<Invariance>, Error>;
}
