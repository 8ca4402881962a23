//! Accumulation of errors over the steps of free running (Arora et al. 2022, <https://arxiv.org/abs/2204.01171>).
//!
//! With an oracle o and a model p, the error of a step is KL(o‖p), the regret of predicting with p. `l ε(l)` is its sum over
//! the first l steps on contexts of the data, `R(l)` its sum over l steps on contexts that the model has drawn itself, and
//! `R(l) / ε(l)` the accumulated error in steps: l if errors do not accumulate, up to l² if each error is followed by
//! others. The excess is `(R(l) / (l ε(l)) − 1) · 100 %`.
//!
//! In the paper every text has a context at every step. A sequence that has ended has none, so both sums take, at each
//! step, the mean over the sequences that still go on there. A step that is not taken is not a step without error: otherwise
//! a model that ends its texts early would seem to make fewer errors than it makes in each step. Without ends, `l ε(l)` is
//! by the chain rule the divergence of the distributions of texts of l tokens.
//!
//! The exact oracle has no distribution after an impossible prefix, so what free running is charged there is a convention,
//! of which there are three ([`Treatment`]).

use serde::Serialize;

use super::walk::Trace;
use crate::science::bootstrap::Bootstrap;
use crate::science::evaluate::Estimate;

/// Errors of a step below this, in nats, cannot be told from the rounding of logits in f32.
const RESOLUTION: f64 = 1e-6;

/// Least number of contexts at a step whose mean is estimated, if there are twice as many sequences.
const FEWEST: usize = 20;

/// Convention for the error of a step whose context is impossible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Treatment {
    /// It is left out: the mean of a step is that of the sequences whose context is possible there.
    Possible,
    /// The whole sequence is left out, if it has left the support within l steps.
    NeverLeft,
    /// The oracle is smoothed with the weight of this index: it is uniform there.
    Smoothed(usize),
}

/// Errors that have accumulated up to a length. They are `None` if a step before it has too few contexts: fewer than 20,
/// and fewer than half of the sequences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accumulated {
    /// Number of steps l.
    pub length: usize,
    /// Number of free walks that take step l: those that have not ended before.
    pub alive: usize,
    /// Least number of contexts of free walks over which a step is averaged.
    pub contexts: usize,
    /// R(l), in nats.
    pub total: Option<Estimate>,
    /// R(l) / ε(l), in steps; `None` also if ε(l) cannot be told from rounding.
    pub ratio: Option<Estimate>,
    /// (R(l) / (l ε(l)) − 1) · 100 %.
    pub excess: Option<Estimate>,
}

/// Errors of the steps that a sequence takes.
struct Errors {
    /// Error of each step, in nats; 0 if it does not count.
    nats: Vec<f64>,
    /// 1 for each step that counts, and 0 for others.
    counts: Vec<f64>,
    /// Largest length at which the sequence counts.
    limit: usize,
}

impl Trace {
    fn errors(&self, treatment: Treatment) -> Errors {
        let nats = match treatment {
            Treatment::Smoothed(index) => &self.smoothed[index],
            Treatment::Possible | Treatment::NeverLeft => &self.exact,
        };
        let limit = match (treatment, self.leaves.first()) {
            (Treatment::NeverLeft, Some(leave)) => *leave,
            _ => usize::MAX,
        };
        let or_zero = |nats: &f64| if nats.is_nan() { 0.0 } else { *nats };
        let count = |nats: &f64| f64::from(u8::from(!nats.is_nan()));
        Errors {
            counts: nats.iter().map(count).collect(),
            nats: nats.iter().map(or_zero).collect(),
            limit,
        }
    }
}

/// Errors of the steps of all sequences.
struct Walks(Vec<Errors>);

impl Walks {
    fn new(traces: &[Trace], treatment: Treatment) -> Self {
        Self(traces.iter().map(|trace| trace.errors(treatment)).collect())
    }

    /// Returns the weighted sums of the errors and of the contexts of each step before a length.
    fn sums(&self, weights: &[f64], length: usize) -> [Vec<f64>; 2] {
        let mut sums = [vec![0.0; length], vec![0.0; length]];
        let weighted = self.0.iter().zip(weights);
        for (errors, weight) in
            weighted.filter(|(errors, weight)| **weight > 0.0 && errors.limit >= length)
        {
            for (sums, terms) in sums.iter_mut().zip([&errors.nats, &errors.counts]) {
                for (sum, term) in sums.iter_mut().zip(terms) {
                    *sum += weight * term;
                }
            }
        }
        sums
    }

