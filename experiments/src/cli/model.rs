//! MODEL, and what commands that take one have in common.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::Args;
use foretoken::Error;
use foretoken::backend::Backend;
use foretoken::record::source::{Checkpoint, Source};

/// Arguments that choose a model and where it runs.
#[derive(Args)]
pub(super) struct ModelArgs {
    /// A run directory, a model that `foretoken import` has written, or a Hugging Face folder
    model: PathBuf,
    /// Of a run: best, last or the number of a step
    #[arg(long, value_name = "WHICH", default_value = "best")]
    checkpoint: Checkpoint,
    /// A tokenizer.json in place of the model's own
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Backend to run on, as `foretoken backends` lists them [default: the first one compiled in]
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

/// What is wrong with an argument.
pub(super) fn refused(argument: &str, message: impl ToString) -> Error {
    Error::Experiment {
        origin: argument.into(),
        message: message.to_string(),
    }
}
