//! The argument MODEL, and other arguments of all commands that take one.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Args;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::engine::data::Data;
use foretoken::experiment::DataSection;
use foretoken::record::run::RunDirectory;
use foretoken::record::source::{Checkpoint, Source};
use foretoken::{Error, Experiment};
use foretoken_datasets::Monitor;
use foretoken_model::Transformer;

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
    /// Backend to run on, with an optional precision, such as flex:f64; `foretoken backends` lists them [default: the
    /// first one compiled in, in f32]
    #[arg(long, value_name = "NAME[:DTYPE]")]
    backend: Option<String>,
    /// What names the backend, for messages.
    #[arg(skip = "--backend".to_owned())]
    origin: String,
}

impl ModelArgs {
    pub(super) fn open(&self) -> Result<Source, Error> {
        Source::open(&self.model, self.checkpoint, self.tokenizer.as_deref())
    }

    /// Returns whether a backend is given.
    pub(super) fn names_backend(&self) -> bool {
        self.backend.is_some()
    }

    /// Returns the backend and the precision of weights on it.
    pub(super) fn backend(&self) -> Result<(Backend, Precision), Error> {
        let Some(named) = &self.backend else {
            return Ok((Backend::default_backend(), Precision::default()));
        };
        let (name, precision) = match named.split_once(':') {
            Some((name, precision)) => (name, Some(precision)),
            None => (named.as_str(), None),
        };
        let backend = name.parse().map_err(|error| refused(&self.origin, error))?;
        let precision = precision.map(str::parse).transpose();
        let precision = precision.map_err(|message| refused(&self.origin, message))?;
        Ok((backend, precision.unwrap_or_default()))
    }

    /// Returns the arguments of another model, or of another checkpoint or backend, which is given with its origin for
    /// messages. Another model has its own tokenizer.
    pub(super) fn with(
        &self,
        model: Option<PathBuf>,
        checkpoint: Option<Checkpoint>,
        backend: Option<(String, String)>,
    ) -> Self {
        let (backend, origin) = match backend {
            Some((backend, origin)) => (Some(backend), origin),
            None => (self.backend.clone(), self.origin.clone()),
        };
        Self {
            tokenizer: match model {
                Some(_) => None,
                None => self.tokenizer.clone(),
            },
            model: model.unwrap_or_else(|| self.model.clone()),
            checkpoint: checkpoint.unwrap_or(self.checkpoint),
            backend,
            origin,
        }
    }

    /// Loads the model that `source` was opened for, on the chosen backend in the chosen precision.
    pub(super) fn load(&self, source: &Source) -> Result<Transformer, Error> {
        let (backend, precision) = self.backend()?;
        source.load_in(&backend.device_for(precision)?, precision)
    }

    pub(super) fn device(&self) -> Result<Device, Error> {
        let (backend, precision) = self.backend()?;
        Ok(backend.device_for(precision)?)
    }
}

/// Returns the experiment whose data a model is measured on: that of the argument `--data`, a folder of tokens or an
/// experiment file, or else that of the run; `None` if the model is not a run.
pub(super) fn experiment_of_data(
    data: Option<&Path>,
    source: &Source,
) -> Result<Option<Experiment>, Error> {
    match data {
        Some(path) if path.is_file() => Experiment::load(path, &[]).map(Some),
        Some(path) => {
            let mut experiment = Experiment::embedded(&[])?;
            experiment.data = DataSection::of_tokens(path, source.tokenizer_file().as_deref())?;
            Ok(Some(experiment))
        }
        None => match RunDirectory::open(source.path()) {
            Ok(run) => run.experiment().map(Some),
            Err(_) => Ok(None),
        },
    }
}

/// Loads the data of an [`experiment_of_data`]. An error names the run, if they are its own.
pub(super) fn load_data(
    experiment: &Experiment,
    given: Option<&Path>,
    source: &Source,
    monitor: Monitor<'_>,
) -> Result<Data, Error> {
    Data::load(&experiment.data, monitor).map_err(|error| match given {
        Some(_) => error,
        None => error.of_run(source.path()),
    })
}

/// Refuses a list in which a value occurs twice. `name` names a value.
pub(super) fn refuse_repeated<T: PartialEq>(
    argument: &str,
    values: &[T],
    name: impl Fn(&T) -> String,
) -> Result<(), Error> {
    for (index, value) in values.iter().enumerate() {
        if values[..index].contains(value) {
            let message = format!("names {} twice; name it once", name(value));
            return Err(refused(argument, message));
        }
    }
    Ok(())
}

/// Returns the error for a wrong argument.
pub(super) fn refused(argument: &str, message: impl ToString) -> Error {
    Error::Experiment {
        origin: argument.into(),
        message: message.to_string(),
    }
}
