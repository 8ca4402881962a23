//! The last stage: the weights after updates with fixed gradients.

use std::sync::atomic::{AtomicBool, Ordering};

use foretoken_datasets::DataError;

use super::pass::Participant;
use crate::Error;
use crate::engine::language_model::LanguageModel;
use crate::engine::parameters::{self, Parameters};
use crate::engine::step;

/// Number of updates. Adam's first update does not depend on its betas, so there are two.
pub(super) const UPDATES: usize = 2;

/// Length of a sum for the bound of an update. Its sums are short, but each update is a chain of about ten roundings,
/// half of them after the moments.
pub(super) const TERMS: usize = 4;

/// Returns the gradients of an update, given those of the first. The second scales them by alternating factors, so
/// that it depends on the betas even after both are clipped to the same norm.
pub(super) fn gradients_of_update(first: &Parameters, update: usize) -> Parameters {
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

/// Returns the weights after [`UPDATES`] updates with clipped gradients.
pub(super) fn updated(
    participant: &Participant,
    gradients: &Parameters,
    stop: &AtomicBool,
) -> Result<Parameters, Error> {
    let optimizer = &participant.setup.experiment.optimizer;
    let device = participant.model.device().without_autodiff();
    // The reproduction uses Burn's AdamW, so the fused one is switched off.
    let model = LanguageModel::new(participant.model.clone(), 0).with_fused(false);
    let mut learner = participant.setup.learner(model);
    for update in 0..UPDATES {
        if stop.load(Ordering::Relaxed) {
            return Err(DataError::Interrupted.into());
        }
        let network = &learner.model().transformer;
        let given = gradients_of_update(gradients, update);
        let given = parameters::to_gradients(network, &given, participant.precision);
        step::update(&mut learner, given, 1.0, optimizer.clip, &device);
    }
    parameters::weights(&learner.model().transformer)
}
