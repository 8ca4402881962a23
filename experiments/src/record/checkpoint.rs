//! Checkpoints that are complete or absent.
//!
//! A learner consists of three of Burn's records. They are written with their checksums into a temporary directory,
//! which is then synced and renamed, because burn-train's checkpointers would write each in place. A checkpoint that
//! is no longer needed is renamed before it is removed. No record is held in memory as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::store::ModuleRecord;
use foretoken_datasets::files;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::learner::PARTS;
use crate::engine::records::weights_are_finite;
use crate::engine::state::{Best, RunState};
use crate::experiment::Keep;
use crate::record::run::{write_atomically, write_synced};
use crate::{Advice, Error};

const STATE: &str = "checkpoint.json";

#[derive(Serialize, Deserialize)]
struct StateFile {
    #[serde(flatten)]
    state: RunState,
    sha256: BTreeMap<String, String>,
}

/// A checkpoint whose checksums were verified.
#[derive(Debug)]
pub struct Saved {
    /// The state of the run.
    pub state: RunState,
    path: PathBuf,
}

impl Saved {
    /// Returns its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file of one part.
    pub fn part(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    directory: PathBuf,
}

impl Checkpoints {
    /// Opens the checkpoints under `directory`, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Returns the directory of the checkpoint at `step`.
    pub fn path(&self, step: usize) -> PathBuf {
        self.directory.join(format!("step-{step}"))
    }

    /// Returns the steps that have a checkpoint, ascending. Half-written directories have other names.
    pub fn steps(&self) -> Vec<usize> {
        let mut steps: Vec<usize> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        steps
    }

    /// Writes a checkpoint, then removes those that are neither the last nor the best nor of a step to `keep`.
    /// `write_parts` writes the files of the learner into the directory that it receives.
    ///
    /// # Errors
    ///
    /// Returns an error if the disk cannot be written. Earlier checkpoints are then unchanged.
    pub fn save(
        &self,
        state: &RunState,
        keep: &Keep,
        write_parts: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let path = self.path(state.step);
        if path.exists() {
            // The run was interrupted during an evaluation and resumed, so only the state differs.
            let mut file =
                read_state(&path).map_err(|message| Error::checkpoint(&path, message))?;
            file.state = state.clone();
            write_atomically(&path.join(STATE), &to_json(&file)?)?;
        } else {
            let partial = self.directory.join(format!(".step-{}.partial", state.step));
            let written = self.write(&partial, &path, state, write_parts);
            if written.is_err() {
                let _ = fs::remove_dir_all(&partial);
            }
            written?;
        }
        let best = state.best.map(|best| best.step);
        for step in self.steps() {
            if step < state.step && Some(step) != best && !keep.contains(step) {
                self.remove(step)?;
            }
        }
        Ok(())
    }

    /// Renames a checkpoint before removing it, so that a half-removed one is not mistaken for a complete one.
    fn remove(&self, step: usize) -> Result<(), Error> {
        let path = self.path(step);
        let removed = self.directory.join(format!(".step-{step}.removed"));
        discard(&removed)?;
        fs::rename(&path, &removed)
            .and_then(|()| files::sync_directory(&self.directory))
            .map_err(Error::io("remove", &path))?;
        discard(&removed)
    }

