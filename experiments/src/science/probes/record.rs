//! Results of probes of a run, as a JSON object.

use foretoken_datasets::world::Family;
use serde::Serialize;

use super::emergence::Emergence;
use super::means::{Ceiling, LevelMeans, Means, chance, exact_match_of_world};
use super::questions::FamilyItems;
use super::score::ItemScore;
use super::signal::Signal;

/// Probes of a run: the output of `--json`, and the content of `probes.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbeRecord {
    /// Path of the run.
    pub run: String,
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// Optimizer steps of the run.
    pub steps: usize,
    /// Items of each family.
    pub families: Vec<FamilyItems>,
    /// The checkpoints, in the order of their steps.
    pub checkpoints: Vec<CheckpointProbes>,
    /// How each family develops over the checkpoints.
    pub emergence: Vec<Emergence>,
    /// Signal and noise over the runs of a sweep; `None` unless one is given.
    pub signal: Option<Signal>,
    /// Duration of scoring and of the evaluations.
    pub seconds: f64,
}

/// Probes of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointProbes {
    /// Optimizer steps before it.
    pub step: usize,
    /// Loss on the validation windows of the run's evaluations, in nats per token.
    pub valid_loss: f64,
    /// Results by family. Families without items are left out.
    pub families: Vec<FamilyScores>,
}

/// Scores of the items of a family at a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FamilyScores {
    /// The family.
    pub family: Family,
    /// Mean of 1 over the number of answers: the accuracy and the p(right) of a model without a preference. Exact match has
    /// no such level, because greedy decoding may write anything.
    pub chance: f64,
    /// Means over all items.
    pub means: Means,
    /// Exact match of a perfect model; `None` if some items are outside of the world.
    pub exact_match_of_world: Option<f64>,
    /// Scores of a perfect model on the items that the world can write; `None` if it can write none.
    pub ceiling: Option<Ceiling>,
    /// Means over the items of each level.
    pub levels: Vec<LevelMeans>,
    /// Scores of the items, in their order.
    pub scores: Vec<ItemScore>,
}

impl FamilyScores {
    /// Returns the results of a family; `None` without items.
    pub(super) fn of(items: &FamilyItems, scores: Vec<ItemScore>) -> Option<Self> {
        Some(Self {
            family: items.family,
            chance: chance(items.items.iter()),
            ceiling: Ceiling::of(items.items.iter()),
            means: Means::of(scores.iter())?,
            exact_match_of_world: exact_match_of_world(items.items.iter()),
            levels: LevelMeans::of(&items.items, &scores),
            scores,
        })
    }
}

impl ProbeRecord {
    /// Name of the file with the record.
    pub const FILE: &str = "probes.json";

    /// Returns the number of items of all families.
    pub fn item_count(&self) -> usize {
        self.families.iter().map(|family| family.items.len()).sum()
    }

    /// Returns the results of a family at each checkpoint.
    pub fn of_family(
        &self,
        family: Family,
    ) -> impl Iterator<Item = (&CheckpointProbes, &FamilyScores)> {
        self.checkpoints.iter().filter_map(move |checkpoint| {
            let mut families = checkpoint.families.iter();
            Some((checkpoint, families.find(|scores| scores.family == family)?))
        })
    }
}
