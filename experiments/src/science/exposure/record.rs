//! Results of a study of free running, as a JSON object.

use serde::Serialize;

use super::accumulate::Accumulated;
use super::repetition::Repetition;
use super::strategy::Strategy;
use super::support::Support;
use crate::science::Share;
use crate::science::evaluate::Estimate;

/// The distribution that the model is compared with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OracleRecord {
    /// The exact distribution of a world's text.
    Exact {
        /// Name of the kind of the world.
        world: String,
    },
    /// A model in its place.
    Model {
        /// Path of the model, and the checkpoint of a run.
        model: String,
    },
}

impl OracleRecord {
    /// Describes the oracle in words.
    pub fn words(&self) -> String {
        match self {
            Self::Exact { world } => format!("the exact distribution of the {world} world"),
            Self::Model { model } => format!("the model {model}"),
        }
    }

    /// Returns whether the oracle is exact, so that it excludes texts.
    pub fn is_exact(&self) -> bool {
        matches!(self, Self::Exact { .. })
    }
}

/// Method by which errors were measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Method {
    /// The distribution that the model is compared with.
    pub oracle: OracleRecord,
    /// Source of the prompts and of their continuations in the data.
    pub data: String,
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens of each prompt, those that precede every text included.
    pub prompt: usize,
    /// Largest number of steps after a prompt. Enough sequences of the data are as long for a mean over them.
    pub length: usize,
    /// Number of tokens that the model can read.
    pub context: usize,
    /// Whether a sequence ends with its document.
    pub by_document: bool,
    /// Weights of the uniform distribution with which the oracle is smoothed.
    pub smoothing: [f64; 2],
    /// Seed of the draws of tokens, and of the bootstrap.
    pub seed: u64,
    /// Draws of the bootstrap over sequences.
    pub draws: usize,
    /// Lengths l at which errors are accumulated.
    pub lengths: Vec<usize>,
}

/// Errors and repetition of the model on contexts of the data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataRecord {
    /// Number of sequences that take step l, at each of the lengths.
    pub alive: Vec<usize>,
    /// ε(l): mean over the first l steps of the mean KL(o‖p) of the sequences that take them, in nats, at each of the
    /// lengths.
    pub per_step: Vec<Option<Estimate>>,
    /// Mean KL of the first l steps from the oracle smoothed with each of the weights, in nats, at each of the lengths.
    pub smoothed_per_step: [Vec<Option<Estimate>>; 2],
    /// Mean KL(o‖p) of each step, in nats; null without a sequence that is as long.
    pub by_step: Vec<f64>,
    /// Repetition of the data.
    pub repetition: Repetition,
    /// Repetition of the tokens that the model ranks first on contexts of the data.
    pub predicted: Repetition,
}

/// Accumulated errors with a smoothed oracle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SmoothedRecord {
    /// Weight of the uniform distribution.
    pub weight: f64,
    /// Errors at each of the lengths.
    pub accumulated: Vec<Accumulated>,
}

/// Errors, support and repetition of the model on contexts that it has written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StrategyRecord {
    /// How tokens are chosen.
    #[serde(flatten)]
    pub strategy: Strategy,
    /// Errors on possible contexts, at each of the lengths.
    pub accumulated: Vec<Accumulated>,
    /// Mean KL(o‖p) of each step on possible contexts, in nats; null without any.
    pub by_step: Vec<f64>,
    /// Errors of the sequences that have not left the support within each of the lengths, over ε of all data; `None`
    /// unless the oracle is exact.
    pub never_left: Option<Vec<Accumulated>>,
    /// Errors with the smoothed oracle; `None` unless the oracle is exact.
    pub smoothed: Option<[SmoothedRecord; 2]>,
    /// Impossible texts; `None` unless the oracle is exact.
    pub support: Option<Support>,
    /// Repetition of what is written.
    pub repetition: Repetition,
}

