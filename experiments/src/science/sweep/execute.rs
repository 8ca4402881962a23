//! Execution of a sweep: child processes that train its runs, as many side by side as wanted.
//!
//! Any number of processes may execute one sweep at the same time, also on several machines. They share nothing but its
//! directory: each starts a child for a run that is free, and the child that creates the run's claim trains it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foretoken_datasets::files;

use super::children::{self, terminate};
use super::claim::{LEASE, Observer, Snapshot};
use super::directory::{Failure, SweepDirectory};
use super::index::{Entry, State};
use super::run::Shared;
use super::shard::Shard;
use super::speed::Speeds;
use super::view::{Curves, Progress, View};
use super::worker::BUSY;
use crate::Error;
use crate::show::signals::Unsaved;

/// Interval at which states are read.
const REFRESH: Duration = Duration::from_millis(500);

/// Number of times that a run is tried whose process was killed.
const ATTEMPTS: usize = 3;

/// Options of [`execute`].
pub struct ExecuteOptions {
    /// The program whose hidden command `sweep work` trains a run.
    pub program: PathBuf,
    /// Number of runs side by side.
    pub jobs: usize,
    /// Threads of each.
    pub threads: usize,
    /// The part of the sweep; `None` for all of it.
    pub shard: Option<Shard>,
    /// Stops the runs, each with a checkpoint.
    pub interrupted: Arc<AtomicBool>,
}

/// Outcome of [`execute`].
#[derive(Debug)]
pub struct Executed {
    /// The runs of the sweep, or of the shard.
    pub entries: Vec<Entry>,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

/// Trains all runs of a sweep, or of a shard, that have no result yet. Returns when each of them has ended, in this
/// process or in another one, or after an interruption.
///
/// # Errors
///
/// Returns an error if the directory cannot be read or written. The runs under way are stopped with a checkpoint.
pub fn execute(
    sweep: &SweepDirectory,
    options: &ExecuteOptions,
    speeds: &Speeds,
    view: &mut dyn View,
) -> Result<Executed, Error> {
    let entries = sweep.entries()?;
    let ours: HashSet<String> = match options.shard {
        Some(shard) => shard.names(&entries).into_iter().collect(),
        None => entries.iter().map(|entry| entry.name.clone()).collect(),
    };
    // What was refused or failed before may work now.
    let again = entries.iter().filter(|entry| {
        entry.cost.is_some() && matches!(entry.state, State::Refused | State::Failed)
    });
    let mut execution = Execution {
        again: again.map(|entry| entry.name.clone()).collect(),
        sweep,
        options,
        ours,
        observer: Observer::new(sweep.claims(), LEASE),
        children: HashMap::new(),
        attempts: HashMap::new(),
        entries,
        began: Instant::now(),
    };
    // The children save their runs for as long as this process waits for them.
    let _unsaved = Unsaved::begin();
    let result = execution.run(speeds, view);
    execution.stop_and_wait();
    result?;
    sweep.update(&mut execution.entries)?;
    Ok(Executed {
        entries: execution.ours(),
        interrupted: options.interrupted.load(Ordering::SeqCst),
    })
}

/// Beginning of a run.
enum Beginning {
    /// Its trunk has not come to its checkpoint.
    NotYet,
    /// At its own first step, or at its own last checkpoint.
    Own,
    /// At a checkpoint of its trunk.
    Trunk(Shared),
}

struct Execution<'a> {
    sweep: &'a SweepDirectory,
    options: &'a ExecuteOptions,
    ours: HashSet<String>,
    /// Runs that ended without a result before, and are tried again.
    again: HashSet<String>,
    observer: Observer,
    children: HashMap<String, Child>,
    attempts: HashMap<String, usize>,
    entries: Vec<Entry>,
    began: Instant,
}

