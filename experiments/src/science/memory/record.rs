//! Results of an attempt at extraction, as a JSON object.

use serde::Serialize;

use super::groups::{Group, Item};
use crate::science::ShareDifference;

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

/// Shares of the training text less those of the held-out text, with prefixes of one length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Excess {
    /// Tokens of the prefix.
    pub prefix: usize,
    /// Difference of the shares that greedy decoding gives; `None` if a text has no sequence that is as long.
    pub greedy: Option<ShareDifference>,
    /// Differences of the discoverable shares, by the number of samples.
    pub discoverable: Vec<Option<ShareDifference>>,
}

impl Excess {
    /// Compares both texts for each prefix.
    pub fn of(training: &SetRecord, held_out: &SetRecord) -> Vec<Self> {
        let pairs = training.by_prefix.iter().zip(&held_out.by_prefix);
        pairs
            .map(|(training, held_out)| {
                let groups = training.all.as_ref().zip(held_out.all.as_ref());
                let greedy = groups.and_then(|(a, b)| ShareDifference::of(a.greedy, b.greedy));
                let samples = groups.map_or(0, |(a, _)| a.discoverable.len());
                let discoverable = (0..samples).map(|index| {
                    let (a, b) = groups?;
                    let share = |group: &Group| group.discoverable[index].share;
                    ShareDifference::of(share(a), share(b))
                });
                Self {
                    prefix: training.prefix,
                    greedy,
                    discoverable: discoverable.collect(),
                }
            })
            .collect()
    }
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
    /// Excess of the training text over the held-out one, by the length of the prefix.
    pub excess: Vec<Excess>,
    /// Duration of counting and scoring.
    pub seconds: f64,
}

impl ExtractRecord {
    /// Name of the file with the record.
    pub const FILE: &str = "extraction.json";
}
