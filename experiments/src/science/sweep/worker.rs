//! The process that trains one run of a sweep.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::train::Interrupter;
use foretoken_datasets::files::LockFile;

use super::claim::Held;
use super::directory::{Failure, SweepDirectory, fixable};
use super::index::State;
use super::run::Shared;
use crate::record::branch::Branch;
use crate::record::run::RunDirectory;
use crate::show::dashboard::Dashboard;
use crate::show::terminal;
use crate::train::{Finished, TrainOptions, train};
use crate::{Error, Experiment};

/// Exit code of a process that found its run claimed by another one.
pub const BUSY: u8 = 75;

/// Work of one process.
#[derive(Debug, Clone)]
pub struct WorkerArgs {
    /// The directory of the sweep.
    pub directory: PathBuf,
    /// Name of the run.
    pub name: String,
    /// Number of the claim.
    pub claim: usize,
    /// The checkpoint that a new run continues from.
    pub shared: Option<Shared>,
    /// The process that started this one. Training stops with a checkpoint when it is gone.
    pub parent: u32,
}

/// Outcome of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worked {
    /// The run has a result.
    Done,
    /// The run has none, and the reason is recorded.
    Recorded,
    /// The run was stopped, and can go on.
    Stopped,
    /// Another process has the run.
    Busy,
}

/// Claims a run and trains it to its end, or until `interrupter` stops it.
///
/// # Errors
///
/// Returns an error if the directory of the sweep cannot be written. A failure of the run is not an error; it is
/// recorded.
pub fn work(
    args: &WorkerArgs,
    interrupter: &Interrupter,
    interrupted: &Arc<AtomicBool>,
) -> Result<Worked, Error> {
    let sweep = SweepDirectory::open(&args.directory)?;
    let lost = || terminal::exit(BUSY.into(), "another process has taken this run over\n");
    let held = Held::take(&sweep.claims(), &args.name, args.claim, lost).map_err(fixable)?;
    let Some(_held) = held else {
        return Ok(Worked::Busy);
    };
    let run = sweep.run(&args.name);
    if run.join(crate::record::run::RESULT).exists() {
        return Ok(Worked::Done);
    }
    // A process that was orphaned may still be saving its checkpoint.
    if is_written(&run)? {
        return Ok(Worked::Busy);
    }
    sweep.forget_failure(&args.name)?;
    stop_without_parent(args.parent, interrupter.clone());
    let options = TrainOptions {
        resume: false,
        out: Some(run.clone()),
        dashboard: Dashboard::None,
        interrupter: interrupter.clone(),
        interrupted: interrupted.clone(),
        probes: crate::science::probes::in_training,
    };
    let trained =
        std::panic::catch_unwind(AssertUnwindSafe(|| run_or_resume(&sweep, args, options)));
    let (state, reason) = match trained {
        Ok(Ok(Finished::Complete { .. })) => return Ok(Worked::Done),
        Ok(Ok(Finished::Interrupted { .. })) => return Ok(Worked::Stopped),
        Ok(Err(error)) => match (&error, error.exit_code()) {
            (_, 130) => return Ok(Worked::Stopped),
            (Error::NotFinite { .. } | Error::Diverged { .. }, _) => {
                (State::Diverged, error.to_string())
            }
            (_, 2) if is_written(&run)? => return Ok(Worked::Busy),
            (_, 2) => (State::Refused, error.to_string()),
            _ => (State::Failed, error.to_string()),
        },
        Err(_) => {
            let log = sweep.log(&args.name);
            let reason = format!("the program panicked; {} has its message", log.display());
            (State::Failed, reason)
        }
    };
    crate::errln!("error: {reason}");
    sweep.record_failure(&args.name, &Failure { state, reason })?;
    Ok(Worked::Recorded)
}

/// Trains the run from its start, from the trunk's checkpoint, or from its own last checkpoint.
fn run_or_resume(
    sweep: &SweepDirectory,
    args: &WorkerArgs,
    options: TrainOptions,
) -> Result<Finished, Error> {
    let run = sweep.run(&args.name);
    let mut experiment = Experiment::load(&sweep.experiment_file(&args.name), &[])?;
    if let Some(Shared { trunk, step }) = &args.shared
        && RunDirectory::open(&run).is_err()
    {
        if run.exists() {
            // Nothing was trained in a directory without an experiment.
            std::fs::remove_dir_all(&run).map_err(Error::io("remove", &run))?;
        }
        let branch = Branch {
            trunk: sweep.run(trunk),
            step: *step,
        };
        branch.create(&run, |of_trunk| {
            of_trunk.name.clone_from(&experiment.name);
            of_trunk.train.steps = experiment.train.steps;
            of_trunk.train.keep = experiment.train.keep.clone();
        })?;
    }
    let resume = match RunDirectory::open(&run) {
        Err(_) => false,
        Ok(before) => {
            // The plan may have grown since the run began, and other runs may branch from it now.
            let keep = experiment.train.keep;
            experiment = before.experiment()?;
            experiment.train.keep = keep;
            true
        }
    };
    train(experiment, TrainOptions { resume, ..options })
}

/// Returns whether another process writes a run directory.
fn is_written(run: &std::path::Path) -> Result<bool, Error> {
    if !run.is_dir() {
        return Ok(false);
    }
    let lock = LockFile::try_take_folder(run);
    Ok(lock.map_err(Error::io("create", run))?.is_none())
}

/// Stops the run when the process that started this one is gone.
#[cfg(unix)]
fn stop_without_parent(parent: u32, interrupter: Interrupter) {
    use std::thread;
    use std::time::Duration;

    thread::spawn(move || {
        while std::os::unix::process::parent_id() == parent {
            thread::sleep(Duration::from_millis(200));
        }
        interrupter.stop(Some("the sweep is gone"));
    });
}

#[cfg(not(unix))]
fn stop_without_parent(_parent: u32, _interrupter: Interrupter) {}
