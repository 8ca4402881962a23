//! The model as training sees it, a training step and an inference step; and, with its optimizer, in training.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::optim::lr_scheduler::LrSchedulerRecord;
use burn::optim::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Bytes, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use foretoken_datasets::TokenBatch;
use foretoken_model::ops::among_threads;
use foretoken_model::{Dropout, Objective, Pass, Targets, Transformer, Watch};

use crate::Error;
use crate::engine::optimizer::ScaledAdamW;
use crate::engine::records;
use crate::engine::totals::StepOutput;
use crate::experiment::Experiment;

/// The three records of a learner, by file name.
pub(crate) const PARTS: [&str; 3] = ["model.bpk", "optimizer.bpk", "scheduler.bpk"];

/// A transformer together with its objective, the next token.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// The network.
    pub transformer: Transformer,
    /// Decides, with the number of a batch, what dropout leaves out.
    #[module(skip)]
    pub dropout_seed: u64,
    /// Whether its passes are made of fused operations, where nobody watches them; if not, of Burn's own.
    #[module(skip)]
    pub fused: bool,
    /// What training adds to the negative log-likelihood; evaluation adds nothing.
    #[module(skip)]
    pub objective: Objective,
    /// Who sees every operation of its passes.
    #[module(skip)]
    pub watched_by: WatchedBy,
}

/// Somebody who watches, or nobody.
#[derive(Clone, Default)]
pub struct WatchedBy(pub Option<Arc<dyn Watch>>);

impl WatchedBy {
    fn over<'a>(&'a self, pass: Pass<'a>) -> Pass<'a> {
        match &self.0 {
            Some(watch) => pass.watched(&**watch),
            None => pass,
        }
    }
}

impl fmt::Debug for WatchedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "WatchedBy",
            None => "nobody",
        })
    }
}

impl LanguageModel {
    /// A model whose operations are fused and that nobody watches.
    pub fn new(transformer: Transformer, dropout_seed: u64) -> Self {
        Self {
            transformer,
            dropout_seed,
            fused: true,
            objective: Objective::default(),
            watched_by: WatchedBy::default(),
        }
    }

    /// The same, trained as an experiment's sections say.
    pub fn of(self, experiment: &Experiment) -> Self {
        Self {
            fused: experiment.backend.fused,
            objective: experiment.train.objective(),
            ..self
        }
    }

    /// The same, its operations fused or Burn's own.
    pub fn with_fused(self, fused: bool) -> Self {
        Self { fused, ..self }
    }

    /// The same pass as this model makes it.
    fn pass<'a>(&'a self, pass: Pass<'a>) -> Pass<'a> {
        self.watched_by.over(match self.fused {
            true => pass,
            false => pass.plain(),
        })
    }

    /// Logits of the first `sequences` of a batch, as a training step has them: `[sequences, length, vocab_size]`.
    pub(crate) fn logits(&self, batch: TokenBatch, sequences: usize) -> Tensor<3> {
        let dropout = Dropout::new(self.dropout_seed, batch.first_row as u64);
        let inputs = batch.inputs.narrow(0, 0, sequences);
        let pass = self.pass(Pass::training(&dropout));
        self.transformer.logits_in(pass, inputs)
    }

    /// The sum of what is optimised over the targets, each as much as it counts, `[1]`, with what is measured
    /// beside it: nats and hits, without what the objective adds.
    fn sums(&self, pass: Pass<'_>, batch: TokenBatch) -> (Tensor<1>, StepOutput) {
        let (pass, transformer) = (self.pass(pass), &self.transformer);
        let targets = Targets {
            ids: batch.targets,
            weights: batch.weights.clone(),
        };
        let exact = pass.objective() == Objective::default();
        let loss = transformer.next_token_loss_in(pass, batch.inputs, targets);
        let dtype = loss.nats.dtype();
        let weighted = |of: Tensor<2>| match &batch.weights {
            Some(weights) => of * weights.clone().cast(dtype),
            None => of,
        };
        let correct = weighted(loss.correct.float().cast(dtype));
        let sum = loss.loss.sum();
        let nats = match exact {
            true => sum.clone(),
            false => weighted(loss.nats).sum(),
        };
        let output = StepOutput::Pending {
            sums: Box::new(Tensor::cat(vec![nats.detach(), correct.sum()], 0)),
            weight: batch.target_weight,
            tokens: batch.target_tokens,
            bytes: batch.target_bytes,
        };
        (sum, output)
    }
}

/// Rows × context of a batch: how many targets it has room for.
pub(crate) fn places(batch: &TokenBatch) -> f64 {
    batch.targets.shape().num_elements() as f64
}

impl TrainStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepOutput;

    /// Gradients of the sum over the batch's targets, divided by the number of places in the batch. Where
    /// all targets count alike, that is the mean; where not, the mean is `places` over the weight of
    /// all targets of the step times as much, which only the step knows.
    fn step(&self, batch: TokenBatch) -> TrainOutput<StepOutput> {
        let places = places(&batch);
        among_threads(&self.transformer.device(), || {
            let dropout = Dropout::new(self.dropout_seed, batch.first_row as u64);
            let pass = Pass::training(&dropout).toward(self.objective);
            let (sum, output) = self.sums(pass, batch);
            let gradients = sum.div_scalar(places).backward();
            TrainOutput::new(self, gradients, output)
        })
    }
}

