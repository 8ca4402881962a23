//! Loss by what precedes a token and by how frequent it is, and the calibration of the most probable token.

use std::sync::atomic::AtomicBool;

use foretoken_datasets::Split;
use serde::Serialize;

use super::estimate::{Estimate, Ratio};
use super::score::TargetScore;
use crate::Error;
use crate::science::check;

/// Mean loss of a group of targets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// Smallest number in the group: of tokens of context, or of occurrences in the training text.
    pub from: u64,
    /// Largest number in the group.
    pub to: u64,
    /// Number of targets.
    pub tokens: u64,
    /// Cross-entropy in nats per token.
    pub loss: Estimate,
}

/// Sums of one group of targets in one cluster, and over all clusters.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    tokens: u64,
    /// Sums of the cluster that is being added.
    cluster: [f64; 2],
    ratio: Ratio,
}

impl Group {
    fn add(&mut self, x: f64) {
        self.tokens += 1;
        self.cluster[0] += x;
        self.cluster[1] += 1.0;
    }

    fn end_cluster(&mut self) {
        let [x, y] = std::mem::take(&mut self.cluster);
        self.ratio.add(x, y);
    }
}

/// Loss by the number of tokens before the target. Up to 16 there is a group for each number, and then eight groups to a
/// doubling.
#[derive(Debug, Default)]
pub(super) struct ContextCurve {
    groups: Vec<Group>,
}

/// Returns the group of a context.
fn group_of_context(context: u64) -> usize {
    if context <= 16 {
        return context as usize - 1;
    }
    // Numbers with the same three bits after the leading one share a group.
    let shift = context.ilog2() - 3;
    16 + (shift as usize - 1) * 8 + ((context >> shift) - 8) as usize
}

impl ContextCurve {
    pub(super) fn add(&mut self, score: &TargetScore) {
        let group = group_of_context(u64::from(score.context));
        if group >= self.groups.len() {
            self.groups.resize(group + 1, Group::default());
        }
        self.groups[group].add(f64::from(score.nats));
    }

    pub(super) fn end_cluster(&mut self) {
        self.groups.iter_mut().for_each(Group::end_cluster);
    }

    /// Returns the groups that have targets. `longest` is the longest context of any target.
    pub(super) fn bins(&self, longest: u64) -> Vec<Bin> {
        let mut bins: Vec<Bin> = Vec::new();
        let mut context = 1;
        for (number, group) in self.groups.iter().enumerate() {
            let from = context;
            while context <= longest && group_of_context(context) == number {
                context += 1;
            }
            if let Some(loss) = group.ratio.estimate() {
                bins.push(Bin {
                    from,
                    to: context - 1,
                    tokens: group.tokens,
                    loss: loss.clamped(0.0, f64::INFINITY),
                });
            }
        }
        bins
    }
}

/// Tokens by how often they occur in a training text: ten groups, from the most frequent to the rarest, that each make
/// up about a tenth of the text; and the tokens that do not occur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frequencies {
    /// Group of each token, from 0 for the most frequent to 9; 10 for a token that does not occur.
    groups: Vec<u8>,
    /// Smallest and largest number of occurrences in each group.
    counts: [[u64; 2]; 11],
}

