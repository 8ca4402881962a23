//! The session: a run that its owner steps, evaluates and saves.

#[cfg(all(test, feature = "flex"))]
mod tests;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::store::ModuleRecord;
use burn::tensor::Device;
use foretoken_datasets::{Batches, WindowLoader};
use foretoken_model::Transformer;

use super::data::Data;
use super::evaluation;
use super::event::{Ending, Evaluated, Evaluating, Event, Scope, Stepped};
use super::language_model::{Figures, LanguageModel};
use super::learner::{Learner, Records};
use super::memory::refuse_training;
use super::parameters::{self, Parameters};
use super::perturbation::{Moment, Perturbation};
use super::setup::Setup;
use super::state::RunState;
use super::step::{self, Gradients};
use super::totals::Totals;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::{Error, Experiment};

/// Backend, precision and seed of a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Backend of the computation.
    pub backend: Backend,
    /// Precision of weights and activations.
    pub dtype: Precision,
    /// Seed of initial weights, the order of windows and dropout.
    pub seed: u64,
    /// Deviations from the experiment, none by default.
    pub perturbation: Perturbation,
}

impl SessionOptions {
    /// Returns the options that an experiment names.
    pub fn of(experiment: &Experiment) -> Self {
        Self {
            backend: experiment.backend.name,
            dtype: experiment.backend.dtype,
            seed: experiment.train.seed,
            perturbation: Perturbation::default(),
        }
    }
}

/// A run in memory: an experiment with its data, model, optimizer, schedule and state.
pub struct Session {
    setup: Setup,
    /// Device without autodiff.
    device: Device,
    learner: Learner,
    windows: WindowLoader,
    ahead: Option<ReadAhead>,
    state: RunState,
    /// The latest evaluation of an interval.
    last_evaluation: Option<Evaluated>,
    perturbation: Perturbation,
}

/// Observer of the events of a session, which records, displays or checks them.
pub trait Observer {
    /// Receives an event, and the session in its state after the event.
    ///
    /// # Errors
    ///
    /// Returns an error if the run cannot continue, for example because a file cannot be written. The run ends with it.
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error>;
}

/// Batches that are read ahead, from a step on.
struct ReadAhead {
    step: usize,
    batches: Batches,
}

impl Session {
    /// Returns a session before its first step.
    ///
    /// # Errors
    ///
    /// Returns an error if the backend is not available, memory does not suffice, the data is too short, or the initial
    /// weights cannot be read.
    pub(crate) fn new(setup: &Setup, options: SessionOptions) -> Result<Self, Error> {
        let device = options.backend.device_for(options.dtype)?;
        let setup = options.perturbation.setup(setup);
        let batch = setup.experiment.train.batch;
        refuse_training(&setup.model, batch, options.dtype, &device)?;
        let transformer = setup.transformer(options.seed, &device.clone().autodiff())?;
        Self::with_weights(&setup, options, transformer)
    }

    /// Returns a session that starts from `transformer`, whose weights are f32 on the session's device with autodiff.
    pub(crate) fn with_weights(
        setup: &Setup,
        options: SessionOptions,
        transformer: Transformer,
    ) -> Result<Self, Error> {
        let SessionOptions {
            backend,
            dtype,
            seed,
            perturbation,
        } = options;
        let device = backend.device_for(dtype)?;
        let transformer = parameters::in_precision(perturbation.transformer(transformer), dtype);
        let model = LanguageModel::new(transformer, seed).of(&setup.experiment);
        Ok(Self {
            windows: setup.train_loader(seed, &device.clone().autodiff())?,
            learner: setup.learner(model),
            device,
            ahead: None,
            state: RunState {
                data: setup.data.fingerprint.clone(),
                ..RunState::default()
            },
            last_evaluation: None,
            setup: setup.clone(),
            perturbation,
        })
    }

    /// Returns the experiment, with every key of its model.
    pub fn experiment(&self) -> &Experiment {
        &self.setup.experiment
    }

