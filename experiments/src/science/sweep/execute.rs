//! Execution of a sweep: child processes that train its runs, as many side by side as wanted.
//!
//! Any number of processes may execute one sweep at the same time, also on several machines. They share nothing but its
//! directory: each starts a child for a run that is free, and the child that creates the run's claim trains it.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::claim::{LEASE, Observer, Snapshot};
use super::directory::{Failure, SweepDirectory};
use super::index::{Entry, State};
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
    /// All runs of the sweep.
    pub entries: Vec<Entry>,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

/// Divides the threads of this process among jobs, and returns the number for each. Measurements in this process then
/// use as many threads as a run will.
pub fn divide_threads(jobs: usize) -> usize {
    let given = std::env::var("RAYON_NUM_THREADS").ok();
    let given = given
        .and_then(|threads| threads.parse().ok())
        .filter(|threads| *threads > 0);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (given.unwrap_or_else(cores) / jobs.max(1)).max(1);
    // A pool that exists already keeps its threads, and measurements are a little off.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    threads
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
        entries: execution.entries,
        interrupted: options.interrupted.load(Ordering::SeqCst),
    })
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
        let mut was_stopping = false;
        loop {
            let stopping = self.options.interrupted.load(Ordering::SeqCst);
            if stopping && !was_stopping {
                was_stopping = true;
                self.children.values().for_each(terminate);
            }
            let changed = self.reap(stopping)?;
            let is_due = refreshed.is_none_or(|last| last.elapsed() >= REFRESH);
            if changed || is_due {
                self.sweep.refresh(&mut self.entries)?;
                if changed || refreshed.is_none() {
                    self.sweep.update(&mut self.entries)?;
                }
                refreshed = Some(Instant::now());
                if !stopping {
                    self.start()?;
                }
                curves.read(self.sweep, &self.entries);
            }
            let progress = Progress {
                sweep: self.sweep,
                entries: &self.entries,
                curves: &curves,
                speeds,
                jobs: self.options.jobs,
                elapsed: self.began.elapsed(),
                stopping,
            };
            let unfinished =
                |entry: &Entry| self.ours.contains(&entry.name) && !self.has_ended(entry);
            let is_over =
                self.children.is_empty() && (stopping || !self.entries.iter().any(unfinished));
            view.update(&progress, is_over);
            if is_over {
                return Ok(());
            }
        }
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
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("error: "));
        Err(Error::run_directory(
            log,
            last.unwrap_or("the process of the run failed").to_owned(),
        ))
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
            if is_candidate
                && let Some(shared) = self.readiness(&entry, &snapshot)?
                && let Some(claim) = self.observer.free(&snapshot, &entry.name)
            {
                // It may have ended since its state was read, because its last claim was released after that.
                let mut now = [entry];
                self.sweep.refresh(&mut now)?;
                let [entry] = now;
                if !self.has_ended(&entry) {
                    let child = self.spawn(&entry.name, claim, shared)?;
                    self.children.insert(entry.name, child);
                }
            }
        }
        Ok(())
    }

    /// Returns the checkpoint from which a run begins, if it can begin now; the inner `None` if it takes all of its steps
    /// itself.
    #[allow(clippy::option_option)]
    fn readiness(
        &mut self,
        entry: &Entry,
        snapshot: &Snapshot,
    ) -> Result<Option<Option<super::Shared>>, Error> {
        let Some(shared) = &entry.shared else {
            return Ok(Some(None));
        };
        if entry.state == State::Stopped {
            return Ok(Some(None));
        }
        if self.sweep.has_checkpoint(&shared.trunk, shared.step) {
            return Ok(Some(Some(shared.clone())));
        }
        let trunk = self.entries.iter().find(|other| other.name == shared.trunk);
        let Some(trunk) = trunk.filter(|trunk| self.has_ended(trunk)) else {
            return Ok(None);
        };
        if trunk.state != State::Diverged {
            return Ok(Some(None));
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
        Ok(None)
    }

    fn spawn(
        &self,
        name: &str,
        claim: usize,
        shared: Option<super::Shared>,
    ) -> Result<Child, Error> {
        let path = self.sweep.log(name);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log
            .map_err(Error::io("create", &path))
            .map_err(super::directory::fixable)?;
        let mut command = Command::new(&self.options.program);
        command
            .args(["sweep", "work"])
            .arg(self.sweep.path())
            .arg(name)
            .arg(format!("--claim={claim}"))
            .arg(format!("--parent={}", std::process::id()));
        if let Some(shared) = shared {
            command
                .arg(format!("--trunk={}", shared.trunk))
                .arg(format!("--step={}", shared.step));
        }
        for variable in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS"] {
            command.env(variable, self.options.threads.to_string());
        }
        // A Ctrl-C at the terminal reaches this process only, which passes it on once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(Error::io("start", &self.options.program))
    }

    /// Stops the children that are left, each with a checkpoint.
    fn stop_and_wait(&mut self) {
        self.children.values().for_each(terminate);
        for child in self.children.values_mut() {
            let _ = child.wait();
        }
    }
}

/// Asks a child to stop with a checkpoint.
#[cfg(unix)]
fn terminate(child: &Child) {
    // SAFETY: `kill` takes no pointer, and the child was not waited for, so that its number is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
}

/// A console of Windows sends Ctrl-C to the children itself.
#[cfg(not(unix))]
fn terminate(_child: &Child) {}
