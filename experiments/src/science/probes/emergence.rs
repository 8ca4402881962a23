//! Emergence or artefact: whether a measure changes suddenly along training, and whether bits per byte predict accuracy.
//!
//! Items are measured smoothly and by all-or-nothing at the same checkpoints. If exact match jumps where
//! log-likelihood and Brier score move steadily, the jump is one of the measure (Schaeffer et al. 2023). If the accuracy of
//! later checkpoints follows from their bits per byte by a curve that is fitted to earlier ones, it is no surprise either
//! (Bhagia et al. 2024).

use foretoken_datasets::world::Family;
use serde::Serialize;

use super::logistic::{Logistic, PARAMETERS};
use super::means::Measure;
use super::score::ItemScore;
use crate::science::bootstrap::Bootstrap;

/// Bootstrap over items: intervals of numbers that are no means, such as a prediction or a ratio of spreads.
pub(super) const BOOTSTRAP: Bootstrap = Bootstrap {
    draws: 400,
    seed: 0,
};

/// Least checkpoints of which the largest step between two is reported. Of fewer, one step is most of the change anyway.
const LEAST_FOR_JUMPS: usize = 4;

/// Least checkpoints that a curve is fitted to: two more than it has parameters.
const LEAST_FITTED: usize = PARAMETERS + 2;

/// Least checkpoints that are held out.
const LEAST_HELD_OUT: usize = 2;

/// Measures whose largest steps are compared.
const COMPARED: [Measure; 5] = [
    Measure::ExactMatch,
    Measure::Accuracy,
    Measure::PRight,
    Measure::Brier,
    Measure::LogLikelihood,
];

/// How a family develops over checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Emergence {
    /// The family.
    pub family: Family,
    /// Largest steps between consecutive checkpoints, by measure; empty for fewer than four checkpoints.
    pub jumps: Vec<Jump>,
    /// Prediction of accuracy from bits per byte.
    pub prediction: Prediction,
}

/// Largest step of a measure between two consecutive checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Jump {
    /// The measure.
    pub measure: Measure,
    /// Step of the checkpoint before it.
    pub from: usize,
    /// Step of the checkpoint after it.
    pub to: usize,
    /// Its share of the change from the first to the last checkpoint. More than 1 if the measure also moves back.
    pub share: f64,
    /// Ends of the 95 % interval of the share, over items; `None` if the change is not clearly more than nothing.
    pub interval: Option<[f64; 2]>,
}

/// Prediction of the accuracy of held-out checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Prediction {
    /// There are too few checkpoints.
    TooFew {
        /// Their number.
        checkpoints: usize,
        /// The least number.
        needed: usize,
    },
    /// The accuracy does not change over the fitted checkpoints, so that no curve is determined.
    Unchanged {
        /// Accuracy of all of them.
        accuracy: f64,
    },
    /// A curve was fitted to the first checkpoints and predicts the last ones.
    Predicted {
        /// The curve of the first checkpoints.
        law: Logistic,
        /// Number of fitted checkpoints.
        fitted: usize,
        /// The held-out checkpoints.
        held_out: Vec<HeldOut>,
        /// Mean of measured minus predicted accuracy over the held-out checkpoints.
        error: f64,
        /// Ends of its 95 % interval, over items; `None` if too few draws have a curve.
        error_interval: Option<[f64; 2]>,
        /// Mean absolute error of the prediction.
        absolute_error: f64,
        /// Mean absolute error of the accuracy of the last fitted checkpoint as a prediction.
        persistence_error: f64,
    },
}

/// Accuracy of a held-out checkpoint, measured and predicted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeldOut {
    /// Its step.
    pub step: usize,
    /// Bits per byte of the right answers, from which the accuracy is predicted.
    pub bits_per_byte: f64,
    /// Measured accuracy.
    pub measured: f64,
    /// Predicted accuracy.
    pub predicted: f64,
    /// Ends of the 95 % interval of the prediction, over items.
    pub interval: Option<[f64; 2]>,
}

/// Scores of the items of a family at a checkpoint.
pub(super) struct Checkpoint<'s> {
    pub(super) step: usize,
    pub(super) scores: &'s [ItemScore],
}

