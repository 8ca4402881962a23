//! The run directory: what is in it, how it is written so that nothing is lost, how it is read back.
//!
//! ```text
//! runs/<experiment>-<backend>-<n>/
//!   experiment.toml    resolved, rerunnable
//!   identity.json      what has to be the same for two runs to be compared
//!   environment.json   versions, CPU, device, driver, features, git revision
//!   metrics.jsonl      one line per step and per evaluation
//!   checkpoints/       step-N/, complete or absent
//!   tokenizer.json     loads in Hugging Face tokenizers
//!   sample.txt         text generated at the end
//!   result.json        the summary that `--json` prints; present once the run is complete
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foretoken_datasets::files::{self, LockFile};
use serde::{Deserialize, Serialize};

use crate::{Error, Experiment};

/// Where runs go when no directory is named.
pub const ROOT: &str = "runs";

/// A run directory that exists.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    path: PathBuf,
    /// Nothing where the directory is only read.
    claim: Option<Arc<Claim>>,
}

impl RunDirectory {
    /// Creates `out`, or the next free `runs/<experiment>-<backend>-<n>`, to be written by this process alone.
    ///
    /// # Errors
    ///
    /// When `out` already holds something, or cannot be created, or another process writes there.
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
    /// When there is no experiment in it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.join("experiment.toml").is_file() {
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

    /// The same directory, to be written by this process alone until the last copy is dropped.
    ///
    /// # Errors
    ///
    /// When another process writes there.
    pub fn claimed(mut self) -> Result<Self, Error> {
        if self.claim.is_none() {
            self.claim = Some(Arc::new(Claim::of(&self.path)?));
        }
        Ok(self)
    }

    /// The most recently numbered run of this experiment on this backend under [`ROOT`].
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn latest(experiment: &Experiment) -> Result<Self, Error> {
        let prefix = run_prefix(experiment);
        match highest(Path::new(ROOT), &prefix) {
            Some(n) => Self::open(&Path::new(ROOT).join(format!("{prefix}{n}"))),
            None => Err(Error::run_directory(
                Path::new(ROOT).join(format!("{prefix}*")),
                "no run to resume; start one without --resume, or name its directory with --out",
            )),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where checkpoints lie.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The experiment that this run was started with.
    ///
    /// # Errors
    ///
    /// When the file is missing or no longer an experiment.
    pub fn experiment(&self) -> Result<Experiment, Error> {
        Experiment::load(&self.path.join("experiment.toml"), &[])
    }

    /// Replaces a file of this directory in one step: readers see the old bytes or the new ones.
    ///
    /// # Errors
    ///
    /// When the disk refuses; the old file is still there then.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        write_atomically(&self.path.join(name), bytes.as_ref())
    }

    /// A file of this directory, or nothing where it does not exist.
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path.join(name)).ok()
    }
}

/// [`files::write_atomically`], with our errors.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    files::write_atomically(path, bytes).map_err(Error::io("write", path))
}

/// Writes a file and waits until the disk has it.
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

fn highest(root: &Path, prefix: &str) -> Option<usize> {
    fs::read_dir(root)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix(prefix)?.parse().ok())
        .max()
}

/// A directory that no other process writes as long as this lives. Where nothing was written into it, the directory
/// is removed with the claim, if the claim made it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) path: PathBuf,
    lock: Option<LockFile>,
    /// The directories that were not there before, the innermost first.
    made: Vec<PathBuf>,
}