/// A study with its conditions: the output of `--json`, and the content of `exposure.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExposureRecord {
    /// Path of the model, and the checkpoint of a run.
    pub model: String,
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// Method by which errors were measured.
    #[serde(flatten)]
    pub method: Method,
    /// Contexts of the data.
    pub on_data: DataRecord,
    /// Contexts of the model, by the strategies that wrote them.
    pub strategies: Vec<StrategyRecord>,
    /// Duration of all walks.
    pub seconds: f64,
}

impl ExposureRecord {
    /// Name of the file with the record.
    pub const FILE: &str = "exposure.json";

    /// Returns whether some sequences end before the largest length.
    pub fn has_ends(&self) -> bool {
        let walks = self.strategies.iter();
        let of_model = walks.filter_map(|record| Some(record.accumulated.last()?.alive));
        let mut alive = of_model.chain(self.on_data.alive.last().copied());
        alive.any(|alive| alive < self.method.sequences)
    }

    /// Returns ε(l) at the largest length.
    pub fn per_step(&self) -> Option<Estimate> {
        self.on_data.per_step.last().copied().flatten()
    }

    /// Says in a sentence whether drawing from the model's own distribution accumulates errors; `None` if that was not
    /// measured, or the errors cannot be told from rounding.
    pub fn verdict(&self) -> Option<String> {
        let ancestral = self.ancestral()?;
        let last = ancestral.last()?;
        Some(verdict(last.excess?, ancestral.left(), last.length))
    }

    /// Returns the strategy that draws from the model's own distribution, if it was measured.
    pub fn ancestral(&self) -> Option<&StrategyRecord> {
        let mut strategies = self.strategies.iter();
        strategies.find(|record| record.strategy.is_ancestral())
    }
}

impl StrategyRecord {
    /// Returns the errors on possible contexts at the largest length that has an estimate.
    pub fn last(&self) -> Option<&Accumulated> {
        let mut lengths = self.accumulated.iter().rev();
        lengths.find(|at| at.total.is_some())
    }

    /// Returns the excess on possible contexts at the largest length that has an estimate, in percent.
    pub fn excess(&self) -> Option<Estimate> {
        self.last()?.excess
    }

    /// Returns the excess at the same length by another treatment of impossible contexts.
    pub fn excess_by(&self, treatment: Option<&Vec<Accumulated>>) -> Option<Estimate> {
        let length = self.last()?.length;
        let found = treatment?.iter().find(|at| at.length == length)?;
        found.excess
    }

    /// Returns the share of the sequences that have left the support within this length.
    pub fn left(&self) -> Option<Share> {
        let length = self.last()?.length;
        let index = self.accumulated.iter().position(|at| at.length == length)?;
        self.support.as_ref()?.left.get(index).copied().flatten()
    }
}

/// Says whether errors accumulate, given the excess in percent and the share of sequences that have left the support.
fn verdict(excess: Estimate, left: Option<Share>, length: usize) -> String {
    let size = format!("{:.1} %", excess.value.abs());
    let subject = match left {
        Some(_) => "On possible contexts, free running",
        None => "Free running",
    };
    let change = match excess.interval {
        None => {
            return format!(
                "Too few sequences were drawn to tell whether errors accumulate over {length} steps; draw more."
            );
        }
        Some([low, high]) if low <= 0.0 && high >= 0.0 => format!(
            "{subject} is not shown to change the errors of {length} steps: the excess lies between {low:.1} and {high:.1} %"
        ),
        Some([low, high]) => format!(
            "{subject} makes the errors of {length} steps {size} {} ({low:.1} to {high:.1} %)",
            if excess.value > 0.0 {
                "larger"
            } else {
                "smaller"
            }
        ),
    };
    match left {
        Some(left) => format!(
            "{change}; {:.1} % of the sequences became impossible.",
            100.0 * left.value
        ),
        None => change + ".",
    }
}
