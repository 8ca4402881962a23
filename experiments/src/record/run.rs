//! The run directory: what is in it, how it is written so that nothing is lost, how it is read back.
//!
//! ```text
//! runs/<experiment>-<backend>-<n>/
//!   experiment.toml    resolved, rerunnable
//!   identity.json      what has to be the same for two runs to be compared
//!   environment.json   versions, CPU, device, driver, threads, features, git revision; of each start
//!   metrics.jsonl      one line per step and per evaluation
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

use foretoken_datasets::files::{self, LockFile};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::engine::totals::Totals;
use crate::{Error, Experiment, json};

/// Where runs go when no directory is named.
pub const ROOT: &str = "runs";

/// The file that makes a directory a run.
pub(crate) const EXPERIMENT: &str = "experiment.toml";

/// The file of a finished run that holds its figures.
pub(crate) const RESULT: &str = "result.json";

/// The file of a finished run that holds text which the model generated.
pub(crate) const SAMPLE: &str = "sample.txt";

const NO_RUN: &str =
    "no run to resume; start one without --resume, or name its directory with --out";

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
                NO_RUN,
            )),
        }
    }

    /// The run under [`ROOT`] that wrote last, whatever its experiment; on `backend`, where that is given.
    ///
    /// # Errors
    ///
    /// When there is none.
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
        Experiment::load(&self.path.join(EXPERIMENT), &[])
    }

    /// Replaces a file of this directory in one step: readers see the old bytes or the new ones.
    ///
    /// # Errors
    ///
    /// When the disk refuses; the old file is still there then.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        write_atomically(&self.path.join(name), bytes.as_ref())
    }

    /// Removes a file of this directory, if it is there.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result
                .and_then(|()| files::sync_parent(&path))
                .map_err(Error::io("remove", &path)),
        }
    }

    /// A file of this directory, or nothing where it does not exist.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// What a JSON file of this directory holds, or nothing where it does not exist.
    ///
    /// # Errors
    ///
    /// When it is there and does not hold that.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.read(name)? else {
            return Ok(None);
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Error::run_directory(self.path.join(name), format!("is damaged: {error}"))
        })
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
        files::create_directories(path).map_err(Error::io("create", path))?;
        claim.lock = Some(lock(&path.join(LockFile::NAME), path)?);
        Ok(claim)
    }

    /// Whether there is anything in it but the lock and what a run leaves that was killed before it had its experiment.
    fn is_occupied(&self) -> bool {
        // Everything that comes before the experiment, which may be there in part.
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
        let message = match path.join(EXPERIMENT).is_file() {
            true => {
                "already exists; name another --out, or continue a run in it with `foretoken train --resume`"
            }
            false => "already exists; name another --out",
        };
        Error::run_directory(path, message)
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
    files::create_directories(root).map_err(Error::io("create", root))?;
    let mut n = highest(root, prefix).map_or(1, |n| n + 1);
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

/// One line of `metrics.jsonl`. `step` counts the optimizer steps behind the weights that were
/// measured: the loss at step 0 is that of the initial weights. A number that is not finite is null.
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
        #[serde(deserialize_with = "json::number")]
        loss: f64,
        /// Global norm before clipping.
        #[serde(deserialize_with = "json::number")]
        gradient_norm: f64,
        /// Learning rate of the update.
        #[serde(deserialize_with = "json::number")]
        learning_rate: f64,
        /// Wall-clock time of the step.
        #[serde(deserialize_with = "json::number")]
        seconds: f64,
    },
    /// An evaluation on validation windows.
    Evaluation {
        /// Steps taken before.
        step: usize,
        /// Training tokens seen.
        tokens: usize,
        /// Nats per token.
        #[serde(deserialize_with = "json::number")]
        loss: f64,
        /// Bits per byte.
        #[serde(deserialize_with = "json::number")]
        bits_per_byte: f64,
        /// exp(loss), which is infinite from a loss of 709.8 on.
        #[serde(deserialize_with = "json::number")]
        perplexity: f64,
        /// Share of next tokens ranked first.
        #[serde(deserialize_with = "json::number")]
        accuracy: f64,
        /// Validation targets that were read.
        targets: usize,
    },
}

impl Record {
    /// The line of an evaluation after `step` steps and `tokens` training tokens.
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
    /// The file of a run directory.
    pub const FILE: &str = "metrics.jsonl";

    /// Opens the log and drops every line that a run restored at `checkpoint` will write again,
    /// together with a last line that was cut short.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, another process writes the run, a complete line of it is not a record, or steps
    /// before the checkpoint are missing. Nothing is dropped then.
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
            Record::Evaluation { .. } => None,
        });
        if !steps.eq(0..checkpoint) {
            return Err(Error::run_directory(
                &path,
                format!(
                    "does not hold every step before the checkpoint of step {checkpoint}; restore the file, or start a \
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
    let path = run.path.join(MetricsLog::FILE);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let lines = complete_lines(&path, &bytes)?;
    Ok(lines.into_iter().map(|(record, _)| record).collect())
}

/// Records with the length of their lines in bytes. A last line without an end is one that is still being written, or
/// was when the power went; it is left out. Every other line has to be a record.
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
                    "line {} is not a record of a step or an evaluation: {error}; restore the file, or mend the line",
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

    /// An evaluation whose perplexity no number can hold.
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
    fn a_perplexity_that_no_number_can_hold_cuts_nothing_off() {
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
    fn a_complete_line_that_is_no_record_is_named_and_nothing_is_cut_off() {
        let good = |at| serde_json::to_string(&step(at)).unwrap();
        for bad in ["{\"kind\":\"step\",\"step\":1}", "", "\0\0\0", "caf\u{e9}"] {
            // Before the checkpoint, and after it.
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
    fn a_torn_tail_may_hold_any_bytes() {
        let (_root, run) = directory();
        let mut log = MetricsLog::open(&run, 0).unwrap();
        log.append(&step(0)).unwrap();
        // What a power cut leaves of a block that was never written, and half a character.
        log.file.write_all(b"{\"kind\0\0\0\xc3").unwrap();
        drop(log);
        assert_eq!(read_metrics(&run).unwrap(), [step(0)]);
        drop(MetricsLog::open(&run, 1).unwrap());
        let text = fs::read_to_string(run.path.join(MetricsLog::FILE)).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn steps_that_are_missing_before_a_checkpoint_are_noticed() {
        let (_root, run) = directory();
        let mut log = MetricsLog::open(&run, 0).unwrap();
        for record in [step(0), step(2)] {
            log.append(&record).unwrap();
        }
        drop(log);
        for checkpoint in [2, 3, 4] {
            let error = MetricsLog::open(&run, checkpoint).unwrap_err();
            assert!(
                error.to_string().contains("does not hold every step"),
                "{error}"
            );
        }
        assert_eq!(read_metrics(&run).unwrap().len(), 2);
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
