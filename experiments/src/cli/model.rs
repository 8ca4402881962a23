//! The argument MODEL, and other arguments of all commands that take one.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use clap::Args;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::engine::data::Data;
use foretoken::experiment::DataSection;
use foretoken::record::data::data_of;
use foretoken::record::run::RunDirectory;
use foretoken::record::source::{Checkpoint, Source};
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::Shown;
use foretoken::show::progress::BuildReporter;
use foretoken::{Error, Experiment};
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

    /// Opens the model, which must be a run.
    pub(super) fn open_run(&self) -> Result<Source, Error> {
        if RunDirectory::open(&self.model).is_err() {
            // What is no model at all has another error.
            Source::open(&self.model, Checkpoint::Best, None)?;
            return Err(not_a_run(&self.model));
        }
        self.open()
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

/// Loads the data that a model is measured on, with the experiment that names them: those of the argument `--data`, a folder
/// of tokens or an experiment file, or else those that the run was trained on; `None` if the model is not a run.
///
/// # Errors
///
/// Returns an error if the data cannot be read, or the run was trained on others than it names now.
pub(super) fn load_data(
    data: Option<&Path>,
    source: &Source,
    interrupt: &AtomicBool,
) -> Result<Option<(Experiment, Data)>, Error> {
    let reporter = BuildReporter::new(Dashboard::Plain);
    let monitor = reporter.monitor(interrupt);
    let experiment = match data {
        Some(path) if path.is_file() => Experiment::load(path, &[])?,
        Some(path) => {
            let mut experiment = Experiment::embedded(&[])?;
            experiment.data = DataSection::of_tokens(path, source.tokenizer_file().as_deref())?;
            experiment
        }
        None => {
            let Ok(run) = RunDirectory::open(source.path()) else {
                return Ok(None);
            };
            let experiment = run.experiment()?;
            let data = data_of(&run, &experiment, monitor)?;
            return Ok(Some((experiment, data)));
        }
    };
    let data = Data::load(&experiment.data, monitor)?;
    Ok(Some((experiment, data)))
}

/// Returns the error for a model whose training text is asked for.
pub(super) fn not_a_run(model: &Path) -> Error {
    refused(
        &model.shown(),
        "is not a run, so that its training text is not known; name the directory of a run",
    )
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