impl Execution<'_> {
    fn run(&mut self, speeds: &Speeds, view: &mut dyn View) -> Result<(), Error> {
        let mut curves = Curves::default();
        let mut refreshed: Option<Instant> = None;
        let mut interval = REFRESH;
        let mut shown = Vec::new();
        let mut was_stopping = false;
        loop {
            let stopping = self.options.interrupted.load(Ordering::SeqCst);
            if stopping && !was_stopping {
                was_stopping = true;
                self.children.values().for_each(terminate);
            }
            let reaped = self.reap(stopping)?;
            if reaped || refreshed.is_none_or(|last| last.elapsed() >= interval) {
                let began = Instant::now();
                self.refresh(refreshed.is_none())?;
                if !stopping {
                    self.start()?;
                }
                curves.read(self.sweep, &self.entries);
                shown = self.ours();
                // Thousands of runs on a slow file system must not keep it busy.
                interval = REFRESH.max(20 * began.elapsed());
                refreshed = Some(Instant::now());
            }
            let progress = Progress {
                sweep: self.sweep,
                entries: &shown,
                curves: &curves,
                speeds,
                jobs: self.options.jobs,
                elapsed: self.began.elapsed(),
                stopping,
            };
            let is_over = self.children.is_empty()
                && (stopping || shown.iter().all(|entry| self.has_ended(entry)));
            view.update(&progress, is_over);
            if is_over {
                return Ok(());
            }
        }
    }

    /// Reads the states of the runs, and writes the index if any has changed, or if it is the first time.
    fn refresh(&mut self, is_first: bool) -> Result<(), Error> {
        let states =
            |entries: &[Entry]| -> Vec<State> { entries.iter().map(|entry| entry.state).collect() };
        let before = states(&self.entries);
        self.sweep.refresh(&mut self.entries)?;
        match is_first || states(&self.entries) != before {
            true => self.sweep.update(&mut self.entries),
            false => Ok(()),
        }
    }

    /// Returns the runs that this process is to see to their end.
    fn ours(&self) -> Vec<Entry> {
        let entries = self.entries.iter();
        let ours = entries.filter(|entry| self.ours.contains(&entry.name));
        ours.cloned().collect()
    }

    fn has_ended(&self, entry: &Entry) -> bool {
        entry.state.has_ended() && !self.again.contains(&entry.name)
    }

    /// Takes note of children that have ended. Returns whether there were any.
    fn reap(&mut self, stopping: bool) -> Result<bool, Error> {
        let mut ended = Vec::new();
        for (name, child) in &mut self.children {
            let path = self.sweep.log(name);
            if let Some(status) = child.try_wait().map_err(Error::io("wait for", path))? {
                ended.push((name.clone(), status));
            }
        }
        for (name, status) in &ended {
            self.children.remove(name);
            if status.code() != Some(BUSY.into()) {
                self.again.remove(name);
            }
            let has_recorded = [0, 1, 2, 130, BUSY.into()]
                .map(Some)
                .contains(&status.code());
            if has_recorded || stopping {
                self.check(name, *status)?;
                continue;
            }
            let attempts = self.attempts.entry(name.clone()).or_insert(0);
            *attempts += 1;
            if *attempts >= ATTEMPTS {
                let reason = format!(
                    "its process ended {attempts} times without a result ({status}); {} has its messages",
                    self.sweep.log(name).display()
                );
                let state = State::Failed;
                self.sweep
                    .record_failure(name, &Failure { state, reason })?;
            }
        }
        Ok(!ended.is_empty())
    }

    /// Returns the error of a child that could not record the outcome of its run.
    fn check(&self, name: &str, status: ExitStatus) -> Result<(), Error> {
        let is_error = matches!(status.code(), Some(1 | 2));
        if !is_error {
            return Ok(());
        }
        let log = self.sweep.log(name);
        let text = files::read_small_text(&log, files::LARGEST_DESCRIPTION).unwrap_or_default();
        let last = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("error: "));
        let unknown = "the process of the run could record neither its outcome nor a reason, as on a full disk; free \
                       space, or name another --out";
        Err(Error::run_directory(log, last.unwrap_or(unknown)))
    }

    /// Starts children for free runs, the most expensive first.
    fn start(&mut self) -> Result<(), Error> {
        if self.children.len() >= self.options.jobs {
            return Ok(());
        }
        let snapshot = self.observer.snapshot();
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by(|a, b| {
            let cost = |index: &usize| self.entries[*index].own_flops();
            cost(b).total_cmp(&cost(a))
        });
        for index in order {
            if self.children.len() >= self.options.jobs {
                break;
            }
            let entry = self.entries[index].clone();
            let is_candidate = self.ours.contains(&entry.name)
                && !self.has_ended(&entry)
                && !self.children.contains_key(&entry.name);
            if !is_candidate {
                continue;
            }
            let shared = match self.beginning(&entry, &snapshot)? {
                Beginning::NotYet => continue,
                Beginning::Own => None,
                Beginning::Trunk(shared) => Some(shared),
            };
            if let Some(claim) = self.observer.free(&snapshot, &entry.name) {
                // It may have ended since its state was read, because its last claim was released after that.
                let mut now = [entry];
                self.sweep.refresh(&mut now)?;
                let [entry] = now;
                if !self.has_ended(&entry) {
                    let child = children::spawn(
                        self.sweep,
                        &self.options.program,
                        self.options.threads,
                        &entry.name,
                        claim,
                        shared,
                    )?;
                    self.children.insert(entry.name, child);
                }
            }
        }
        Ok(())
    }

    /// Returns whether a run can begin, and from which checkpoint.
    fn beginning(&mut self, entry: &Entry, snapshot: &Snapshot) -> Result<Beginning, Error> {
        let Some(shared) = &entry.shared else {
            return Ok(Beginning::Own);
        };
        if entry.state == State::Stopped {
            return Ok(Beginning::Own);
        }
        if self.sweep.has_checkpoint(&shared.trunk, shared.step) {
            return Ok(Beginning::Trunk(shared.clone()));
        }
        let trunk = self.entries.iter().find(|other| other.name == shared.trunk);
        let Some(trunk) = trunk.filter(|trunk| self.has_ended(trunk)) else {
            return Ok(Beginning::NotYet);
        };
        if trunk.state != State::Diverged {
            return Ok(Beginning::Own);
        }
        // The same steps would diverge again.
        if self.observer.free(snapshot, &entry.name).is_some() {
            let reason = trunk.reason.clone().unwrap_or_default();
            let failure = Failure {
                state: State::Diverged,
                reason: format!("{}, whose steps it shares: {reason}", trunk.name),
            };
            self.sweep.record_failure(&entry.name, &failure)?;
        }
        Ok(Beginning::NotYet)
    }

    /// Stops the children that are left, each with a checkpoint.
    fn stop_and_wait(&mut self) {
        self.children.values().for_each(terminate);
        for child in self.children.values_mut() {
            let _ = child.wait();
        }
    }
}