impl Frequencies {
    /// Counts the tokens of a training text in several splits, with a vocabulary of this size.
    ///
    /// # Errors
    ///
    /// Returns an error if tokens cannot be read, or if `interrupt` is set.
    pub fn of<'s>(
        splits: impl Iterator<Item = &'s Split>,
        vocabulary: usize,
        interrupt: &AtomicBool,
    ) -> Result<Self, Error> {
        const CHUNK: usize = 1 << 20;
        let mut counts = vec![0u64; vocabulary];
        for split in splits {
            for start in (0..split.tokens()).step_by(CHUNK) {
                check(interrupt)?;
                let end = (start + CHUNK).min(split.tokens());
                for id in split.to_vec(start..end)? {
                    if let Some(count) = counts.get_mut(id as usize) {
                        *count += 1;
                    }
                }
            }
        }
        Ok(Self::from_counts(&counts))
    }

    /// Divides tokens with these numbers of occurrences.
    pub fn from_counts(counts: &[u64]) -> Self {
        let total: u64 = counts.iter().sum();
        let mut ids: Vec<usize> = (0..counts.len()).collect();
        ids.sort_by_key(|id| (std::cmp::Reverse(counts[*id]), *id));
        let mut groups = vec![10u8; counts.len()];
        let mut limits = [[u64::MAX, 0]; 11];
        let mut before = 0u64;
        for id in ids {
            let count = counts[id];
            let group = match count {
                0 => 10,
                // Group of the token's first occurrence, if all occurrences are sorted by token.
                _ => (u128::from(before) * 10 / u128::from(total)) as u8,
            };
            before += count;
            groups[id] = group;
            let [smallest, largest] = &mut limits[usize::from(group)];
            *smallest = count.min(*smallest);
            *largest = count.max(*largest);
        }
        Self {
            groups,
            counts: limits,
        }
    }
}

/// Loss by the frequency of the target in the training text.
#[derive(Debug)]
pub(super) struct FrequencyCurve {
    frequencies: Frequencies,
    groups: [Group; 11],
}

impl FrequencyCurve {
    pub(super) fn new(frequencies: Frequencies) -> Self {
        Self {
            frequencies,
            groups: Default::default(),
        }
    }

    pub(super) fn add(&mut self, id: u32, score: &TargetScore) {
        let group = self.frequencies.groups.get(id as usize).copied();
        self.groups[usize::from(group.unwrap_or(10))].add(f64::from(score.nats));
    }

    pub(super) fn end_cluster(&mut self) {
        self.groups.iter_mut().for_each(Group::end_cluster);
    }

    /// Returns the groups that have targets, from the most frequent tokens to those that do not occur.
    pub(super) fn bins(&self) -> Vec<Bin> {
        let groups = self.groups.iter().zip(self.frequencies.counts);
        let bin = |(group, [from, to]): (&Group, [u64; 2])| {
            Some(Bin {
                from,
                to,
                tokens: group.tokens,
                loss: group.ratio.estimate()?.clamped(0.0, f64::INFINITY),
            })
        };
        groups.filter_map(bin).collect()
    }
}

/// How often the most probable token is right, compared with the probability that it is given (Guo et al. 2017,
/// <https://arxiv.org/abs/1706.04599>).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Σ over bins of their share of the targets times |accuracy − mean probability|.
    pub expected_calibration_error: f64,
    /// Ten bins of equal width in the probability of the most probable token; empty ones are left out.
    pub bins: Vec<CalibrationBin>,
}

/// Targets whose most probable token has a probability in one tenth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Lower end of the bin.
    pub from: f64,
    /// Upper end of the bin.
    pub to: f64,
    /// Number of targets.
    pub tokens: u64,
    /// Mean probability of the most probable token.
    pub probability: f64,
    /// Share of targets that are the most probable token.
    pub accuracy: Estimate,
}

/// Sums of a calibration.
#[derive(Debug, Default)]
pub(super) struct CalibrationSums {
    groups: [Group; Self::BINS],
    probabilities: [f64; Self::BINS],
}

impl CalibrationSums {
    const BINS: usize = 10;

    pub(super) fn add(&mut self, score: &TargetScore) {
        let probability = (-f64::from(score.top_nats)).exp();
        let bin = ((probability * Self::BINS as f64) as usize).min(Self::BINS - 1);
        self.groups[bin].add(f64::from(u8::from(score.rank == 1)));
        self.probabilities[bin] += probability;
    }

    pub(super) fn end_cluster(&mut self) {
        self.groups.iter_mut().for_each(Group::end_cluster);
    }

