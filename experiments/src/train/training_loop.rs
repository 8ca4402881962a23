//! The loop, as a burn-train learning strategy. burn-train counts epochs; here an epoch is one
//! evaluation interval, and a step is an optimizer step.
//!
//! What burn-train's own strategy does not do, and this one does: take the mean over accumulated
//! micro-batches, clip by the global norm, update weights in place, record every step, resume at any step,
//! stop on a loss or weights that are not finite before anything of them is saved, and checkpoint in one piece.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::module::Module;
use burn::tensor::Device;
use burn::train::{
    EventProcessorTraining, InferenceStep, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, ValidLoader,
};
use foretoken_datasets::TokenBatch;

use crate::engine::learner::{LanguageModel, Learner};
use crate::engine::records::parameter_that_is_not_finite;
use crate::engine::step::take_step;
use crate::engine::totals::{Report, StepOutput, Totals};
use crate::record::checkpoint::{Best, Checkpoints, RunState};
use crate::record::run::{MetricsLog, Record};
use crate::{Error, Experiment};

/// Why a loop ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All steps are done.
    Complete,
    /// The validation loss stopped improving.
    EarlyStop,
    /// The user asked for it; a checkpoint is written.
    Interrupted,
}

/// What a loop leaves behind.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Why it ended.
    pub(crate) ending: Ending,
    /// Where it stood.
    pub(crate) state: RunState,
    /// The last weights over the whole validation split; empty if interrupted.
    pub(crate) evaluation: Totals,
    /// The best weights over it, those of [`RunState::best`]; nothing if interrupted, or if their checkpoint is gone.
    pub(crate) best: Option<Totals>,
}

/// Everything the loop needs beyond what burn-train hands it.
pub(crate) struct TrainingLoop {
    pub(crate) experiment: Experiment,
    /// Without autodiff.
    pub(crate) device: Device,
    /// The whole validation split; the loader that burn-train holds may read less of it.
    pub(crate) whole_validation: Arc<dyn DataLoader<TokenBatch>>,
    pub(crate) checkpoints: Checkpoints,
    /// See [`Report::seconds_per_token_at_peak`].
    pub(crate) seconds_per_token_at_peak: f64,
    /// What is trained. burn-train's own learner only stands for it where burn-train asks for one.
    pub(crate) learner: Mutex<Learner>,
    pub(crate) progress: Mutex<LoopState>,
}

/// What changes while the loop runs.
pub(crate) struct LoopState {
    pub(crate) state: RunState,
    pub(crate) log: MetricsLog,
    pub(crate) outcome: Option<Result<Outcome, Error>>,
}

type Processor = SupervisedTrainingEventProcessor<LanguageModel>;
type Components = TrainingComponents<LanguageModel>;

impl SupervisedLearningStrategy<LanguageModel> for TrainingLoop {
    fn fit(
        &self,
        mut components: Components,
        learner: burn::train::Learner<LanguageModel>,
        train: TrainLoader<LanguageModel>,
        valid: ValidLoader<LanguageModel>,
        _starting_epoch: usize,
    ) -> (LanguageModel, Processor) {
        // It holds the weights, which could not change in place.
        drop(learner);
        let mut learner = self.learner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.run(
            &mut progress,
            &mut components,
            &mut learner,
            &*train,
            &*valid,
        );
        progress.outcome = Some(result);
        (learner.model().clone(), components.event_processor)
    }
}

