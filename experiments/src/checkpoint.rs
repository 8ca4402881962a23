//! Checkpoints that are complete or absent.
//!
//! A learner is three of Burn's records, which burn-train's checkpointers would each write in place. Here one
//! writer puts them, with their checksums, into a directory beside the final one, syncs it and renames it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use burn::store::ModuleRecord;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::run::{write_atomically, write_synced};

const STATE: &str = "checkpoint.json";

/// The three records of a learner, by file name.
pub(crate) const PARTS: [&str; 3] = ["model.bpk", "optimizer.bpk", "scheduler.bpk"];

/// Everything besides weights and optimizer state that a run needs to go on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Optimizer steps taken.
    pub step: usize,
    /// Training tokens seen.
    pub tokens: usize,
    /// Seconds spent in training steps.
    pub seconds: f64,
    /// The step of the last evaluation.
    pub evaluated: usize,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since the best one.
    pub evaluations_since_best: usize,
    /// SHA-256 over tokens and tokenizer.
    pub data: String,
}

impl RunState {
    /// Whether these weights have been evaluated; initial weights need not be.
    pub(crate) fn is_evaluated(&self) -> bool {
        self.evaluated == self.step
    }
}

/// The lowest validation loss and the step that had it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps taken.
    pub step: usize,
    /// Nats per token.
    pub loss: f64,
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    #[serde(flatten)]
    state: RunState,
    sha256: BTreeMap<String, String>,
}

/// A checkpoint read back and verified.
#[derive(Debug)]
pub struct Saved {
    /// Where the run stood.
    pub state: RunState,
    parts: BTreeMap<String, Vec<u8>>,
}

impl Saved {
    /// The bytes of one part.
    pub fn part(&self, name: &str) -> Option<&[u8]> {
        self.parts.get(name).map(Vec::as_slice)
    }

    /// The same, once: nothing is left of it here.
    pub(crate) fn take(&mut self, name: &str) -> Vec<u8> {
        self.parts.remove(name).unwrap_or_default()
    }
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    directory: PathBuf,
}

impl Checkpoints {
    /// The checkpoints under `directory`, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The directory of the checkpoint at `step`.
    pub fn path(&self, step: usize) -> PathBuf {
        self.directory.join(format!("step-{step}"))
    }

    /// Steps that have a checkpoint, ascending. Directories left half-written have another name.
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

