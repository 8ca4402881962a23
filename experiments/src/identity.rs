//! What has to be the same for two runs to be the same run but for where it took place: experiment, initial
//! weights, data.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use foretoken_model::Transformer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::run::RunDirectory;
use crate::setup::Setup;

/// What a run's `identity.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`Experiment::hash`](crate::Experiment::hash).
    pub experiment: String,
    /// SHA-256 over path, shape and f32 bytes of every parameter before the first step, as read back from the
    /// device.
    pub initial_weights: String,
    /// SHA-256 over tokens and tokenizer.
    pub data: String,
}

impl Identity {
    /// The file of a run directory that holds it.
    pub const FILE: &str = "identity.json";

    /// Of a run of this setup that starts from these weights, still in f32.
    pub(crate) fn new(setup: &Setup, transformer: &Transformer) -> Result<Self, Error> {
        Ok(Self {
            experiment: setup.experiment.hash(),
            initial_weights: weights_hash(transformer)?,
            data: setup.data.fingerprint.clone(),
        })
    }

    /// Of a finished run.
    ///
    /// # Errors
    ///
    /// When the run has none, or it is damaged.
    pub fn of_run(run: &RunDirectory) -> Result<Self, Error> {
        let text = run.read(Self::FILE).ok_or_else(|| {
            let message = "has no identity.json: it was made by a version that did not write one; run it again";
            Error::run_directory(run.path(), message)
        })?;
        serde_json::from_str(&text).map_err(|error| {
            Error::run_directory(run.path().join(Self::FILE), format!("is damaged: {error}"))
        })
    }
}

fn weights_hash(transformer: &Transformer) -> Result<String, Error> {
    let mut hash = Hash {
        path: Vec::new(),
        hasher: Sha256::new(),
        result: Ok(()),
    };
    transformer.visit(&mut hash);
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