    /// Returns training and validation tokens with their tokenizer.
    pub fn data(&self) -> &Data {
        &self.setup.data
    }

    /// Returns the device of the computation, without autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns model, optimizer and schedule.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// Returns the model in training. A clone shares the weights, and the next update copies them.
    pub fn model(&self) -> &LanguageModel {
        self.learner.model()
    }

    /// Returns the progress of the run.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Returns the latest evaluation of an [interval](Scope::Interval) in this session.
    pub fn last_evaluation(&self) -> Option<&Evaluated> {
        self.last_evaluation.as_ref()
    }

    /// Returns the model, and drops optimizer and data.
    pub(crate) fn into_model(mut self) -> LanguageModel {
        self.take_model()
    }

    /// Moves the model out, for example into a library that trains it through this session. No other function may be
    /// called before [`put_model`](Self::put_model).
    pub(crate) fn take_model(&mut self) -> LanguageModel {
        self.learner.take_model()
    }

    pub(crate) fn put_model(&mut self, model: LanguageModel) {
        self.learner.put_model(model);
    }

    /// Takes the next optimizer step: forward and backward over the micro-batches, clip, update.
    ///
    /// # Errors
    ///
    /// Returns an error if a batch cannot be read, every target has loss weight 0, the device fails, or loss or
    /// gradient are not finite.
    pub fn step(&mut self) -> Result<Stepped, Error> {
        self.perturb(Moment::BeforeStep)?;
        let started = Instant::now();
        let step = self.state.step;
        let gradients = self.gradients()?;
        let (totals, gradient_norm) = self.apply(gradients)?;
        let figures = Figures {
            totals,
            seconds: started.elapsed().as_secs_f64(),
            learning_rate: self.learner.learning_rate().base(),
            gradient_norm,
        };
        if !totals.loss().is_finite() || !gradient_norm.is_finite() {
            return Err(Error::NotFinite {
                loss: totals.loss(),
                step,
                learning_rate: figures.learning_rate,
                gradient_norm,
                checkpoint: None,
            });
        }
        self.state.tokens += totals.tokens;
        self.state.seconds += figures.seconds;
        Ok(Stepped { step, figures })
    }

    /// Runs forward and backward of the next step. A second call reads the same windows again.
    pub(crate) fn gradients(&mut self) -> Result<Gradients, Error> {
        let step = self.state.step;
        let mut batches = match self.ahead.take() {
            Some(ahead) if ahead.step == step => ahead.batches,
            _ => self.batches(),
        };
        let perturbation = &self.perturbation;
        let read = batches
            .by_ref()
            .take(self.setup.experiment.train.accumulation)
            .map(|batch| batch.map(|batch| perturbation.batch(batch)));
        let gradients = step::gradients(&self.learner, read, step, perturbation.watch())?;
        self.ahead = Some(ReadAhead {
            step: step + 1,
            batches,
        });
        Ok(gradients)
    }

    /// Returns the batches of the remaining steps.
    fn batches(&self) -> Batches {
        let settings = &self.setup.experiment.train;
        let rows = settings.batch * settings.accumulation;
        self.windows
            .batches(self.state.step * rows..settings.steps * rows)
    }

    /// Updates the weights with the step's own gradients. Returns the totals before the update, and the norm of the
    /// gradient before clipping.
    pub(crate) fn apply(&mut self, gradients: Gradients) -> Result<(Totals, f64), Error> {
        let clip = self.setup.experiment.optimizer.clip;
        let applied = gradients.apply(&mut self.learner, clip, &self.device)?;
        self.state.step += 1;
        Ok(applied)
    }

    /// Updates the weights with other gradients of the mean loss, clipped at `optimizer.clip`.
    pub(crate) fn update(&mut self, gradients: GradientsParams) -> Result<(), Error> {
        let clip = self.setup.experiment.optimizer.clip;
        step::update(&mut self.learner, gradients, 1.0, clip, &self.device);
        self.state.step += 1;
        self.device.sync().map_err(Error::device)
    }

