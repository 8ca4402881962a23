//! Differences between two models on one text, and whether rounding explains them.

use std::f64::consts::LN_2;

use foretoken_model::Transformer;
use serde::Serialize;

use super::estimate::{Estimate, ratio_difference};
use super::measures::{ClusterKind, Evaluation, Place, Sums};
use crate::backend::precision::Precision;
use crate::engine::rounding::{FACTOR, nudged};

/// Difference of two evaluations of one text: the second minus the first, so that a negative one says that the second model
/// is better. The interval is paired: what makes a document hard for both models is no part of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairedDifference {
    /// Bits per byte of the second minus those of the first; `None` for a text without bytes.
    pub bits_per_byte: Option<Estimate>,
    /// Loss of the second minus that of the first, in nats per token; `None` if tokens differ.
    pub loss: Option<Estimate>,
    /// Number of clusters that both have.
    pub clusters: usize,
    /// Kind of the clusters.
    pub clusters_are: ClusterKind,
    /// Clusters that only one of them has, because a document is too short for a prediction. They are left out.
    pub left_out: usize,
}

impl PairedDifference {
    /// Compares two evaluations of the same texts; `None` if they have no cluster in common.
    pub fn of(first: &Evaluation, second: &Evaluation) -> Option<Self> {
        let pairs = pairs(&first.clusters, &second.clusters);
        if pairs.is_empty() {
            return None;
        }
        let difference = |y: fn(&Sums) -> f64| {
            let pairs = pairs.iter();
            ratio_difference(pairs.map(|(a, b)| [[a.nats, y(a)], [b.nats, y(b)]]))
        };
        let same_tokens = pairs.iter().all(|(a, b)| a.tokens == b.tokens);
        Some(Self {
            bits_per_byte: difference(|sums| sums.bytes).map(|nats| nats.scaled(1.0 / LN_2)),
            loss: difference(|sums| sums.tokens).filter(|_| same_tokens),
            clusters: pairs.len(),
            clusters_are: first.total.clusters_are,
            left_out: first.clusters.len() + second.clusters.len() - 2 * pairs.len(),
        })
    }
}

/// Joins clusters by their places, in which both are sorted.
fn pairs<'c>(first: &'c [(Place, Sums)], second: &'c [(Place, Sums)]) -> Vec<(&'c Sums, &'c Sums)> {
    let mut second = second.iter().peekable();
    let mut pairs = Vec::new();
    for (place, sums) in first {
        while second.next_if(|(other, _)| other < place).is_some() {}
        if let Some((_, other)) = second.next_if(|(other, _)| other == place) {
            pairs.push((sums, other));
        }
    }
    pairs
}

/// Whether a difference is more than rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RoundingVerdict {
    /// Every target has the same bits.
    Identical,
    /// Rounding explains the difference.
    Rounding,
    /// Rounding does not explain the difference.
    Differs,
}

/// Differences between two evaluations of the same weights, target by target, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rounding {
    /// The answer.
    pub verdict: RoundingVerdict,
    /// Largest difference of a target.
    pub largest: f64,
    /// Root mean square of the differences.
    pub root_mean_square: f64,
    /// Root mean square of what moving every weight by one unit in the last place changes, in the coarser of the two
    /// precisions.
    pub of_one_rounding: f64,
    /// Largest root mean square that counts as rounding.
    pub bound: f64,
}

impl Rounding {
    /// Judges two evaluations of the same weights. `pair` holds the evaluation in the coarser precision, and the same with
    /// weights moved by one unit in the last place. All kept their targets.
    pub fn of(first: &Evaluation, second: &Evaluation, pair: [&Evaluation; 2]) -> Self {
        Self::of_targets(&first.nats, &second.nats, pair.map(|one| &one.nats[..]))
    }

    fn of_targets(first: &[f32], second: &[f32], pair: [&[f32]; 2]) -> Self {
        let (largest, root_mean_square) = distance(first, second);
        let (_, of_one_rounding) = distance(pair[0], pair[1]);
        let bound = FACTOR * of_one_rounding;
        Self {
            verdict: match root_mean_square {
                0.0 => RoundingVerdict::Identical,
                distance if distance <= bound => RoundingVerdict::Rounding,
                _ => RoundingVerdict::Differs,
            },
            largest,
            root_mean_square,
            of_one_rounding,
            bound,
        }
    }
}

/// Returns the model with each weight moved by one unit in the last place of its precision, in random directions.
pub fn with_rounded_weights(model: Transformer, precision: Precision) -> Transformer {
    nudged(model, precision, 0)
}

/// Returns the largest difference and the root mean square of all.
///
/// # Panics
///
/// Panics if the evaluations do not have the same number of targets.
fn distance(first: &[f32], second: &[f32]) -> (f64, f64) {
    assert_eq!(first.len(), second.len(), "the same targets");
    let mut largest = 0.0;
    let mut squares = 0.0;
    for (a, b) in first.iter().zip(second) {
        let difference = (f64::from(*a) - f64::from(*b)).abs();
        largest = f64::max(largest, difference);
        squares += difference * difference;
    }
    (largest, (squares / first.len().max(1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_joined_by_their_places() {
        let cluster = |place: Place, tokens: f64| {
            let sums = Sums {
                tokens,
                ..Sums::default()
            };
            (place, sums)
        };
        let first = [
            cluster([0, 0, 0], 1.0),
            cluster([0, 2, 0], 2.0),
            cluster([1, 0, 0], 3.0),
        ];
        let second = [
            cluster([0, 1, 0], 4.0),
            cluster([0, 2, 0], 5.0),
            cluster([1, 0, 0], 6.0),
            cluster([1, 1, 0], 7.0),
        ];
        let tokens: Vec<_> = pairs(&first, &second)
            .iter()
            .map(|(a, b)| (a.tokens, b.tokens))
            .collect();
        assert_eq!(tokens, [(2.0, 5.0), (3.0, 6.0)]);
    }

    #[test]
    fn what_exceeds_sixteen_roundings_differs() {
        let first = [1.0f32, 2.0, 3.0];
        let moved = |by: f32| first.map(|nats| nats + by);
        let u = f32::EPSILON;
        let rounded = moved(4.0 * u);
        for (by, expected) in [
            (0.0, RoundingVerdict::Identical),
            (4.0 * u, RoundingVerdict::Rounding),
            (60.0 * u, RoundingVerdict::Rounding),
            (80.0 * u, RoundingVerdict::Differs),
            (-80.0 * u, RoundingVerdict::Differs),
        ] {
            let rounding = Rounding::of_targets(&first, &moved(by), [&first, &rounded]);
            assert_eq!(rounding.verdict, expected, "{by}");
        }
    }

    #[test]
    fn distances_are_those_of_targets() {
        assert_eq!(distance(&[1.0, 2.0], &[1.0, 2.0]), (0.0, 0.0));
        assert_eq!(distance(&[1.0, 2.0], &[4.0, 6.0]), (4.0, 12.5f64.sqrt()));
    }
}