    /// Removes the remains of checkpoints that a killed process was writing or removing.
    fn clear(&self) -> Result<(), Error> {
        let mut unfinished = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let hidden = name.starts_with(".step-");
                let ended = name.ends_with(".removed") || name.ends_with(".partial");
                (hidden && ended).then(|| entry.path())
            });
        unfinished.try_for_each(|path| discard(&path))
    }

    fn write(
        &self,
        partial: &Path,
        path: &Path,
        state: &RunState,
        write_parts: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.clear()?;
        files::create_directories(partial).map_err(Error::io("create", partial))?;
        write_parts(partial)?;
        let mut checksums = BTreeMap::new();
        for name in PARTS {
            let part = partial.join(name);
            // Windows syncs only files that are open for writing.
            fs::OpenOptions::new()
                .write(true)
                .open(&part)
                .and_then(|file| file.sync_all())
                .map_err(Error::io("write", &part))?;
            checksums.insert(
                name.to_owned(),
                sha256(&part).map_err(Error::io("read", &part))?,
            );
        }
        let file = StateFile {
            state: state.clone(),
            sha256: checksums,
        };
        write_synced(&partial.join(STATE), &to_json(&file)?)?;
        files::sync_directory(partial)
            .and_then(|()| fs::rename(partial, path))
            .and_then(|()| files::sync_directory(&self.directory))
            .map_err(Error::io("write", path))
    }

    /// Reads the state of the run at `step`.
    ///
    /// # Errors
    ///
    /// Returns an error if `checkpoint.json` is missing or damaged.
    pub fn state(&self, step: usize) -> Result<RunState, Error> {
        let path = self.path(step);
        let file = read_state(&path).map_err(|message| Error::checkpoint(&path, message))?;
        Ok(file.state)
    }

    /// Opens the weights at `step`, without the state that only training needs. Their checksum is verified here;
    /// tensors are read one at a time when the record is applied.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is missing or damaged.
    pub fn weights(&self, step: usize) -> Result<ModuleRecord, Error> {
        let path = self.path(step);
        let corrupt = |message: String| Error::checkpoint(&path, message);
        let [name, ..] = PARTS;
        let file = read_state(&path).map_err(corrupt)?;
        verify(&path, name, &file).map_err(|message| {
            corrupt(message).advised(Advice {
                flag: "--checkpoint",
                with_flag: "--checkpoint names another",
                without_flag: "bring back the file, or use another checkpoint",
            })
        })?;
        ModuleRecord::load(path.join(name)).map_err(|error| corrupt(format!("{name}: {error}")))
    }

    /// Reads the checkpoint at `step` and verifies the checksum of every file.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is missing or damaged.
    pub fn load(&self, step: usize) -> Result<Saved, Error> {
        let path = self.path(step);
        let corrupt = |message: String| {
            let others: Vec<_> = self
                .steps()
                .into_iter()
                .filter(|other| *other != step)
                .collect();
            let advice = match others.last() {
                Some(other) => format!("remove this checkpoint to resume from step {other}"),
                None => "there is no other checkpoint: start the run again".into(),
            };
            Error::checkpoint(&path, format!("{message}; {advice}"))
        };
        let file = read_state(&path).map_err(corrupt)?;
        for name in PARTS {
            verify(&path, name, &file).map_err(corrupt)?;
        }
        Ok(Saved {
            state: file.state,
            path,
        })
    }

    /// Gives the checkpoint at `step` to another run, as hard links where the file system has them. Checkpoints of other
    /// steps stay behind, so that only this one can be the best: with the loss of its evaluation, if it has one.
    ///
    /// # Errors
    ///
    /// Returns an error if the checkpoint cannot be read, or the disk cannot be written.
    pub(crate) fn share(&self, step: usize, loss: Option<f64>, with: &Self) -> Result<(), Error> {
        let (from, to) = (self.path(step), with.path(step));
        files::create_directories(&to).map_err(Error::io("create", &to))?;
        for name in PARTS {
            let (from, to) = (from.join(name), to.join(name));
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(drop))
                .map_err(Error::io("copy", &from))?;
        }
        let mut file = read_state(&from).map_err(|message| Error::checkpoint(&from, message))?;
        file.state.best = loss.map(|loss| Best { step, loss });
        file.state.evaluations_since_best = 0;
        write_synced(&to.join(STATE), &to_json(&file)?)?;
        files::sync_directory(&to).map_err(Error::io("write", &to))
    }

    /// Names the last checkpoint whose weights and best loss are finite, in words for an error. Checkpoints of older
    /// versions may not be finite.
    pub(crate) fn last_finite(&self) -> String {
        let [weights, ..] = PARTS;
        let is_finite = |step: &usize| {
            let best = self.state(*step).ok().map(|state| state.best);
            best.is_some_and(|best| best.is_none_or(|best| best.loss.is_finite()))
                && weights_are_finite(&self.path(*step).join(weights))
        };
        match self.steps().into_iter().rev().find(is_finite) {
            Some(step) => format!("the last good checkpoint is {}", self.path(step).display()),
            None => "there is no good checkpoint".into(),
        }
    }
}

/// Checks a file of a checkpoint against its recorded checksum.
fn verify(path: &Path, name: &str, recorded: &StateFile) -> Result<(), String> {
    let found = sha256(&path.join(name)).map_err(|error| format!("{name}: {error}"))?;
    match recorded.sha256.get(name) == Some(&found) {
        true => Ok(()),
        false => Err(format!(
            "{name} is damaged: its SHA-256 differs from the one recorded"
        )),
    }
}

/// Returns the SHA-256 of a file in lower case.
fn sha256(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut files::open_regular(path)?, &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}

/// Removes a directory with its content, if it exists.
fn discard(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(Error::io("remove", path)),
    }
}

fn read_state(path: &Path) -> Result<StateFile, String> {
    let json = files::read_small(&path.join(STATE), files::LARGEST_DESCRIPTION)
        .map_err(|error| format!("{STATE}: {error}"))?;
    serde_json::from_slice(&json).map_err(|error| format!("{STATE} is damaged: {error}"))
}