impl TrainingLoop {
    fn run(
        &self,
        progress: &mut LoopState,
        components: &mut Components,
        learner: &mut Learner,
        train: &dyn DataLoader<TokenBatch>,
        valid: &dyn DataLoader<TokenBatch>,
    ) -> Result<Outcome, Error> {
        let settings = &self.experiment.train;
        // One iterator for all that is left to read, so that it can read ahead.
        let rows = settings.batch * settings.accumulation;
        let windows = train.slice(progress.state.step * rows, settings.steps * rows);
        let mut batches = windows.iter();
        let mut evaluation = None;
        while !self.is_done(&progress.state) {
            // A run interrupted inside an interval goes on to the end of that interval; one interrupted
            // inside an evaluation evaluates again.
            let start = progress.state.step;
            let due = !progress.state.is_evaluated()
                && (start.is_multiple_of(settings.eval_every) || start == settings.steps);
            let (interval, end) = match due {
                true => (start.div_ceil(settings.eval_every), start),
                false => {
                    let interval = start / settings.eval_every + 1;
                    (
                        interval,
                        (interval * settings.eval_every).min(settings.steps),
                    )
                }
            };
            notify(
                components,
                LearnerEvent::StartSplit {
                    epoch_number: interval,
                    total_items: end - start,
                },
            )?;
            while progress.state.step < end && !components.interrupter.should_stop() {
                let report = self.step(progress, learner, &mut *batches)?;
                let done = progress.state.step - start;
                let item = TrainingItem::new(
                    StepOutput::Ready(report),
                    Progress::new(done, end - start, Some("steps".into())),
                    Some(progress.state.step),
                    Some(learner.learning_rate().clone()),
                );
                notify(components, LearnerEvent::ProcessedItem(item))?;
            }
            notify(components, LearnerEvent::EndSplit(interval))?;

            let model = learner.model().valid();
            let step = progress.state.step;
            let Some(totals) = self.evaluate(components, &model, valid, interval, step)? else {
                return self.interrupted(progress, learner);
            };
            evaluation = Some(totals);
            self.judge(progress, &totals)?;
            notify(components, LearnerEvent::EndEpoch(interval))?;
            self.checkpoint(progress, learner)?;
        }

        // What the run is summed up in is exact: every target of the validation split, once.
        let interval = progress.state.step.div_ceil(settings.eval_every);
        let step = progress.state.step;
        let mut evaluate = |model: &LanguageModel, step| {
            self.evaluate(components, model, &*self.whole_validation, interval, step)
        };
        let evaluation = match evaluation {
            Some(evaluation) if settings.eval_windows == 0 => Some(evaluation),
            _ => evaluate(&learner.model().valid(), step)?,
        };
        let Some(evaluation) = evaluation else {
            return self.interrupted(progress, learner);
        };
        let best = match progress.state.best {
            Some(best) if best.step == step => Some(evaluation),
            Some(best) if self.checkpoints.steps().contains(&best.step) => {
                let record = self.checkpoints.weights(best.step)?;
                let model = learner.model().valid().try_load_record(record);
                let model = model.map_err(|error| {
                    Error::checkpoint(self.checkpoints.path(best.step), error.to_string())
                })?;
                match evaluate(&model, best.step)? {
                    Some(evaluation) => Some(evaluation),
                    None => return self.interrupted(progress, learner),
                }
            }
            _ => None,
        };
        let early = progress.state.step < settings.steps;
        Ok(Outcome {
            ending: if early {
                Ending::EarlyStop
            } else {
                Ending::Complete
            },
            evaluation,
            best,
            state: progress.state.clone(),
        })
    }

    fn interrupted(&self, progress: &mut LoopState, learner: &Learner) -> Result<Outcome, Error> {
        self.checkpoint(progress, learner)?;
        Ok(Outcome {
            ending: Ending::Interrupted,
            evaluation: Totals::default(),
            best: None,
            state: progress.state.clone(),
        })
    }

    /// Whether all steps are taken, or the validation loss has not improved for as long as the experiment
    /// allows; and that is evaluated.
    fn is_done(&self, state: &RunState) -> bool {
        let settings = &self.experiment.train;
        let stalled =
            settings.early_stop > 0 && state.evaluations_since_best >= settings.early_stop;
        state.is_evaluated() && (state.step == settings.steps || stalled)
    }

    /// One optimizer step: forward and backward over the micro-batches, clip, update.
    fn step(
        &self,
        progress: &mut LoopState,
        learner: &mut Learner,
        batches: &mut dyn DataLoaderIterator<TokenBatch>,
    ) -> Result<Report, Error> {
        let started = Instant::now();
        let step = progress.state.step;
        let batches = batches.take(self.experiment.train.accumulation);
        let clip = self.experiment.optimizer.clip;
        let (totals, gradient_norm) = take_step(learner, batches, step, clip, &self.device)?;

        let report = Report {
            totals,
            seconds: started.elapsed().as_secs_f64(),
            seconds_per_token_at_peak: self.seconds_per_token_at_peak,
            learning_rate: learner.learning_rate().base(),
            gradient_norm,
        };
        if !totals.loss().is_finite() || !gradient_norm.is_finite() {
            return Err(self.not_finite(&report, step));
        }
        progress.state.step += 1;
        progress.state.tokens += totals.tokens;
        progress.state.seconds += report.seconds;
        progress.log.append(&Record::Step {
            step,
            tokens: progress.state.tokens,
            loss: totals.loss(),
            gradient_norm,
            learning_rate: report.learning_rate,
            seconds: report.seconds,
        })?;
        Ok(report)
    }

