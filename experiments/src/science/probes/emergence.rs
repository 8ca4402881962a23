//! Emergence or artefact: whether a measure changes suddenly along training, and whether bits per byte predict accuracy.
//!
//! Items are measured smoothly and by all-or-nothing at the same checkpoints. If exact match jumps where the Brier score moves
//! steadily, the jump is one of the measure (Schaeffer et al. 2023). If the accuracy of later checkpoints follows from their
//! bits per byte by a curve that is fitted to earlier ones, it is no surprise either (Bhagia et al. 2024).

use foretoken_datasets::world::{Family, Item};
use serde::Serialize;

use super::measured::Checkpoint;
use super::prediction::Prediction;
use super::suddenness::{Comparison, Jump, compare};

/// How a family develops over checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Emergence {
    /// The family.
    pub family: Family,
    /// Number of items whose measures are compared: all but those whose right answer a perfect model does not write, which
    /// exact match can never reach.
    pub compared_items: usize,
    /// Number of all items.
    pub items: usize,
    /// Steps of the checkpoints.
    pub steps: Vec<usize>,
    /// Largest steps between consecutive checkpoints, by measure; empty if there are too few checkpoints or items.
    pub jumps: Vec<Jump>,
    /// Whether exact match or the Brier score changes more suddenly.
    pub comparison: Comparison,
    /// Prediction of accuracy from bits per byte.
    pub prediction: Prediction,
}

impl Emergence {
    /// Describes a family at some checkpoints, in the order of their steps. All have the same items.
    pub(super) fn of(family: Family, items: &[Item], checkpoints: &[Checkpoint<'_>]) -> Self {
        let reachable = items.iter().enumerate();
        let reachable: Vec<usize> = reachable
            .filter(|(_, item)| item.right_is_greedy != Some(false))
            .map(|(index, _)| index)
            .collect();
        let (jumps, comparison) = compare(checkpoints, &reachable);
        Self {
            family,
            compared_items: reachable.len(),
            items: items.len(),
            steps: checkpoints
                .iter()
                .map(|checkpoint| checkpoint.step)
                .collect(),
            jumps,
            comparison,
            prediction: Prediction::of(checkpoints),
        }
    }
}