    /// Writes a checkpoint, then removes those that are neither the last nor the best.
    ///
    /// # Errors
    ///
    /// When the disk refuses; checkpoints that existed before are untouched then.
    pub fn save(&self, state: &RunState, parts: &BTreeMap<String, Vec<u8>>) -> Result<(), Error> {
        let path = self.path(state.step);
        if path.exists() {
            // Interrupted inside an evaluation, then resumed: the weights are the same, the state is not.
            let mut file =
                read_state(&path).map_err(|message| Error::checkpoint(&path, message))?;
            file.state = state.clone();
            write_atomically(&path.join(STATE), &to_json(&file)?)?;
        } else {
            let partial = self.directory.join(format!(".step-{}.partial", state.step));
            let written = self.write(&partial, &path, state, parts);
            if written.is_err() {
                let _ = fs::remove_dir_all(&partial);
            }
            written?;
        }
        let best = state.best.map(|best| best.step);
        for step in self.steps() {
            if step < state.step && Some(step) != best {
                let path = self.path(step);
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn write(
        &self,
        partial: &Path,
        path: &Path,
        state: &RunState,
        parts: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), Error> {
        if partial.exists() {
            fs::remove_dir_all(partial).map_err(Error::io("remove", partial))?;
        }
        fs::create_dir_all(partial).map_err(Error::io("create", partial))?;
        let mut checksums = BTreeMap::new();
        for (name, bytes) in parts {
            write_synced(&partial.join(name), bytes)?;
            checksums.insert(name.clone(), sha256(bytes));
        }
        let file = StateFile {
            state: state.clone(),
            sha256: checksums,
        };
        write_synced(&partial.join(STATE), &to_json(&file)?)?;
        sync_directory(partial)?;
        fs::rename(partial, path).map_err(Error::io("write", path))?;
        sync_directory(&self.directory)
    }

    /// Where the run stood at `step`.
    ///
    /// # Errors
    ///
    /// When the checkpoint's description is missing or damaged.
    pub fn state(&self, step: usize) -> Result<RunState, Error> {
        let path = self.path(step);
        let file = read_state(&path).map_err(|message| Error::checkpoint(&path, message))?;
        Ok(file.state)
    }

    /// The weights at `step`, without what only training needs. Their bytes are checked here and read when the
    /// record is applied, a tensor at a time.
    ///
    /// # Errors
    ///
    /// When the file is missing or not what was written.
    pub fn weights(&self, step: usize) -> Result<ModuleRecord, Error> {
        let path = self.path(step);
        let corrupt = |message: String| Error::checkpoint(&path, message);
        let [name, ..] = PARTS;
        let file = read_state(&path).map_err(corrupt)?;
        let mut hasher = Sha256::new();
        File::open(path.join(name))
            .and_then(|mut file| io::copy(&mut file, &mut hasher))
            .map_err(|error| corrupt(format!("{name}: {error}")))?;
        if file.sha256.get(name) != Some(&hexadecimal(&hasher.finalize())) {
            return Err(corrupt(format!(
                "{name} is damaged: its SHA-256 differs from the one recorded; --checkpoint names another"
            )));
        }
        ModuleRecord::load(path.join(name)).map_err(|error| corrupt(format!("{name}: {error}")))
    }

    /// Reads the checkpoint at `step` and checks every byte of it.
    ///
    /// # Errors
    ///
    /// When a file is missing or not what was written.
    pub fn load(&self, step: usize) -> Result<Saved, Error> {
        let path = self.path(step);
        let corrupt = |message: String| {
            let others: Vec<_> = self
                .steps()
                .into_iter()
                .filter(|other| *other != step)
                .collect();
            let advice = match others.last() {
                Some(other) => format!("remove it to resume from step {other}"),
                None => "there is no other checkpoint: start the run again".into(),
            };
            Error::checkpoint(&path, format!("{message}; {advice}"))
        };
        let file = read_state(&path).map_err(corrupt)?;
        let mut parts = BTreeMap::new();
        for name in PARTS {
            let bytes =
                fs::read(path.join(name)).map_err(|error| corrupt(format!("{name}: {error}")))?;
            if file.sha256.get(name) != Some(&sha256(&bytes)) {
                return Err(corrupt(format!(
                    "{name} is damaged: its SHA-256 differs from the one recorded"
                )));
            }
            parts.insert(name.to_string(), bytes);
        }
        Ok(Saved {
            state: file.state,
            parts,
        })
    }
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// In lower case.
fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_state(path: &Path) -> Result<StateFile, String> {
    let json = fs::read(path.join(STATE)).map_err(|error| format!("{STATE}: {error}"))?;
    serde_json::from_slice(&json).map_err(|error| format!("{STATE} is damaged: {error}"))
}

fn to_json(file: &StateFile) -> Result<Vec<u8>, Error> {
    Ok(serde_json::to_vec_pretty(file)?)
}

/// A rename lasts once the directory that holds the name is on disk.
fn sync_directory(path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("write", path))?;
    #[cfg(not(unix))]
    let _ = (path, File::open);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(fill: u8) -> BTreeMap<String, Vec<u8>> {
        PARTS
            .iter()
            .map(|name| (name.to_string(), vec![fill; 1000]))
            .collect()
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
                .save(&state(step, best), &parts(step as u8))
                .unwrap();
        }
        assert_eq!(checkpoints.steps(), [20, 40]);
        let saved = checkpoints.load(20).unwrap();
        assert_eq!(saved.state, state(20, 20));
        assert_eq!(saved.part("model.bpk"), Some(&[20u8; 1000][..]));
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path());
        checkpoints.save(&state(10, 10), &parts(1)).unwrap();
        checkpoints.save(&state(20, 10), &parts(2)).unwrap();
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
        checkpoints.save(&state(10, 5), &parts(1)).unwrap();
        checkpoints.save(&state(10, 10), &parts(1)).unwrap();
        assert_eq!(checkpoints.load(10).unwrap().state, state(10, 10));
    }

    #[test]
    fn a_half_written_checkpoint_does_not_exist_and_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path());
        checkpoints.save(&state(10, 10), &parts(1)).unwrap();
        let partial = root.path().join(".step-20.partial");
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("model.bpk"), "half").unwrap();
        assert_eq!(checkpoints.steps(), [10]);
        checkpoints.save(&state(20, 20), &parts(2)).unwrap();
        assert_eq!(
            checkpoints.load(20).unwrap().part("model.bpk"),
            Some(&[2u8; 1000][..])
        );
        assert!(!partial.exists());
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_leaves_the_others() {
        let root = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(root.path());
        checkpoints.save(&state(10, 10), &parts(1)).unwrap();
        // A file where the directory should go: writing fails whoever runs the test.
        fs::write(root.path().join(".step-20.partial"), "in the way").unwrap();
        let error = checkpoints.save(&state(20, 20), &parts(2)).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(checkpoints.steps(), [10]);
        checkpoints.load(10).unwrap();
    }
}
