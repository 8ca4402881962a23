//! Leaving the support: when free running writes what the oracle excludes, and how it comes back.
//!
//! A sequence leaves with a token that is impossible after a possible context. It is outside until the next document
//! begins, where every oracle of a world knows the distribution again. What comes then says whether the model recovers
//! (He et al. 2021, <https://arxiv.org/abs/1905.10617>): its errors there are compared with those on the data at the same
//! places of a document.

use serde::Serialize;

use super::walk::Trace;
use crate::science::Share;
use crate::science::bootstrap::Bootstrap;
use crate::science::evaluate::Estimate;

/// How often free running leaves the support, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Support {
    /// Share of the sequences that have left within each of the lengths.
    pub left: Vec<Option<Share>>,
    /// Leaving tokens per 1000 tokens that are drawn inside of the support.
    pub per_thousand: Option<Estimate>,
    /// Share of the sequences inside that leave with the token of each step.
    pub leaving: Vec<Option<Share>>,
    /// Share of the sequences that are outside before the token of each step.
    pub outside: Vec<Option<Share>>,
    /// Return to the support; `None` if no sequence has left.
    pub recovery: Option<Recovery>,
}

/// Return of sequences that have left the support, and their errors afterwards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recovery {
    /// How often sequences have left.
    pub leaves: usize,
    /// How often they were seen to come back, before their last step.
    pub returns: usize,
    /// Median number of tokens between the leaving token and the next document, by Kaplan and Meier's estimate (1958), which
    /// takes into account that a sequence may end before. 0 if the leaving token ends the document.
    pub tokens: Option<Estimate>,
    /// Mean error of the steps after a return, over that of the data at the same places of a document: 1 if the model has
    /// recovered completely.
    pub errors_after: Option<Estimate>,
}

/// A time outside of the support.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spell {
    sequence: usize,
    tokens: usize,
    has_ended: bool,
}

/// Describes the support of free walks, and compares what follows with walks along the data. `border` ends documents.
pub(super) fn support(
    bootstrap: Bootstrap,
    lengths: &[usize],
    free: &[Trace],
    data: &[Trace],
    border: u32,
) -> Support {
    let last = lengths.last().copied().unwrap_or(0);
    let has_left = |trace: &Trace, length: usize| trace.leaves.first().is_some_and(|l| *l < length);
    let left = lengths.iter().map(|length| {
        let count = free.iter().filter(|trace| has_left(trace, *length)).count();
        Share::of(count, free.len())
    });
    let steps = |step: usize| free.iter().filter(move |trace| step < trace.exact.len());
    let leaving = (0..last).map(|step| {
        let inside = steps(step).filter(|trace| !trace.exact[step].is_nan());
        let leaves = inside.clone().filter(|trace| trace.leaves.contains(&step));
        Share::of(leaves.count(), inside.count())
    });
    let outside = (0..last).map(|step| {
        let outside = steps(step).filter(|trace| trace.exact[step].is_nan());
        Share::of(outside.count(), steps(step).count())
    });
    Support {
        left: left.collect(),
        per_thousand: per_thousand(bootstrap, free),
        leaving: leaving.collect(),
        outside: outside.collect(),
        recovery: recovery(bootstrap, free, data, border),
    }
}

fn per_thousand(bootstrap: Bootstrap, free: &[Trace]) -> Option<Estimate> {
    let counts: Vec<[f64; 2]> = free
        .iter()
        .map(|trace| {
            let inside = trace.exact.iter().filter(|nats| !nats.is_nan());
            [trace.leaves.len() as f64, inside.count() as f64]
        })
        .collect();
    if free.iter().all(|trace| trace.leaves.is_empty()) {
        // No draw has a leave, so that the bootstrap has no upper end. This one takes tokens as independent trials.
        let tokens: f64 = counts.iter().map(|[_, inside]| inside).sum();
        let share = Share::of(0, tokens as usize)?;
        return Some(Estimate {
            value: 0.0,
            standard_error: None,
            interval: Some(share.interval.map(|end| 1000.0 * end)),
        });
    }
    bootstrap.estimate(free.len(), |weights| {
        let [leaves, inside] = weighted(weights, &counts);
        1000.0 * leaves / inside
    })
}

