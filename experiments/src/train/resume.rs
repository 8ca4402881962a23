//! Continuing a run: what may be changed about it on the way, what that means, and what is refused.
//!
//! Everything that decides what training computes has to stay, but the number of steps: a run can be extended, or cut
//! short. When to evaluate, when to stop early and what to sample is free, and so is where the data lies, as long as
//! it is the same.

use crate::engine::schedule::Schedule;
use crate::engine::setup::Setup;
use crate::record::checkpoint::{Checkpoints, Saved};
use crate::record::identity::{Identity, Replanned};
use crate::record::run::{
    EXPERIMENT, MetricsLog, RESULT, Record, RunDirectory, SAMPLE, read_metrics,
};
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
        let identity = run.read_json::<Identity>(Identity::FILE)?;
        if let Some(identity) = &identity
            && identity.experiment != planned.hash()
        {
            return Err(Error::run_directory(
                run.path().join(EXPERIMENT),
                "was edited since the run began, as its hash in identity.json says; restore it, and change what may \
                 be changed with --set",
            ));
        }
        let checkpoints = Checkpoints::new(run.checkpoints());
        let saved = match checkpoints.steps().last() {
            Some(step) => Some(checkpoints.load(*step)?),
            None => None,
        };
        let of_checkpoint = saved.as_ref().map(|saved| saved.state.data.clone());
        let of_identity = identity.map(|identity| identity.data);
        let is_other = |fingerprint: String| fingerprint != setup.data.fingerprint;
        if [of_checkpoint, of_identity]
            .into_iter()
            .flatten()
            .any(is_other)
        {
            let keys = asked.differences_under(&planned, "data.");
            let what = match keys.is_empty() {
                true => "the text behind [data] has changed since; restore it".into(),
                false => format!("{}; leave out what differs", keys.join(", ")),
            };
            let message = format!("was trained on other data: {what}, or start a new run");
            return Err(Error::run_directory(run.path(), message));
        }
        if saved.is_none() && had_checkpoints(run)? {
            return Err(Error::run_directory(
                run.path(),
                "has been trained and evaluated, and none of its checkpoints is there; restore checkpoints/, or start a \
                 new run without --resume",
            ));
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

/// Whether the run is finished, or went on after an evaluation: a checkpoint follows each of them.
fn had_checkpoints(run: &RunDirectory) -> Result<bool, Error> {
    if run.path().join(RESULT).exists() {
        return Ok(true);
    }
    if !run.path().join(MetricsLog::FILE).exists() {
        return Ok(false);
    }
    let records = read_metrics(run)?;
    let mut after = records
        .iter()
        .skip_while(|record| matches!(record, Record::Step { .. }));
    Ok(after.any(|record| matches!(record, Record::Step { .. })))
}

/// What another number of steps means for the learning rate.
fn schedule_note(asked: &Experiment, planned: &Experiment, step: usize) -> String {
    let (before, now) = (planned.train.steps, asked.train.steps);
    let (past, ahead) = (Schedule::new(planned), Schedule::new(asked));
    if (0..step).all(|step| past.rate(step) == ahead.rate(step)) {
        return format!(
            "train.steps is {now} instead of {before}: the learning rates so far are those of a run of {now} steps, and so \
             is the result"
        );
    }
    let ahead = match step < now {
        true => format!(
            "from step {step} on, the learning rate is that of a run of {now} steps, {:.3e} after {:.3e}; ",
            ahead.rate(step),
            past.rate(step - 1)
        ),
        false => String::new(),
    };
    format!(
        "train.steps is {now} instead of {before}: {ahead}the result is not that of a run of {now} steps from the start"
    )
}
