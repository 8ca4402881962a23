//! Step 0, where every entrant still has the same weights and the same batch, so that chaos explains nothing:
//! loss, logits, the gradient of every parameter and what the optimizer makes of given gradients.

use std::collections::BTreeMap;

use super::trainer::{Trainer, Variant};
use super::{Check, Checked, Entrant};
use crate::Error;
use crate::parameters::{self, Parameters, distance};
use crate::precision::Precision;
use crate::setup::Setup;

/// How many times the error of the reference's own run in the entrant's precision rounding explains: backends
/// add in different orders and have different exponentials.
pub(crate) const FACTOR: f64 = 16.0;

/// Updates from given gradients. Adam's first one does not depend on its betas; the second does.
const UPDATES: usize = 2;

/// Elements of the logits that are looked at, at most.
const LOGITS: usize = 1 << 22;

/// The quantities of step 0, in f64 on the host.
pub(crate) struct FirstStep {
    loss: f64,
    logits: Vec<f64>,
    gradients: Parameters,
    /// Change of each parameter over [`UPDATES`] updates.
    updates: Parameters,
    /// Size of the weights, by path.
    weights: BTreeMap<String, f64>,
}

/// The reference's gradients of the first steps, which every optimizer is given.
pub(crate) struct Given(Vec<Parameters>);

impl Given {
    /// Of the reference's first steps.
    pub(crate) fn new(setup: &Setup, reference: Entrant) -> Result<Self, Error> {
        let mut trainer = Trainer::new(setup, reference, Variant::default())?;
        let steps = UPDATES.min(setup.experiment.train.steps);
        let mut given = Vec::with_capacity(steps);
        for _ in 0..steps {
            let gradients = trainer.gradients()?;
            let model = trainer.transformer();
            given.push(parameters::gradients(
                &model,
                &gradients.sums,
                gradients.mean,
            )?);
            trainer.apply(gradients)?;
        }
        Ok(Self(given))
    }
}

impl FirstStep {
    /// What an entrant computes.
    pub(crate) fn measure(
        setup: &Setup,
        entrant: Entrant,
        variant: &Variant,
        given: &Given,
    ) -> Result<Self, Error> {
        let trainer = Trainer::new(setup, entrant, variant.clone())?;
        let before = trainer.weights()?;
        let gradients = trainer.gradients()?;
        let model = trainer.transformer();
        let read = parameters::gradients(&model, &gradients.sums, gradients.mean)?;
        let loss = gradients.into_totals()?.loss();
        let logits = trainer.logits(LOGITS)?;

        let mut trainer = Trainer::new(setup, entrant, variant.clone())?;
        for gradients in &given.0 {
            let model = trainer.transformer();
            trainer.update(parameters::to_gradients(&model, gradients, entrant.dtype))?;
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
    /// its error, times [`FACTOR`], is what rounding explains.
    pub(crate) fn checks(&self, reference: &Self, own: &Self, precision: Precision) -> Vec<Check> {
        let u = precision.unit_roundoff();
        let check = |of, path: Option<&str>, of_step: &dyn Fn(&Self) -> f64, least: f64| Check {
            of,
            path: path.map(str::to_owned),
            error: of_step(self),
            bound: FACTOR * of_step(own).max(least),
        };
        // No quantity is known better than to a rounding of its own.
        let one = |a: f64, b: f64| distance([(&[a][..], &[b][..])]);
        let loss = |step: &Self| one(step.loss, reference.loss);
        let logits = |step: &Self| distance([(&step.logits[..], &reference.logits[..])]);
        let mut checks = vec![
            check(Checked::Loss, None, &loss, u),
            check(Checked::Logits, None, &logits, u),
        ];
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
        checks
    }
}
