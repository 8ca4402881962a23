//! Checks of single steps: every entrant takes the step from the reference's own weights, optimizer state, learning
//! rate, windows and dropout, so that chaos explains nothing. Compared are the loss, the logits, the gradient of every
//! parameter and what the optimizer makes of given gradients.

use std::collections::BTreeMap;

use super::trainer::{Standing, Trainer, Variant};
use super::{Check, Checked, Entrant};
use crate::Error;
use crate::parameters::{self, Parameters, distance};
use crate::precision::Precision;
use crate::setup::Setup;

/// How many times the error of the reference's own run in the entrant's precision rounding explains: backends
/// add in different orders and have different exponentials.
pub(crate) const FACTOR: f64 = 16.0;

/// Updates from given gradients at step 0. Adam's first one does not depend on its betas; the second does. Later steps
/// begin with moments, and one update depends on everything.
const FIRST_UPDATES: usize = 2;

/// Elements of the logits that are looked at, at most.
const LOGITS: usize = 1 << 22;

/// The steps that are checked in a comparison of so many: the first, the last, and three between them at equal
/// distances. What goes wrong late acts in every later step, so that one of these shows it.
pub(crate) fn checked_steps(steps: usize) -> Vec<usize> {
    let mut checked: Vec<usize> = (0..4).map(|quarter| quarter * steps / 4).collect();
    checked.push(steps.saturating_sub(1));
    checked.dedup();
    checked
}

/// What all entrants are given at a step.
pub(crate) struct Given {
    step: usize,
    /// The reference's state before the step; nothing at step 0, where each entrant initialises its own.
    standing: Option<Standing>,
    /// The reference's gradients, which every optimizer is given.
    gradients: Vec<Parameters>,
}

impl Given {
    /// What the reference gives at the step that `run` of it is about to take.
    pub(crate) fn new(setup: &Setup, reference: Entrant, run: &Trainer) -> Result<Self, Error> {
        let step = run.next_step();
        let standing = match step {
            0 => None,
            _ => Some(run.standing()?),
        };
        let left = setup.experiment.train.steps - step;
        let updates = if step == 0 {
            FIRST_UPDATES.min(left)
        } else {
            1
        };
        let mut trainer = Trainer::at(setup, reference, Variant::default(), standing.as_ref())?;
        let mut all = Vec::with_capacity(updates);
        for _ in 0..updates {
            let gradients = trainer.gradients()?;
            let model = trainer.transformer();
            all.push(parameters::gradients(
                &model,
                &gradients.sums,
                gradients.mean,
            )?);
            trainer.apply(gradients)?;
        }
        Ok(Self {
            step,
            standing,
            gradients: all,
        })
    }
}

/// The quantities of a step, in f64 on the host.
pub(crate) struct MeasuredStep {
    loss: f64,
    logits: Vec<f64>,
    gradients: Parameters,
    /// Change of each parameter over the updates.
    updates: Parameters,
    /// Size of the weights, by path.
    weights: BTreeMap<String, f64>,
}

impl MeasuredStep {
    /// What an entrant computes.
    pub(crate) fn measure(
        setup: &Setup,
        entrant: Entrant,
        variant: &Variant,
        given: &Given,
    ) -> Result<Self, Error> {
        let mut trainer = Trainer::at(setup, entrant, variant.clone(), given.standing.as_ref())?;
        let before = trainer.weights()?;
        let gradients = trainer.gradients()?;
        let model = trainer.transformer();
        let read = parameters::gradients(&model, &gradients.sums, gradients.mean)?;
        drop(model);
        let loss = gradients.into_totals()?.loss();
        let logits = trainer.logits(LOGITS)?;
        for gradients in &given.gradients {
            let model = trainer.transformer();
            let gradients = parameters::to_gradients(&model, gradients, entrant.dtype);
            drop(model);
            trainer.update(gradients)?;
        }
        let mut updates = trainer.weights()?;
        for (path, update) in &mut updates {
            for (update, before) in update.iter_mut().zip(&before[path]) {
                *update -= before;
            }
        }
        let size = |values: &Vec<f64>| values.iter().map(|value| value * value).sum::<f64>();
        Ok(Self {
            loss,
            logits,
            gradients: read,
            updates,
            weights: before
                .iter()
                .map(|(path, values)| (path.clone(), size(values).sqrt()))
                .collect(),
        })
    }

