//! Setup of an experiment: its data, the architecture of its model, and its initial weights. Only the backend is left
//! to choose.

use std::sync::Arc;

use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::tensor::Device;
use foretoken_datasets::{EvalLoaderConfig, TrainLoaderConfig, WindowLoader};
use foretoken_model::{ModelConfig, Transformer};

use super::data::Data;
use super::language_model::LanguageModel;
use super::learner::Learner;
use super::optimizer::optimizer;
use super::schedule::Schedule;
use crate::experiment::ModelSection;
use crate::{Error, Experiment};

/// An existing model that provides the initial weights of a run.
pub(crate) trait InitialModel: Send + Sync {
    /// Returns the architecture of the model.
    fn config(&self) -> &ModelConfig;

    /// Loads the model on a device.
    fn load(&self, device: &Device) -> Result<Transformer, Error>;
}

/// Source of the initial weights.
pub(crate) enum Start {
    /// Random weights from the seed.
    Seed,
    /// The weights of an existing model.
    Model(Box<dyn InitialModel>),
    /// An existing model at the start of a run that is resumed, with weights from the run's checkpoints.
    Resumed(Box<ModelConfig>),
}

impl Start {
    /// Returns the architecture of the existing model.
    fn config(&self) -> Option<&ModelConfig> {
        match self {
            Self::Seed => None,
            Self::Model(model) => Some(model.config()),
            Self::Resumed(config) => Some(config),
        }
    }
}

/// An experiment with its data and its initial weights.
#[derive(Clone)]
pub struct Setup {
    /// The experiment with every key of its model, so that reading it again needs neither presets nor defaults.
    pub experiment: Experiment,
    pub(crate) data: Arc<Data>,
    pub(crate) model: ModelConfig,
    start: Arc<Start>,
}

impl Setup {
    /// Returns the setup of an experiment.
    pub(crate) fn new(mut experiment: Experiment, data: Data, start: Start) -> Result<Self, Error> {
        let tokens = data.tokenizer.vocab_size();
        let model = experiment.model.config(tokens, start.config())?;
        experiment.model = ModelSection::of(&model, experiment.model.init_from);
        Ok(Self {
            experiment,
            data: Arc::new(data),
            model,
            start: Arc::new(start),
        })
    }

    /// Returns the loader of the training windows of all steps.
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

    /// Returns the loader of `windows` validation windows, or of the whole split for 0.
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
        let valid = &self.data.valid;
        Ok(match self.data.valid_documents() {
            Some(documents) => config.init_by_document(valid, documents, device)?,
            None => config.init(valid, device)?,
        })
    }

    /// Returns the network before the first step, on a device with autodiff. The weights of a resumed run are
    /// placeholders until a checkpoint is loaded.
    pub(crate) fn transformer(&self, seed: u64, device: &Device) -> Result<Transformer, Error> {
        Ok(match &*self.start {
            Start::Model(initial) => {
                let model = initial.load(device)?;
                model.adapted(self.model.context, self.model.dropout)
            }
            Start::Seed | Start::Resumed(_) => self.model.init(seed, device)?,
        })
    }

    /// Returns a learner of the model. The optimizer is fused if the model is.
    pub fn learner(&self, model: LanguageModel) -> Learner {
        let optimizer = optimizer(&self.experiment.optimizer, model.fused);
        let schedule = ModuleLrScheduler::new(Schedule::new(&self.experiment));
        Learner::new(model, optimizer, schedule)
    }
}
