//! What a comparison found, as plain data: `comparison.json` is this, and reports are made of nothing else.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Verdict;
use super::statistics;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::experiment::BackendSection;
use crate::json;
use crate::record::environment::Environment;
use crate::record::identity::{Identity, Origin};
use crate::{Error, Experiment};

/// A backend computing in one precision: what is compared with a reference, which is another of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entrant {
    /// The backend.
    pub name: Backend,
    /// The precision of weights, activations, gradients and optimizer state.
    pub dtype: Precision,
}

/// `flex:f32`
impl fmt::Display for Entrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.name, self.dtype))
    }
}

/// One quantity of one step, taken from the reference's own weights and optimizer state on the same batch, against
/// the reference in f64.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The step, counted from 0.
    #[serde(default)]
    pub step: usize,
    /// What kind of quantity it is.
    pub of: Checked,
    /// Of a gradient or an update: the path of the parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// ‖entrant − reference‖ / ‖reference‖, in the Euclidean norm.
    #[serde(deserialize_with = "json::number")]
    pub error: f64,
    /// The largest error that rounding explains: the root mean square of those of the reference's own backend in the
    /// entrant's precision, as it is and with weights moved by one unit in the last place, times a factor. Not finite
    /// where one of its results was no number.
    #[serde(deserialize_with = "json::number")]
    pub bound: f64,
}

impl Check {
    /// Whether rounding explains the error. It does not explain an error that is no number, unless the reference's
    /// own backend has one too.
    pub fn holds(&self) -> bool {
        self.error <= self.bound || !self.bound.is_finite()
    }

    /// Whether a check that holds tells anything. A bound of 1 and more explains even a result of 0 everywhere: the
    /// precision is too coarse for this quantity, and the check cannot tell.
    pub fn decides(&self) -> bool {
        self.bound < 1.0
    }
}

/// What a [`Check`] is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// The mean loss of the batch.
    Loss,
    /// The logits.
    Logits,
    /// The gradient of a parameter.
    Gradient,
    /// What the optimizer changes in a parameter, given the reference's gradients.
    Update,
    /// Whether the optimizer changes any weight at all, where the reference's own backend does: the error is 1 if
    /// none changes, else 0, and the bound is 0.
    Movement,
}

/// What a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// Every recorded number has the bits of another run.
    Bits,
    /// Checks of single steps from the reference's own state.
    Checks,
    /// The curve and what rounding explains of it.
    Envelope,
    /// Where the run ends and where other seeds end.
    Outcome,
}

/// End of a run, compared with the ends of other seeds and of runs that rounding set apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What is compared.
    pub of: Outcomes,
    /// The run's, in nats per token.
    #[serde(deserialize_with = "json::number")]
    pub value: f64,
    /// Prediction interval for one more seed.
    #[serde(flatten)]
    pub seeds: Interval,
    /// Prediction interval for one more run that rounding set apart; `None` where fewer than three were run.
    #[serde(default)]
    pub rounding: Option<Interval>,
}

impl Outcome {
    /// Whether another seed or rounding explains the end of the run.
    pub fn holds(&self) -> bool {
        self.ends_as_seeds() || self.rounding.is_some_and(|ends| ends.contains(self.value))
    }

    /// Whether the run ends inside the interval of the seeds.
    pub fn ends_as_seeds(&self) -> bool {
        self.seeds.contains(self.value)
    }
}

/// A prediction interval, in nats per token.
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

