//! The run directory: its files, safe writing, and reading.
//!
//! ```text
//! runs/<experiment>-<backend>-<n>/
//!   experiment.toml    resolved, rerunnable
//!   identity.json      hashes that must be equal for two runs to be compared
//!   environment.json   versions, CPU, device, driver, threads, features, git revision; at each start
//!   metrics.jsonl      one line per step, per evaluation and per probing
//!   checkpoints/       step-N/, complete or absent
//!   tokenizer.json     loads in Hugging Face tokenizers
//!   sample.txt         text generated at the end
//!   result.json        the summary that `--json` prints; present once the run is complete
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use foretoken_datasets::files::{self, LockFile, Temporary};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::engine::event::Probed;
use crate::engine::totals::Totals;
use crate::{Error, Experiment, json};

/// Default parent of run directories.
pub const ROOT: &str = "runs";

/// Name of the file that marks a directory as a run.
pub(crate) const EXPERIMENT: &str = "experiment.toml";

/// Name of the file with the figures of a finished run.
pub(crate) const RESULT: &str = "result.json";

/// Name of the file with text that the model of a finished run generated.
pub(crate) const SAMPLE: &str = "sample.txt";

const NO_RUN: &str =
    "there is no run to resume; start one without --resume, or name its directory with --out";

/// An existing run directory.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    path: PathBuf,
    /// `None` if the directory is only read.
    claim: Option<Arc<Claim>>,
}

impl RunDirectory {
    /// Creates `out`, or the next free `runs/<experiment>-<backend>-<n>`, and claims it for this process.
    ///
    /// # Errors
    ///
    /// Returns an error if `out` is not empty, cannot be created, or is written by another process.
    pub fn create(out: Option<&Path>, experiment: &Experiment) -> Result<Self, Error> {
        let claim = create_directory(out, &run_prefix(experiment))?;
        Ok(Self {
            path: claim.path.clone(),
            claim: Some(Arc::new(claim)),
        })
    }

    /// Opens an existing run directory.
    ///
    /// # Errors
    ///
    /// Returns an error if it contains no experiment.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.join(EXPERIMENT).is_file() {
            return Err(Error::run_directory(
                path,
                "is not a run directory: it has no experiment.toml",
            ));
        }
        Ok(Self {
            path: path.into(),
            claim: None,
        })
    }

    /// Claims the directory for this process until the last copy is dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if another process writes the directory.
    pub fn claimed(mut self) -> Result<Self, Error> {
        if self.claim.is_none() {
            self.claim = Some(Arc::new(Claim::of(&self.path)?));
            files::remove_partial_files(&self.path);
        }
        Ok(self)
    }

    /// Opens the run of this experiment on this backend with the highest number under [`ROOT`].
    ///
    /// # Errors
    ///
    /// Returns an error if there is none.
    pub fn latest(experiment: &Experiment) -> Result<Self, Error> {
        let prefix = run_prefix(experiment);
        match highest_number(Path::new(ROOT), &prefix) {
            Some(n) => Self::open(&Path::new(ROOT).join(format!("{prefix}{n}"))),
            None => Err(Error::run_directory(
                Path::new(ROOT).join(format!("{prefix}*")),
                NO_RUN,
            )),
        }
    }

    /// Opens the run under [`ROOT`] that wrote last, of any experiment; only on `backend` if it is given.
    ///
    /// # Errors
    ///
    /// Returns an error if there is none.
    pub fn last(backend: Option<Backend>) -> Result<Self, Error> {
        let written = |run: &Self| -> Option<SystemTime> {
            let log = run.path.join(MetricsLog::FILE);
            let file = fs::metadata(log).or_else(|_| fs::metadata(run.path.join(EXPERIMENT)));
            file.ok()?.modified().ok()
        };
        let matches = |run: &Self| match backend {
            Some(backend) => run
                .experiment()
                .is_ok_and(|experiment| experiment.backend.name == backend),
            None => true,
        };
        fs::read_dir(ROOT)
            .into_iter()
            .flatten()
            .filter_map(|entry| Self::open(&entry.ok()?.path()).ok())
            .filter(matches)
            .max_by_key(written)
            .ok_or_else(|| Error::run_directory(ROOT, NO_RUN))
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Reads the run's experiment.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is missing or not a valid experiment.
    pub fn experiment(&self) -> Result<Experiment, Error> {
        Experiment::load(&self.path.join(EXPERIMENT), &[])
    }

    /// Replaces a file of this directory atomically: readers see the old bytes or the new ones.
    ///
    /// # Errors
    ///
    /// Returns an error if the disk cannot be written. The old file is then unchanged.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        write_atomically(&self.path.join(name), bytes.as_ref())
    }

    /// Removes a file of this directory, if it exists.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result
                .and_then(|()| files::sync_parent(&path))
                .map_err(Error::io("remove", &path)),
        }
    }

    /// Reads a file of this directory; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// Returns an error if it exists and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.path.join(name);
        match files::read_small_text(&path, files::LARGEST_DESCRIPTION) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let message = "is damaged: it is not UTF-8; restore the file";
                Err(Error::run_directory(path, message))
            }
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Reads a JSON file of this directory; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// Returns an error if it exists and cannot be read as `T`.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.read(name)? else {
            return Ok(None);
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let message = format!("is damaged: {error}; restore the file");
            Error::run_directory(self.path.join(name), message)
        })
    }
}

