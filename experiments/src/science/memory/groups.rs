//! Shares of sequences that a model reproduces, by how often they occur in the training text.

use serde::Serialize;

use crate::science::Share;
use crate::science::bootstrap::Bootstrap;
use crate::science::evaluate::Estimate;

/// A sequence with a prefix of one length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Item {
    /// Number of the sequence in its set.
    pub sequence: usize,
    /// How often prefix and suffix occur in the training text.
    pub occurrences: u64,
    /// ln p of the suffix after the prefix, for sampling from the model's own distribution.
    pub log_probability: f64,
    /// Whether greedy decoding gives the suffix after the prefix.
    pub greedy: bool,
}

/// Sequences that occur about equally often in the training text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Smallest number of occurrences of prefix and suffix.
    pub from: u64,
    /// Largest number of occurrences.
    pub to: u64,
    /// Share of the sequences whose suffix greedy decoding gives.
    pub greedy: Share,
    /// Shares that sampling gives.
    pub discoverable: Vec<Discoverable>,
    /// Mean of −log₂ p of a token of the suffix.
    pub bits_per_token: Option<Estimate>,
}

/// Share of sequences that are (n, p)-discoverable: sampling n suffixes gives the sequence's own at least once with
/// probability p or more, `1 − (1 − p_z)ⁿ ≥ p`, where `p_z` is the probability of the suffix after the prefix (Hayes et al.
/// 2024, <https://arxiv.org/abs/2410.19482>).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Discoverable {
    /// Number of samples n.
    pub samples: u64,
    /// Share of sequences.
    pub share: Share,
}

/// The definition of discoverable sequences, and the length of their suffixes.
#[derive(Debug, Clone)]
pub(super) struct Criterion {
    /// Numbers of samples n.
    pub(super) samples: Vec<u64>,
    /// Probability p.
    pub(super) probability: f64,
    /// Tokens of a suffix.
    pub(super) suffix: usize,
}

impl Criterion {
    /// Returns whether a suffix with this ln p_z is (n, p)-discoverable.
    fn is_discoverable(&self, log_p: f64, samples: u64) -> bool {
        // ln of the probability that no sample is the suffix.
        let log_none = samples as f64 * (-log_p.exp().min(1.0)).ln_1p();
        log_none <= (-self.probability).ln_1p()
    }

    /// Returns the group of all items; `None` without any.
    pub(super) fn group(&self, bootstrap: Bootstrap, items: &[&Item]) -> Option<Group> {
        let share = |is: &dyn Fn(&Item) -> bool| {
            Share::of(items.iter().filter(|item| is(item)).count(), items.len())
        };
        let occurrences = items.iter().map(|item| item.occurrences);
        let discoverable = self.samples.iter().map(|samples| {
            let share = share(&|item| self.is_discoverable(item.log_probability, *samples))?;
            Some(Discoverable {
                samples: *samples,
                share,
            })
        });
        let tokens = self.suffix as f64 * std::f64::consts::LN_2;
        Some(Group {
            from: occurrences.clone().min()?,
            to: occurrences.max()?,
            greedy: share(&|item| item.greedy)?,
            discoverable: discoverable.collect::<Option<_>>()?,
            bits_per_token: bootstrap.estimate(items.len(), |weights| {
                let weighted = weights.iter().zip(items);
                let nats: f64 = weighted
                    .map(|(weight, item)| -weight * item.log_probability)
                    .sum();
                nats / (tokens * weights.iter().sum::<f64>())
            }),
        })
    }

    /// Returns groups of items that occur 0 times, once, 2 to 3 times, 4 to 7 times, and so on.
    pub(super) fn by_occurrences(&self, bootstrap: Bootstrap, items: &[&Item]) -> Vec<Group> {
        let class = |item: &&Item| item.occurrences.checked_ilog2().map_or(0, |log| log + 1);
        let mut sorted = items.to_vec();
        sorted.sort_by_key(|item| item.occurrences);
        let classes = sorted.chunk_by(|a, b| class(a) == class(b));
        classes
            .filter_map(|items| self.group(bootstrap, items))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap { draws: 50, seed: 0 };

    fn criterion(probability: f64) -> Criterion {
        Criterion {
            samples: vec![1, 10, 1_000_000],
            probability,
            suffix: 2,
        }
    }

    fn item(occurrences: u64, p: f64, greedy: bool) -> Item {
        Item {
            sequence: 0,
            occurrences,
            log_probability: p.ln(),
            greedy,
        }
    }

    #[test]
    fn discoverable_is_at_least_once_in_n_samples() {
        let one_half = criterion(0.5);
        // 1 − 0.93^10 = 0.516, and 1 − 0.93^9 = 0.480.
        assert!(one_half.is_discoverable(0.07f64.ln(), 10));
        assert!(!one_half.is_discoverable(0.07f64.ln(), 9));
        assert!(one_half.is_discoverable(0.5f64.ln(), 1));
        assert!(!one_half.is_discoverable(0.49f64.ln(), 1));
        assert!(one_half.is_discoverable(0.0, 1), "a certain suffix");
        // Probabilities below the rounding of 1 − p: 1 − (1 − 1e-18)^n is about n · 1e-18.
        assert!(one_half.is_discoverable(1e-18f64.ln(), 700_000_000_000_000_000));
        assert!(!one_half.is_discoverable(1e-18f64.ln(), 690_000_000_000_000_000));
        assert!(!one_half.is_discoverable(-1e4, u64::MAX));
    }

    #[test]
    fn groups_double_in_occurrences() {
        let items: Vec<Item> = [0, 1, 1, 2, 3, 4, 7, 8]
            .map(|occurrences| item(occurrences, 0.25, occurrences > 2))
            .into();
        let items: Vec<&Item> = items.iter().collect();
        let groups = criterion(0.9).by_occurrences(BOOTSTRAP, &items);
        let ranges: Vec<(u64, u64, u64, u64)> = groups
            .iter()
            .map(|group| {
                (
                    group.from,
                    group.to,
                    group.greedy.count,
                    group.greedy.trials,
                )
            })
            .collect();
        assert_eq!(
            ranges,
            [
                (0, 0, 0, 1),
                (1, 1, 0, 2),
                (2, 3, 1, 2),
                (4, 7, 2, 2),
                (8, 8, 1, 1)
            ]
        );
        // 1 − 0.75^10 = 0.944; two bits in two tokens.
        let counts = groups[1].discoverable.iter().map(|found| found.share.count);
        assert_eq!(counts.collect::<Vec<_>>(), [0, 2, 2]);
        assert!((groups[1].bits_per_token.unwrap().value - 1.0).abs() < 1e-12);
        assert_eq!(criterion(0.9).group(BOOTSTRAP, &[]), None);
    }
}
