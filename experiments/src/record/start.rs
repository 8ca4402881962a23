//! Opens what an experiment names: its data, and the model that it starts from.

use burn::tensor::Device;
use foretoken_datasets::{Monitor, Tokenizer};
use foretoken_model::{ModelConfig, Transformer};

use crate::engine::data::Data;
use crate::engine::setup::{InitialModel, Setup, Start};
use crate::record::checkpoint::Checkpoints;
use crate::record::run::RunDirectory;
use crate::record::source::{Checkpoint, Source};
use crate::{Error, Experiment};

impl InitialModel for Source {
    fn config(&self) -> &ModelConfig {
        Source::config(self)
    }

    fn load(&self, device: &Device) -> Result<Transformer, Error> {
        Source::load(self, device)
    }
}

/// Opens the data of an experiment, or makes it, and finds the model that it starts from. A resumed run has its weights
/// in its checkpoints.
pub(crate) fn prepare(
    mut experiment: Experiment,
    resumed: Option<&RunDirectory>,
    monitor: Monitor<'_>,
) -> Result<Setup, Error> {
    let named = find(&mut experiment, resumed)?;
    let data = Data::load(&experiment.data, monitor).map_err(|error| match resumed {
        Some(run) => error.of_run(run.path()),
        None => error,
    })?;
    let start = match named {
        None => Start::Seed,
        Some(InitFrom::Checkpoints(config)) => Start::Resumed(Box::new(config)),
        Some(InitFrom::Model(source)) => {
            check_tokenizer(&source, &data.tokenizer)?;
            Start::Model(source)
        }
    };
    Setup::new(experiment, data, start)
}

/// Present place of the weights that `model.init_from` names.
enum InitFrom {
    /// The model itself.
    Model(Box<Source>),
    /// Checkpoints of the resumed run, which has this configuration.
    Checkpoints(ModelConfig),
}

/// Finds the model that `model.init_from` names. Text becomes tokens with that model's tokenizer when the experiment names
/// none, because the model's weights know no other.
fn find(
    experiment: &mut Experiment,
    resumed: Option<&RunDirectory>,
) -> Result<Option<InitFrom>, Error> {
    let Some(path) = &experiment.model.init_from else {
        return Ok(None);
    };
    let has_checkpoint =
        |run: &&RunDirectory| !Checkpoints::new(run.checkpoints()).steps().is_empty();
    let (named, tokenizer) = match resumed.filter(has_checkpoint) {
        Some(run) => {
            let of_run = run.experiment()?;
            let config = of_run.model.config(1, None)?;
            (InitFrom::Checkpoints(config), of_run.data.tokenizer)
        }
        None => {
            let source = Source::open(path, Checkpoint::Best, None)?;
            let file = source.tokenizer_file();
            let file = file.map(|file| file.display().to_string());
            (InitFrom::Model(Box::new(source)), file)
        }
    };
    if experiment.data.tokenizer.is_none() && !experiment.data.is_built() {
        experiment.data.tokenizer = tokenizer;
    }
    Ok(Some(named))
}

/// Refuses data whose ids mean something else than when the model's weights were trained. A model without a tokenizer
/// cannot tell, which is noted on standard error.
fn check_tokenizer(source: &Source, of_data: &Tokenizer) -> Result<(), Error> {
    let path = source.path().display();
    let refused = |message: String| {
        Err(Error::Experiment {
            origin: "model.init_from".into(),
            message,
        })
    };
    let Some(of_model) = source.own_tokenizer() else {
        crate::errln!(
            "note: {path} has no tokenizer.json, so that nobody can tell whether its weights know the ids of this \
             data; put the tokenizer that it was trained with beside it to have that checked"
        );
        return Ok(());
    };
    let (known, tokens) = (source.config().vocab_size, of_data.vocab_size());
    let advice = format!(
        "build the data with `foretoken data build --tokenizer {path}/tokenizer.json`, or leave out data.tokenizer where \
         data.path is text"
    );
    match of_model.difference(of_data) {
        Some(difference) => refused(format!(
            "the tokenizer of {path} is not that of the data ({difference}), so that its weights would read \
             other tokens than they know: {advice}"
        )),
        None if tokens > known => refused(format!(
            "{path} knows {known} tokens, and the data has {tokens}: {advice}"
        )),
        None => Ok(()),
    }
}
