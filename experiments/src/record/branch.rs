//! Branches: run directories that continue another run, the trunk, from one of its checkpoints.

use std::fs;
use std::path::{Path, PathBuf};

use foretoken_datasets::files;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoints;
use super::environment::History;
use super::identity::Identity;
use super::run::{
    EXPERIMENT, MetricsLog, Record, RunDirectory, metrics_before, read_metrics, write_synced,
};
use crate::{Error, Experiment, json};

/// The content of a branch's `branch.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The run that took the first steps.
    #[serde(serialize_with = "json::path")]
    pub trunk: PathBuf,
    /// Number of steps that it took.
    pub step: usize,
}

impl Branch {
    /// Name of its file in a run directory.
    pub const FILE: &str = "branch.json";

    /// Creates the run directory `out`, complete or not at all: the trunk with its checkpoint at the step as its last
    /// one, and with the experiment that `change` makes of the trunk's. Training resumes it.
    ///
    /// The branch is a run of its experiment, to the bit, if the change has no effect before the step. The trunk may go
    /// on meanwhile if it keeps this checkpoint. No other process may create `out`.
    ///
    /// # Errors
    ///
    /// Returns an error if the trunk has no such checkpoint, a file of it is damaged, or the disk cannot be written.
    pub(crate) fn create(
        &self,
        out: &Path,
        change: impl FnOnce(&mut Experiment),
    ) -> Result<(), Error> {
        let trunk = RunDirectory::open(&self.trunk)?;
        let mut experiment = trunk.experiment()?;
        change(&mut experiment);
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(out.file_name().unwrap_or_default());
        hidden.push(".partial");
        let partial = out.with_file_name(hidden);
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(Error::io("remove", &partial))?;
        }
        files::create_directories(&partial).map_err(Error::io("create", &partial))?;
        let written = self.write(&trunk, &experiment, &partial).and_then(|()| {
            files::sync_directory(&partial)
                .and_then(|()| fs::rename(&partial, out))
                .and_then(|()| files::sync_parent(out))
                .map_err(Error::io("write", out))
        });
        if written.is_err() {
            let _ = fs::remove_dir_all(&partial);
        }
        written
    }

    fn write(&self, trunk: &RunDirectory, experiment: &Experiment, to: &Path) -> Result<(), Error> {
        let checkpoints = Checkpoints::new(to.join("checkpoints"));
        let evaluation = |record: &Record| match record {
            Record::Evaluation { step, loss, .. } if *step == self.step => Some(*loss),
            _ => None,
        };
        let loss = read_metrics(trunk)?.iter().find_map(evaluation);
        Checkpoints::new(trunk.checkpoints()).share(self.step, loss, &checkpoints)?;
        let identity = Identity {
            experiment: experiment.hash(),
            replanned: Vec::new(),
            ..Identity::of_run(trunk)?
        };
        let mut history = History::of_run(trunk)?;
        if let Some(history) = &mut history {
            history.resumed.retain(|resumed| resumed.step < self.step);
        }
        let text = |value| serde_json::to_vec_pretty(&value);
        for (name, bytes) in [
            (MetricsLog::FILE, Some(metrics_before(trunk, self.step)?)),
            (Identity::FILE, Some(serde_json::to_vec_pretty(&identity)?)),
            (History::FILE, history.map(text).transpose()?),
            (
                "tokenizer.json",
                trunk.read("tokenizer.json")?.map(String::into_bytes),
            ),
            (Self::FILE, Some(serde_json::to_vec_pretty(self)?)),
            (EXPERIMENT, Some(experiment.to_toml().into_bytes())),
        ] {
            if let Some(bytes) = bytes {
                write_synced(&to.join(name), &bytes)?;
            }
        }
        Ok(())
    }
}
