//! An experiment with everything that it names: its data, the shape of its model, the weights it starts from. What is
//! left to choose is where it runs.

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

/// A model whose weights a run starts from.
pub(crate) trait InitialModel: Send + Sync {
    /// Shape of the model.
    fn config(&self) -> &ModelConfig;

    /// The model on a device.
    fn load(&self, device: &Device) -> Result<Transformer, Error>;
}

/// Origin of the weights before the first step.
pub(crate) enum Start {
    /// The seed.
    Seed,
    /// A model that exists already.
    Model(Box<dyn InitialModel>),
    /// A model that existed when the run began, and whose weights are in the run's checkpoints since.
    Resumed(Box<ModelConfig>),
}

impl Start {
    /// The shape of the model to start from.
    fn config(&self) -> Option<&ModelConfig> {
        match self {
            Self::Seed => None,
            Self::Model(model) => Some(model.config()),
            Self::Resumed(config) => Some(config),
        }
    }
}

/// An experiment that can start.
#[derive(Clone)]
pub struct Setup {
    /// The experiment with its model spelt out, so that it needs neither presets nor defaults to be read again.
    pub experiment: Experiment,
    pub(crate) data: Arc<Data>,
    pub(crate) model: ModelConfig,
    start: Arc<Start>,
}

impl Setup {
    /// An experiment with its data and the origin of its weights.
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

    /// Validation windows, `windows` of them or the whole split for 0.
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

    /// The network before the first step, on a device with autodiff. The weights of a resumed run mean nothing here: all
    /// of them come from a checkpoint.
    pub(crate) fn transformer(&self, seed: u64, device: &Device) -> Result<Transformer, Error> {
        Ok(match &*self.start {
            Start::Model(initial) => {
                let model = initial.load(device)?;
                model.adapted(self.model.context, self.model.dropout)
            }
            Start::Seed | Start::Resumed(_) => self.model.init(seed, device)?,
        })
    }

    /// A model with its optimizer, fused as its operations are, and its schedule.
    pub fn learner(&self, model: LanguageModel) -> Learner {
        let optimizer = optimizer(&self.experiment.optimizer, model.fused);
        let schedule = ModuleLrScheduler::new(Schedule::new(&self.experiment));
        Learner::new(model, optimizer, schedule)
    }
}