/// How far curves part by rounding alone: training is chaotic, so this is measured, not assumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The backend whose runs it is made of, in the precision that it holds for.
    #[serde(flatten)]
    pub of: Entrant,
    /// How many runs it is made of: as they are, and with initial weights moved by one unit in the last place.
    pub runs: usize,
    /// Probability that the difference of one more such run lies inside at a step, before the factor.
    pub quantile: f64,
    /// What that bound is multiplied with: how much more coarsely another backend may round.
    pub factor: f64,
    /// How many steps from the start it tells anything about: until it exceeds what another seed changes in the loss
    /// of a step, or without other seeds what another batch changes.
    #[serde(default)]
    pub comparable: Option<usize>,
    /// Nats per token of each step, run by run.
    #[serde(default, deserialize_with = "json::curves")]
    pub losses: Vec<Vec<f64>>,
    /// Final loss of each run, in nats per token, as [`Entry::final_loss`].
    #[serde(default, deserialize_with = "json::numbers")]
    pub final_losses: Vec<f64>,
    /// Largest |loss − reference's loss| that rounding explains, in nats per token, for each step. Never
    /// falls from a step to the next.
    #[serde(deserialize_with = "json::numbers")]
    pub loss: Vec<f64>,
    /// The same for the distance of weights after each step ([`Entry::weights_distance`]); empty unless in
    /// lockstep.
    #[serde(
        default,
        deserialize_with = "json::numbers",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub weights: Vec<f64>,
}

/// What another seed changes: the scale of what matters in practice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seeds {
    /// The seeds; the first is the experiment's.
    pub seeds: Vec<u64>,
    /// Final loss of each, in nats per token, as [`Entry::final_loss`].
    #[serde(deserialize_with = "json::numbers")]
    pub final_losses: Vec<f64>,
    /// Nats per token of each step, seed by seed.
    #[serde(deserialize_with = "json::curves")]
    pub losses: Vec<Vec<f64>>,
    /// Half the width of the prediction interval for the final loss of one more seed, in nats per token.
    #[serde(deserialize_with = "json::number")]
    pub spread: f64,
    /// The precision that they ran in.
    #[serde(default)]
    pub dtype: Option<Precision>,
}

impl Seeds {
    /// Mean of the final losses, in nats per token: the middle of the prediction interval.
    pub fn mean(&self) -> f64 {
        statistics::mean(&self.final_losses)
    }
}

/// The run that all others are measured against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// What it ran on.
    #[serde(flatten)]
    pub entrant: Entrant,
    /// Nats per token of each step.
    #[serde(deserialize_with = "json::numbers")]
    pub losses: Vec<f64>,
    /// As [`Entry::final_loss`].
    pub final_loss: Option<f64>,
}

/// One entrant of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What ran.
    #[serde(flatten)]
    pub entrant: Entrant,
    /// Whether its operations were fused, as `backend.fused` says.
    #[serde(default = "BackendSection::default_fused")]
    pub fused: bool,
    /// How its numbers relate to the reference's.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub reason: String,
    /// What the verdict rests on.
    #[serde(default)]
    pub judged_by: Vec<Judge>,
    /// How many steps from the start the curve could be compared with the envelope; nothing without one.
    #[serde(default)]
    pub comparable_steps: Option<usize>,
    /// Where it ends, against other seeds; empty where none were run.
    #[serde(default)]
    pub outcomes: Vec<Outcome>,
    /// The first step at which a bound was left, counted from 0.
    pub first_step: Option<usize>,
    /// Largest |loss − reference's loss| over the steps, in nats per token.
    pub max_abs_loss_difference: Option<f64>,
    /// The envelope at that largest difference's step, in nats per token; nothing where none is known.
    pub envelope: Option<f64>,
    /// Nats per token on the experiment's validation windows after the last step.
    pub final_loss: Option<f64>,
    /// Training tokens per second: a step's tokens over the median time of a step.
    pub tokens_per_second: Option<f64>,
    /// Peak memory: what the device's pool held at most, where it has one; else resident memory, above what the
    /// process held when the entrant's turn began. Nothing in lockstep, where it cannot be told from others'.
    pub peak_memory_bytes: Option<u64>,
    /// Whether the final loss lies within what other seeds give; nothing where no seeds were run.
    pub inside_seed_spread: Option<bool>,
    /// Its run directory.
    #[serde(serialize_with = "json::optional_path")]
    pub run: Option<PathBuf>,
    /// Where it ran.
    pub environment: Option<Environment>,
    /// Nats per token of each step.
    #[serde(deserialize_with = "json::numbers")]
    pub losses: Vec<f64>,
    /// Wall-clock time of each step.
    #[serde(deserialize_with = "json::numbers")]
    pub seconds: Vec<f64>,
    /// Global gradient norm of each step, before clipping.
    #[serde(deserialize_with = "json::numbers")]
    pub gradient_norms: Vec<f64>,
    /// ‖weights − reference's weights‖ after each step, over all parameters, relative to the norm of the
    /// reference's weights; empty unless in lockstep.
    #[serde(deserialize_with = "json::numbers")]
    pub weights_distance: Vec<f64>,
    /// Single steps in detail; empty for runs that were finished before.
    pub checks: Vec<Check>,
}

