//! Results of a comparison as plain data. `comparison.json` holds them, and reports are made from nothing else.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::statistics;
use super::{Invariance, Unit, Verdict};
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::experiment::BackendSection;
use crate::json;
use crate::record::environment::Environment;
use crate::record::identity::{Identity, Origin};
use crate::{Error, Experiment};

/// Backend in one precision: a backend under test, or the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entrant {
    /// The backend.
    pub name: Backend,
    /// The precision of weights, activations, gradients and optimizer state.
    pub dtype: Precision,
}

/// Formats as `flex:f32`.
impl fmt::Display for Entrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.name, self.dtype))
    }
}

/// Comparison of one quantity of one step with the reference in f64. The step starts from the reference's own weights
/// and optimizer state, on the same batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The step, counted from 0.
    #[serde(default)]
    pub step: usize,
    /// The kind of quantity.
    pub of: Checked,
    /// Path of the parameter of a gradient or update, or name of an output; `None` for other quantities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// ‖backend − reference‖ / ‖reference‖, in the Euclidean norm.
    #[serde(deserialize_with = "json::number")]
    pub error: f64,
    /// The largest error that rounding explains: the root mean square of the errors of the reference's own backend in
    /// the tested precision, with unchanged weights and with weights moved by one unit in the last place, times a
    /// factor. Infinite if one of these errors is NaN.
    #[serde(deserialize_with = "json::number")]
    pub bound: f64,
}

impl Check {
    /// Returns whether rounding explains the error. NaN is explained only if the reference's own backend has one too.
    pub fn holds(&self) -> bool {
        self.error <= self.bound || !self.bound.is_finite()
    }

    /// Returns whether a check that holds is conclusive. A bound of at least 1 explains even a result of 0 everywhere:
    /// the precision is too coarse for this quantity, and the check cannot tell.
    pub fn decides(&self) -> bool {
        self.bound < 1.0
    }
}

/// Kind of quantity in a [`Check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// The mean loss of the batch.
    Loss,
    /// The logits.
    Logits,
    /// A named output of a caller's module.
    Output,
    /// The gradient of a parameter.
    Gradient,
    /// The change of a parameter by the optimizer, given the reference's gradients.
    Update,
    /// Whether the optimizer changes any weight; checked only if the reference's own backend does. The error is 1 if no
    /// weight changes, else 0, and the bound is 0.
    Movement,
}

/// Test that a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// Comparison of the bits of every recorded number with another run.
    Bits,
    /// Checks of single steps from the reference's own state.
    Checks,
    /// Comparison of the loss curve with the envelope.
    Envelope,
    /// Comparison of the end of the run with the ends of other seeds.
    Outcome,
    /// Comparison of the backend's logits with its own, computed in another way.
    Invariance,
}

/// End of a run, compared with the ends of other seeds and of runs that differ only in rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The compared quantity.
    pub of: Outcomes,
    /// Its value in this run, in nats per token.
    #[serde(deserialize_with = "json::number")]
    pub value: f64,
    /// Prediction interval for one more seed.
    #[serde(flatten)]
    pub seeds: Interval,
    /// Prediction interval for one more run that differs only in rounding; `None` if fewer than three were run.
    #[serde(default)]
    pub rounding: Option<Interval>,
}

impl Outcome {
    /// Returns whether another seed or rounding explains the end of the run.
    pub fn holds(&self) -> bool {
        self.ends_as_seeds() || self.rounding.is_some_and(|ends| ends.contains(self.value))
    }

    /// Returns whether the run ends inside the interval of the seeds.
    pub fn ends_as_seeds(&self) -> bool {
        self.seeds.contains(self.value)
    }
}

/// Prediction interval, in nats per token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its middle.
    #[serde(deserialize_with = "json::number")]
    pub center: f64,
    /// Half its width.
    #[serde(deserialize_with = "json::number")]
    pub half_width: f64,
}

impl Interval {
    fn contains(self, value: f64) -> bool {
        (value - self.center).abs() <= self.half_width
    }
}

/// Kinds of [`Outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcomes {
    /// The loss on validation windows after the last step.
    FinalLoss,
    /// The mean of the training losses of the last tenth of the steps.
    LastInterval,
}

/// Bounds on the divergence of loss curves by rounding alone. Training is chaotic, so this is measured, not assumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The backend whose runs it is measured on, in the precision that it applies to.
    #[serde(flatten)]
    pub of: Entrant,
    /// Number of these runs: with unchanged initial weights, and with weights moved by one unit in the last place.
    pub runs: usize,
    /// Probability that the difference of one more such run lies inside at a step, before the factor.
    pub quantile: f64,
    /// Factor on that bound: how much more coarsely another backend may round.
    pub factor: f64,
    /// Number of steps from the start at which curves are comparable: until the envelope exceeds what another seed
    /// changes in the loss of a step, or what another batch changes if no other seed was run.
    #[serde(default)]
    pub comparable: Option<usize>,
    /// Loss of each step, in nats per token, run by run.
    #[serde(default, deserialize_with = "json::curves")]
    pub losses: Vec<Vec<f64>>,
    /// [`Entry::final_loss`] of each run.
    #[serde(default, deserialize_with = "json::numbers")]
    pub final_losses: Vec<f64>,
    /// Largest |loss − reference's loss| that rounding explains at each step, in nats per token. It never decreases.
    #[serde(deserialize_with = "json::numbers")]
    pub loss: Vec<f64>,
    /// Largest [`Entry::weights_distance`] that rounding explains after each step; empty unless in lockstep.
    #[serde(
        default,
        deserialize_with = "json::numbers",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub weights: Vec<f64>,
}

