//! The identity of a run: experiment, initial weights and data. Two runs with the same identity differ only in where
//! they took place.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use foretoken_model::Transformer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::setup::Setup;
use crate::record::run::RunDirectory;
use crate::{Error, Experiment};

/// The content of a run's `identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`Experiment::hash`](crate::Experiment::hash).
    pub experiment: String,
    /// SHA-256 over path, shape and f32 bytes of every parameter before the first step, as read back from the
    /// device.
    pub initial_weights: String,
    /// SHA-256 over tokens and tokenizer.
    pub data: String,
    /// The changes of `train.steps` during the run. The experiment's schedule holds from the last one on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replanned: Vec<Replanned>,
}

/// A change of `train.steps` during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replanned {
    /// The number of steps taken before.
    pub step: usize,
    /// `train.steps` from then on.
    pub steps: usize,
}

impl Identity {
    /// Name of its file in a run directory.
    pub const FILE: &str = "identity.json";

    /// Computes the identity of a run of this setup that starts from these weights, which are still in f32.
    pub(crate) fn new(setup: &Setup, transformer: &Transformer) -> Result<Self, Error> {
        Ok(Self {
            experiment: setup.experiment.hash(),
            initial_weights: weights_hash(transformer)?,
            data: setup.data.fingerprint.clone(),
            replanned: Vec::new(),
        })
    }

    pub(crate) fn write(&self, run: &RunDirectory) -> Result<(), Error> {
        run.write(Self::FILE, serde_json::to_vec_pretty(self)?)
    }

    /// Reads the identity of a run.
    ///
    /// # Errors
    ///
    /// Returns an error if the run has no identity or it is damaged.
    pub fn of_run(run: &RunDirectory) -> Result<Self, Error> {
        run.read_json(Self::FILE)?.ok_or_else(|| {
            let message = "has no identity.json, which older versions did not write; run the experiment again";
            Error::run_directory(run.path(), message)
        })
    }
}

/// The identity of a run with its experiment, which names the keys that differ. An envelope carries it, so that it
/// judges only runs of the same experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Hashes of experiment, initial weights and data.
    pub identity: Identity,
    /// The experiment, resolved.
    pub experiment: Experiment,
}

impl Origin {
    /// Returns the differences that make runs of the two incomparable; empty if they are comparable. Only content
    /// matters: the same data and the same weights may have other paths.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = self.experiment.decisive_differences(&other.experiment);
        let (ours, theirs) = (&self.identity, &other.identity);
        for (what, keys, ours, theirs) in [
            (
                "initial weights",
                "model.init_from",
                &ours.initial_weights,
                &theirs.initial_weights,
            ),
            ("data", "data.", &ours.data, &theirs.data),
        ] {
            if ours == theirs {
                continue;
            }
            for key in self.experiment.differences_under(&other.experiment, keys) {
                if !differences.contains(&key) {
                    differences.push(key);
                }
            }
            differences.push(format!("{what} ({ours:.8}… and {theirs:.8}…)"));
        }
        if ours.replanned != theirs.replanned {
            differences.push("the schedule (train.steps changed while one of them ran)".into());
        }
        differences
    }
}

/// Returns the SHA-256 of all weights with their paths.
pub(crate) fn weights_hash<M: Module>(module: &M) -> Result<String, Error> {
    let mut hash = Hash {
        path: Vec::new(),
        hasher: Sha256::new(),
        result: Ok(()),
    };
    module.visit(&mut hash);
    hash.result?;
    Ok(format!("{:x}", hash.hasher.finalize()))
}

struct Hash {
    path: Vec<String>,
    hasher: Sha256,
    result: Result<(), Error>,
}

impl ModuleVisitor for Hash {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        self.hasher
            .update(format!("{}{:?}", self.path.join("."), value.dims()));
        match value.try_into_vec_as::<f32>() {
            Ok(values) => {
                for value in values {
                    self.hasher.update(value.to_le_bytes());
                }
            }
            Err(error) => self.result = Err(Error::device(error)),
        }
    }
}