fn recovery(bootstrap: Bootstrap, free: &[Trace], data: &[Trace], border: u32) -> Option<Recovery> {
    let mut spells: Vec<Spell> = free
        .iter()
        .enumerate()
        .flat_map(|(sequence, trace)| trace.spells(sequence))
        .collect();
    if spells.is_empty() {
        return None;
    }
    spells.sort_by_key(|spell| spell.tokens);
    let after: Vec<_> = free
        .iter()
        .map(|trace| {
            let first = trace
                .leaves
                .first()
                .map_or(trace.exact.len(), |leave| leave + 1);
            trace.errors_by_place(border, first)
        })
        .collect();
    let of_data: Vec<_> = data
        .iter()
        .map(|trace| trace.errors_by_place(border, 0))
        .collect();
    Some(Recovery {
        leaves: spells.len(),
        returns: spells.iter().filter(|spell| spell.has_ended).count(),
        tokens: bootstrap.estimate(free.len(), |weights| median(&spells, weights)),
        errors_after: bootstrap.estimate(free.len(), |weights| {
            let (free, data) = (by_place(weights, &after), by_place(weights, &of_data));
            let mut sums = [0.0; 2];
            for ([nats, steps], [data_nats, data_steps]) in free.into_iter().zip(data) {
                if data_steps > 0.0 {
                    sums[0] += nats;
                    sums[1] += steps * data_nats / data_steps;
                }
            }
            sums[0] / sums[1]
        }),
    })
}

/// Adds up weighted sums of each place of a document.
fn by_place(weights: &[f64], sequences: &[Vec<[f64; 2]>]) -> Vec<[f64; 2]> {
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    let mut sums = vec![[0.0; 2]; longest];
    for (weight, sequence) in weights
        .iter()
        .zip(sequences)
        .filter(|(weight, _)| **weight > 0.0)
    {
        for (sum, [nats, steps]) in sums.iter_mut().zip(sequence) {
            sum[0] += weight * nats;
            sum[1] += weight * steps;
        }
    }
    sums
}

fn weighted(weights: &[f64], numbers: &[[f64; 2]]) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for (weight, numbers) in weights.iter().zip(numbers) {
        sums[0] += weight * numbers[0];
        sums[1] += weight * numbers[1];
    }
    sums
}

impl Trace {
    fn spells(&self, sequence: usize) -> impl Iterator<Item = Spell> {
        self.leaves.iter().map(move |leave| {
            let later = &self.exact[leave + 1..];
            let back = later.iter().position(|nats| !nats.is_nan());
            Spell {
                sequence,
                tokens: back.unwrap_or(later.len()),
                has_ended: back.is_some(),
            }
        })
    }

    /// Returns the sum of the errors and the number of possible contexts, from a step on, by the number of tokens since the
    /// last end of a document.
    fn errors_by_place(&self, border: u32, first: usize) -> Vec<[f64; 2]> {
        let mut sums = Vec::new();
        let before = &self.tokens[..self.prompt];
        let mut place = before
            .iter()
            .rev()
            .take_while(|token| **token != border)
            .count();
        for (step, nats) in self.exact.iter().enumerate() {
            if step >= first && !nats.is_nan() {
                sums.resize(sums.len().max(place + 1), [0.0; 2]);
                sums[place][0] += nats;
                sums[place][1] += 1.0;
            }
            place = match self.tokens[self.prompt + step] == border {
                true => 0,
                false => place + 1,
            };
        }
        sums
    }
}