impl InferenceStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepOutput;

    fn step(&self, batch: TokenBatch) -> StepOutput {
        among_threads(&self.transformer.device(), || {
            self.sums(Pass::default(), batch).1
        })
    }
}

/// A model in training, with its optimizer and its schedule.
///
/// burn-train's learner keeps its model while it hands the optimizer a clone, so that every weight is held twice and
/// none can change in place. This one has nothing left of its model while that is updated.
pub struct Learner {
    /// Always there but within [`Self::update`].
    model: Option<LanguageModel>,
    optimizer: ScaledAdamW,
    schedule: ModuleLrScheduler,
    learning_rate: ModuleLearningRate,
}

impl Learner {
    /// Before the first step.
    pub fn new(model: LanguageModel, optimizer: ScaledAdamW, schedule: ModuleLrScheduler) -> Self {
        Self {
            model: Some(model),
            optimizer,
            schedule,
            learning_rate: 0.0.into(),
        }
    }

    /// The model as it is now. A clone of it holds the weights, which are copied in an update as long as it lives.
    pub fn model(&self) -> &LanguageModel {
        let model = self.model.as_ref();
        model.expect("the model is back after an update")
    }

    /// The learning rate of the last update.
    pub fn learning_rate(&self) -> &ModuleLearningRate {
        &self.learning_rate
    }

    /// Forward and backward over a batch.
    pub fn train_step(&self, batch: TokenBatch) -> TrainOutput<StepOutput> {
        TrainStep::step(self.model(), batch)
    }

    /// Updates the weights with gradients times `scale`, `[1]`, at the schedule's next learning rate.
    pub fn update(&mut self, gradients: GradientsParams, scale: Tensor<1>) {
        self.learning_rate = self.schedule.step();
        let rate = self.learning_rate.clone();
        let device = self.model().transformer.device();
        let model = self.model.take();
        let updated = |model| self.optimizer.step(rate, model, gradients, scale);
        self.model = among_threads(&device, || model.map(updated));
    }

    /// Changes the network.
    pub(crate) fn change(&mut self, change: impl FnOnce(Transformer) -> Transformer) {
        self.model = self.model.take().map(|model| LanguageModel {
            transformer: change(model.transformer),
            ..model
        });
    }

    /// The three records of a checkpoint, by file name.
    pub(crate) fn to_parts(&self) -> Result<BTreeMap<String, Vec<u8>>, Error> {
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

    /// Writes the three records of a checkpoint into a directory, a tensor at a time.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Error> {
        let [model, optimizer, schedule] = PARTS.map(|part| directory.join(part));
        records::write_module(self.model(), &model)?;
        self.optimizer.write(&optimizer)?;
        let record = self.schedule.to_record().into_bytes();
        let record = record.map_err(|error| Error::Training(error.to_string()))?;
        std::fs::write(&schedule, &record[..]).map_err(Error::io("write", &schedule))
    }

    /// Goes to where a checkpoint stands. Its tensors are read from its files when they are first used.
    pub(crate) fn load(self, directory: &Path) -> Result<Self, Error> {
        let [model, optimizer, schedule] = PARTS.map(|part| directory.join(part));
        self.load_records(
            ModuleRecord::load(model),
            OptimizerRecord::load(optimizer),
            LrSchedulerRecord::load(schedule),
        )
    }

    /// Goes to where [`to_parts`](Self::to_parts) was called.
    pub(crate) fn load_parts(self, mut parts: BTreeMap<String, Vec<u8>>) -> Result<Self, Error> {
        let [model, optimizer, schedule] =
            PARTS.map(|part| Bytes::from_bytes_vec(parts.remove(part).unwrap_or_default()));
        self.load_records(
            ModuleRecord::from_bytes(model),
            OptimizerRecord::from_bytes(optimizer),
            LrSchedulerRecord::from_bytes(schedule),
        )
    }

    fn load_records(
        self,
        model: Result<ModuleRecord, RecordError>,
        optimizer: Result<OptimizerRecord, RecordError>,
        schedule: Result<LrSchedulerRecord, RecordError>,
    ) -> Result<Self, Error> {
        let failed = |part: usize| {
            move |error: RecordError| Error::Training(format!("{}: {error}", PARTS[part]))
        };
        let device = self.model().transformer.device();
        let model = self
            .model()
            .clone()
            .try_load_record(model.map_err(failed(0))?);
        let optimizer = optimizer.map_err(failed(1))?;
        Ok(Self {
            model: Some(model.map_err(failed(0))?),
            optimizer: self.optimizer.load_record(optimizer, &device),
            schedule: self.schedule.load_record(schedule.map_err(failed(2))?),
            learning_rate: self.learning_rate,
        })
    }

