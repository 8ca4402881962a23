//! The last stage: what the optimizer makes of given gradients.

use std::sync::atomic::{AtomicBool, Ordering};

use foretoken_datasets::DataError;

use super::pass::Party;
use crate::Error;
use crate::engine::language_model::LanguageModel;
use crate::engine::parameters::{self, Parameters};
use crate::engine::step;

/// How many updates are made. Adam's first one does not depend on its betas.
pub(super) const UPDATES: usize = 2;

/// What stands for the length of a sum in bounds: no sums are long here, but each update is a chain of some ten
/// roundings, half of them behind the moments.
pub(super) const TERMS: usize = 4;

/// The gradients of an update, given those of the first. In the second some are halved and some are less, so
/// that it depends on the betas even after both are clipped to the same norm.
pub(super) fn of_update(first: &Parameters, update: usize) -> Parameters {
    let factor = |index: usize| match (update, index % 2) {
        (0, _) => 1.0,
        (_, 0) => -0.5,
        _ => 0.125,
    };
    let scaled = |values: &Vec<f64>| {
        let values = values.iter().enumerate();
        values.map(|(index, value)| factor(index) * value).collect()
    };
    let all = first.iter();
    all.map(|(path, values)| (path.clone(), scaled(values)))
        .collect()
}

/// The weights after [`UPDATES`] updates, each clipped before.
pub(super) fn updated(
    party: &Party,
    gradients: &Parameters,
    stop: &AtomicBool,
) -> Result<Parameters, Error> {
    let optimizer = &party.setup.experiment.optimizer;
    let device = party.model.device().without_autodiff();
    // Burn's own AdamW, as in a reproduction.
    let model = LanguageModel::new(party.model.clone(), 0).with_fused(false);
    let mut learner = party.setup.learner(model);
    for update in 0..UPDATES {
        if stop.load(Ordering::Relaxed) {
            return Err(DataError::Interrupted.into());
        }
        let network = &learner.model().transformer;
        let given = of_update(gradients, update);
        let given = parameters::to_gradients(network, &given, party.precision);
        step::update(&mut learner, given, 1.0, optimizer.clip, &device);
    }
    parameters::weights(&learner.model().transformer)
}
