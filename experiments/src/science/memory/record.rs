//! Results of an attempt at extraction, as a JSON object.

use serde::Serialize;

use super::groups::{Group, Item};

/// Sequences with prefixes of one length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrefixRecord {
    /// Tokens of the prefix, without those that precede every text.
    pub prefix: usize,
    /// All sequences; `None` if none is as long.
    pub all: Option<Group>,
    /// Groups by the number of occurrences in the training text, in ascending order.
    pub by_occurrences: Vec<Group>,
    /// Every sequence.
    pub items: Vec<Item>,
}

/// Sequences of the training text, or of the held-out text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetRecord {
    /// Number of sequences.
    pub sequences: usize,
    /// Results by the length of the prefix.
    pub by_prefix: Vec<PrefixRecord>,
}

/// An attempt at extraction with its conditions: the output of `--json`, and the content of `extraction.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExtractRecord {
    /// Path of the model, and the checkpoint of a run.
    pub model: String,
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// Tokens of the suffix.
    pub suffix: usize,
    /// Tokens of the prefixes, ascending.
    pub prefixes: Vec<usize>,
    /// Whether prefixes begin with a document.
    pub by_document: bool,
    /// How often training has read its text up to the checkpoint, on average.
    pub epochs: f64,
    /// Numbers n of samples of (n, p)-discoverable sequences.
    pub samples: Vec<u64>,
    /// Probability p.
    pub probability: f64,
    /// Seed of the choice of sequences, and of the bootstrap.
    pub seed: u64,
    /// Sequences of the training text.
    pub training: SetRecord,
    /// Sequences of the validation text.
    pub held_out: SetRecord,
    /// Duration of counting and scoring.
    pub seconds: f64,
}

impl ExtractRecord {
    /// Name of the file with the record.
    pub const FILE: &str = "extraction.json";
}