    /// Computes logits of the next step: the first rows of its first micro-batch, with at least `elements` elements if
    /// there are as many. It is a separate forward pass, because fused operations keep no logits.
    pub(crate) fn logits(&self, elements: usize) -> Result<Vec<f64>, Error> {
        let Some(batch) = self.batches().next() else {
            return Ok(Vec::new());
        };
        let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
        let [sequences, length] = batch.inputs.dims();
        let columns = self.setup.model.vocab_size;
        let rows = elements.div_ceil(columns).min(sequences * length);
        let batch = self.perturbation.batch(batch);
        let watch = self.perturbation.watch();
        let logits = self
            .model()
            .logits(batch, rows.div_ceil(length), watch)
            .reshape([-1, columns as i64]);
        let logits = logits.detach().narrow(0, 0, rows);
        logits.try_into_vec_as().map_err(Error::device)
    }

    /// Returns the weights, in f64 on the host.
    pub(crate) fn weights(&self) -> Result<Parameters, Error> {
        parameters::weights(&self.model().transformer)
    }

    /// Replaces the weights by the result of `change`.
    pub(crate) fn change_weights(&mut self, change: impl FnOnce(Transformer) -> Transformer) {
        self.learner.change(change);
    }

    /// Returns the loader of `windows` validation windows, or of all for 0, for [`evaluate`](Self::evaluate).
    ///
    /// # Errors
    ///
    /// Returns an error if the validation split is shorter than one window.
    pub fn eval_loader(&self, windows: usize) -> Result<WindowLoader, Error> {
        self.setup.eval_loader(windows, &self.device)
    }