    /// Every quantity against the reference's. `own` is the reference's backend in the entrant's `precision`:
    /// its error, times [`FACTOR`], is what rounding explains. `terms` losses are added up in a micro-batch.
    pub(crate) fn checks(
        &self,
        reference: &Self,
        own: &Self,
        given: &Given,
        precision: Precision,
        terms: usize,
    ) -> Vec<Check> {
        let u = precision.unit_roundoff();
        let check = |of, path: Option<&str>, of_step: &dyn Fn(&Self) -> f64, least: f64| Check {
            step: given.step,
            of,
            path: path.map(str::to_owned),
            error: of_step(self),
            bound: match of_step(own) {
                error if error.is_nan() => f64::INFINITY,
                error => FACTOR * error.max(least),
            },
        };
        // No quantity is known better than to a rounding of its own.
        let one = |a: f64, b: f64| distance([(&[a][..], &[b][..])]);
        let loss = |step: &Self| one(step.loss, reference.loss);
        let logits = |step: &Self| distance([(&step.logits[..], &reference.logits[..])]);
        let mut of_loss = check(Checked::Loss, None, &loss, u);
        of_loss.bound = of_loss.bound.max(summation_error(terms, precision));
        let mut checks = vec![of_loss, check(Checked::Logits, None, &logits, u)];
        let none = Vec::new();
        for (of, select) in [
            (
                Checked::Gradient,
                (|step| &step.gradients) as fn(&Self) -> &Parameters,
            ),
            (Checked::Update, |step| &step.updates),
        ] {
            for (path, expected) in select(reference) {
                let error = |step: &Self| {
                    let actual = select(step).get(path).unwrap_or(&none);
                    distance([(&actual[..], &expected[..])])
                };
                let least = match of {
                    // A change of a weight is known to a rounding of the weight.
                    Checked::Update => {
                        let size = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
                        u * (1.0 + reference.weights[path] / size)
                    }
                    _ => u,
                };
                checks.push(check(of, Some(path), &error, least));
            }
        }
        if own.moves() {
            checks.push(Check {
                step: given.step,
                of: Checked::Movement,
                path: None,
                error: if self.moves() { 0.0 } else { 1.0 },
                bound: 0.0,
            });
        }
        checks
    }

    /// Whether the optimizer changes any weight.
    fn moves(&self) -> bool {
        let mut changes = self.updates.values().flatten();
        changes.any(|change| *change != 0.0)
    }
}

/// The largest relative error of a sum of so many numbers of one sign that some order of additions explains:
/// (n − 1) u (Higham 2002, Accuracy and Stability of Numerical Algorithms, §4.2).
///
/// The probabilistic bound λ √n u (Higham & Mary 2019, A New Approach to Probabilistic Rounding Error Analysis) is
/// narrower, and wrong here: losses that are nearly equal, as before training, round in one direction, and a plain sum of
/// 65 536 of them is off by 1.7e-4, where that bound with λ = 6 has 9.2e-5. Sums of 16-bit numbers are expected in f32, as
/// every framework has them.
fn summation_error(terms: usize, precision: Precision) -> f64 {
    let u = match precision {
        Precision::F64 => precision.unit_roundoff(),
        _ => Precision::F32.unit_roundoff(),
    };
    u * terms.saturating_sub(1) as f64
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

    /// Losses of so many tokens, in f32, around 4.2: they look random and are the same each time.
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
    fn any_order_of_adding_65k_losses_is_explained_and_a_mistake_is_not() {
        for (terms, mistake) in [(64, 1e-4), (1024, 1e-4), (65_536, 1e-2)] {
            // What a pairwise sum, which is exact to a rounding, explains: all that was granted before.
            let pairwise = FACTOR * Precision::F32.unit_roundoff();
            let bound = summation_error(terms, Precision::F32).max(pairwise);
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
