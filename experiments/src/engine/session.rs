//! A run that its owner steps, evaluates, saves and looks at.

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
    /// Backend that computes.
    pub backend: Backend,
    /// Precision of weights and activations.
    pub dtype: Precision,
    /// Decides initial weights, the order of windows and dropout.
    pub seed: u64,
    /// Deviations from the experiment, none by default.
    pub perturbation: Perturbation,
}

impl SessionOptions {
    /// The experiment's own.
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
    /// Without autodiff.
    device: Device,
    learner: Learner,
    windows: WindowLoader,
    ahead: Option<ReadAhead>,
    state: RunState,
    /// The latest evaluation of an interval.
    last_evaluation: Option<Evaluated>,
    perturbation: Perturbation,
}

/// Receives the events of a session: writes them down, displays them, judges them.
pub trait Observer {
    /// Receives an event, and the session as it stands after it.
    ///
    /// # Errors
    ///
    /// When the run cannot go on, for example because the disk refuses. It ends with this error.
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error>;
}

/// Batches from a step on.
struct ReadAhead {
    step: usize,
    batches: Batches,
}

impl Session {
    /// A session before its first step.
    ///
    /// # Errors
    ///
    /// When the backend is not available, memory does not suffice, the data is too short, or the weights to start from
    /// cannot be read.
    pub(crate) fn new(setup: &Setup, options: SessionOptions) -> Result<Self, Error> {
        let device = options.backend.device_for(options.dtype)?;
        let setup = options.perturbation.setup(setup);
        let batch = setup.experiment.train.batch;
        refuse_training(&setup.model, batch, options.dtype, &device)?;
        let transformer = setup.transformer(options.seed, &device.clone().autodiff())?;
        Self::with_weights(&setup, options, transformer)
    }

    /// A session that starts from these weights in f32, which lie on its device with autodiff.
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

    /// The experiment, with its model spelt out.
    pub fn experiment(&self) -> &Experiment {
        &self.setup.experiment
    }

    /// Training and validation tokens with their tokenizer.
    pub fn data(&self) -> &Data {
        &self.setup.data
    }

    /// Device that computes, without autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Model, optimizer and schedule.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// The model in training. A clone holds the weights, and the next update copies them.
    pub fn model(&self) -> &LanguageModel {
        self.learner.model()
    }

    /// Progress of the run.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// The latest evaluation of an [interval](Scope::Interval), if this session has made one.
    pub fn last_evaluation(&self) -> Option<&Evaluated> {
        self.last_evaluation.as_ref()
    }

    /// The model, without what trained it.
    pub(crate) fn into_model(mut self) -> LanguageModel {
        self.take_model()
    }

    /// Gives the model away, for example to a library that trains it through this session. It has to come
    /// [back](Self::put_model) before anything else is asked of the session.
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
    /// When a batch cannot be read, every target has loss weight 0, the device fails, or loss or gradient are not
    /// finite.
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

    /// Forward and backward of the next step. Called again, it reads the same windows again.
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

    /// Batches of the steps that are left.
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

    /// Updates the weights with other gradients of the mean loss, which are clipped as the experiment says.
    pub(crate) fn update(&mut self, gradients: GradientsParams) -> Result<(), Error> {
        let clip = self.setup.experiment.optimizer.clip;
        step::update(&mut self.learner, gradients, 1.0, clip, &self.device);
        self.state.step += 1;
        self.device.sync().map_err(Error::device)
    }

    /// Logits of the next step: the first rows of its first micro-batch, `most` elements and no more than complete a
    /// row. Fused operations keep none, so this is a forward pass of its own.
    pub(crate) fn logits(&self, most: usize) -> Result<Vec<f64>, Error> {
        let Some(batch) = self.batches().next() else {
            return Ok(Vec::new());
        };
        let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
        let [sequences, length] = batch.inputs.dims();
        let columns = self.setup.model.vocab_size;
        let rows = most.div_ceil(columns).min(sequences * length);
        let batch = self.perturbation.batch(batch);
        let watch = self.perturbation.watch();
        let logits = self
            .model()
            .logits(batch, rows.div_ceil(length), watch)
            .reshape([-1, columns as i64]);
        let logits = logits.detach().narrow(0, 0, rows);
        logits.try_into_vec_as().map_err(Error::device)
    }