    /// Sums over the loader's windows, of the weights after `step` steps; or nothing where the user interrupts.
    fn evaluate(
        &self,
        components: &mut Components,
        model: &LanguageModel,
        loader: &dyn DataLoader<TokenBatch>,
        interval: usize,
        step: usize,
    ) -> Result<Option<Totals>, Error> {
        if components.interrupter.should_stop() {
            return Ok(None);
        }
        let total = loader.num_items();
        notify_valid(
            components,
            LearnerEvent::StartSplit {
                epoch_number: interval,
                total_items: total,
            },
        )?;
        let started = Instant::now();
        let mut totals = Totals::default();
        let mut iterator = loader.iter();
        while let Some(batch) = iterator.next() {
            let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
            totals += InferenceStep::step(model, batch)
                .read()
                .map_err(Error::device)?;
            if components.interrupter.should_stop() {
                return Ok(None);
            }
            // An evaluation is one point of a curve: its last batch brings the report.
            let progress = iterator.progress();
            let output = match progress.is_completed() {
                false => StepOutput::Partial,
                true => StepOutput::Ready(Report {
                    totals,
                    seconds: started.elapsed().as_secs_f64(),
                    seconds_per_token_at_peak: self.seconds_per_token_at_peak,
                    learning_rate: 0.0,
                    gradient_norm: 0.0,
                }),
            };
            let item = TrainingItem::new(output, progress, None, None);
            notify_valid(components, LearnerEvent::ProcessedItem(item))?;
        }
        notify_valid(components, LearnerEvent::EndSplit(interval))?;
        match totals.loss() {
            loss if loss.is_finite() => Ok(Some(totals)),
            loss => Err(self.diverged(format!("the validation loss is {loss}"), step)),
        }
    }

    /// Records an evaluation, and whether it is the best.
    fn judge(&self, progress: &mut LoopState, totals: &Totals) -> Result<(), Error> {
        let state = &mut progress.state;
        state.evaluated = state.step;
        let record = Record::evaluation(state.step, state.tokens, totals);
        progress.log.append(&record)?;
        // A loss that is not finite, which older versions kept, is worse than any.
        let improves = |best: Best| !best.loss.is_finite() || totals.loss() < best.loss;
        if state.best.is_none_or(improves) {
            state.best = Some(Best {
                step: state.step,
                loss: totals.loss(),
            });
            state.evaluations_since_best = 0;
        } else {
            state.evaluations_since_best += 1;
        }
        Ok(())
    }

    /// Saves where the run stands; returns once the disk has it.
    fn checkpoint(&self, progress: &mut LoopState, learner: &Learner) -> Result<(), Error> {
        let step = progress.state.step;
        if let Some(path) = parameter_that_is_not_finite(learner.model())? {
            return Err(self.diverged(format!("{path} is no longer finite"), step));
        }
        progress.log.sync()?;
        self.checkpoints
            .save(&progress.state, |directory| learner.write(directory))
    }

    fn diverged(&self, what: String, step: usize) -> Error {
        Error::Diverged {
            what,
            step,
            checkpoint: self.checkpoints.last_finite(),
        }
    }

    fn not_finite(&self, report: &Report, step: usize) -> Error {
        let checkpoint = self.checkpoints.last_finite();
        Error::NotFinite {
            loss: report.totals.loss(),
            step,
            learning_rate: report.learning_rate,
            gradient_norm: report.gradient_norm,
            checkpoint,
        }
    }
}

fn notify(components: &mut Components, event: LearnerEvent<StepOutput>) -> Result<(), Error> {
    components
        .event_processor
        .process_train(event)
        .map_err(|error| Error::Training(error.to_string()))
}

fn notify_valid(components: &mut Components, event: LearnerEvent<StepOutput>) -> Result<(), Error> {
    components
        .event_processor
        .process_valid(event)
        .map_err(|error| Error::Training(error.to_string()))
}