impl Emergence {
    /// Describes a family at some checkpoints, in the order of their steps. All have the same items.
    pub(super) fn of(family: Family, checkpoints: &[Checkpoint<'_>]) -> Self {
        Self {
            family,
            jumps: jumps(checkpoints),
            prediction: Prediction::of(checkpoints),
        }
    }
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

fn jumps(checkpoints: &[Checkpoint<'_>]) -> Vec<Jump> {
    let items = checkpoints.first().map_or(0, |first| first.scores.len());
    if checkpoints.len() < LEAST_FOR_JUMPS || items == 0 {
        return Vec::new();
    }
    let every: Vec<usize> = (0..items).collect();
    let jump = |measure: Measure| {
        let values = |chosen: &[usize]| -> Vec<f64> {
            let means = checkpoints.iter();
            means
                .map(|checkpoint| mean(measure, checkpoint.scores, chosen))
                .collect()
        };
        let measured = values(&every);
        let (number, share) = largest(&measured)?;
        let all = BOOTSTRAP.draws(items, |chosen| {
            let values = values(chosen);
            let share = largest(&values)?.1;
            Some((share, values[values.len() - 1] - values[0]))
        });
        // A share of a change whose sign is not clear has no meaning.
        let change = BOOTSTRAP.interval(all.iter().map(|(_, change)| *change));
        let is_clear = change.is_some_and(|[low, high]| low > 0.0 || high < 0.0);
        let shares = all.iter().map(|(share, _)| *share);
        Some(Jump {
            measure,
            from: checkpoints[number].step,
            to: checkpoints[number + 1].step,
            share,
            interval: is_clear.then(|| BOOTSTRAP.interval(shares)).flatten(),
        })
    };
    COMPARED.into_iter().filter_map(jump).collect()
}

/// Returns the number and the share of the largest step between consecutive values; `None` if the last equals the first.
fn largest(values: &[f64]) -> Option<(usize, f64)> {
    let change = (values.last()? - values.first()?).abs();
    let steps = values.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let (number, step) = steps.enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    (change > 0.0).then_some((number, step / change))
}

impl Prediction {
    fn of(checkpoints: &[Checkpoint<'_>]) -> Self {
        let needed = LEAST_FITTED + LEAST_HELD_OUT;
        let count = checkpoints.len();
        let items = checkpoints.first().map_or(0, |first| first.scores.len());
        if count < needed || items == 0 {
            return Self::TooFew {
                checkpoints: count,
                needed,
            };
        }
        let fitted = count - LEAST_HELD_OUT.max(count / 3).min(count - LEAST_FITTED);
        let every: Vec<usize> = (0..items).collect();
        let points = |chosen: &[usize]| -> Vec<(f64, f64)> {
            let point = |checkpoint: &Checkpoint<'_>| {
                let of = |measure| mean(measure, checkpoint.scores, chosen);
                (of(Measure::BitsPerByte), of(Measure::Accuracy))
            };
            checkpoints.iter().map(point).collect()
        };
        let measured = points(&every);
        let accuracy = measured[0].1;
        let is_constant = measured[..fitted].iter().all(|point| point.1 == accuracy);
        let law = Logistic::fit(&measured[..fitted]).filter(|_| !is_constant);
        let Some(law) = law else {
            return Self::Unchanged { accuracy };
        };
        // The items of a draw are the same at all checkpoints, as in the measurement.
        let drawn: Vec<Vec<(f64, f64)>> = BOOTSTRAP.draws(items, |chosen| {
            let points = points(chosen);
            let law = Logistic::fit(&points[..fitted])?;
            let held_out = points[fitted..].iter();
            Some(held_out.map(|(x, y)| (law.accuracy(*x), *y)).collect())
        });
        let held_out = measured[fitted..].iter().enumerate();
        let held_out: Vec<HeldOut> = held_out
            .map(|(number, (bits_per_byte, measured))| HeldOut {
                step: checkpoints[fitted + number].step,
                bits_per_byte: *bits_per_byte,
                measured: *measured,
                predicted: law.accuracy(*bits_per_byte),
                interval: BOOTSTRAP.interval(drawn.iter().map(|draw| draw[number].0)),
            })
            .collect();
        let n = held_out.len() as f64;
        let over = |of: &dyn Fn(&HeldOut) -> f64| held_out.iter().map(of).sum::<f64>() / n;
        let errors = drawn.iter().map(|draw| {
            let errors = draw
                .iter()
                .map(|(predicted, measured)| measured - predicted);
            errors.sum::<f64>() / n
        });
        let last = measured[fitted - 1].1;
        Self::Predicted {
            law,
            fitted,
            error: over(&|point| point.measured - point.predicted),
            error_interval: BOOTSTRAP.interval(errors),
            absolute_error: over(&|point| (point.measured - point.predicted).abs()),
            persistence_error: over(&|point| (point.measured - last).abs()),
            held_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::means::tests::scored;
    use super::*;

    /// Returns scores at 12 checkpoints of 60 items, whose log-odds rise steadily, each from another start.
    fn steady() -> Vec<Vec<ItemScore>> {
        let checkpoint = |time: usize| {
            let item = |item: usize| {
                let start = 2.0 * (12.9898 * (item * item + 1) as f64).sin();
                let odds = (0.45 * time as f64 - 2.5 + start).exp();
                let right = odds / (1.0 + odds);
                scored(right, 1.0 - right)
            };
            (0..60).map(item).collect()
        };
        (0..12).map(checkpoint).collect()
    }

    fn checkpoints(scores: &[Vec<ItemScore>]) -> Vec<Checkpoint<'_>> {
        let checkpoint = |(number, scores)| Checkpoint {
            step: 1usize << number,
            scores,
        };
        let scores = scores.iter().map(Vec::as_slice);
        scores.enumerate().map(checkpoint).collect()
    }

    #[test]
    fn accuracy_that_follows_from_bits_per_byte_is_predicted() {
        let law = Logistic {
            a: 0.65,
            k: -3.0,
            l0: 2.2,
            b: 0.3,
        };
        let checkpoint = |time: usize| -> Vec<ItemScore> {
            let bits_per_byte = 3.5 - 0.28 * time as f64;
            let right = (200.0 * law.accuracy(bits_per_byte)).round() as usize;
            let item = |item: usize| {
                let mut score = scored(0.5, 0.25);
                score.log_likelihood = -bits_per_byte * 2.0 * std::f64::consts::LN_2;
                score.is_right = item < right;
                score
            };
            (0..200).map(item).collect()
        };
        let scores: Vec<Vec<ItemScore>> = (0..12).map(checkpoint).collect();
        let emergence = Emergence::of(Family::Sums, &checkpoints(&scores));
        let Prediction::Predicted {
            law: fitted_law,
            fitted,
            held_out,
            error,
            error_interval,
            absolute_error,
            persistence_error,
        } = emergence.prediction
        else {
            panic!("{:?}", emergence.prediction);
        };
        assert_eq!((fitted, held_out.len()), (8, 4));
        assert_eq!(held_out[0].step, 1 << 8);
        let difference = fitted_law.accuracy(2.0) - law.accuracy(2.0);
        assert!(difference.abs() < 0.02, "{fitted_law:?}");
        assert!(absolute_error < 0.02, "{held_out:?}");
        let last = law.accuracy(3.5 - 0.28 * 7.0);
        let rise = (8..12).map(|time| law.accuracy(3.5 - 0.28 * f64::from(time)) - last);
        assert!((persistence_error - rise.sum::<f64>() / 4.0).abs() < 0.005);
        assert!(persistence_error > 2.0 * absolute_error);
        let [low, high] = error_interval.unwrap();
        assert!(
            low <= error && error <= high && high - low < 0.4,
            "{low} {error} {high}"
        );
    }

    #[test]
    fn a_jump_that_bits_per_byte_do_not_show_is_not_predicted() {
        // The likelihood of the right answer stays, and wrong answers fall below it at once.
        let mut scores = steady();
        for (time, scores) in scores.iter_mut().enumerate() {
            for (item, score) in scores.iter_mut().enumerate() {
                let right = 0.1 + 0.02 * time as f64 + 0.001 * item as f64;
                *score = scored(
                    right,
                    if time < 8 {
                        0.5 + 0.001 * (item % 7) as f64
                    } else {
                        0.01
                    },
                );
                score.is_right |= item < time;
            }
        }
        let emergence = Emergence::of(Family::Sums, &checkpoints(&scores));
        let Prediction::Predicted {
            error,
            error_interval,
            ..
        } = emergence.prediction
        else {
            panic!("{:?}", emergence.prediction);
        };
        assert!(error > 0.3, "{error}");
        assert!(error_interval.unwrap()[0] > 0.2, "{error_interval:?}");
    }

    #[test]
    fn a_sudden_measure_has_a_larger_step_than_a_steady_one() {
        // All items are alike, so that exact match jumps as a whole.
        let scores: Vec<Vec<ItemScore>> = (0..10)
            .map(|time| {
                let right = 0.05 + 0.1 * f64::from(time);
                vec![scored(right, 1.0 - right); 20]
            })
            .collect();
        let emergence = Emergence::of(Family::Facts, &checkpoints(&scores));
        let share = |measure| {
            let jump = emergence.jumps.iter().find(|jump| jump.measure == measure);
            jump.unwrap().share
        };
        assert_eq!(share(Measure::ExactMatch), 1.0);
        assert!((share(Measure::PRight) - 1.0 / 9.0).abs() < 1e-9);
        let exact = emergence.jumps[0];
        assert_eq!(
            (exact.measure, exact.from, exact.to),
            (Measure::ExactMatch, 16, 32)
        );
        assert_eq!(exact.interval, Some([1.0, 1.0]));
    }

    #[test]
    fn few_checkpoints_and_constant_accuracy_predict_nothing() {
        let scores = steady();
        let few = Emergence::of(Family::Facts, &checkpoints(&scores[..3]));
        assert!(few.jumps.is_empty());
        assert_eq!(
            few.prediction,
            Prediction::TooFew {
                checkpoints: 3,
                needed: 8
            }
        );
        let constant: Vec<Vec<ItemScore>> = (0..9)
            .map(|time| vec![scored(0.6 + 0.01 * f64::from(time), 0.1); 5])
            .collect();
        let constant = Emergence::of(Family::Facts, &checkpoints(&constant));
        assert_eq!(constant.prediction, Prediction::Unchanged { accuracy: 1.0 });
    }
}