    /// Returns the sum over the steps of their mean errors at each of some ascending lengths; NaN if a step has no context.
    fn totals(&self, weights: &[f64], lengths: &[usize]) -> Vec<f64> {
        let total = |[nats, counts]: &[Vec<f64>; 2], length: usize| -> f64 {
            let steps = nats.iter().zip(counts).take(length);
            steps.map(|(nats, count)| nats / count).sum()
        };
        if self.0.iter().any(|errors| errors.limit < usize::MAX) {
            let lengths = lengths.iter();
            return lengths
                .map(|length| total(&self.sums(weights, *length), *length))
                .collect();
        }
        let sums = self.sums(weights, lengths.last().copied().unwrap_or(0));
        lengths.iter().map(|length| total(&sums, *length)).collect()
    }

    /// Returns the least number of contexts of a step, at each of some lengths.
    fn contexts(&self, lengths: &[usize]) -> Vec<usize> {
        let every = vec![1.0; self.0.len()];
        let least = |length: &usize| {
            let [_, counts] = self.sums(&every, *length);
            counts.into_iter().fold(f64::INFINITY, f64::min) as usize
        };
        lengths.iter().map(least).collect()
    }
}

/// Returns the least number of contexts at a step whose mean is estimated from some sequences.
pub(super) fn fewest(sequences: usize) -> usize {
    FEWEST.min(sequences.div_ceil(2))
}

/// Returns the number of sequences that take the last step of each length.
pub(super) fn alive(lengths: &[usize], traces: &[Trace]) -> Vec<usize> {
    let at = |length: &usize| {
        let taken = traces.iter().filter(|trace| trace.exact.len() >= *length);
        taken.count()
    };
    lengths.iter().map(at).collect()
}

/// Returns lengths at which accumulation is reported: powers of two and their halves between, and the last one.
pub(super) fn lengths(last: usize) -> Vec<usize> {
    let powers = (0..usize::BITS - 1).map(|power| 1usize << power);
    let between = powers.flat_map(|power| [Some(power), (power > 1).then(|| power + power / 2)]);
    let mut lengths: Vec<usize> = between
        .flatten()
        .take_while(|length| *length < last)
        .collect();
    lengths.push(last);
    lengths
}

/// Estimates ε(l) at each length from walks along the data, in nats; `None` if a step has too few contexts.
pub(super) fn per_step(
    bootstrap: Bootstrap,
    lengths: &[usize],
    data: &[Trace],
    treatment: Treatment,
) -> Vec<Option<Estimate>> {
    let walks = Walks::new(data, treatment);
    let is_enough = |contexts: &usize| *contexts >= fewest(data.len());
    let known: Vec<bool> = walks.contexts(lengths).iter().map(is_enough).collect();
    bootstrap.estimates(data.len(), |weights| {
        let totals = walks.totals(weights, lengths).into_iter();
        let means = totals
            .zip(lengths)
            .map(|(total, length)| total / *length as f64);
        means
            .zip(&known)
            .map(|(mean, is_known)| if *is_known { mean } else { f64::NAN })
            .collect()
    })
}

/// Estimates the accumulated errors at each length from free walks and walks along the data that begin with the same
/// prompts: sequences are drawn with both of their walks.
pub(super) fn accumulated(
    bootstrap: Bootstrap,
    lengths: &[usize],
    free: &[Trace],
    data: &[Trace],
    treatment: Treatment,
) -> Vec<Accumulated> {
    let of_data = match treatment {
        Treatment::NeverLeft => Treatment::Possible,
        treatment => treatment,
    };
    let (free_walks, data_walks) = (Walks::new(free, treatment), Walks::new(data, of_data));
    let contexts = free_walks.contexts(lengths);
    let least = fewest(free.len());
    let known = contexts.iter().zip(data_walks.contexts(lengths));
    let known: Vec<bool> = known
        .map(|(free, data)| *free.min(&data) >= least)
        .collect();
    let estimates = bootstrap.estimates(free.len(), |weights| {
        let totals = free_walks.totals(weights, lengths).into_iter();
        let totals = totals.zip(data_walks.totals(weights, lengths));
        let numbers = totals.zip(lengths).zip(&known);
        let numbers = numbers.flat_map(|(((free, data), length), is_known)| {
            let length = *length as f64;
            let per_step = data / length;
            let ratio = match per_step >= RESOLUTION {
                true => free / per_step,
                false => f64::NAN,
            };
            match is_known {
                true => [free, ratio, 100.0 * (ratio / length - 1.0)],
                false => [f64::NAN; 3],
            }
        });
        numbers.collect()
    });
    let rows = lengths.iter().zip(alive(lengths, free)).zip(contexts);
    rows.zip(estimates.chunks_exact(3))
        .map(|(((length, alive), contexts), estimates)| Accumulated {
            length: *length,
            alive,
            contexts,
            total: estimates[0],
            ratio: estimates[1],
            excess: estimates[2],
        })
        .collect()
}

