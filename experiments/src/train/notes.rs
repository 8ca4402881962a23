//! Notes about an experiment that is valid, and probably not what was meant.

use crate::Experiment;
use crate::engine::schedule::Schedule;
use crate::engine::setup::Setup;
use crate::experiment::{ScheduleName, WindowKind};

/// Returns the notes about an experiment.
pub(super) fn of(setup: &Setup) -> impl Iterator<Item = String> {
    let notes = [warmup_note(&setup.experiment), phase_note(setup)];
    notes.into_iter().flatten()
}

/// Returns a note if the run ends during warm-up or right after it.
fn warmup_note(experiment: &Experiment) -> Option<String> {
    let (steps, warmup) = (experiment.train.steps, experiment.optimizer.warmup);
    (warmup > 0 && steps <= warmup + 1).then(|| {
        let rate = Schedule::new(experiment).rate(steps - 1);
        let falls = match experiment.schedule.name {
            ScheduleName::Constant => "",
            _ => ", and does not fall to optimizer.min_learning_rate",
        };
        format!(
            "optimizer.warmup is {warmup} and train.steps is {steps}: the learning rate rises to {rate:.3e} in the \
             last step{falls}"
        )
    })
}

/// Returns a note if the windows of an epoch begin at only some of the places in documents of equal length.
fn phase_note(setup: &Setup) -> Option<String> {
    let world = setup.data.world.as_ref()?;
    let bytes = world.world.document_bytes()?;
    let context = setup.model.context;
    let (mut divisor, mut rest) = (context, bytes);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    if setup.experiment.data.windows != WindowKind::Epoch || divisor == 1 {
        return None;
    }
    Some(format!(
        "all documents have {bytes} bytes, of which windows of {context} tokens begin at every {divisor}th: the windows \
         of an epoch show only some of the places in a document, and those of the validation text others; set \
         data.windows to documents or random, or another model.context"
    ))
}