    /// A burn-train learner of the same model, which holds its weights and its moments as long as it lives.
    pub(crate) fn of_burn(&self) -> burn::train::Learner<LanguageModel> {
        let (model, optimizer) = (self.model().clone(), self.optimizer.of_burn());
        burn::train::Learner::new(model, optimizer, self.schedule.clone())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::{ModuleMapper, Param};
    use burn::tensor::{Device, Int, TensorData};
    use foretoken_model::{ModelConfig, Place};

    use super::*;
    use crate::backend::Backend;
    use crate::engine::optimizer::OptimizerConfig;
    use crate::engine::step::take_step;

    /// Leaves everything as it is.
    struct Onlooker;

    impl Watch for Onlooker {
        fn operation(
            &self,
            _: &Place,
            inputs: Vec<Tensor<2>>,
            compute: Box<dyn FnOnce(Vec<Tensor<2>>) -> Tensor<2> + '_>,
        ) -> Tensor<2> {
            compute(inputs)
        }
    }

    /// One window of 16 tokens, of which the last target counts alone: a sum over more would hide the last bits.
    fn window(number: usize, device: &Device) -> TokenBatch {
        let ids = |start: usize| {
            let ids = (start..start + 16).map(|at| (at * at * (number + 3) % 17) as i64);
            Tensor::<2, Int>::from_data(TensorData::new(ids.collect(), [1, 16]), device)
        };
        let mut weights = vec![0.0f32; 16];
        weights[15] = 1.0;
        TokenBatch {
            inputs: ids(0),
            targets: ids(1),
            weights: Some(Tensor::from_data(TensorData::new(weights, [1, 16]), device)),
            target_tokens: 1,
            target_bytes: 1,
            target_weight: 1.0,
            first_row: number,
        }
    }

    #[test]
    fn operations_are_fused_unless_it_is_said_or_somebody_watches() {
        let device = Backend::Flex.device().unwrap().autodiff();
        let transformer = ModelConfig::new(17, 16, 2, 2, 32).init(3, &device).unwrap();
        let fused = LanguageModel::new(transformer, 0);
        let plain = fused.clone().with_fused(false);
        let watched = LanguageModel {
            watched_by: WatchedBy(Some(Arc::new(Onlooker))),
            ..fused.clone()
        };
        let windows = || (0..40).map(|number| window(number, &device));
        let loss = |output: StepOutput| output.read().unwrap().loss().to_bits();
        let trained = |model: &LanguageModel| -> Vec<u64> {
            let outputs = windows().map(|batch| TrainStep::step(model, batch).item);
            outputs.map(loss).collect()
        };
        let inferred = |model: &LanguageModel| -> Vec<u64> {
            let outputs = windows().map(|batch| InferenceStep::step(model, batch));
            outputs.map(loss).collect()
        };
        let logits = |model: &LanguageModel| -> Vec<u64> {
            let logits = windows().map(|batch| model.logits(batch, 1));
            let values = logits.flat_map(|logits| logits.try_into_vec_as::<f64>().unwrap());
            values.map(f64::to_bits).collect()
        };
        for computed in [
            &trained as &dyn Fn(&LanguageModel) -> Vec<u64>,
            &inferred,
            &logits,
        ] {
            assert_eq!(computed(&plain), computed(&watched));
            assert_ne!(computed(&plain), computed(&fused));
        }
    }

    /// Takes weights out and puts them back, and notes where they lie. Those that nobody else holds stay there.
    struct Whereabouts(Vec<*const u8>);

    impl ModuleMapper for Whereabouts {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, weights, mapper) = param.consume();
            let device = weights.device();
            let data = weights.inner().into_data();
            self.0.push(data.as_bytes().as_ptr());
            let weights = Tensor::from_data(data, &device).require_grad();
            Param::from_mapped_value(id, weights, mapper)
        }
    }

    fn whereabouts(learner: &mut Learner) -> Vec<*const u8> {
        let mut all = Whereabouts(Vec::new());
        learner.model = learner.model.take().map(|model| model.map(&mut all));
        all.0
    }

    #[test]
    fn steps_change_weights_where_they_lie() {
        let device = Backend::Flex.device().unwrap();
        let training = device.clone().autodiff();
        let transformer = ModelConfig::new(17, 16, 2, 2, 32)
            .init(3, &training)
            .unwrap();
        let mut learner = Learner::new(
            LanguageModel::new(transformer, 0),
            OptimizerConfig::default().init(true),
            ModuleLrScheduler::new(1e-2),
        );
        whereabouts(&mut learner);
        let before = whereabouts(&mut learner);
        let mut losses = Vec::new();
        for step in 0..3 {
            let batches = [Ok(window(0, &training)), Ok(window(1, &training))];
            let taken = take_step(&mut learner, batches.into_iter(), step, 1.0, &device);
            losses.push(taken.unwrap().0.loss());
        }
        assert!(losses[2] < losses[0], "{losses:?}");
        assert_eq!(whereabouts(&mut learner), before);

        // Of weights that somebody else holds a copy is changed.
        let held = learner.model().clone();
        let batches = [Ok(window(0, &training))];
        take_step(&mut learner, batches.into_iter(), 3, 1.0, &device).unwrap();
        drop(held);
        let after = whereabouts(&mut learner);
        assert!(after.iter().zip(&before).all(|(a, b)| a != b));
    }
}
