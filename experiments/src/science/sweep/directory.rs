//! The directory of a sweep: its plan, the experiments of its runs, their states, and the index.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use foretoken_datasets::files::{self, LockFile};
use serde::{Deserialize, Serialize};

use super::claim;
use super::index::{self, Entry, State};
use super::plan::Plan;
use super::run::Run;
use crate::experiment::{Keep, Template};
use crate::record::checkpoint::Checkpoints;
use crate::record::result::RunResult;
use crate::record::run::{RunDirectory, write_atomically};
use crate::{Error, Experiment};

/// Default parent of the directories of sweeps.
pub(super) const ROOT: &str = "sweeps";

const PLAN: &str = "plan.toml";
const BASE: &str = "base.toml";
const INDEX: &str = "index.jsonl";
const LOCK: &str = "index.lock";

const FOLDERS: [&str; 5] = ["experiments", "runs", "claims", "failures", "logs"];
const FILES: [&str; 4] = [PLAN, BASE, INDEX, LOCK];

/// Longest time that a process waits for another one that writes the index.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// The directory of a sweep.
#[derive(Debug, Clone)]
pub struct SweepDirectory {
    path: PathBuf,
}

/// Content of `failures/<run>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) state: State,
    pub(super) reason: String,
}

impl SweepDirectory {
    /// Returns the default directory of a plan.
    pub fn default_path(plan: &Plan) -> PathBuf {
        Path::new(ROOT).join(&plan.name)
    }

