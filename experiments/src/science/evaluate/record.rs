//! What an evaluation leaves: a JSON object, and a report of it.

use foretoken_datasets::world::WindowFloor;
use serde::Serialize;

use super::context::ContextPolicy;
use super::measures::{Evaluation, Measures};
use super::paired::{PairedDifference, Rounding};
use super::score::Settings;

/// An evaluation with its conditions: the output of `--json`, and the content of `evaluation.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationRecord {
    /// Path of the model, and the checkpoint of a run.
    pub model: String,
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// Number of tokens that the model reads at once.
    pub context: usize,
    /// Tokens between two windows; `None` if documents are read by themselves.
    pub stride: Option<usize>,
    /// Entropy of the text in bits per byte, if its source is known.
    pub floor_bits_per_byte: Option<f64>,
    /// The floor for a model that sees only its windows; `None` unless the text is a world's and windows are disjoint.
    pub window_floor: Option<WindowFloor>,
    /// Whether tokens stand for exactly the bytes of any text.
    pub tokenizer_is_exact: bool,
    /// Duration of reading, encoding and scoring.
    pub seconds: f64,
    /// Scored tokens over the duration.
    pub tokens_per_second: f64,
    /// The result.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Evaluation of the model that it is compared with, on the same text.
    pub against: Option<Second>,
}

/// Evaluation of a second model, and its difference from the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Second {
    /// Path of the model, and the checkpoint of a run.
    pub model: String,
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// Number of tokens that the model reads at once.
    pub context: usize,
    /// Tokens between two windows; `None` if documents are read by themselves.
    pub stride: Option<usize>,
    /// Measures of all targets.
    #[serde(flatten)]
    pub total: Measures,
    /// Its measures minus those of the first model.
    pub difference: PairedDifference,
    /// Whether the difference is rounding; `None` unless both have the same weights.
    pub rounding: Option<Rounding>,
}

impl EvaluationRecord {
    /// Name of the file with the record.
    pub const FILE: &str = "evaluation.json";

    /// Returns what preceded each token.
    pub fn settings(&self) -> Settings {
        Settings {
            context: self.context,
            policy: match self.stride {
                Some(stride) => ContextPolicy::Stride(stride),
                None => ContextPolicy::Documents,
            },
            batch: 1,
        }
    }
}