/// Calls [`files::write_atomically`] with this crate's errors.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    files::write_atomically(path, bytes).map_err(Error::io("write", path))
}

/// Writes a file and syncs it to the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    File::create(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(Error::io("write", path))
}

fn run_prefix(experiment: &Experiment) -> String {
    format!("{}-{}-", experiment.name, experiment.backend.name)
}

fn highest_number(root: &Path, prefix: &str) -> Option<usize> {
    fs::read_dir(root)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix(prefix)?.parse().ok())
        .max()
}

/// A claim on a directory: no other process writes it while this lives. A directory that the claim created and that is
/// still empty is removed with it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) path: PathBuf,
    lock: Option<LockFile>,
    /// The directories that the claim created, innermost first.
    created: Vec<(PathBuf, Temporary)>,
}

impl Claim {
    /// Claims a directory, and creates it if it does not exist.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let created = path.ancestors().take_while(is_missing);
        let mut claim = Self {
            path: path.into(),
            lock: None,
            created: owned(created.map(Path::to_path_buf)),
        };
        files::create_directories(path).map_err(Error::io("create", path))?;
        claim.lock = Some(lock(&path.join(LockFile::NAME), path)?);
        Ok(claim)
    }

    /// Returns whether it contains anything except the lock and the files of a run that was killed before it wrote its
    /// experiment.
    fn is_occupied(&self) -> bool {
        // These files are written before the experiment, which may be incomplete.
        let begun = [
            LockFile::NAME,
            MetricsLog::FILE,
            "identity.json",
            "tokenizer.json",
        ];
        let others = |entry: std::io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                let is = |file: &&str| files::is_file_or_part(&name, file);
                let part = name != EXPERIMENT && is(&EXPERIMENT);
                !(begun.iter().any(is) || part)
            })
        };
        fs::read_dir(&self.path).is_ok_and(|mut entries| entries.any(others))
    }
}