fn to_json(file: &StateFile) -> Result<Vec<u8>, Error> {
    Ok(serde_json::to_vec_pretty(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a writer of files that are not records.
    fn parts(fill: u8) -> impl FnOnce(&Path) -> Result<(), Error> {
        move |directory| {
            for name in PARTS {
                fs::write(directory.join(name), [fill; 1000]).unwrap();
            }
            Ok(())
        }
    }

    /// Returns the names in a directory, including hidden ones.
    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn state(step: usize, best: usize) -> RunState {
        RunState {
            step,
            best: Some(Best {
                step: best,
                loss: 1.25,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn the_last_and_the_best_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path().join("checkpoints"));
        for (step, best) in [(10, 10), (20, 20), (30, 20), (40, 20)] {
            checkpoints
                .save(&state(step, best), &Keep::default(), parts(step as u8))
                .unwrap();
        }
        assert_eq!(checkpoints.steps(), [20, 40]);
        let saved = checkpoints.load(20).unwrap();
        assert_eq!(saved.state, state(20, 20));
        assert_eq!(fs::read(saved.part("model.bpk")).unwrap(), [20; 1000]);
        assert_eq!(
            names(&root.path().join("checkpoints")),
            ["step-20", "step-40"]
        );
    }

    #[test]
    fn checkpoints_of_kept_steps_stay() {
        let save = |keep: Keep| {
            let root = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints::new(root.path());
            for step in [10, 20, 30, 40, 50] {
                checkpoints
                    .save(&state(step, step), &keep, parts(step as u8))
                    .unwrap();
            }
            checkpoints.steps()
        };
        assert_eq!(save(Keep::Steps(vec![10, 30])), [10, 30, 50]);
        assert_eq!(save(Keep::Every(20)), [20, 40, 50]);
    }

    #[test]
    fn a_flipped_byte_is_detected() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path());
        checkpoints
            .save(&state(10, 10), &Keep::default(), parts(1))
            .unwrap();
        checkpoints
            .save(&state(20, 10), &Keep::default(), parts(2))
            .unwrap();
        for name in PARTS {
            let path = checkpoints.path(20).join(name);
            let mut bytes = fs::read(&path).unwrap();
            bytes[500] ^= 4;
            fs::write(&path, &bytes).unwrap();
            let error = checkpoints.load(20).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert!(error.to_string().contains("resume from step 10"), "{error}");
            assert_eq!(error.exit_code(), 2);
            bytes[500] ^= 4;
            fs::write(&path, &bytes).unwrap();
        }
        checkpoints.load(20).unwrap();
        fs::write(checkpoints.path(20).join(STATE), "{").unwrap();
        assert!(checkpoints.load(20).is_err());
    }

    #[test]
    fn saving_the_same_step_again_renews_its_state() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path());
        checkpoints
            .save(&state(10, 5), &Keep::default(), parts(1))
            .unwrap();
        checkpoints
            .save(&state(10, 10), &Keep::default(), parts(1))
            .unwrap();
        assert_eq!(checkpoints.load(10).unwrap().state, state(10, 10));
    }

    #[test]
    fn a_half_written_checkpoint_does_not_exist_and_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path());
        checkpoints
            .save(&state(10, 10), &Keep::default(), parts(1))
            .unwrap();
        let partial = root.path().join(".step-20.partial");
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("model.bpk"), "half").unwrap();
        assert_eq!(checkpoints.steps(), [10]);
        checkpoints
            .save(&state(20, 20), &Keep::default(), parts(2))
            .unwrap();
        let saved = checkpoints.load(20).unwrap();
        assert_eq!(fs::read(saved.part("model.bpk")).unwrap(), [2; 1000]);
        assert!(!partial.exists());
    }

    #[test]
    fn a_half_removed_checkpoint_does_not_exist_and_is_removed_by_the_next_save() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path());
        checkpoints
            .save(&state(10, 10), &Keep::default(), parts(1))
            .unwrap();
        // One process was killed while removing a checkpoint, and another while writing one.
        for name in [".step-5.removed", ".step-15.partial"] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("model.bpk"), "half").unwrap();
        }
        assert_eq!(checkpoints.steps(), [10]);
        checkpoints
            .save(&state(20, 10), &Keep::default(), parts(2))
            .unwrap();
        assert_eq!(names(root.path()), ["step-10", "step-20"]);
        // A directory that already has the temporary name is not an obstacle either.
        fs::create_dir(root.path().join(".step-20.removed")).unwrap();
        checkpoints
            .save(&state(30, 10), &Keep::default(), parts(3))
            .unwrap();
        assert_eq!(names(root.path()), ["step-10", "step-30"]);
    }

    #[test]
    fn a_checkpoint_that_cannot_be_renamed_stays_complete() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path());
        checkpoints
            .save(&state(10, 5), &Keep::default(), parts(1))
            .unwrap();
        // A file has the name of the renamed directory, so nothing can be renamed or removed.
        fs::write(root.path().join(".step-10.removed"), "in the way").unwrap();
        let error = checkpoints.remove(10).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        checkpoints.load(10).unwrap();
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_leaves_the_others() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path());
        checkpoints
            .save(&state(10, 10), &Keep::default(), parts(1))
            .unwrap();
        // A file has the name of the temporary directory, so writing fails for every user.
        fs::write(root.path().join(".step-20.partial"), "in the way").unwrap();
        let error = checkpoints
            .save(&state(20, 20), &Keep::default(), parts(2))
            .unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(checkpoints.steps(), [10]);
        checkpoints.load(10).unwrap();
    }
}
