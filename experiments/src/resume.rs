//! Continuing a run: what may be changed about it on the way, what that means, and what is refused.
//!
//! Everything that decides what training computes has to stay, but the number of steps: a run can be extended, or cut
//! short. When to evaluate, when to stop early and what to sample is free, and so is where the data lies, as long as
//! it is the same.

use crate::checkpoint::{Checkpoints, Saved};
use crate::identity::{Identity, Replanned};
use crate::run::{EXPERIMENT, RunDirectory};
use crate::setup::Setup;
use crate::train::{RESULT, SAMPLE};
use crate::{Error, Experiment};

/// A run that is to go on, and what is asked of it.
pub(crate) struct Resumption {
    /// Its last checkpoint, if it got that far.
    pub(crate) saved: Option<Saved>,
    /// Another number of steps than it was started with.
    replanned: Option<Replanned>,
    /// Whether anything that is asked for differs from the run's own experiment.
    changed: bool,
    /// Whether that concerns what a finished run would have done.
    pub(crate) reopened: bool,
    /// What the changes mean, for the user.
    pub(crate) notes: Vec<String>,
}

impl Resumption {
    /// Compares what is asked for with what the run is; writes nothing.
    pub(crate) fn new(run: &RunDirectory, setup: &Setup) -> Result<Self, Error> {
        let (asked, planned) = (&setup.experiment, run.experiment()?);
        let refused = asked.differences_refused_on_resume(&planned);
        if !refused.is_empty() {
            return Err(Error::run_directory(
                run.path(),
                format!(
                    "holds another experiment: {}; leave out what differs, or start a new run without --resume",
                    refused.join(", ")
                ),
            ));
        }
        let checkpoints = Checkpoints::new(run.checkpoints());
        let saved = match checkpoints.steps().last() {
            Some(step) => Some(checkpoints.load(*step)?),
            None => None,
        };
        let fingerprint = match &saved {
            Some(saved) => Some(saved.state.data.clone()),
            None => run
                .read_json::<Identity>(Identity::FILE)?
                .map(|identity| identity.data),
        };
        if fingerprint.is_some_and(|fingerprint| fingerprint != setup.data.fingerprint) {
            let keys = asked.differences_under(&planned, "data.");
            let what = match keys.is_empty() {
                true => "the text behind [data] has changed since; restore it".into(),
                false => format!("{}; leave out what differs", keys.join(", ")),
            };
            let message = format!("was trained on other data: {what}, or start a new run");
            return Err(Error::run_directory(run.path(), message));
        }
        let step = saved.as_ref().map_or(0, |saved| saved.state.step);
        let steps = asked.train.steps;
        if steps < step {
            return Err(Error::Experiment {
                origin: "train.steps".into(),
                message: format!(
                    "{steps} is less than the {step} steps that {} has taken; name {step} or more",
                    run.path().display()
                ),
            });
        }
        let changes = asked.differences(&planned);
        let replanned =
            (steps != planned.train.steps && step > 0).then_some(Replanned { step, steps });
        let notes = replanned
            .iter()
            .map(|_| schedule_note(asked, &planned, step));
        Ok(Self {
            notes: notes.collect(),
            saved,
            replanned,
            changed: !changes.is_empty(),
            reopened: changes.iter().any(|change| change.starts_with("train.")),
        })
    }

    /// Puts the changes on record, once no other process can write the run. The run is no longer finished then.
    pub(crate) fn record(&self, run: &RunDirectory, setup: &Setup) -> Result<(), Error> {
        if self.reopened {
            run.remove(RESULT)?;
            run.remove(SAMPLE)?;
        }
        if let Some(replanned) = &self.replanned
            && let Some(mut identity) = run.read_json::<Identity>(Identity::FILE)?
        {
            identity.experiment = setup.experiment.hash();
            identity
                .replanned
                .retain(|before| before.step < replanned.step);
            identity.replanned.push(*replanned);
            identity.write(run)?;
        }
        match self.changed {
            true => run.write(EXPERIMENT, setup.experiment.to_toml()),
            false => Ok(()),
        }
    }
}

/// What another number of steps means for the learning rate.
fn schedule_note(asked: &Experiment, planned: &Experiment, step: usize) -> String {
    let (before, now) = (planned.train.steps, asked.train.steps);
    let rate = |step, steps| asked.optimizer.learning_rate_at(step, steps);
    let ahead = match step < now {
        true => format!(
            "from step {step} on, the learning rate is that of a run of {now} steps, {:.3e} after {:.3e}; ",
            rate(step, now),
            rate(step - 1, before)
        ),
        false => String::new(),
    };
    format!(
        "train.steps is {now} instead of {before}: {ahead}the result is not that of a run of {now} steps from the start"
    )
}
