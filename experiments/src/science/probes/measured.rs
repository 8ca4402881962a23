//! Scores of a family at one checkpoint, and the statistics that all studies of checkpoints share.

use super::means::Measure;
use super::score::ItemScore;
use crate::science::bootstrap::Bootstrap;

/// Bootstrap over items: intervals of numbers that are no means, such as a prediction or a ratio of spreads.
pub(super) const BOOTSTRAP: Bootstrap = Bootstrap {
    draws: 400,
    seed: 0,
};

/// Scores of the items of a family at a checkpoint.
pub(super) struct Checkpoint<'s> {
    pub(super) step: usize,
    pub(super) scores: &'s [ItemScore],
}

/// Returns the mean of a measure over the chosen items.
pub(super) fn mean(measure: Measure, scores: &[ItemScore], chosen: &[usize]) -> f64 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for index in chosen {
        let [x, y] = measure.parts(&scores[*index]);
        sum += x;
        weight += y;
    }
    sum / weight
}

/// Returns whether an interval excludes 0: -1 if it is below, 1 if it is above, and 0 if it does not or is not known.
pub(super) fn sign(interval: Option<[f64; 2]>) -> i8 {
    match interval {
        Some([low, _]) if low > 0.0 => 1,
        Some([_, high]) if high < 0.0 => -1,
        _ => 0,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns checkpoints at the steps 1, 2, 4 and so on with these scores.
    pub(in super::super) fn checkpoints(scores: &[Vec<ItemScore>]) -> Vec<Checkpoint<'_>> {
        let checkpoint = |(number, scores)| Checkpoint {
            step: 1usize << number,
            scores,
        };
        let scores = scores.iter().map(Vec::as_slice);
        scores.enumerate().map(checkpoint).collect()
    }
}