    /// Evaluates the weights over the windows of a loader. Returns `None` if `stop` breaks the evaluation off. The
    /// evaluation of an [interval](Scope::Interval) updates the best evaluation.
    ///
    /// # Errors
    ///
    /// Returns an error if a batch cannot be read, the device fails, the loss is not finite, or the observer returns an
    /// error.
    pub fn evaluate(
        &mut self,
        loader: &WindowLoader,
        scope: Scope,
        observer: &mut dyn Observer,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Evaluated>, Error> {
        let model = self.model().valid();
        let step = self.state.step;
        let Some(evaluated) = self.measure(&model, step, loader, scope, observer, stop)? else {
            return Ok(None);
        };
        if scope == Scope::Interval {
            self.state.record_evaluation(evaluated.totals.loss());
            self.last_evaluation = Some(evaluated);
        }
        observer.observe(&Event::Evaluated(&evaluated), self)?;
        Ok(Some(evaluated))
    }

    /// Evaluates the best weights, which `record` holds.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`evaluate`](Self::evaluate), and an error if the record does not fit the model.
    pub(crate) fn evaluate_best(
        &self,
        record: ModuleRecord,
        step: usize,
        loader: &WindowLoader,
        observer: &mut dyn Observer,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Evaluated>, Error> {
        let model = self.model().valid().try_load_record(record);
        let model = model.map_err(|error| Error::Training(error.to_string()))?;
        let evaluated = self.measure(&model, step, loader, Scope::Best, observer, stop)?;
        if let Some(evaluated) = &evaluated {
            observer.observe(&Event::Evaluated(evaluated), self)?;
        }
        Ok(evaluated)
    }

    fn measure(
        &self,
        model: &LanguageModel,
        step: usize,
        loader: &WindowLoader,
        scope: Scope,
        observer: &mut dyn Observer,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Evaluated>, Error> {
        let started = Instant::now();
        let windows = loader.num_items();
        let mut progress = |done, totals: &Totals| {
            let evaluating = Evaluating {
                scope,
                done,
                windows,
                context: self.setup.model.context,
                totals: *totals,
                seconds: started.elapsed().as_secs_f64(),
            };
            if stop() {
                return Ok(ControlFlow::Break(()));
            }
            observer.observe(&Event::Evaluating(&evaluating), self)?;
            Ok(ControlFlow::Continue(()))
        };
        let watch = self.perturbation.watch();
        let Some(totals) = evaluation::evaluate(model, loader, watch, &mut progress)? else {
            return Ok(None);
        };
        match totals.loss() {
            loss if loss.is_finite() => Ok(Some(Evaluated {
                scope,
                step,
                totals,
                seconds: started.elapsed().as_secs_f64(),
            })),
            loss => Err(Error::Diverged {
                what: format!("the validation loss is {loss}"),
                step,
                checkpoint: None,
            }),
        }
    }

    /// Trains until `until` steps or all steps of the experiment are taken, with evaluations every `train.eval_every`
    /// steps and after the last. Returns earlier if `stop` requests it or the validation loss has stopped improving.
    /// Reports [`Event::Saved`] after every evaluation, after every step of `train.keep`, and after a stop.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`step`](Self::step) and [`evaluate`](Self::evaluate), and those of the observer.
    pub fn run_until(
        &mut self,
        until: usize,
        observer: &mut dyn Observer,
        stop: &dyn Fn() -> bool,
    ) -> Result<Ending, Error> {
        let settings = self.setup.experiment.train.clone();
        let until = until.min(settings.steps);
        let validation = self.eval_loader(settings.eval_windows)?;
        loop {
            if self.evaluation_is_due() {
                let evaluated = self.evaluate(&validation, Scope::Interval, observer, stop)?;
                observer.observe(&Event::Saved, self)?;
                if evaluated.is_none() {
                    return Ok(Ending::Interrupted);
                }
                continue;
            }
            let state = &self.state;
            let is_stalled = settings.early_stop > 0
                && state.is_evaluated()
                && state.evaluations_since_best >= settings.early_stop;
            if state.step >= until {
                return Ok(Ending::Complete);
            }
            if is_stalled {
                return Ok(Ending::EarlyStop);
            }
            if stop() {
                observer.observe(&Event::Saved, self)?;
                return Ok(Ending::Interrupted);
            }
            let stepped = self.step()?;
            observer.observe(&Event::Stepped(&stepped), self)?;
            // After an evaluation the session is saved anyway.
            if settings.keep.contains(self.state.step) && !self.evaluation_is_due() {
                observer.observe(&Event::Saved, self)?;
            }
        }
    }

    /// Whether these weights are to be evaluated before the next step.
    fn evaluation_is_due(&self) -> bool {
        let (settings, state) = (&self.setup.experiment.train, &self.state);
        let ends_interval =
            state.step.is_multiple_of(settings.eval_every) || state.step == settings.steps;
        ends_interval && !state.is_evaluated()
    }

    /// Writes model, optimizer and schedule as records into a directory, one tensor at a time. The caller must save the
    /// [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written, or the device fails.
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        self.learner.write(directory)
    }

    /// Continues from the files of [`save`](Self::save) and the state at that time.
    ///
    /// # Errors
    ///
    /// Returns an error if a record is missing, damaged or of another model.
    pub fn load(&mut self, directory: &Path, state: RunState) -> Result<(), Error> {
        self.learner = self.fresh_learner();
        self.learner.read(directory)?;
        self.state = state;
        self.perturb(Moment::Loaded)
    }

    /// Returns the records of a checkpoint, in memory.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    pub fn to_records(&self) -> Result<Records, Error> {
        self.learner.to_records()
    }

    /// Continues at `step` from [records](Self::to_records).
    ///
    /// # Errors
    ///
    /// Returns an error if a record is missing, damaged or of another model.
    pub fn load_records(&mut self, records: Records, step: usize) -> Result<(), Error> {
        self.learner = self.fresh_learner();
        self.learner.load_records(records)?;
        self.state.step = step;
        self.perturb(Moment::Loaded)
    }

    fn fresh_learner(&self) -> Learner {
        self.setup.learner(self.model().clone())
    }

    fn perturb(&mut self, moment: Moment) -> Result<(), Error> {
        match &self.perturbation.carried {
            Some(change) => change(moment, self.state.step, &mut self.setup, &mut self.learner),
            None => Ok(()),
        }
    }
}
