//! Checks of single steps. Every backend takes the step from the reference's own weights, optimizer state, learning
//! rate, windows and dropout, so that chaos explains no error. The loss, the logits, the gradient of every parameter
//! and the optimizer's update from given gradients are compared.

use std::collections::BTreeMap;

use super::training::{Output, Training, TrainingRun};
use super::variant::{Snapshot, Variant};
use super::{Check, Checked, Entrant};
use crate::Error;
use crate::backend::precision::Precision;
use crate::engine::parameters::{Parameters, distance};
use crate::engine::rounding::FACTOR;

/// Number of updates from given gradients at step 0. Adam's first update does not depend on its betas; the second does.
/// Later steps begin with moments, so that one update depends on everything.
const FIRST_UPDATES: usize = 2;

/// Largest number of compared elements of an output.
const MAX_OUTPUTS: usize = 1 << 22;

/// Returns the checked steps of a comparison of `steps` steps: the first, the last, and three between them at equal
/// distances. A mistake that begins late acts in every later step, so that one of these shows it.
pub(crate) fn checked_steps(steps: usize) -> Vec<usize> {
    let mut checked: Vec<usize> = (0..4).map(|quarter| quarter * steps / 4).collect();
    checked.push(steps.saturating_sub(1));
    checked.dedup();
    checked
}

/// Inputs of a step, the same for all backends.
pub(crate) struct StepInputs {
    step: usize,
    /// The reference's state before the step; `None` at step 0, where each backend initialises its own.
    snapshot: Option<Snapshot>,
    /// The reference's gradients, which every optimizer receives.
    gradients: Vec<Parameters>,
}

impl StepInputs {
    /// Takes the inputs from `run` of the reference, for the step that it takes next.
    pub(super) fn new<T: Training>(
        training: &T,
        reference: Entrant,
        run: &T::Run,
    ) -> Result<Self, Error> {
        let step = run.steps();
        let snapshot = match step {
            0 => None,
            _ => Some(run.snapshot()?),
        };
        let left = training.outline().steps - step;
        let updates = if step == 0 {
            FIRST_UPDATES.min(left)
        } else {
            1
        };
        let mut run = training.start(reference, &Variant::default(), snapshot.as_ref())?;
        let mut all = vec![run.gradients()?.1];
        for _ in 1..updates {
            run.step()?;
            all.push(run.gradients()?.1);
        }
        Ok(Self {
            step,
            snapshot,
            gradients: all,
        })
    }
}

/// The quantities of a step, in f64 on the host.
pub(crate) struct MeasuredStep {
    loss: f64,
    outputs: Vec<Output>,
    gradients: Parameters,
    /// Change of each parameter over the updates.
    updates: Parameters,
    /// Euclidean norm of each parameter, by path.
    weights: BTreeMap<String, f64>,
}

impl MeasuredStep {
    /// Computes the step on a backend.
    pub(super) fn measure<T: Training>(
        training: &T,
        entrant: Entrant,
        variant: &Variant,
        inputs: &StepInputs,
    ) -> Result<Self, Error> {
        let mut run = training.start(entrant, variant, inputs.snapshot.as_ref())?;
        let before = run.weights()?;
        let (loss, gradients) = run.gradients()?;
        let outputs = run.outputs(MAX_OUTPUTS)?;
        for gradients in &inputs.gradients {
            run.update(gradients)?;
        }
        let mut updates = run.weights()?;
        for (path, update) in &mut updates {
            for (update, before) in update.iter_mut().zip(&before[path]) {
                *update -= before;
            }
        }
        let square = |values: &Vec<f64>| values.iter().map(|value| value * value).sum::<f64>();
        Ok(Self {
            loss,
            outputs,
            gradients,
            updates,
            weights: before
                .iter()
                .map(|(path, values)| (path.clone(), square(values).sqrt()))
                .collect(),
        })
    }

    /// Returns the deviation of every quantity from the reference's.
    fn errors(&self, reference: &Self, precision: Precision) -> Vec<Deviation> {
        let u = precision.unit_roundoff();
        let deviation = |of, path: Option<&str>, error, minimum| Deviation {
            of,
            path: path.map(str::to_owned),
            error,
            minimum,
        };
        let loss = distance([(&[self.loss][..], &[reference.loss][..])]);
        // Every quantity has at least one rounding error of its own.
        let mut all = vec![deviation(Checked::Loss, None, loss, u)];
        for (output, expected) in self.outputs.iter().zip(&reference.outputs) {
            let error = distance([(&output.values[..], &expected.values[..])]);
            all.push(deviation(output.of, output.name.as_deref(), error, u));
        }
        let none = Vec::new();
        let error = |of: &Parameters, path: &str, expected: &[f64]| {
            let actual = of.get(path).unwrap_or(&none);
            distance([(&actual[..], expected)])
        };
        for (path, expected) in &reference.gradients {
            let error = error(&self.gradients, path, expected);
            all.push(deviation(Checked::Gradient, Some(path), error, u));
        }
        for (path, expected) in &reference.updates {
            let error = error(&self.updates, path, expected);
            // A change of a weight has the rounding error of the weight.
            let norm = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
            let minimum = u * (1.0 + reference.weights[path] / norm);
            all.push(deviation(Checked::Update, Some(path), error, minimum));
        }
        all
    }