/// Runs with other seeds, which show the size of differences that matter in practice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seeds {
    /// The seeds; the first is the experiment's.
    pub seeds: Vec<u64>,
    /// [`Entry::final_loss`] of each.
    #[serde(deserialize_with = "json::numbers")]
    pub final_losses: Vec<f64>,
    /// Loss of each step, in nats per token, seed by seed.
    #[serde(deserialize_with = "json::curves")]
    pub losses: Vec<Vec<f64>>,
    /// Half the width of the prediction interval for the final loss of one more seed, in nats per token.
    #[serde(deserialize_with = "json::number")]
    pub spread: f64,
    /// The precision of these runs.
    #[serde(default)]
    pub dtype: Option<Precision>,
}

impl Seeds {
    /// Returns the mean of the final losses in nats per token, the middle of the prediction interval.
    pub fn mean(&self) -> f64 {
        statistics::mean(&self.final_losses)
    }
}

/// Run that all others are compared against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Its backend and precision.
    #[serde(flatten)]
    pub entrant: Entrant,
    /// Loss of each step, in nats per token.
    #[serde(deserialize_with = "json::numbers")]
    pub losses: Vec<f64>,
    /// Its [`Entry::final_loss`].
    pub final_loss: Option<f64>,
    /// Its [`Entry::invariance`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariance: Vec<Invariance>,
}

/// Results of one backend under test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The backend and its precision.
    #[serde(flatten)]
    pub entrant: Entrant,
    /// Whether its operations were fused: the key `backend.fused`.
    #[serde(default = "BackendSection::default_fused")]
    pub fused: bool,
    /// Relation of its numbers to the reference's.
    pub verdict: Verdict,
    /// Reason of the verdict, in a sentence.
    pub reason: String,
    /// Tests that the verdict rests on.
    #[serde(default)]
    pub judged_by: Vec<Judge>,
    /// Number of steps from the start at which the curve is comparable; `None` without an envelope.
    #[serde(default)]
    pub comparable_steps: Option<usize>,
    /// Comparisons of its end with other seeds; empty if none were run.
    #[serde(default)]
    pub outcomes: Vec<Outcome>,
    /// The first step out of bounds, counted from 0.
    pub first_step: Option<usize>,
    /// Largest |loss − reference's loss| over the steps, in nats per token.
    pub max_abs_loss_difference: Option<f64>,
    /// The envelope at the step of that difference, in nats per token; `None` without an envelope.
    pub envelope: Option<f64>,
    /// Loss on the experiment's validation windows after the last step, in nats per token.
    pub final_loss: Option<f64>,
    /// Training tokens per second: a step's tokens over the median time of a step.
    pub tokens_per_second: Option<f64>,
    /// Peak memory: of the device's pool if it has one, else resident memory above that of the process when this run
    /// began. `None` in lockstep, where runs share the memory.
    pub peak_memory_bytes: Option<u64>,
    /// Whether the final loss lies inside the interval of other seeds; `None` if none were run.
    pub inside_seed_spread: Option<bool>,
    /// Its run directory.
    #[serde(serialize_with = "json::optional_path")]
    pub run: Option<PathBuf>,
    /// Machine and software of the run.
    pub environment: Option<Environment>,
    /// Loss of each step, in nats per token.
    #[serde(deserialize_with = "json::numbers")]
    pub losses: Vec<f64>,
    /// Wall-clock time of each step.
    #[serde(deserialize_with = "json::numbers")]
    pub seconds: Vec<f64>,
    /// Global gradient norm of each step, before clipping.
    #[serde(deserialize_with = "json::numbers")]
    pub gradient_norms: Vec<f64>,
    /// ‖weights − reference's weights‖ / ‖reference's weights‖ after each step, over all parameters; empty unless in
    /// lockstep.
    #[serde(deserialize_with = "json::numbers")]
    pub weights_distance: Vec<f64>,
    /// Checks of single steps; empty for finished runs.
    pub checks: Vec<Check>,
    /// Comparisons of its logits with its own, computed in other ways; empty for finished runs, and if the run failed.
    #[serde(default)]
    pub invariance: Vec<Invariance>,
}

impl Entry {
    /// Returns the name for tables, `flex:f32` or `flex:f32 unfused`.
    pub fn label(&self) -> String {
        match self.fused {
            true => self.entrant.to_string(),
            false => format!("{} unfused", self.entrant),
        }
    }