/// Returns the mean error of each step over the sequences whose context is possible there; NaN without any.
pub(super) fn by_step(traces: &[Trace], length: usize) -> Vec<f64> {
    let at = |step: usize| {
        let nats = traces.iter().filter_map(|trace| trace.exact.get(step));
        let possible: Vec<f64> = nats.copied().filter(|nats| !nats.is_nan()).collect();
        possible.iter().sum::<f64>() / possible.len() as f64
    };
    (0..length).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap {
        draws: 200,
        seed: 0,
    };

    fn trace(exact: &[f64], leaves: &[usize]) -> Trace {
        let or = |instead: f64| {
            let nats = exact.iter();
            nats.map(|x| if x.is_nan() { instead } else { *x })
                .collect()
        };
        Trace {
            tokens: vec![0; exact.len() + 1],
            prompt: 1,
            exact: exact.to_vec(),
            smoothed: [or(10.0), or(20.0)],
            best: vec![0; exact.len()],
            leaves: leaves.to_vec(),
        }
    }

    #[test]
    fn lengths_end_with_the_last() {
        assert_eq!(lengths(1), [1]);
        assert_eq!(lengths(8), [1, 2, 3, 4, 6, 8]);
        assert_eq!(
            lengths(112),
            [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 112]
        );
    }

    #[test]
    fn treatments_differ_in_what_leaving_costs() {
        let nan = f64::NAN;
        let data = [trace(&[1.0, 1.0, 1.0, 1.0], &[]), trace(&[1.0; 4], &[])];
        let free = [trace(&[1.0, nan, nan, 3.0], &[0]), trace(&[1.0; 4], &[])];
        let at_4 = |treatment| {
            let all = accumulated(BOOTSTRAP, &[2, 4], &free, &data, treatment);
            all[1].ratio.unwrap().value
        };
        // Steps of 1, 1 and 1 nats, and one of (3 + 1) / 2.
        assert!((at_4(Treatment::Possible) - 5.0).abs() < 1e-12);
        assert!((at_4(Treatment::NeverLeft) - 4.0).abs() < 1e-12);
        assert!((at_4(Treatment::Smoothed(0)) - (1.0 + 20.0 + 3.0 + 4.0) / 2.0).abs() < 1e-12);
        assert!((at_4(Treatment::Smoothed(1)) - (1.0 + 40.0 + 3.0 + 4.0) / 2.0).abs() < 1e-12);
        let first = accumulated(BOOTSTRAP, &[1], &free, &data, Treatment::Possible);
        assert_eq!(first[0].excess.unwrap().value, 0.0);
        assert_eq!(by_step(&free, 5)[..2], [1.0, 1.0]);
        assert!(by_step(&free, 5)[4].is_nan());
    }

    #[test]
    fn a_step_that_is_not_taken_is_not_a_step_without_error() {
        let data = [trace(&[1.0, 1.0], &[]), trace(&[1.0; 4], &[])];
        let free = [trace(&[2.0], &[]), trace(&[1.0; 4], &[])];
        let at_4 = &accumulated(BOOTSTRAP, &[4], &free, &data, Treatment::Possible)[0];
        // (2 + 1) / 2 nats in the first step, and 1 in each of the others.
        assert_eq!(at_4.total.unwrap().value, 4.5);
        assert_eq!(at_4.ratio.unwrap().value, 4.5);
        assert_eq!((at_4.alive, at_4.contexts), (1, 1));
        let per_step = per_step(BOOTSTRAP, &[1, 4], &data, Treatment::Possible);
        let per_step = per_step.iter().map(|estimate| estimate.unwrap().value);
        assert_eq!(per_step.collect::<Vec<_>>(), [1.0, 1.0]);
    }

    #[test]
    fn steps_with_few_contexts_have_no_estimate() {
        let long = vec![trace(&[1.0; 4], &[]); 100];
        let mut free = vec![trace(&[1.0; 4], &[]); 19];
        free.extend(vec![trace(&[1.0; 2], &[]); 81]);
        let all = accumulated(BOOTSTRAP, &[2, 3], &free, &long, Treatment::Possible);
        assert_eq!((all[0].alive, all[0].excess.unwrap().value), (100, 0.0));
        assert_eq!(
            (all[1].alive, all[1].total, all[1].excess),
            (19, None, None)
        );
        let data = per_step(BOOTSTRAP, &[2, 3], &free, Treatment::Possible);
        assert_eq!((data[0].unwrap().value, data[1]), (1.0, None));
        assert_eq!([1, 2, 39, 40, 512].map(fewest), [1, 1, 20, 20, 20]);
    }

    #[test]
    fn a_model_that_cannot_be_told_from_the_oracle_has_no_ratio() {
        let exact = vec![trace(&[1e-8, -2e-8], &[]); 3];
        let all = accumulated(BOOTSTRAP, &[2], &exact, &exact, Treatment::Possible);
        assert_eq!((&all[0].ratio, &all[0].excess), (&None, &None));
        assert!(all[0].total.unwrap().value.abs() < 1e-7);
    }
}