/// Registers directories for the case that the process ends by force.
fn owned(directories: impl Iterator<Item = PathBuf>) -> Vec<(PathBuf, Temporary)> {
    directories
        .map(|path| (path.clone(), Temporary::new(path)))
        .collect()
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.lock = None;
        for (directory, _) in &self.created {
            // Removing fails if the directory is not empty.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

/// Claims the name of a file or directory that gets this name only when it is complete. Hold the lock until then.
///
/// # Errors
///
/// Returns an error if another process is writing it.
pub fn claim_name(path: &Path) -> Result<LockFile, Error> {
    let full = std::path::absolute(path).map_err(Error::io("write", path))?;
    let mut name = std::ffi::OsString::from(".");
    name.push(full.file_name().unwrap_or_default());
    name.push(".");
    name.push(LockFile::NAME);
    let parent = full.parent().unwrap_or(&full);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    lock(&full.with_file_name(name), path).map_err(|error| match error {
        // The lock is not what the user named.
        Error::Io { action, source, .. } => Error::io(action, path)(source),
        other => other,
    })
}

fn lock(file: &Path, path: &Path) -> Result<LockFile, Error> {
    LockFile::try_take(file)
        .map_err(Error::io("create", file))?
        .ok_or_else(|| {
            let message =
                "another foretoken process is writing here; wait for it, or name another --out";
            Error::run_directory(path, message)
        })
}

/// Returns the run directories under `runs/` of a directory, or in the directory itself if it has no such folder, by name.
///
/// # Errors
///
/// Returns an error if the directory cannot be read.
pub(crate) fn runs_in(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let below = directory.join("runs");
    let parent = match below.is_dir() {
        true => below,
        false => directory.to_path_buf(),
    };
    let entries = fs::read_dir(&parent).map_err(Error::io("read", &parent))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", &parent))?.path();
        if path.join(EXPERIMENT).is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Returns a run directory itself, or the runs of the directory of a sweep, or those in a directory of runs, by name.
///
/// # Errors
///
/// Returns an error if the directory cannot be read, or there is no run.
pub fn runs_of(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    if directory.join(EXPERIMENT).is_file() {
        return Ok(vec![directory.into()]);
    }
    let runs = runs_in(directory)?;
    match runs.is_empty() {
        true => Err(Error::run_directory(
            directory,
            "is neither a run directory nor a directory with runs in it or in runs/; give directories of runs",
        )),
        false => Ok(runs),
    }
}

/// Refuses a directory that is named twice.
///
/// # Errors
///
/// Returns an error that names it.
pub fn refuse_duplicates<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Result<(), Error> {
    let mut seen = Vec::new();
    for path in paths {
        let absolute = path.canonicalize().unwrap_or_else(|_| path.into());
        if seen.contains(&absolute) {
            return Err(Error::run_directory(path, "is named twice; name it once"));
        }
        seen.push(absolute);
    }
    Ok(())
}

/// A directory that is reserved for a report. It is removed if nothing is written.
#[derive(Debug)]
pub struct ReportDirectory(Claim);

impl ReportDirectory {
    /// Claims `out`, which must be empty, or the next free `runs/PREFIX<n>`.
    ///
    /// # Errors
    ///
    /// Returns an error if `out` is not empty or cannot be made.
    pub fn claim(out: Option<&Path>, prefix: &str) -> Result<Self, Error> {
        create_directory(out, prefix).map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Claims `out`, which must be empty, or the next free directory under [`ROOT`] whose name starts with `prefix`.
pub(crate) fn create_directory(out: Option<&Path>, prefix: &str) -> Result<Claim, Error> {
    let Some(path) = out else {
        let root = Path::new(ROOT);
        let is_new = !root.exists();
        let path = next_free(root, prefix)?;
        let mut claim = Claim::of(&path)?;
        let root = is_new.then(|| root.to_path_buf());
        claim.created = owned([path].into_iter().chain(root));
        return Ok(claim);
    };
    let refused = || {
        let message = match path.join(EXPERIMENT).is_file() {
            true => format!(
                "already exists; name another --out, or continue the run in it with `foretoken train --resume --out {}`",
                path.display()
            ),
            false => "already exists; name another --out".into(),
        };
        Error::run_directory(path, message)
    };
    if path.is_file() {
        return Err(refused());
    }
    let claim = Claim::of(path)?;
    match claim.is_occupied() {
        true => Err(refused()),
        false => {
            files::remove_partial_files(path);
            Ok(claim)
        }
    }
}

/// Creates the next free directory. `create_dir` decides which is free, so that two runs started together get two
/// directories.
fn next_free(root: &Path, prefix: &str) -> Result<PathBuf, Error> {
    files::create_directories(root).map_err(Error::io("create", root))?;
    let mut n = highest_number(root, prefix).map_or(1, |n| n + 1);
    loop {
        let path = root.join(format!("{prefix}{n}"));
        match fs::create_dir(&path) {
            Ok(()) => {
                files::sync_parent(&path).map_err(Error::io("create", &path))?;
                return Ok(path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => n += 1,
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
}

/// One line of `metrics.jsonl`. `step` is the number of optimizer steps that the measured weights have taken, so the
/// loss at step 0 is that of the initial weights. A number that is not finite is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A training step.
    Step {
        /// The number of steps taken before.
        step: usize,
        /// The number of training tokens, including those of this step.
        tokens: usize,
        /// The loss before the update, in nats per token.
        #[serde(deserialize_with = "json::number")]
        loss: f64,
        /// The global gradient norm before clipping.
        #[serde(deserialize_with = "json::number")]
        gradient_norm: f64,
        /// The learning rate of the update.
        #[serde(deserialize_with = "json::number")]
        learning_rate: f64,
        /// The wall-clock time of the step, in seconds.
        #[serde(deserialize_with = "json::number")]
        seconds: f64,
    },
    /// An evaluation on validation windows.
    Evaluation {
        /// The number of steps taken before.
        step: usize,
        /// The number of training tokens so far.
        tokens: usize,
        /// The loss, in nats per token.
        #[serde(deserialize_with = "json::number")]
        loss: f64,
        /// Bits per byte.
        #[serde(deserialize_with = "json::number")]
        bits_per_byte: f64,
        /// The perplexity exp(loss), which is infinite from a loss of 709.8 on.
        #[serde(deserialize_with = "json::number")]
        perplexity: f64,
        /// The share of targets that the model ranks first.
        #[serde(deserialize_with = "json::number")]
        accuracy: f64,
        /// The number of validation targets.
        targets: usize,
    },
    /// Probes.
    Probe(Probed),
}

impl Record {
    /// Returns the record of an evaluation after `step` steps and `tokens` training tokens.
    pub(crate) fn evaluation(step: usize, tokens: usize, totals: &Totals) -> Self {
        Self::Evaluation {
            step,
            tokens,
            loss: totals.loss(),
            bits_per_byte: totals.bits_per_byte(),
            perplexity: totals.perplexity(),
            accuracy: totals.accuracy(),
            targets: totals.tokens,
        }
    }

    /// Returns whether a run with a checkpoint at step `checkpoint` has written this line before it.
    fn precedes(&self, checkpoint: usize) -> bool {
        match self {
            Self::Step { step, .. } => *step < checkpoint,
            Self::Evaluation { step, .. } | Self::Probe(Probed { step, .. }) => *step <= checkpoint,
        }
    }
}

/// The file `metrics.jsonl`, open for appending. The run stays claimed while the log is open.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
    _claim: Option<Arc<Claim>>,
}

impl MetricsLog {
    /// Name of its file in a run directory.
    pub const FILE: &str = "metrics.jsonl";

    /// Opens the log and drops every line that a run restored at `checkpoint` will write again, and an incomplete last
    /// line.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written, another process writes the run, a complete line is not a record,
    /// or steps before the checkpoint are missing. Nothing is dropped then.
    pub fn open(run: &RunDirectory, checkpoint: usize) -> Result<Self, Error> {
        let run = run.clone().claimed()?;
        let path = run.path.join(Self::FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(Error::io("read", &path))?;
        let lines = complete_lines(&path, &bytes)?;
        let kept: Vec<_> = lines
            .iter()
            .take_while(|(record, _)| record.precedes(checkpoint))
            .collect();
        let steps = kept.iter().filter_map(|(record, _)| match record {
            Record::Step { step, .. } => Some(*step),
            Record::Evaluation { .. } | Record::Probe(_) => None,
        });
        if !steps.eq(0..checkpoint) {
            return Err(Error::run_directory(
                &path,
                format!(
                    "does not contain every step before the checkpoint of step {checkpoint}; restore the file, or start a \
                     new run from its weights with --set model.init_from={}",
                    run.path.display()
                ),
            ));
        }
        let kept: usize = kept.iter().map(|(_, length)| length).sum();
        file.set_len(kept as u64)
            .and_then(|()| files::sync_parent(&path))
            .map_err(Error::io("write", &path))?;
        Ok(Self {
            file,
            path,
            _claim: run.claim,
        })
    }

    /// Appends a line.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(Error::io("write", &self.path))
    }

    /// Syncs every line to the disk.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be synced.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io("write", &self.path))
    }
}

/// Returns the lines of a run's `metrics.jsonl` that it had written when it saved its checkpoint at step `checkpoint`.
///
/// # Errors
///
/// Returns an error if the file cannot be read or a complete line is not a record.
pub(crate) fn metrics_before(run: &RunDirectory, checkpoint: usize) -> Result<Vec<u8>, Error> {
    let path = run.path.join(MetricsLog::FILE);
    let mut bytes = files::read_small(&path, u64::MAX).map_err(Error::io("read", &path))?;
    let lines = complete_lines(&path, &bytes)?;
    let before = lines
        .iter()
        .take_while(|(record, _)| record.precedes(checkpoint));
    let length = before.map(|(_, length)| length).sum();
    bytes.truncate(length);
    Ok(bytes)
}

/// Reads every complete line of a run's `metrics.jsonl`.
///
/// # Errors
///
/// Returns an error if the file cannot be read or a complete line is not a record.
pub fn read_metrics(run: &RunDirectory) -> Result<Vec<Record>, Error> {
    let path = run.path.join(MetricsLog::FILE);
    let bytes = files::read_small(&path, u64::MAX).map_err(Error::io("read", &path))?;
    let lines = complete_lines(&path, &bytes)?;
    Ok(lines.into_iter().map(|(record, _)| record).collect())
}

/// Parses complete lines into records, with the length of each line in bytes. A last line without a line break is
/// skipped, because it is still being written or was cut off by a power failure. Every other line must be a record.
fn complete_lines(path: &Path, bytes: &[u8]) -> Result<Vec<(Record, usize)>, Error> {
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .enumerate()
        .map(|(index, line)| match serde_json::from_slice(line) {
            Ok(record) => Ok((record, line.len())),
            Err(error) => Err(Error::run_directory(
                path,
                format!(
                    "line {} is not a record of a step, an evaluation or probes: {error}; restore the file, or repair the line",
                    index + 1
                ),
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize) -> Record {
        Record::Step {
            step,
            tokens: 10 * (step + 1),
            loss: 1.0 / (step as f64 + 3.0),
            gradient_norm: 0.5,
            learning_rate: 1e-3,
            seconds: 0.1,
        }
    }

    fn evaluation(step: usize) -> Record {
        Record::Evaluation {
            step,
            tokens: 10 * step,
            loss: 1.0,
            bits_per_byte: 1.0,
            perplexity: 2.0,
            accuracy: 0.5,
            targets: 7,
        }
    }

    /// Returns an evaluation whose perplexity overflows.
    fn overflown(step: usize) -> Record {
        let mut record = evaluation(step);
        if let Record::Evaluation {
            loss, perplexity, ..
        } = &mut record
        {
            (*loss, *perplexity) = (800.0, f64::INFINITY);
        }
        record
    }

    fn directory() -> (tempfile::TempDir, RunDirectory) {
        let root = tempfile::tempdir().unwrap();
        let experiment = Experiment::embedded(&[]).unwrap();
        let run = RunDirectory::create(Some(&root.path().join("run")), &experiment).unwrap();
        (root, run)
    }

    #[test]
    fn a_restored_run_keeps_lines_before_its_checkpoint_and_drops_an_incomplete_one() {
        let (_root, run) = directory();
        let mut log = MetricsLog::open(&run, 0).unwrap();
        for record in [
            step(0),
            step(1),
            evaluation(2),
            step(2),
            step(3),
            evaluation(4),
        ] {
            log.append(&record).unwrap();
        }
        log.file.write_all(b"{\"kind\":\"step\",\"st").unwrap();
        drop(log);
        drop(MetricsLog::open(&run, 2).unwrap());
        assert_eq!(
            read_metrics(&run).unwrap(),
            [step(0), step(1), evaluation(2)]
        );
    }

    #[test]
    fn an_infinite_perplexity_loses_no_line() {
        let (_root, run) = directory();
        let mut log = MetricsLog::open(&run, 0).unwrap();
        for record in [step(0), overflown(1), step(1), evaluation(2)] {
            log.append(&record).unwrap();
        }
        drop(log);
        let text = fs::read_to_string(run.path.join(MetricsLog::FILE)).unwrap();
        assert!(text.contains("\"perplexity\":null"), "{text}");
        drop(MetricsLog::open(&run, 2).unwrap());
        assert_eq!(
            fs::read_to_string(run.path.join(MetricsLog::FILE)).unwrap(),
            text
        );
        let Record::Evaluation {
            loss, perplexity, ..
        } = read_metrics(&run).unwrap()[1]
        else {
            panic!("line 2 is an evaluation");
        };
        assert_eq!(loss, 800.0);
        assert!(perplexity.is_nan());
    }

    #[test]
    fn a_complete_line_that_is_not_a_record_is_named_and_the_file_is_unchanged() {
        let good = |at| serde_json::to_string(&step(at)).unwrap();
        for bad in ["{\"kind\":\"step\",\"step\":1}", "", "\0\0\0", "caf\u{e9}"] {
            // The line is before the checkpoint, or after it.
            for checkpoint in [2, 1] {
                let (_root, run) = directory();
                let text = format!("{}\n{bad}\n{}\n{{\"kind", good(0), good(1));
                fs::write(run.path.join(MetricsLog::FILE), &text).unwrap();
                for error in [
                    MetricsLog::open(&run, checkpoint).unwrap_err(),
                    read_metrics(&run).unwrap_err(),
                ] {
                    let message = error.to_string();
                    assert!(
                        message.contains("metrics.jsonl: line 2 is not a record"),
                        "{message}"
                    );
                    assert_eq!(error.exit_code(), 2);
                }
                assert_eq!(
                    fs::read_to_string(run.path.join(MetricsLog::FILE)).unwrap(),
                    text
                );
            }
        }
    }

    #[test]
    fn an_incomplete_last_line_may_contain_any_bytes() {
        let (_root, run) = directory();
        let mut log = MetricsLog::open(&run, 0).unwrap();
        log.append(&step(0)).unwrap();
        // A power failure can leave zeros of an unwritten block, and half a character.
        log.file.write_all(b"{\"kind\0\0\0\xc3").unwrap();
        drop(log);
        assert_eq!(read_metrics(&run).unwrap(), [step(0)]);
        drop(MetricsLog::open(&run, 1).unwrap());
        let text = fs::read_to_string(run.path.join(MetricsLog::FILE)).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn missing_steps_before_a_checkpoint_are_an_error() {
        let (_root, run) = directory();
        let mut log = MetricsLog::open(&run, 0).unwrap();
        for record in [step(0), step(2)] {
            log.append(&record).unwrap();
        }
        drop(log);
        for checkpoint in [2, 3, 4] {
            let error = MetricsLog::open(&run, checkpoint).unwrap_err();
            assert!(
                error.to_string().contains("does not contain every step"),
                "{error}"
            );
        }
        assert_eq!(read_metrics(&run).unwrap().len(), 2);
    }

    #[test]
    fn losses_read_back_bit_for_bit() {
        let (_root, run) = directory();
        let mut log = MetricsLog::open(&run, 0).unwrap();
        let records: Vec<_> = (0..200).map(step).collect();
        for record in &records {
            log.append(record).unwrap();
        }
        assert_eq!(read_metrics(&run).unwrap(), records);
    }

    #[test]
    fn a_second_writer_is_refused() {
        let (_root, run) = directory();
        let path = run.path().to_path_buf();
        let log = MetricsLog::open(&run, 0).unwrap();
        run.write("experiment.toml", "").unwrap();
        // The open log keeps the run claimed.
        drop(run);
        let again = || RunDirectory::open(&path).unwrap().claimed();
        let error = again().unwrap_err();
        assert!(
            error.to_string().contains("another foretoken process"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
        let experiment = Experiment::embedded(&[]).unwrap();
        let error = RunDirectory::create(Some(&path), &experiment).unwrap_err();
        assert!(
            error.to_string().contains("another foretoken process"),
            "{error}"
        );
        drop(log);
        again().unwrap();
        assert!(!path.join(LockFile::NAME).exists());
    }

    #[test]
    fn an_empty_created_directory_is_removed_with_its_claim() {
        let root = tempfile::tempdir().unwrap();
        let made = root.path().join("a/b");
        drop(create_directory(Some(&made), "").unwrap());
        assert!(!root.path().join("a").exists());
        let claim = create_directory(Some(&made), "").unwrap();
        fs::write(made.join("result"), "").unwrap();
        drop(claim);
        assert_eq!(fs::read_dir(&made).unwrap().count(), 1);
        // A directory that existed before stays.
        let before = root.path().join("before");
        fs::create_dir(&before).unwrap();
        drop(create_directory(Some(&before), "").unwrap());
        assert!(before.exists());
    }

    #[test]
    fn directories_are_numbered_and_never_reused() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..3)
            .map(|_| next_free(root.path(), "world-flex-").unwrap())
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["world-flex-1", "world-flex-2", "world-flex-3"]);
        assert_eq!(highest_number(root.path(), "world-flex-"), Some(3));
        assert_eq!(highest_number(root.path(), "world-wgpu-"), None);
    }

    #[test]
    fn an_occupied_directory_is_unchanged() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("mine.txt"), "precious").unwrap();
        let experiment = Experiment::embedded(&[]).unwrap();
        let error = RunDirectory::create(Some(root.path()), &experiment).unwrap_err();
        assert!(error.to_string().contains("already exists"), "{error}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut log = MetricsLog {
            file,
            path: "metrics.jsonl".into(),
            _claim: None,
        };
        let error = log.append(&step(0)).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(
            error
                .to_string()
                .starts_with("cannot write metrics.jsonl: No space left"),
            "{error}"
        );
    }
}