    /// Checks every quantity against the reference's, with the bounds from `rounding`.
    pub(crate) fn checks(
        &self,
        reference: &Self,
        rounding: &Rounding,
        inputs: &StepInputs,
        precision: Precision,
    ) -> Vec<Check> {
        let errors = self.errors(reference, precision);
        let bounds = rounding.bounds();
        let checks = errors.into_iter().zip(bounds).map(|(deviation, bound)| {
            let summation = match deviation.of {
                Checked::Loss => worst_summation_error(rounding.terms, precision),
                Checked::Gradient => likely_summation_error(rounding.terms, precision),
                _ => 0.0,
            };
            Check {
                step: inputs.step,
                of: deviation.of,
                path: deviation.path,
                error: deviation.error,
                bound: bound.max(summation),
            }
        });
        let mut checks: Vec<Check> = checks.collect();
        if rounding.moves {
            checks.push(Check {
                step: inputs.step,
                of: Checked::Movement,
                path: None,
                error: if self.moves() { 0.0 } else { 1.0 },
                bound: 0.0,
            });
        }
        checks
    }

    /// Returns whether the optimizer changes any weight.
    fn moves(&self) -> bool {
        let mut changes = self.updates.values().flatten();
        changes.any(|change| *change != 0.0)
    }
}

/// Difference of a quantity from the reference's, relative to its norm.
struct Deviation {
    of: Checked,
    path: Option<String>,
    error: f64,
    /// Smallest error to expect from a correct backend: one rounding.
    minimum: f64,
}

/// Effect of rounding on each quantity of a step, measured by runs of the reference's backend in the tested precision:
/// one with unchanged weights, the others with weights moved by one unit in the last place. One run alone can be near
/// the reference by luck: the gradient of a norm's bias, in which large terms cancel, was off by 2e-7 in one run and by
/// 6e-6 in the next.
pub(crate) struct Rounding {
    /// Number of terms of a sum over a micro-batch: one for each token.
    terms: usize,
    runs: usize,
    /// Sum of squared errors over the runs, for each quantity.
    squares: Vec<f64>,
    /// Whether the optimizer changes any weight.
    moves: bool,
}

impl Rounding {
    /// Creates a measurement without runs. Losses and gradients are sums of `terms` terms, one for each token of a
    /// micro-batch.
    pub(crate) fn new(terms: usize) -> Self {
        Self {
            terms,
            runs: 0,
            squares: Vec::new(),
            moves: false,
        }
    }

    /// Adds the errors of a run.
    pub(crate) fn add(&mut self, run: &MeasuredStep, reference: &MeasuredStep, of: Precision) {
        let errors = run.errors(reference, of);
        self.squares.resize(errors.len(), 0.0);
        for (sum, deviation) in self.squares.iter_mut().zip(errors) {
            // The larger of both; `max` alone would drop NaN.
            let error = match deviation.error.is_nan() {
                true => f64::NAN,
                false => deviation.error.max(deviation.minimum),
            };
            *sum += error * error;
        }
        self.runs += 1;
        self.moves |= run.moves();
    }

    /// Returns the largest error that rounding explains, for each quantity.
    fn bounds(&self) -> impl Iterator<Item = f64> + '_ {
        self.squares.iter().map(|sum| match sum.is_nan() {
            true => f64::INFINITY,
            false => FACTOR * (sum / self.runs as f64).sqrt(),
        })
    }
}

/// Returns the largest relative error of a sum of `terms` numbers of one sign in any order of additions: (n − 1) u
/// (Higham 2002, Accuracy and Stability of Numerical Algorithms, §4.2).
///
/// The probabilistic bound λ √n u (Higham & Mary 2019, A New Approach to Probabilistic Rounding Error Analysis) is
/// narrower and does not hold here: losses that are nearly equal, as before training, round in one direction, and a
/// plain sum of 65 536 of them is off by 1.7e-4, while that bound with λ = 6 is 9.2e-5. Sums of 16-bit numbers are
/// expected in f32, as in every framework.
fn worst_summation_error(terms: usize, precision: Precision) -> f64 {
    roundoff_of_sums(precision) * terms.saturating_sub(1) as f64
}