    /// The weights, in f64 on the host.
    pub(crate) fn weights(&self) -> Result<Parameters, Error> {
        parameters::weights(&self.model().transformer)
    }

    /// Changes the weights.
    pub(crate) fn change_weights(&mut self, change: impl FnOnce(Transformer) -> Transformer) {
        self.learner.change(change);
    }

    /// Validation windows, `windows` of them or all for 0, for [`evaluate`](Self::evaluate).
    ///
    /// # Errors
    ///
    /// When the validation split is shorter than one window.
    pub fn eval_loader(&self, windows: usize) -> Result<WindowLoader, Error> {
        self.setup.eval_loader(windows, &self.device)
    }

    /// Evaluates the weights over the windows of a loader, and returns `None` when `stop` breaks it off. An
    /// [interval](Scope::Interval)'s evaluation decides which weights are the best so far.
    ///
    /// # Errors
    ///
    /// When a batch cannot be read, the device fails, the loss is not finite, or the observer returns an error.
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
            self.state.judge(evaluated.totals.loss());
            self.last_evaluation = Some(evaluated);
        }
        observer.observe(&Event::Evaluated(&evaluated), self)?;
        Ok(Some(evaluated))
    }

    /// Evaluates the best weights, which a record holds, as [`evaluate`](Self::evaluate) does the present ones.
    ///
    /// # Errors
    ///
    /// As `evaluate`, and when the record does not fit the model.
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

    /// Trains until `until` steps are taken, at most those of the experiment, with evaluations every
    /// `train.eval_every` steps and after the last. Returns earlier when `stop` asks for it or the validation loss has
    /// stopped improving. [`Event::Saved`] is reported after every evaluation, after every step of `train.keep`, and
    /// when it was stopped.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step) and [`evaluate`](Self::evaluate), and when an observer returns an error.
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
            let state = &self.state;
            let evaluation_is_due = !state.is_evaluated()
                && (state.step.is_multiple_of(settings.eval_every) || state.step == settings.steps);
            if evaluation_is_due {
                let evaluated = self.evaluate(&validation, Scope::Interval, observer, stop)?;
                observer.observe(&Event::Saved, self)?;
                if evaluated.is_none() {
                    return Ok(Ending::Interrupted);
                }
                continue;
            }
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
            let step = self.state.step;
            let is_evaluated_next =
                step.is_multiple_of(settings.eval_every) || step == settings.steps;
            if settings.keep.contains(step) && !is_evaluated_next {
                observer.observe(&Event::Saved, self)?;
            }
        }
    }

    /// Writes model, optimizer and schedule as records into a directory, a tensor at a time. The
    /// [`state`](Self::state) is the caller's to keep.
    ///
    /// # Errors
    ///
    /// When the disk refuses, or the device fails.
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        self.learner.write(directory)
    }

    /// Continues from what [`save`](Self::save) wrote and the state of that moment.
    ///
    /// # Errors
    ///
    /// When a record is missing, damaged or of another model.
    pub fn load(&mut self, directory: &Path, state: RunState) -> Result<(), Error> {
        self.learner = self.fresh_learner();
        self.learner.read(directory)?;
        self.state = state;
        self.perturb(Moment::Loaded)
    }

    /// The records of a checkpoint, in memory.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn to_records(&self) -> Result<Records, Error> {
        self.learner.to_records()
    }

    /// Continues at `step` from [records](Self::to_records).
    ///
    /// # Errors
    ///
    /// When a record is missing, damaged or of another model.
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