impl Claim {
    /// Claims a directory, which is made if it is not there.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = path.ancestors().take_while(is_missing);
        let mut claim = Self {
            path: path.into(),
            lock: None,
            made: made.map(Path::to_path_buf).collect(),
        };
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        claim.lock = Some(lock(&path.join(LockFile::NAME), path)?);
        Ok(claim)
    }

    /// Whether there is anything in it but the lock.
    fn is_occupied(&self) -> bool {
        let others = |entry: std::io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.file_name() != LockFile::NAME)
        };
        fs::read_dir(&self.path).is_ok_and(|mut entries| entries.any(others))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.lock = None;
        for directory in &self.made {
            // Fails where there is something in it.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

/// Keeps other processes from writing a file or directory that is named only when it is complete. Hold it until then.
///
/// # Errors
///
/// When another process is writing it.
pub fn claim_name(path: &Path) -> Result<LockFile, Error> {
    let full = std::path::absolute(path).map_err(Error::io("write", path))?;
    let mut name = std::ffi::OsString::from(".");
    name.push(full.file_name().unwrap_or_default());
    name.push(".");
    name.push(LockFile::NAME);
    let parent = full.parent().unwrap_or(&full);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    lock(&full.with_file_name(name), path)
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

/// Claims `out`, which has to be empty, or the next free directory under [`ROOT`] whose name starts with `prefix`.
pub(crate) fn create_directory(out: Option<&Path>, prefix: &str) -> Result<Claim, Error> {
    let Some(path) = out else {
        let root = Path::new(ROOT);
        let is_new = !root.exists();
        let path = next_free(root, prefix)?;
        let mut claim = Claim::of(&path)?;
        claim.made = vec![path];
        claim.made.extend(is_new.then(|| root.to_path_buf()));
        return Ok(claim);
    };
    let refused = || {
        Error::run_directory(
            path,
            "already exists; name another --out, or continue a run in it with `foretoken train --resume`",
        )
    };
    if path.is_file() {
        return Err(refused());
    }
    let claim = Claim::of(path)?;
    match claim.is_occupied() {
        true => Err(refused()),
        false => Ok(claim),
    }
}

/// `create_dir` decides, so that two runs started together get two directories.
fn next_free(root: &Path, prefix: &str) -> Result<PathBuf, Error> {
    fs::create_dir_all(root).map_err(Error::io("create", root))?;
    let mut n = highest(root, prefix).map_or(1, |n| n + 1);
    loop {
        let path = root.join(format!("{prefix}{n}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => n += 1,
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    }
}

/// One line of `metrics.jsonl`. `step` counts the optimizer steps behind the weights that were
/// measured: the loss at step 0 is that of the initial weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A training step.
    Step {
        /// Steps taken before.
        step: usize,
        /// Training tokens seen, this step's included.
        tokens: usize,
        /// Nats per token, before the update.
        loss: f64,
        /// Global norm before clipping.
        gradient_norm: f64,
        /// Learning rate of the update.
        learning_rate: f64,
        /// Wall-clock time of the step.
        seconds: f64,
    },
    /// An evaluation on validation windows.
    Evaluation {
        /// Steps taken before.
        step: usize,
        /// Training tokens seen.
        tokens: usize,
        /// Nats per token.
        loss: f64,
        /// Bits per byte.
        bits_per_byte: f64,
        /// exp(loss).
        perplexity: f64,
        /// Share of next tokens ranked first.
        accuracy: f64,
        /// Validation targets that were read.
        targets: usize,
    },
}

impl Record {
    /// Whether a run whose checkpoint stands at `step` has already written this line.
    fn precedes(&self, checkpoint: usize) -> bool {
        match self {
            Self::Step { step, .. } => *step < checkpoint,
            Self::Evaluation { step, .. } => *step <= checkpoint,
        }
    }
}

/// `metrics.jsonl`, open for appending; the run stays claimed as long as the log is open.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
    _claim: Option<Arc<Claim>>,
}

impl MetricsLog {
    /// Opens the log and drops every line that a run restored at `checkpoint` will write again,
    /// together with a line that was cut short.
    ///
    /// # Errors
    ///
    /// When the file cannot be written or another process writes the run.
    pub fn open(run: &RunDirectory, checkpoint: usize) -> Result<Self, Error> {
        let run = run.clone().claimed()?;
        let path = run.path.join("metrics.jsonl");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(Error::io("read", &path))?;
        let kept: usize = text
            .split_inclusive('\n')
            .take_while(|line| {
                line.ends_with('\n')
                    && serde_json::from_str::<Record>(line)
                        .is_ok_and(|record| record.precedes(checkpoint))
            })
            .map(str::len)
            .sum();
        file.set_len(kept as u64)
            .map_err(Error::io("shorten", &path))?;
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
    /// When the disk refuses.
    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(Error::io("write", &self.path))
    }

    /// Waits until the disk has every line.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io("write", &self.path))
    }
}

/// Every complete line of a run's `metrics.jsonl`.
///
/// # Errors
///
/// When the file cannot be read or a complete line is not a record.
pub fn read_metrics(run: &RunDirectory) -> Result<Vec<Record>, Error> {
    let path = run.path.join("metrics.jsonl");
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                Error::run_directory(&path, format!("line {}: {error}", index + 1))
            })
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

    fn directory() -> (tempfile::TempDir, RunDirectory) {
        let root = tempfile::tempdir().unwrap();
        let experiment = Experiment::embedded(&[]).unwrap();
        let run = RunDirectory::create(Some(&root.path().join("run")), &experiment).unwrap();
        (root, run)
    }

    #[test]
    fn a_restored_run_keeps_what_precedes_its_checkpoint_and_drops_a_cut_line() {
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
    fn losses_come_back_bit_for_bit() {
        let (_root, run) = directory();
        let mut log = MetricsLog::open(&run, 0).unwrap();
        let records: Vec<_> = (0..200).map(step).collect();
        for record in &records {
            log.append(record).unwrap();
        }
        assert_eq!(read_metrics(&run).unwrap(), records);
    }

    #[test]
    fn two_writers_are_refused() {
        let (_root, run) = directory();
        let path = run.path().to_path_buf();
        let log = MetricsLog::open(&run, 0).unwrap();
        run.write("experiment.toml", "").unwrap();
        // The log alone keeps the run claimed.
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
    fn a_directory_that_nothing_was_written_into_is_gone_with_its_claim() {
        let root = tempfile::tempdir().unwrap();
        let made = root.path().join("a/b");
        drop(create_directory(Some(&made), "").unwrap());
        assert!(!root.path().join("a").exists());
        let claim = create_directory(Some(&made), "").unwrap();
        fs::write(made.join("result"), "").unwrap();
        drop(claim);
        assert_eq!(fs::read_dir(&made).unwrap().count(), 1);
        // One that was there before stays.
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
        assert_eq!(highest(root.path(), "world-flex-"), Some(3));
        assert_eq!(highest(root.path(), "world-wgpu-"), None);
    }

    #[test]
    fn an_occupied_directory_is_left_alone() {
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