    /// Returns the number of checks that hold and cannot tell: see [`Check::decides`].
    pub fn undecided_checks(&self) -> usize {
        undecided(&self.checks)
    }

    /// Creates the entry of a backend that took no step.
    pub(crate) fn without_a_run(entrant: Entrant, verdict: Verdict, reason: String) -> Self {
        Self {
            entrant,
            fused: true,
            verdict,
            reason,
            judged_by: Vec::new(),
            comparable_steps: None,
            outcomes: Vec::new(),
            first_step: None,
            max_abs_loss_difference: None,
            envelope: None,
            final_loss: None,
            tokens_per_second: None,
            peak_memory_bytes: None,
            inside_seed_spread: None,
            run: None,
            environment: None,
            losses: Vec::new(),
            seconds: Vec::new(),
            gradient_norms: Vec::new(),
            weights_distance: Vec::new(),
            checks: Vec::new(),
            invariance: Vec::new(),
        }
    }
}

/// Envelope file of a run directory, `envelope.json`. Each run of a comparison has one, so that runs made elsewhere can
/// be judged by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The experiment that was run; `None` in files of versions that did not record it.
    pub origin: Option<Origin>,
    /// Machine and software of the reference.
    pub environment: Option<Environment>,
    /// The run that all others are compared against.
    pub reference: Reference,
    /// One envelope for each precision.
    pub envelopes: Vec<Envelope>,
    /// Runs with other seeds.
    pub seeds: Option<Seeds>,
}

impl Recorded {
    /// File name in a run directory.
    pub const FILE: &str = "envelope.json";

    /// Takes the envelope file's content from a comparison.
    ///
    /// # Errors
    ///
    /// Returns an error if this version cannot read the comparison's experiment.
    pub fn of(comparison: &Comparison) -> Result<Self, Error> {
        let reference = &comparison.reference;
        let own_run = comparison
            .backends
            .iter()
            .find(|entry| entry.entrant.name == reference.entrant.name);
        Ok(Self {
            origin: Some(comparison.origin()?),
            environment: own_run.and_then(|entry| entry.environment.clone()),
            reference: Reference {
                invariance: Vec::new(),
                ..reference.clone()
            },
            envelopes: comparison.envelopes.clone(),
            seeds: comparison.seeds.clone(),
        })
    }
}

/// Results of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The run that all others are compared against.
    pub reference: Reference,
    /// SHA-256 of everything in the experiment that decides the numbers.
    pub experiment_hash: String,
    /// The backends under test, in the order in which they were named.
    pub backends: Vec<Entry>,
    /// Version of foretoken.
    pub foretoken: String,
    /// Time of creation: RFC 3339, UTC.
    pub created: String,
    /// The experiment's name.
    pub name: String,
    /// SHA-256 of the initial weights.
    pub initial_weights: String,
    /// Fingerprint of the data.
    pub data: String,
    /// The experiment file, resolved; empty for a caller's module.
    pub experiment: String,
    /// Optimizer steps compared.
    pub steps: usize,
    /// Unit in which a step is counted.
    #[serde(default)]
    pub unit: Unit,
    /// Number of these units in a step.
    pub tokens_per_step: usize,
    /// Whether all backends took each step together.
    pub lockstep: bool,
    /// One envelope for each precision; empty if none is known.
    pub envelopes: Vec<Envelope>,
    /// Runs with other seeds; `None` if none were run.
    pub seeds: Option<Seeds>,
}

impl Comparison {
    /// File name in a comparison's directory.
    pub const FILE: &str = "comparison.json";

    /// Maximum size of the file. It has every loss of every run.
    pub(crate) const LARGEST: u64 = 512 << 20;

    /// Returns the experiment that was run, with its hashes.
    ///
    /// # Errors
    ///
    /// Returns an error if this version cannot read the experiment.
    pub fn origin(&self) -> Result<Origin, Error> {
        Ok(Origin {
            identity: Identity {
                experiment: self.experiment_hash.clone(),
                initial_weights: self.initial_weights.clone(),
                data: self.data.clone(),
                replanned: Vec::new(),
            },
            experiment: Experiment::from_toml(&self.experiment, &self.name)?,
        })
    }

    /// Returns the envelope of a precision.
    pub fn envelope(&self, dtype: Precision) -> Option<&Envelope> {
        self.envelopes
            .iter()
            .find(|envelope| envelope.of.dtype == dtype)
    }

    /// Returns whether any backend differs or failed, or the reference computes other logits in another way.
    pub fn has_failures(&self) -> bool {
        let mut backends = self.backends.iter();
        backends.any(|entry| matches!(entry.verdict, Verdict::Differs | Verdict::Failed))
            || self.reference.invariance.iter().any(Invariance::differs)
    }
}

/// Returns the number of checks that hold and cannot tell.
pub(crate) fn undecided(checks: &[Check]) -> usize {
    let undecided = |check: &&Check| check.holds() && !check.decides();
    checks.iter().filter(undecided).count()
}
