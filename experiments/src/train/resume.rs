//! Resumption of a run: checks which settings changed, notes their effects, and refuses the others.
//!
//! No setting that changes what training computes can be changed, except the number of steps, which extends or shortens
//! the run. Evaluations, early stopping, the sample, and the paths of equal data can be changed.

use crate::engine::schedule::Schedule;
use crate::engine::setup::Setup;
use crate::record::checkpoint::{Checkpoints, Saved};
use crate::record::environment::History;
use crate::record::identity::{Identity, Replanned};
use crate::record::run::{
    EXPERIMENT, MetricsLog, RESULT, Record, RunDirectory, SAMPLE, read_metrics,
};
use crate::{Error, Experiment};

/// Resumption of a run with the changes to its experiment.
pub(crate) struct Resumption {
    /// The last checkpoint, if there is one.
    pub(crate) saved: Option<Saved>,
    /// Whether the number of steps is another.
    extended: bool,
    /// Changed number of steps, if past learning rates would have been others.
    replanned: Option<Replanned>,
    /// Whether any key differs from the run's experiment.
    changed: bool,
    /// Whether a key of `[train]` differs, so that a finished run is not finished any more.
    pub(crate) reopened: bool,
    /// Effects of the changes, for the user.
    pub(crate) notes: Vec<String>,
}

impl Resumption {
    /// Compares the setup with the run; writes nothing.
    pub(crate) fn new(run: &RunDirectory, setup: &Setup) -> Result<Self, Error> {
        let (requested, planned) = (&setup.experiment, run.experiment()?);
        let refused = requested.differences_refused_on_resume(&planned);
        if !refused.is_empty() {
            return Err(Error::run_directory(
                run.path(),
                format!(
                    "holds another experiment: {}; leave these keys out, or start a new run without --resume",
                    refused.join(", ")
                ),
            ));
        }
        // Only read, so that a damaged one is refused here.
        History::of_run(run)?;
        let identity = run.read_json::<Identity>(Identity::FILE)?;
        if let Some(identity) = &identity
            && identity.experiment != planned.hash()
        {
            return Err(Error::run_directory(
                run.path().join(EXPERIMENT),
                "does not match its hash in identity.json, so it was edited after the run began; restore the file, \
                 and change keys with --set",
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
            let keys = requested.differences_under(&planned, "data.");
            let cause = match keys.is_empty() {
                true => "the text that [data] names has changed since; restore it".into(),
                false => format!("{}; leave these keys out", keys.join(", ")),
            };
            let message = format!("was trained on other data: {cause}, or start a new run");
            return Err(Error::run_directory(run.path(), message));
        }
        if saved.is_none() && had_checkpoints(run)? {
            return Err(Error::run_directory(
                run.path(),
                "was trained and evaluated, but has none of its checkpoints; restore checkpoints/, or start a new run \
                 without --resume",
            ));
        }
        let step = saved.as_ref().map_or(0, |saved| saved.state.step);
        let steps = requested.train.steps;
        if steps < step {
            return Err(Error::Experiment {
                origin: "train.steps".into(),
                message: format!(
                    "{steps} is less than the {step} steps that {} has taken; set it to {step} or more",
                    run.path().display()
                ),
            });
        }
        let changes = requested.differences(&planned);
        let extended = steps != planned.train.steps && step > 0;
        let (past, ahead) = (Schedule::new(&planned), Schedule::new(requested));
        let keeps_rates = !extended || (0..step).all(|step| past.rate(step) == ahead.rate(step));
        let note = extended.then(|| schedule_note(requested, &planned, step, keeps_rates));
        Ok(Self {
            notes: note.into_iter().collect(),
            saved,
            extended,
            replanned: (!keeps_rates).then_some(Replanned { step, steps }),
            changed: !changes.is_empty(),
            reopened: changes.iter().any(|change| change.starts_with("train.")),
        })
    }

    /// Records the changes in the run directory, which this process must have claimed. Removes the result of a reopened
    /// run.
    pub(crate) fn record(&self, run: &RunDirectory, setup: &Setup) -> Result<(), Error> {
        if self.reopened {
            run.remove(RESULT)?;
            run.remove(SAMPLE)?;
        }
        if self.extended
            && let Some(mut identity) = run.read_json::<Identity>(Identity::FILE)?
        {
            identity.experiment = setup.experiment.hash();
            if let Some(replanned) = &self.replanned {
                identity
                    .replanned
                    .retain(|before| before.step < replanned.step);
                identity.replanned.push(*replanned);
            }
            identity.write(run)?;
        }
        match self.changed {
            true => run.write(EXPERIMENT, setup.experiment.to_toml()),
            false => Ok(()),
        }
    }
}

/// Returns whether the run had checkpoints: it is finished, or has steps after an evaluation, where it was saved.
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
        .skip_while(|record| !matches!(record, Record::Evaluation { .. }));
    Ok(after.any(|record| matches!(record, Record::Step { .. })))
}

/// Returns a note on the effect of another number of steps on the learning rate. `keeps_rates` says whether the learning
/// rates before `step` are the same.
fn schedule_note(
    requested: &Experiment,
    planned: &Experiment,
    step: usize,
    keeps_rates: bool,
) -> String {
    let (before, now) = (planned.train.steps, requested.train.steps);
    let (past, ahead) = (Schedule::new(planned), Schedule::new(requested));
    if keeps_rates {
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