/// Returns the median of spells in ascending order, by the product-limit estimate of Kaplan and Meier over weighted
/// sequences: the least number of tokens that at most half of the spells exceed. NaN if more than half are longer than
/// what was seen.
fn median(spells: &[Spell], weights: &[f64]) -> f64 {
    let mut at_risk: f64 = spells.iter().map(|spell| weights[spell.sequence]).sum();
    let mut outside = 1.0;
    for equal in spells.chunk_by(|a, b| a.tokens == b.tokens) {
        let weight = |spell: &Spell| weights[spell.sequence];
        let all: f64 = equal.iter().map(weight).sum();
        let ended = equal.iter().filter(|spell| spell.has_ended);
        let ended: f64 = ended.map(weight).sum();
        if at_risk > 0.0 {
            outside *= 1.0 - ended / at_risk;
        }
        // Half, but for rounding.
        if ended > 0.0 && outside <= 0.5 + 1e-12 {
            return equal[0].tokens as f64;
        }
        at_risk -= all;
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap {
        draws: 200,
        seed: 0,
    };

    const BORDER: u32 = 9;

    /// A walk of one document after its border.
    fn trace(exact: &[f64], leaves: &[usize]) -> Trace {
        Trace {
            tokens: std::iter::once(BORDER)
                .chain(exact.iter().map(|_| 1))
                .collect(),
            prompt: 1,
            exact: exact.to_vec(),
            smoothed: [Vec::new(), Vec::new()],
            best: Vec::new(),
            leaves: leaves.to_vec(),
        }
    }

    #[test]
    fn leaves_and_returns_are_counted_by_step() {
        let nan = f64::NAN;
        let free = [
            // Leaves with its second token, and comes back after two more.
            trace(&[1.0, 1.0, nan, nan, 3.0, 3.0], &[1]),
            // Leaves by ending a document too early, and later for good.
            trace(&[1.0, 1.0, 1.0, 2.0, 2.0, nan], &[1, 4]),
            trace(&[1.0; 6], &[]),
        ];
        let data = [
            trace(&[2.0; 6], &[]),
            trace(&[1.0; 6], &[]),
            trace(&[1.0; 6], &[]),
        ];
        let found = support(BOOTSTRAP, &[1, 2, 6], &free, &data, BORDER);
        let counts = |shares: &[Option<Share>]| -> Vec<[u64; 2]> {
            let shares = shares.iter().flatten();
            shares.map(|share| [share.count, share.trials]).collect()
        };
        assert_eq!(counts(&found.left), [[0, 3], [2, 3], [2, 3]]);
        assert_eq!(
            counts(&found.leaving),
            [[0, 3], [2, 3], [0, 2], [0, 2], [1, 3], [0, 2]]
        );
        assert_eq!(
            counts(&found.outside),
            [[0, 3], [0, 3], [1, 3], [1, 3], [0, 3], [1, 3]]
        );
        // 3 leaves in 4 + 5 + 6 tokens inside.
        assert!((found.per_thousand.unwrap().value - 200.0).abs() < 1e-9);
        let recovery = found.recovery.unwrap();
        assert_eq!((recovery.leaves, recovery.returns), (3, 2));
        // Spells of 0 and 2 that have ended, and of at least 1.
        assert_eq!(recovery.tokens.unwrap().value, 2.0);
        // The data have (2 + 1 + 1) / 3 nats at each place.
        let ratio = (3.0 + 3.0 + 1.0 + 2.0 + 2.0) / (5.0 * 4.0 / 3.0);
        assert!((recovery.errors_after.unwrap().value - ratio).abs() < 1e-12);
    }

    #[test]
    fn errors_are_those_of_a_place_of_a_document() {
        let walk = Trace {
            tokens: vec![BORDER, 1, 1, BORDER, 1, 1],
            prompt: 2,
            ..trace(&[1.0, 2.0, f64::NAN, 8.0], &[])
        };
        // Contexts of 1, 2, 0 and 1 tokens of a document.
        assert_eq!(
            walk.errors_by_place(BORDER, 0),
            [[0.0; 2], [9.0, 2.0], [2.0, 1.0]]
        );
        assert_eq!(
            walk.errors_by_place(BORDER, 1),
            [[0.0; 2], [8.0, 1.0], [2.0, 1.0]]
        );
    }

    #[test]
    fn the_median_takes_censored_spells_into_account() {
        let spell = |tokens, has_ended| Spell {
            sequence: 0,
            tokens,
            has_ended,
        };
        let spells = [
            spell(1, true),
            spell(2, false),
            spell(3, true),
            spell(9, true),
        ];
        // 3/4 are longer than 1; of the two that are seen at 3, one ends: 3/8 are longer.
        assert_eq!(median(&spells, &[1.0]), 3.0);
        assert!(median(&[spell(1, true), spell(5, false), spell(6, false)], &[1.0]).is_nan());
        assert_eq!(median(&[spell(0, true), spell(4, true)], &[2.0]), 0.0);
    }

    #[test]
    fn a_rate_of_zero_has_an_upper_end() {
        let free = vec![trace(&[1.0; 10], &[]); 100];
        let found = support(BOOTSTRAP, &[10], &free, &free, BORDER);
        let [low, high] = found.per_thousand.unwrap().interval.unwrap();
        assert_eq!(low, 0.0);
        // 1000 tokens without a leave: at most 1 − 0.025^(1/1000) of them leave.
        assert!((high - 1000.0 * (1.0 - 0.025f64.powf(1e-3))).abs() < 1e-6);
        assert_eq!(found.recovery, None);
    }
}
