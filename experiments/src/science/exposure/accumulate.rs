//! Accumulation of errors over the steps of free running (Arora et al. 2022, <https://arxiv.org/abs/2204.01171>).
//!
//! With an oracle o and a model p, the error of a step is KL(o‖p), the regret of predicting with p. `ε(l)` is its mean over
//! the first l steps on contexts of the data, `R(l)` its sum over l steps on contexts that the model has drawn itself, and
//! `R(l) / ε(l)` the accumulated error in steps: l if errors do not accumulate, up to l² if each error is followed by
//! others. The excess is `(R(l) / (l ε(l)) − 1) · 100 %`.
//!
//! A sequence that has ended has no error any more. By the chain rule, `l ε(l)` is the divergence of the distributions of
//! whole texts of l tokens.
//!
//! The exact oracle has no distribution after an impossible prefix, so what free running is charged there is a convention,
//! of which there are three ([`Treatment`]).

use serde::Serialize;

use super::walk::Trace;
use crate::science::bootstrap::Bootstrap;
use crate::science::evaluate::Estimate;

/// Errors of a step below this, in nats, cannot be told from the rounding of logits in f32.
const RESOLUTION: f64 = 1e-6;

/// Convention for the error of a step whose context is impossible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Treatment {
    /// It is left out: R(l) is l times the mean over the other steps.
    Possible,
    /// The whole sequence is left out, if it has left the support within l steps.
    NeverLeft,
    /// The oracle is smoothed with the weight of this index: it is uniform there.
    Smoothed(usize),
}

/// Errors that have accumulated up to a length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accumulated {
    /// Number of steps l.
    pub length: usize,
    /// R(l), in nats.
    pub total: Option<Estimate>,
    /// R(l) / ε(l), in steps; `None` if ε(l) cannot be told from rounding.
    pub ratio: Option<Estimate>,
    /// (R(l) / (l ε(l)) − 1) · 100 %.
    pub excess: Option<Estimate>,
}

/// Sums of a sequence up to a length.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    nats: f64,
    steps: f64,
}

impl Trace {
    fn sums(&self, length: usize, treatment: Treatment) -> Sums {
        let all = |nats: &[f64]| Sums {
            nats: nats.iter().take(length).sum(),
            steps: length as f64,
        };
        match treatment {
            Treatment::Smoothed(index) => all(&self.smoothed[index]),
            Treatment::NeverLeft if self.leaves.first().is_some_and(|leave| *leave < length) => {
                Sums::default()
            }
            Treatment::NeverLeft => all(&self.exact),
            Treatment::Possible => {
                let steps = self.exact.iter().take(length);
                let impossible = steps.clone().filter(|nats| nats.is_nan()).count();
                Sums {
                    nats: steps.filter(|nats| !nats.is_nan()).sum(),
                    steps: (length - impossible) as f64,
                }
            }
        }
    }
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

/// Estimates ε(l) at each length from walks along the data, in nats.
pub(super) fn per_step(
    bootstrap: Bootstrap,
    lengths: &[usize],
    data: &[Trace],
    treatment: Treatment,
) -> Vec<Option<Estimate>> {
    let sums = table(lengths, data, treatment);
    bootstrap.estimates(data.len(), |weights| {
        let means = (0..lengths.len()).map(|length| mean(&sums, weights, length));
        means.collect()
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
    let (free_sums, data_sums) = (
        table(lengths, free, treatment),
        table(lengths, data, of_data),
    );
    let estimates = bootstrap.estimates(free.len(), |weights| {
        let numbers = lengths.iter().enumerate().flat_map(|(index, length)| {
            let free = mean(&free_sums, weights, index);
            let data = mean(&data_sums, weights, index);
            let ratio = match data >= RESOLUTION {
                true => free / data,
                false => f64::NAN,
            };
            let length = *length as f64;
            [length * free, length * ratio, 100.0 * (ratio - 1.0)]
        });
        numbers.collect()
    });
    let rows = lengths.iter().zip(estimates.chunks_exact(3));
    rows.map(|(length, estimates)| Accumulated {
        length: *length,
        total: estimates[0],
        ratio: estimates[1],
        excess: estimates[2],
    })
    .collect()
}

/// Returns the sums of each sequence up to each length.
fn table(lengths: &[usize], traces: &[Trace], treatment: Treatment) -> Vec<Vec<Sums>> {
    let of = |trace: &Trace| {
        let sums = lengths.iter().map(|length| trace.sums(*length, treatment));
        sums.collect()
    };
    traces.iter().map(of).collect()
}

/// Returns the mean error of a step over weighted sequences.
fn mean(sums: &[Vec<Sums>], weights: &[f64], length: usize) -> f64 {
    let (mut nats, mut steps) = (0.0, 0.0);
    for (sums, weight) in sums.iter().zip(weights) {
        nats += weight * sums[length].nats;
        steps += weight * sums[length].steps;
    }
    nats / steps
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
        // (1 + 3 + 4) / 6 nats in each of 4 steps.
        assert!((at_4(Treatment::Possible) - 4.0 * 8.0 / 6.0).abs() < 1e-12);
        assert!((at_4(Treatment::NeverLeft) - 4.0).abs() < 1e-12);
        assert!((at_4(Treatment::Smoothed(0)) - (1.0 + 20.0 + 3.0 + 4.0) / 2.0).abs() < 1e-12);
        assert!((at_4(Treatment::Smoothed(1)) - (1.0 + 40.0 + 3.0 + 4.0) / 2.0).abs() < 1e-12);
        let first = accumulated(BOOTSTRAP, &[1], &free, &data, Treatment::Possible);
        assert_eq!(first[0].excess.unwrap().value, 0.0);
        assert_eq!(by_step(&free, 5)[..2], [1.0, 1.0]);
        assert!(by_step(&free, 5)[4].is_nan());
    }

    #[test]
    fn a_sequence_that_has_ended_has_no_error() {
        let data = [trace(&[1.0, 1.0], &[]), trace(&[1.0; 4], &[])];
        let free = [trace(&[2.0], &[]), trace(&[1.0; 4], &[])];
        let at_4 = &accumulated(BOOTSTRAP, &[4], &free, &data, Treatment::Possible)[0];
        assert_eq!(at_4.total.unwrap().value, 3.0);
        assert_eq!(at_4.ratio.unwrap().value, 4.0);
    }

    #[test]
    fn a_model_that_cannot_be_told_from_the_oracle_has_no_ratio() {
        let exact = vec![trace(&[1e-8, -2e-8], &[]); 3];
        let all = accumulated(BOOTSTRAP, &[2], &exact, &exact, Treatment::Possible);
        assert_eq!((&all[0].ratio, &all[0].excess), (&None, &None));
        assert!(all[0].total.unwrap().value.abs() < 1e-7);
    }
}
