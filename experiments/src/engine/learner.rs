//! The learner: a model in training with its optimizer and its schedule.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::optim::lr_scheduler::LrSchedulerRecord;
use burn::optim::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Bytes, Device, Tensor};
use foretoken_model::Transformer;
use foretoken_model::ops::among_threads;

use super::language_model::LanguageModel;
use super::optimizer::Optimizer;
use super::records;
use crate::Error;

/// File names of the records of a learner.
pub const PARTS: [&str; 3] = ["model.bpk", "optimizer.bpk", "scheduler.bpk"];

/// Records of a learner in memory, by file name.
pub type Records = BTreeMap<String, Vec<u8>>;

/// Model, optimizer and schedule of a run.
///
/// Unlike burn-train's learner, which keeps its model and passes a clone to the optimizer, this one moves its model
/// into the optimizer, so that weights change in place.
pub struct Learner {
    /// `None` only within [`Self::update`] and after [`Self::take_model`].
    model: Option<LanguageModel>,
    optimizer: Box<dyn Optimizer>,
    schedule: ModuleLrScheduler,
    learning_rate: ModuleLearningRate,
}

impl Learner {
    /// Returns a learner before its first step.
    pub fn new(
        model: LanguageModel,
        optimizer: Box<dyn Optimizer>,
        schedule: ModuleLrScheduler,
    ) -> Self {
        Self {
            model: Some(model),
            optimizer,
            schedule,
            learning_rate: 0.0.into(),
        }
    }

    /// Returns the model. A clone of it shares the weights, and updates copy them while it lives.
    pub fn model(&self) -> &LanguageModel {
        let model = self.model.as_ref();
        model.expect("put_model follows take_model")
    }

    /// Returns the learning rate of the last update.
    pub fn learning_rate(&self) -> &ModuleLearningRate {
        &self.learning_rate
    }

    /// Updates the weights with gradients times `scale`, `[1]`, at the schedule's next learning rate.
    pub fn update(&mut self, gradients: GradientsParams, scale: Tensor<1>) {
        self.learning_rate = self.schedule.step();
        let rate = self.learning_rate.clone();
        let device = self.model().transformer.device();
        let model = self.model.take();
        let updated = |model| self.optimizer.update(rate, model, gradients, scale);
        self.model = among_threads(&device, || model.map(updated));
    }

    /// Moves the model out, until [`put_model`](Self::put_model).
    pub(crate) fn take_model(&mut self) -> LanguageModel {
        self.model.take().expect("put_model follows take_model")
    }

    /// Moves the model back.
    pub(crate) fn put_model(&mut self, model: LanguageModel) {
        self.model = Some(model);
    }

    /// Replaces the network by the result of `change`.
    pub(crate) fn change(&mut self, change: impl FnOnce(Transformer) -> Transformer) {
        self.model = self.model.take().map(|model| LanguageModel {
            transformer: change(model.transformer),
            ..model
        });
    }

    /// Returns the records of a checkpoint.
    pub fn to_records(&self) -> Result<Records, Error> {
        let records = [
            self.model().clone().into_record().into_bytes(),
            self.optimizer.to_record().into_bytes(),
            self.schedule.to_record().into_bytes(),
        ];
        let parts = PARTS.into_iter().zip(records).map(|(part, bytes)| {
            let bytes = bytes.map_err(|error| Error::Training(format!("{part}: {error}")))?;
            Ok((part.to_owned(), bytes.to_vec()))
        });
        parts.collect()
    }

    /// Writes the records of a checkpoint into a directory, a tensor at a time.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Error> {
        let [model, optimizer, schedule] = PARTS.map(|part| directory.join(part));
        records::write_module(self.model(), &model)?;
        self.optimizer.write(&optimizer)?;
        let record = self.schedule.to_record().into_bytes();
        let record = record.map_err(|error| Error::Training(error.to_string()))?;
        std::fs::write(&schedule, &record[..]).map_err(Error::io("write", &schedule))
    }

    /// Loads a checkpoint from the files of [`write`](Self::write). Tensors are read at their first use.
    pub(crate) fn read(&mut self, directory: &Path) -> Result<(), Error> {
        let [model, optimizer, schedule] = PARTS.map(|part| directory.join(part));
        self.load(
            ModuleRecord::load(model),
            OptimizerRecord::load(optimizer),
            LrSchedulerRecord::load(schedule),
        )
    }

    /// Loads a checkpoint from the records of [`to_records`](Self::to_records).
    pub fn load_records(&mut self, mut records: Records) -> Result<(), Error> {
        let [model, optimizer, schedule] =
            PARTS.map(|part| Bytes::from_bytes_vec(records.remove(part).unwrap_or_default()));
        self.load(
            ModuleRecord::from_bytes(model),
            OptimizerRecord::from_bytes(optimizer),
            LrSchedulerRecord::from_bytes(schedule),
        )
    }

    fn load(
        &mut self,
        model: Result<ModuleRecord, RecordError>,
        optimizer: Result<OptimizerRecord, RecordError>,
        schedule: Result<LrSchedulerRecord, RecordError>,
    ) -> Result<(), Error> {
        let failed = |part: usize| {
            move |error: RecordError| Error::Training(format!("{}: {error}", PARTS[part]))
        };
        let device: Device = self.model().transformer.device();
        let model = self
            .model()
            .clone()
            .try_load_record(model.map_err(failed(0))?)
            .map_err(failed(0))?;
        let optimizer = optimizer.map_err(failed(1))?;
        let schedule = schedule.map_err(failed(2))?;
        self.model = Some(model);
        self.optimizer.load_record(optimizer, &device);
        self.schedule = self.schedule.clone().load_record(schedule);
        Ok(())
    }
}
