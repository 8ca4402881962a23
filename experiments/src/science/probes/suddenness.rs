//! Comparison of how suddenly measures change along the checkpoints of a run.
//!
//! A change from the first to the last checkpoint is the sum of the steps between neighbours, and the largest step, as a share
//! of the change, says how sudden it is at these checkpoints. The largest of many noisy steps looks large by chance alone, so
//! its interval is simultaneous: with a probability of 95 % over items it covers the shares of all steps together. Which of
//! two measures is more sudden is only said if these intervals do not overlap, also if any one of the checkpoints between the
//! first and the last is left out.

use serde::Serialize;

use super::means::Measure;
use super::measured::{BOOTSTRAP, Checkpoint, mean, sign};
use crate::show::statistics::quantile_of_sorted;

/// Least checkpoints of which the largest steps are compared. Of fewer, one step is most of the change anyway.
const LEAST_CHECKPOINTS: usize = 5;

/// Least items whose measures are compared.
const LEAST_ITEMS: usize = 16;

/// Probability with which an interval covers the shares of all steps.
const CONFIDENCE: f64 = 0.95;

/// Measures whose largest steps are reported.
const REPORTED: [Measure; 5] = [
    Measure::ExactMatch,
    Measure::Accuracy,
    Measure::PRight,
    Measure::Brier,
    Measure::LogLikelihood,
];

/// Measures of which one may be the more sudden one.
const COMPARED: [Measure; 2] = [Measure::ExactMatch, Measure::Brier];

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
    /// Ends of the 95 % interval of the largest share, over items, which allows for the choice of the largest among all steps;
    /// `None` if the change is not clearly more than nothing.
    pub interval: Option<[f64; 2]>,
}

/// Answer to the question whether exact match or the Brier score changes more suddenly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Comparison {
    /// There are too few checkpoints.
    TooFewCheckpoints {
        /// Their number.
        checkpoints: usize,
        /// The least number.
        needed: usize,
    },
    /// There are too few items whose right answer a perfect model writes.
    TooFewItems {
        /// Their number.
        items: usize,
        /// The least number.
        needed: usize,
    },
    /// A measure does not clearly change from the first to the last checkpoint.
    Unclear {
        /// The measure.
        measure: Measure,
    },
    /// The intervals overlap.
    Undecided,
    /// The intervals do not overlap, but do without one of the checkpoints.
    DependsOnCheckpoint {
        /// Step of this checkpoint.
        step: usize,
    },
    /// The intervals do not overlap, whichever checkpoint is left out.
    MoreSudden {
        /// The more sudden measure.
        measure: Measure,
    },
}

/// Means of a measure at each checkpoint, over the measured items and over those of each draw.
struct Curve {
    measure: Measure,
    measured: Vec<f64>,
    drawn: Vec<Vec<f64>>,
}

