//! What has to be the same for two runs to be the same run but for where it took place: experiment, initial
//! weights, data.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use foretoken_model::Transformer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::setup::Setup;
use crate::record::run::RunDirectory;
use crate::{Error, Experiment};

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
    /// Where `train.steps` changed on the way: what the experiment says of the schedule holds from the last on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replanned: Vec<Replanned>,
}

/// Another number of steps for a run that had begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replanned {
    /// Steps taken by then.
    pub step: usize,
    /// `train.steps` since.
    pub steps: usize,
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
            replanned: Vec::new(),
        })
    }

    pub(crate) fn write(&self, run: &RunDirectory) -> Result<(), Error> {
        run.write(Self::FILE, serde_json::to_vec_pretty(self)?)
    }

    /// Of a finished run.
    ///
    /// # Errors
    ///
    /// When the run has none, or it is damaged.
    pub fn of_run(run: &RunDirectory) -> Result<Self, Error> {
        run.read_json(Self::FILE)?.ok_or_else(|| {
            let message = "has no identity.json: it was made by a version that did not write one; run it again";
            Error::run_directory(run.path(), message)
        })
    }
}

/// What was run: the identity, and the experiment file to name what differs. An envelope carries it, so that it
/// judges no runs of anything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Hashes of experiment, initial weights and data.
    pub identity: Identity,
    /// The experiment, resolved.
    pub experiment: Experiment,
}

impl Origin {
    /// Names what makes a run of `other` another run than one of this, wherever they ran; empty where the two are
    /// comparable. Content decides: the same data and the same weights may lie elsewhere.
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