/// Returns the relative error that a plain sum of `terms` numbers of either sign exceeds with probability 7e-4: λ √n u
/// with λ = 4 (Higham & Mary 2019). A gradient is such a sum, over the tokens of a micro-batch. Our own operations add
/// in a tree, so that their error alone would fail every plain sum: at 65 536 tokens it is 2.7e-5, and this bound
/// 6.1e-5.
fn likely_summation_error(terms: usize, precision: Precision) -> f64 {
    4.0 * (terms as f64).sqrt() * roundoff_of_sums(precision)
}

/// Returns the unit roundoff of the precision in which sums are expected.
fn roundoff_of_sums(precision: Precision) -> f64 {
    match precision {
        Precision::F64 => precision.unit_roundoff(),
        _ => Precision::F32.unit_roundoff(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_last_and_three_steps_between_are_checked() {
        assert_eq!(checked_steps(1), [0]);
        assert_eq!(checked_steps(2), [0, 1]);
        assert_eq!(checked_steps(4), [0, 1, 2, 3]);
        assert_eq!(checked_steps(500), [0, 125, 250, 375, 499]);
    }

    #[test]
    fn lucky_run_does_not_narrow_a_bound_and_nan_makes_it_infinite() {
        let step = |gradient: f64| MeasuredStep {
            loss: 4.0,
            outputs: vec![Output {
                of: Checked::Logits,
                name: None,
                values: vec![1.0, 2.0],
            }],
            gradients: [("norm.beta".to_owned(), vec![gradient])].into(),
            updates: [("norm.beta".to_owned(), vec![0.5])].into(),
            weights: [("norm.beta".to_owned(), 1.0)].into(),
        };
        let of = Precision::F32;
        let u = of.unit_roundoff();
        let reference = step(1.0);
        let mut rounding = Rounding::new(1);
        // Two of four runs are off by 1e-5, and two are exact.
        for gradient in [1.0, 1.0 + 1e-5, 1.0 - 1e-5, 1.0] {
            rounding.add(&step(gradient), &reference, of);
        }
        let bounds: Vec<f64> = rounding.bounds().collect();
        let expected = [u, u, 1e-5 / 2f64.sqrt(), 3.0 * u];
        for (bound, expected) in bounds.iter().zip(expected) {
            let bound = bound / FACTOR;
            assert!(
                (bound / expected - 1.0).abs() < 1e-3,
                "{bound:e} {expected:e}"
            );
        }
        assert_eq!(bounds.len(), 4);

        rounding.add(&step(f64::NAN), &reference, of);
        let bounds: Vec<f64> = rounding.bounds().collect();
        assert_eq!(bounds[2], f64::INFINITY);
        assert!(bounds[3].is_finite());
    }

    /// Returns pseudorandom losses of `terms` tokens around 4.2, the same in every call.
    fn nats(terms: usize, spread: f32) -> Vec<f32> {
        let uniform = |term: u64| {
            let bits = term.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let bits = (bits ^ (bits >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (bits >> 40) as f32 / (1u64 << 24) as f32
        };
        let terms = 0..terms as u64;
        terms
            .map(|term| 4.2 + spread * (uniform(term) - 0.5))
            .collect()
    }

    #[test]
    fn loss_bound_covers_any_order_of_addition_and_no_mistake() {
        for (terms, mistake) in [(64, 1e-4), (1024, 1e-4), (65_536, 1e-2)] {
            // The bound without the grant for sums: a pairwise sum is exact to a rounding.
            let pairwise = FACTOR * Precision::F32.unit_roundoff();
            let bound = worst_summation_error(terms, Precision::F32).max(pairwise);
            let mut worst = 0.0f64;
            for spread in [0.003, 0.2, 2.0] {
                let nats = nats(terms, spread);
                let exact: f64 = nats.iter().map(|n| f64::from(*n)).sum();
                let mut sorted = nats.clone();
                sorted.sort_by(f32::total_cmp);
                let sums: [f32; 3] = [
                    nats.iter().sum(),
                    nats.iter().rev().sum(),
                    sorted.iter().sum(),
                ];
                for sum in sums {
                    worst = worst.max(((f64::from(sum) - exact) / exact).abs());
                }
            }
            assert!(worst <= bound, "{terms}: {worst:e} {bound:e}");
            assert!(mistake > bound, "{terms}: {bound:e}");
            assert!(terms < 65_536 || worst > 100.0 * pairwise, "{worst:e}");
        }
    }
}
