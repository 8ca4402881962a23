//! Prediction of the accuracy of later checkpoints from their bits per byte.

use rayon::prelude::*;
use serde::Serialize;

use super::logistic::{Logistic, PARAMETERS};
use super::means::Measure;
use super::measured::{BOOTSTRAP, Checkpoint, mean, sign};

/// Least checkpoints that a curve is fitted to: two more than it has parameters.
const LEAST_FITTED: usize = PARAMETERS + 2;

/// Least checkpoints that are held out.
const LEAST_HELD_OUT: usize = 2;

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
    /// The accuracy does not clearly change over the checkpoints that would be fitted, so that no curve is determined.
    Unclear {
        /// Number of these checkpoints.
        fitted: usize,
        /// Accuracy of the last of them less that of the first.
        change: f64,
        /// Ends of its 95 % interval, over items.
        interval: Option<[f64; 2]>,
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
        /// Ends of the 95 % interval of the second less the first, over items.
        advantage_interval: Option<[f64; 2]>,
        /// Step of a fitted checkpoint without which an interval excludes 0 and does not, or the other way round.
        depends_on: Option<usize>,
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

/// Bits per byte and accuracy of each checkpoint.
type Points = Vec<(f64, f64)>;

/// Errors of a prediction over the held-out checkpoints.
struct Errors {
    /// Mean of measured minus predicted accuracy.
    mean: f64,
    absolute: f64,
    /// Mean absolute error of the accuracy of the last fitted checkpoint.
    persistence: f64,
}

impl Prediction {
    pub(super) fn of(checkpoints: &[Checkpoint<'_>]) -> Self {
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
        let points = |chosen: &[usize]| -> Points {
            let point = |checkpoint: &Checkpoint<'_>| {
                let of = |measure| mean(measure, checkpoint.scores, chosen);
                (of(Measure::BitsPerByte), of(Measure::Accuracy))
            };
            checkpoints.iter().map(point).collect()
        };
        let measured = points(&every);
        // The items of a draw are the same at all checkpoints, as in the measurement.
        let drawn: Vec<Points> = BOOTSTRAP.draws(items, |chosen| Some(points(chosen)));
        let change = |points: &Points| points[fitted - 1].1 - points[0].1;
        let interval = BOOTSTRAP.interval(drawn.iter().map(change));
        let law = Logistic::fit(&measured[..fitted]).filter(|_| sign(interval) != 0);
        let Some(law) = law else {
            return Self::Unclear {
                fitted,
                change: change(&measured),
                interval,
            };
        };
        let all: Vec<usize> = (0..fitted).collect();
        let laws = fit(&drawn, &all);
        let held_out = measured[fitted..].iter().enumerate();
        let held_out = held_out.map(|(number, (bits_per_byte, accuracy))| {
            let predictions = drawn.iter().zip(&laws);
            let predictions = predictions
                .filter_map(|(draw, law)| Some(law.as_ref()?.accuracy(draw[fitted + number].0)));
            HeldOut {
                step: checkpoints[fitted + number].step,
                bits_per_byte: *bits_per_byte,
                measured: *accuracy,
                predicted: law.accuracy(*bits_per_byte),
                interval: BOOTSTRAP.interval(predictions),
            }
        });
        let errors = errors(&measured, &law, fitted);
        let [error_interval, advantage_interval] = intervals(&drawn, &laws, fitted);
        let signs = [error_interval, advantage_interval].map(sign);
        let depends = all.iter().find(|left_out| {
            let kept: Vec<usize> = all.iter().copied().filter(|at| at != *left_out).collect();
            intervals(&drawn, &fit(&drawn, &kept), fitted).map(sign) != signs
        });
        Self::Predicted {
            law,
            fitted,
            held_out: held_out.collect(),
            error: errors.mean,
            error_interval,
            absolute_error: errors.absolute,
            persistence_error: errors.persistence,
            advantage_interval,
            depends_on: depends.map(|index| checkpoints[*index].step),
        }
    }
}

/// Fits a curve to the checkpoints of these numbers in each draw.
fn fit(drawn: &[Points], kept: &[usize]) -> Vec<Option<Logistic>> {
    let law = |points: &Points| {
        let kept: Points = kept.iter().map(|index| points[*index]).collect();
        Logistic::fit(&kept)
    };
    drawn.par_iter().map(law).collect()
}

/// Returns the errors of a curve at the checkpoints after the fitted ones.
fn errors(points: &[(f64, f64)], law: &Logistic, fitted: usize) -> Errors {
    let last = points[fitted - 1].1;
    let held_out = &points[fitted..];
    let over = |of: &dyn Fn(&(f64, f64)) -> f64| {
        held_out.iter().map(of).sum::<f64>() / held_out.len() as f64
    };
    Errors {
        mean: over(&|(x, y)| y - law.accuracy(*x)),
        absolute: over(&|(x, y)| (y - law.accuracy(*x)).abs()),
        persistence: over(&|(_, y)| (y - last).abs()),
    }
}

/// Returns the intervals of the mean error, and of how much smaller the absolute error is than that of persistence.
fn intervals(drawn: &[Points], laws: &[Option<Logistic>], fitted: usize) -> [Option<[f64; 2]>; 2] {
    let drawn = drawn.iter().zip(laws);
    let errors = drawn.filter_map(|(draw, law)| Some(errors(draw, law.as_ref()?, fitted)));
    let errors: Vec<Errors> = errors.collect();
    let advantage = |errors: &Errors| errors.persistence - errors.absolute;
    [
        BOOTSTRAP.interval(errors.iter().map(|errors| errors.mean)),
        BOOTSTRAP.interval(errors.iter().map(advantage)),
    ]
}

#[cfg(test)]
mod tests;