/// Returns the largest steps of all measures over the items of these numbers, and compares two of them.
pub(super) fn compare(checkpoints: &[Checkpoint<'_>], items: &[usize]) -> (Vec<Jump>, Comparison) {
    let count = checkpoints.len();
    if count < LEAST_CHECKPOINTS {
        let outcome = Comparison::TooFewCheckpoints {
            checkpoints: count,
            needed: LEAST_CHECKPOINTS,
        };
        return (Vec::new(), outcome);
    }
    if items.len() < LEAST_ITEMS {
        let outcome = Comparison::TooFewItems {
            items: items.len(),
            needed: LEAST_ITEMS,
        };
        return (Vec::new(), outcome);
    }
    let steps: Vec<usize> = checkpoints.iter().map(|at| at.step).collect();
    let every: Vec<usize> = (0..count).collect();
    let curves = REPORTED.map(|measure| Curve::of(measure, checkpoints, items));
    let jumps = curves.iter().filter_map(|curve| curve.jump(&every, &steps));
    let compared = COMPARED.map(|measure| curves.iter().find(|curve| curve.measure == measure));
    let comparison = match compared {
        [Some(one), Some(other)] => outcome([one, other], &steps),
        _ => Comparison::Undecided,
    };
    (jumps.collect(), comparison)
}

fn outcome(curves: [&Curve; 2], steps: &[usize]) -> Comparison {
    let every: Vec<usize> = (0..steps.len()).collect();
    let more_sudden = |kept: &[usize]| {
        let [one, other] = curves.map(|curve| curve.jump(kept, steps)?.interval);
        let (one, other) = (one?, other?);
        match (one[0] > other[1], other[0] > one[1]) {
            (true, _) => Some(curves[0].measure),
            (_, true) => Some(curves[1].measure),
            _ => None,
        }
    };
    if let Some(curve) = curves.iter().find(|curve| !curve.is_clear()) {
        return Comparison::Unclear {
            measure: curve.measure,
        };
    }
    let Some(measure) = more_sudden(&every) else {
        return Comparison::Undecided;
    };
    let mut inner = 1..steps.len() - 1;
    let decisive = inner.find(|left_out| {
        let kept: Vec<usize> = every.iter().copied().filter(|at| at != left_out).collect();
        more_sudden(&kept) != Some(measure)
    });
    match decisive {
        Some(index) => Comparison::DependsOnCheckpoint { step: steps[index] },
        None => Comparison::MoreSudden { measure },
    }
}

impl Curve {
    fn of(measure: Measure, checkpoints: &[Checkpoint<'_>], items: &[usize]) -> Self {
        let values = |chosen: &[usize]| -> Vec<f64> {
            let means = checkpoints.iter();
            means.map(|at| mean(measure, at.scores, chosen)).collect()
        };
        Self {
            measure,
            measured: values(items),
            drawn: BOOTSTRAP.draws(items.len(), |drawn| {
                let chosen: Vec<usize> = drawn.iter().map(|index| items[*index]).collect();
                Some(values(&chosen))
            }),
        }
    }

    /// Returns whether the change from the first to the last checkpoint is clearly more than nothing.
    fn is_clear(&self) -> bool {
        let change = |values: &Vec<f64>| values[values.len() - 1] - values[0];
        sign(BOOTSTRAP.interval(self.drawn.iter().map(change))) != 0
    }

    /// Returns the largest step between neighbours of the kept checkpoints; `None` if the last value equals the first.
    fn jump(&self, kept: &[usize], steps: &[usize]) -> Option<Jump> {
        let measured = shares(&self.measured, kept)?;
        let largest = measured.iter().copied().enumerate();
        let (number, share) = largest.max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Jump {
            measure: self.measure,
            from: steps[kept[number]],
            to: steps[kept[number + 1]],
            share,
            interval: self
                .is_clear()
                .then(|| self.interval(&measured, kept))
                .flatten(),
        })
    }

    /// Returns the ends of a simultaneous interval of the largest share: no share is above the upper end, and one is above
    /// the lower end.
    fn interval(&self, measured: &[f64], kept: &[usize]) -> Option<[f64; 2]> {
        let drawn = self.drawn.iter().filter_map(|values| shares(values, kept));
        let drawn: Vec<Vec<f64>> = drawn.collect();
        let n = drawn.len() as f64;
        let errors: Vec<f64> = (0..measured.len())
            .map(|step| {
                let mean = drawn.iter().map(|shares| shares[step]).sum::<f64>() / n;
                let squares = drawn.iter().map(|shares| (shares[step] - mean).powi(2));
                (squares.sum::<f64>() / (n - 1.0)).sqrt()
            })
            .collect();
        let distance = |shares: &Vec<f64>| {
            let steps = shares.iter().zip(measured).zip(&errors);
            let distances = steps.map(|((drawn, measured), error)| match *error > 0.0 {
                true => (drawn - measured).abs() / error,
                false => 0.0,
            });
            distances.fold(0.0, f64::max)
        };
        let mut distances: Vec<f64> = drawn.iter().map(distance).collect();
        distances.sort_by(f64::total_cmp);
        let width = quantile_of_sorted(&distances, CONFIDENCE)?;
        let end = |side: f64| {
            let ends = measured.iter().zip(&errors);
            let ends = ends.map(|(share, error)| share + side * width * error);
            ends.fold(f64::NEG_INFINITY, f64::max)
        };
        Some([end(-1.0), end(1.0)]).filter(|ends| ends.iter().all(|end| end.is_finite()))
    }
}

/// Returns the steps between neighbours of the kept values, as shares of the change from the first to the last; `None` if
/// there is no change.
fn shares(values: &[f64], kept: &[usize]) -> Option<Vec<f64>> {
    let change = values[*kept.last()?] - values[*kept.first()?];
    let steps = kept
        .windows(2)
        .map(|pair| (values[pair[1]] - values[pair[0]]) / change);
    (change != 0.0).then(|| steps.collect())
}

#[cfg(test)]
mod tests;