    /// Opens an existing directory.
    ///
    /// # Errors
    ///
    /// Returns an error if it is not that of a sweep.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let this = Self { path: path.into() };
        match this.has_begun() {
            true => Ok(this),
            false => Err(Error::run_directory(
                path,
                "is not the directory of a sweep: it has no plan.toml; `foretoken sweep PLAN.toml --run` makes one",
            )),
        }
    }

    /// Returns whether the directory is that of a sweep. Its index may be missing, because it can be written again.
    fn has_begun(&self) -> bool {
        [PLAN, INDEX]
            .iter()
            .any(|file| self.path.join(file).is_file())
    }

    /// Finds the directory of a plan, without writing anything; `None` if it has not begun.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory belongs to another plan, or contains something else.
    pub fn find(path: &Path, runs: &[Run]) -> Result<Option<Self>, Error> {
        let this = Self { path: path.into() };
        this.refuse_others()?;
        if !this.has_begun() {
            return Ok(None);
        }
        this.refuse_other_plan(runs)?;
        Ok(Some(this))
    }

    /// Creates the directory of a plan, or opens it. Runs may be added to an existing one, and its runs must be those of
    /// the plan.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory belongs to another plan, contains something else, or cannot be written.
    pub fn prepare(path: &Path, plan: &Plan, runs: &[Run]) -> Result<Self, Error> {
        let this = Self { path: path.into() };
        this.refuse_others()?;
        for folder in FOLDERS.map(|folder| path.join(folder)) {
            files::create_directories(&folder)
                .map_err(Error::io("create", &folder))
                .map_err(fixable)?;
        }
        let _lock = this.lock()?;
        if this.has_begun() {
            this.refuse_other_plan(runs)?;
        }
        for run in runs.iter().filter(|run| run.refusal.is_none()) {
            this.write_if_other(&this.experiment_file(&run.name), &run.experiment.to_toml())?;
        }
        this.write_if_other(&path.join(BASE), plan.base.text())?;
        this.write_if_other(&path.join(PLAN), &plan.text)?;
        let mut entries: Vec<Entry> = runs.iter().map(Entry::new).collect();
        this.refresh(&mut entries)?;
        this.write_if_other(&path.join(INDEX), &index::to_text(&entries)?)?;
        Ok(this)
    }

    /// Reads the plan.
    ///
    /// # Errors
    ///
    /// Returns an error if the plan is missing or damaged.
    pub fn plan(&self) -> Result<Plan, Error> {
        let file = self.path.join(PLAN);
        let text = read(&file)?;
        let name = self.path.file_name().map(|name| name.to_string_lossy());
        Plan::parse(
            &text,
            &file.display().to_string(),
            &name.unwrap_or_default(),
            |_| Template::read(&self.path.join(BASE)),
        )
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the runs with their present states.
    ///
    /// # Errors
    ///
    /// Returns an error if the index or a file of a run is damaged.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let file = self.path.join(INDEX);
        let read = index::from_text(&read(&file)?);
        let mut entries = read.map_err(|message| {
            let advice = "remove the file, and run the sweep again to have it written";
            Error::run_directory(&file, format!("{message}; {advice}"))
        })?;
        let listed: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let experiments = self.experiment_names();
        if let Some(missing) = experiments.iter().find(|name| !listed.contains(&***name)) {
            let message = format!(
                "does not list the run {missing}; `foretoken sweep {} --run` writes it again",
                self.path.display()
            );
            return Err(Error::run_directory(&file, message));
        }
        self.refresh(&mut entries)?;
        Ok(entries)
    }

    /// Returns the names of runs that have an experiment.
    fn experiment_names(&self) -> Vec<String> {
        let files = names(&self.path.join("experiments"));
        let name = |file: &String| Some(file.strip_suffix(".toml")?.to_owned());
        files.iter().filter_map(name).collect()
    }

    /// Brings the states of runs up to date. Those that are done stay so while their directories exist.
    ///
    /// # Errors
    ///
    /// Returns an error if a file of a run is damaged.
    pub fn refresh(&self, entries: &mut [Entry]) -> Result<(), Error> {
        let claims = claim::Snapshot::of(&self.claims());
        // A listing of a folder is faster than a question for each of thousands of runs.
        let begun = names(&self.path.join("runs"));
        let failed = names(&self.path.join("failures"));
        for entry in entries.iter_mut() {
            let is_refused_by_plan = entry.cost.is_none();
            let is_done = entry.state == State::Done && begun.contains(&entry.name);
            if is_done || is_refused_by_plan {
                continue;
            }
            entry.result = None;
            let run = match begun.contains(&entry.name) {
                true => RunDirectory::open(&self.run(&entry.name)).ok(),
                false => None,
            };
            match run.as_ref().map(RunResult::read).transpose() {
                Ok(Some(Some(result))) if !result.summary.valid_loss.is_finite() => {
                    entry.state = State::Failed;
                    entry.reason = Some(
                        "its result.json has no validation loss; remove the run's directory to have it trained again"
                            .into(),
                    );
                    continue;
                }
                Ok(Some(Some(result))) => {
                    entry.state = State::Done;
                    entry.result = Some(result.summary);
                    entry.reason = None;
                    continue;
                }
                Ok(_) => {}
                // One damaged run does not stop the others.
                Err(error) => {
                    entry.state = State::Failed;
                    entry.reason = Some(format!(
                        "{error}; or remove the run's directory to have it trained again"
                    ));
                    continue;
                }
            }
            let failure = match failed.contains(&format!("{}.json", entry.name)) {
                true => self.failure(&entry.name)?,
                false => None,
            };
            entry.reason = failure.as_ref().map(|failure| failure.reason.clone());
            entry.state = match failure {
                _ if claims.is_held(&entry.name) => State::Running,
                Some(failure) => failure.state,
                None if run.is_some() => State::Stopped,
                None => State::Waiting,
            };
        }
        Ok(())
    }

    /// Writes the index, with the present states of the runs.
    pub(super) fn update(&self, entries: &mut [Entry]) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.refresh(entries)?;
        self.write_if_other(&self.path.join(INDEX), &index::to_text(entries)?)
    }

    /// Returns the directory of a run.
    pub fn run(&self, name: &str) -> PathBuf {
        self.path.join("runs").join(name)
    }

    pub(super) fn experiment_file(&self, name: &str) -> PathBuf {
        self.path.join("experiments").join(format!("{name}.toml"))
    }

    pub(super) fn claims(&self) -> PathBuf {
        self.path.join("claims")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    /// Returns whether a run has a checkpoint of a step.
    pub(super) fn has_checkpoint(&self, name: &str, step: usize) -> bool {
        let checkpoints = Checkpoints::new(self.run(name).join("checkpoints"));
        checkpoints.path(step).is_dir()
    }

    fn failure_file(&self, name: &str) -> PathBuf {
        self.path.join("failures").join(format!("{name}.json"))
    }

    fn failure(&self, name: &str) -> Result<Option<Failure>, Error> {
        let file = self.failure_file(name);
        let text = match files::read_small_text(&file, files::LARGEST_DESCRIPTION) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::io("read", &file))?,
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let message = format!("is damaged: {error}; remove it to have the run tried again");
            Error::run_directory(&file, message)
        })
    }

    /// Records why a run has no result.
    pub(super) fn record_failure(&self, name: &str, failure: &Failure) -> Result<(), Error> {
        let json = serde_json::to_vec(failure)?;
        write_atomically(&self.failure_file(name), &json).map_err(fixable)
    }

    /// Forgets why a run had no result, before it is tried again.
    pub(super) fn forget_failure(&self, name: &str) -> Result<(), Error> {
        let file = self.failure_file(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(fixable(Error::io("remove", &file)(error)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a directory that contains something and is not that of a sweep.
    fn refuse_others(&self) -> Result<(), Error> {
        let path = &self.path;
        if path.exists() && !path.is_dir() {
            return Err(Error::run_directory(path, "is a file; name another --out"));
        }
        let others = |entry: std::io::Result<fs::DirEntry>| {
            let name = entry.map(|entry| entry.file_name()).unwrap_or_default();
            let is = |ours: &&str| files::is_file_or_part(&name, ours);
            !FOLDERS.iter().chain(&FILES).any(is)
        };
        // A process that was killed at its start may have left some of its files.
        let has_others = fs::read_dir(path).is_ok_and(|mut entries| entries.any(others));
        match self.has_begun() || !has_others {
            true => Ok(()),
            false => Err(Error::run_directory(
                path,
                "already exists and is not the directory of a sweep; name another --out",
            )),
        }
    }

    /// Refuses a directory whose runs are not those of the plan.
    fn refuse_other_plan(&self, runs: &[Run]) -> Result<(), Error> {
        let file = self.path.join(INDEX);
        let before: Vec<String> = match file.is_file() {
            // A damaged index is written again.
            true => index::from_text(&read(&file)?)
                .unwrap_or_default()
                .into_iter()
                .map(|entry| entry.name)
                .collect(),
            false => self.experiment_names(),
        };
        for name in before {
            let belongs = match runs.iter().find(|run| run.name == name) {
                None => false,
                Some(run) => match read(&self.experiment_file(&run.name)) {
                    Ok(text) => {
                        let file = self.experiment_file(&name).display().to_string();
                        let before = Experiment::from_toml(&text, &file)?;
                        without_kept(&before) == without_kept(&run.experiment)
                    }
                    Err(_) => true,
                },
            };
            if !belongs {
                let message = format!(
                    "belongs to another plan: its run {name} is not one of this plan's; name another --out, or go on with \
                     `foretoken sweep {} --run`",
                    self.path.display()
                );
                return Err(Error::run_directory(&self.path, message));
            }
        }
        Ok(())
    }

    fn write_if_other(&self, file: &Path, text: &str) -> Result<(), Error> {
        match files::read_small(file, files::LARGEST_DESCRIPTION) {
            Ok(before) if before == text.as_bytes() => Ok(()),
            _ => write_atomically(file, text.as_bytes()).map_err(fixable),
        }
    }

    /// Waits until no other process writes the index.
    fn lock(&self) -> Result<LockFile, Error> {
        let file = self.path.join(LOCK);
        let began = Instant::now();
        loop {
            let taken = LockFile::try_take(&file).map_err(Error::io("create", &file));
            if let Some(lock) = taken.map_err(fixable)? {
                return Ok(lock);
            }
            if began.elapsed() > LOCK_TIMEOUT {
                let message = "is held by another process for more than a minute; end that process";
                return Err(Error::run_directory(&file, message));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Returns the experiment without the checkpoints that it keeps, which depend on the other runs of its ladder.
fn without_kept(experiment: &Experiment) -> String {
    let mut same = experiment.clone();
    same.train.keep = Keep::default();
    same.to_toml()
}

/// Returns the names of the files in a folder, which may not exist.
fn names(folder: &Path) -> HashSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn read(file: &Path) -> Result<String, Error> {
    let text = files::read_small_text(file, files::LARGEST_DESCRIPTION);
    text.map_err(Error::io("read", file))
}

/// Turns an error of the disk that the user can fix into one that says so.
pub(super) fn fixable(error: Error) -> Error {
    match error {
        Error::Io {
            action,
            path,
            source,
        } if matches!(
            source.kind(),
            ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::NotADirectory
                | ErrorKind::NotFound
        ) =>
        {
            let message =
                format!("cannot {action} it: {source}; free space, or name another --out");
            Error::run_directory(path, message)
        }
        other => other,
    }
}