impl Entry {
    /// What to call it: `flex:f32`, or `flex:f32 unfused`.
    pub fn label(&self) -> String {
        match self.fused {
            true => self.entrant.to_string(),
            false => format!("{} unfused", self.entrant),
        }
    }

    /// How many checks hold and cannot tell anything: see [`Check::decides`].
    pub fn undecided_checks(&self) -> usize {
        undecided(&self.checks)
    }

    /// An entrant that took no step.
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
        }
    }
}

/// What a run of a comparison carries with it, so that runs made elsewhere can be judged by it: a run
/// directory's `envelope.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// What was run; `None` in files of versions that did not record it.
    pub origin: Option<Origin>,
    /// Where the reference ran.
    pub environment: Option<Environment>,
    /// The run that all others are measured against.
    pub reference: Reference,
    /// For each precision.
    pub envelopes: Vec<Envelope>,
    /// What another seed changes.
    pub seeds: Option<Seeds>,
}

impl Recorded {
    /// The file of a run directory that holds it.
    pub const FILE: &str = "envelope.json";

    /// What a comparison measured.
    ///
    /// # Errors
    ///
    /// When its experiment is not one that this version reads.
    pub fn of(comparison: &Comparison) -> Result<Self, Error> {
        let reference = &comparison.reference;
        let beside = comparison
            .backends
            .iter()
            .find(|entry| entry.entrant.name == reference.entrant.name);
        Ok(Self {
            origin: Some(comparison.origin()?),
            environment: beside.and_then(|entry| entry.environment.clone()),
            reference: reference.clone(),
            envelopes: comparison.envelopes.clone(),
            seeds: comparison.seeds.clone(),
        })
    }
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The run that all others are measured against.
    pub reference: Reference,
    /// SHA-256 of everything in the experiment that decides the numbers.
    pub experiment_hash: String,
    /// The entrants, in the order in which they were named.
    pub backends: Vec<Entry>,
    /// Version of foretoken.
    pub foretoken: String,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// The experiment's name.
    pub name: String,
    /// SHA-256 of the initial weights.
    pub initial_weights: String,
    /// Fingerprint of the data.
    pub data: String,
    /// The experiment file, resolved.
    pub experiment: String,
    /// Optimizer steps compared.
    pub steps: usize,
    /// Training tokens in a step.
    pub tokens_per_step: usize,
    /// Whether all entrants took each step together.
    pub lockstep: bool,
    /// For each precision; empty where none is known.
    pub envelopes: Vec<Envelope>,
    /// Nothing where no seeds were run.
    pub seeds: Option<Seeds>,
}

impl Comparison {
    /// The file of a comparison's directory that holds all of this.
    pub const FILE: &str = "comparison.json";

    /// What was run.
    ///
    /// # Errors
    ///
    /// When its experiment is not one that this version reads.
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

    /// The envelope of a precision.
    pub fn envelope(&self, dtype: Precision) -> Option<&Envelope> {
        self.envelopes
            .iter()
            .find(|envelope| envelope.of.dtype == dtype)
    }

    /// Whether any entrant differs or failed.
    pub fn has_failures(&self) -> bool {
        self.backends
            .iter()
            .any(|entry| matches!(entry.verdict, Verdict::Differs | Verdict::Failed))
    }
}

/// How many checks hold and cannot tell anything.
pub(crate) fn undecided(checks: &[Check]) -> usize {
    let undecided = |check: &&Check| check.holds() && !check.decides();
    checks.iter().filter(undecided).count()
}
