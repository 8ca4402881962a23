//! The argument MODEL, and other arguments of all commands that take one.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::Args;
use foretoken::Error;
use foretoken::backend::Backend;
use foretoken::record::source::{Checkpoint, Source};

/// Arguments that choose a model and its backend.
#[derive(Args)]
pub(super) struct ModelArgs {
    /// A run directory, a model written by `foretoken import`, or a Hugging Face folder
    model: PathBuf,
    /// Checkpoint of a run: best, last, or a step number
    #[arg(long, value_name = "WHICH", default_value = "best")]
    checkpoint: Checkpoint,
    /// A tokenizer.json to use instead of the model's own
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Backend to run on; `foretoken backends` lists them [default: the first one compiled in]
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
}

impl ModelArgs {
    pub(super) fn open(&self) -> Result<Source, Error> {
        Source::open(&self.model, self.checkpoint, self.tokenizer.as_deref())
    }

    pub(super) fn backend(&self) -> Result<Backend, Error> {
        match &self.backend {
            Some(name) => Ok(name.parse()?),
            None => Ok(Backend::default_backend()),
        }
    }

    pub(super) fn device(&self) -> Result<Device, Error> {
        Ok(self.backend()?.device()?)
    }
}

/// Returns the error for a wrong argument.
pub(super) fn refused(argument: &str, message: impl ToString) -> Error {
    Error::Experiment {
        origin: argument.into(),
        message: message.to_string(),
    }
}