    pub(super) fn calibration(&self) -> Calibration {
        let total: u64 = self.groups.iter().map(|group| group.tokens).sum();
        let groups = self.groups.iter().zip(self.probabilities).enumerate();
        let bin = |(number, (group, probabilities)): (usize, (&Group, f64))| {
            Some(CalibrationBin {
                from: number as f64 / Self::BINS as f64,
                to: (number + 1) as f64 / Self::BINS as f64,
                tokens: group.tokens,
                probability: probabilities / group.tokens as f64,
                accuracy: group.ratio.estimate()?.clamped(0.0, 1.0),
            })
        };
        let bins: Vec<CalibrationBin> = groups.filter_map(bin).collect();
        let gap = |bin: &CalibrationBin| {
            bin.tokens as f64 / total as f64 * (bin.accuracy.value - bin.probability).abs()
        };
        Calibration {
            expected_calibration_error: bins.iter().map(gap).sum(),
            bins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(nats: f32, top_nats: f32, rank: u32, context: u32) -> TargetScore {
        TargetScore {
            nats,
            top_nats,
            rank,
            context,
        }
    }

    #[test]
    fn groups_of_contexts_are_contiguous_and_cover_every_context() {
        let mut curve = ContextCurve::default();
        for context in 1..=1000 {
            curve.add(&score(context as f32, 0.0, 1, context));
        }
        curve.end_cluster();
        let bins = curve.bins(1000);
        let mut next = 1;
        for bin in &bins {
            assert_eq!(bin.from, next);
            assert_eq!(bin.tokens, bin.to - bin.from + 1);
            let mean = (bin.from + bin.to) as f64 / 2.0;
            assert!((bin.loss.value - mean).abs() < 1e-9, "{bin:?}");
            next = bin.to + 1;
        }
        assert_eq!(next, 1001);
        assert!(bins[..16].iter().all(|bin| bin.from == bin.to));
        assert!(bins.len() < 70);
    }

    #[test]
    fn frequencies_are_divided_by_their_share_of_the_text() {
        // Half of the text is token 3; the rest is spread over tokens 0 to 2; token 4 does not occur.
        let frequencies = Frequencies::from_counts(&[30, 15, 5, 50, 0]);
        assert_eq!(frequencies.groups, [5, 8, 9, 0, 10]);
        assert_eq!(frequencies.counts[5], [30, 30]);
        let mut curve = FrequencyCurve::new(frequencies);
        for (id, nats) in [(3, 1.0), (3, 3.0), (4, 9.0), (2, 5.0)] {
            curve.add(id, &score(nats, 0.0, 1, 1));
        }
        curve.end_cluster();
        let losses: Vec<_> = curve
            .bins()
            .iter()
            .map(|bin| (bin.to, bin.loss.value))
            .collect();
        assert_eq!(losses, [(50, 2.0), (5, 5.0), (0, 9.0)]);
    }

    #[test]
    fn calibration_compares_probabilities_with_hits() {
        let mut sums = CalibrationSums::default();
        let nats = |probability: f32| -probability.ln();
        // Of four predictions with 0.75 three are right; one with probability 1 is right.
        for rank in [1, 1, 1, 4] {
            sums.add(&score(1.0, nats(0.75), rank, 1));
        }
        sums.add(&score(0.0, 0.0, 1, 1));
        sums.end_cluster();
        let calibration = sums.calibration();
        assert_eq!(calibration.bins.len(), 2);
        assert!(calibration.expected_calibration_error < 1e-7);
        assert_eq!(calibration.bins[0].accuracy.value, 0.75);
        // Predictions with 0.75 that are never right are wrong by 0.75.
        let mut sums = CalibrationSums::default();
        sums.add(&score(1.0, nats(0.75), 2, 1));
        sums.end_cluster();
        assert!((sums.calibration().expected_calibration_error - 0.75).abs() < 1e-6);
    }
}
