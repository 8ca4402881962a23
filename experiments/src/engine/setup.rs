//! An experiment with everything read that it names: its data, its model's shape, the weights it starts from.
//! What is left to choose is where it runs.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::tensor::{DType, Device, Tensor};
use foretoken_datasets::{EvalLoaderConfig, Monitor, Tokenizer, TrainLoaderConfig, WindowLoader};
use foretoken_model::{ModelConfig, Transformer};

use crate::backend::precision::Precision;
use crate::engine::data::Data;
use crate::engine::learner::{LanguageModel, Learner};
use crate::engine::optimizer::WarmupCosine;
use crate::experiment::ModelSection;
use crate::record::checkpoint::Checkpoints;
use crate::record::run::RunDirectory;
use crate::record::source::{Checkpoint, Source};
use crate::{Error, Experiment};

/// An experiment that can start.
#[derive(Clone)]
pub(crate) struct Setup {
    /// With its model spelt out, so that it needs neither presets nor defaults to be read again.
    pub(crate) experiment: Experiment,
    pub(crate) data: Arc<Data>,
    pub(crate) model: ModelConfig,
    start: Arc<Start>,
}

impl Setup {
    /// Opens the data, or makes it; of a run that is resumed, with what it has already.
    pub(crate) fn new(
        mut experiment: Experiment,
        resumed: Option<&RunDirectory>,
        monitor: Monitor<'_>,
    ) -> Result<Self, Error> {
        let start = Start::find(&mut experiment, resumed)?;
        let data = Data::load(&experiment.data, monitor)?;
        start.check_tokenizer(&data.tokenizer)?;
        let tokens = data.tokenizer.vocab_size();
        let model = experiment.model.config(tokens, start.config().as_ref())?;
        experiment.model = ModelSection::of(&model, experiment.model.init_from);
        Ok(Self {
            experiment,
            data: Arc::new(data),
            model,
            start: Arc::new(start),
        })
    }

    /// The training windows of all steps.
    pub(crate) fn train_loader(&self, seed: u64, device: &Device) -> Result<WindowLoader, Error> {
        let settings = &self.experiment.train;
        let config = TrainLoaderConfig {
            context: self.model.context,
            batch: settings.batch,
            accumulation: settings.accumulation,
            steps: settings.steps,
            seed,
        };
        Ok(config.init(&self.data.train, device)?)
    }

    /// As many validation windows; 0: the whole split.
    pub(crate) fn eval_loader(
        &self,
        windows: usize,
        device: &Device,
    ) -> Result<WindowLoader, Error> {
        let config = EvalLoaderConfig {
            context: self.model.context,
            batch: self.experiment.train.batch,
            windows: (windows > 0).then_some(windows),
        };
        Ok(config.init(&self.data.valid, device)?)
    }

    /// The network before the first step, on a device with autodiff. Of a run that is resumed its weights mean
    /// nothing: all of them come from a checkpoint.
    pub(crate) fn transformer(&self, seed: u64, device: &Device) -> Result<Transformer, Error> {
        Ok(match &*self.start {
            Start::Model(source) => {
                let model = source.load(device)?;
                model.adapted(self.model.context, self.model.dropout)
            }
            Start::Seed | Start::Resumed(_) => self.model.init(seed, device)?,
        })
    }

    /// A model with its optimizer, fused as its operations are, and its schedule.
    pub(crate) fn learner(&self, model: LanguageModel) -> Learner {
        let schedule = WarmupCosine {
            config: self.experiment.optimizer.clone(),
            steps: self.experiment.train.steps,
            next: 0,
        };
        let optimizer = self.experiment.optimizer.init(model.fused);
        Learner::new(model, optimizer, ModuleLrScheduler::new(schedule))
    }
}

/// The same weights, rounded to another precision.
pub(crate) fn in_precision<M: Module>(module: M, precision: Precision) -> M {
    struct Cast(DType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = param.val();
            if value.dtype() == self.0 {
                return param;
            }
            let trained = value.is_require_grad();
            let cast = value.detach().cast(self.0).detach();
            Param::initialized(param.id, cast.set_require_grad(trained))
        }
    }
    module.map(&mut Cast(precision.dtype()))
}

/// Where the weights come from that are not in a checkpoint yet.
enum Start {
    /// From the seed.
    Seed,
    /// From a model that is there already.
    Model(Box<Source>),
    /// From one that was there when the run began and is in its checkpoints since.
    Resumed(Box<ModelConfig>),
}

impl Start {
    /// What `model.init_from` names. Text becomes tokens with that model's tokenizer, where the experiment names
    /// none: others mean nothing to it.
    fn find(experiment: &mut Experiment, resumed: Option<&RunDirectory>) -> Result<Self, Error> {
        let Some(path) = &experiment.model.init_from else {
            return Ok(Self::Seed);
        };
        let has_checkpoint =
            |run: &&RunDirectory| !Checkpoints::new(run.checkpoints()).steps().is_empty();
        let (start, tokenizer) = match resumed.filter(has_checkpoint) {
            Some(run) => {
                let of_run = run.experiment()?;
                let config = of_run.model.config(1, None)?;
                (Self::Resumed(Box::new(config)), of_run.data.tokenizer)
            }
            None => {
                let source = Source::open(path, Checkpoint::Best, None)?;
                let file = source.tokenizer_file();
                let file = file.map(|file| file.display().to_string());
                (Self::Model(Box::new(source)), file)
            }
        };
        if experiment.data.tokenizer.is_none() && !experiment.data.is_built() {
            experiment.data.tokenizer = tokenizer;
        }
        Ok(start)
    }

    /// Whether the ids of the data mean to the model's weights what they meant when these were trained. A
    /// model without a tokenizer cannot tell, which is said.
    fn check_tokenizer(&self, of_data: &Tokenizer) -> Result<(), Error> {
        let Self::Model(source) = self else {
            return Ok(());
        };
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
            "build the data with --tokenizer {path}/tokenizer.json, or leave out data.tokenizer where data.path is text"
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

    /// The shape of the model to start from.
    fn config(&self) -> Option<ModelConfig> {
        match self {
            Self::Seed => None,
            Self::Model(source) => Some(source.config().clone()),
            Self::Resumed(config) => Some(ModelConfig::clone(config)),
        }
    }
}
