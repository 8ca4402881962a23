//! burn-train's dashboard as an observer of a session.
//!
//! burn-train's event processor, metrics and terminal dashboard work only inside a `SupervisedTraining`. So a session
//! runs as its learning strategy and forwards its events. No other module depends on burn-train's training.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use burn::data::dataloader::Progress;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::optim::{AdamWConfig, lr_scheduler::constant::ConstantLr};
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{CpuMemory, CpuUse, MetricDefinition, NumericEntry};
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTraining, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingItem, TrainingStrategy, ValidLoader,
};
use foretoken_datasets::WindowLoader;

use super::metrics::{Measure, StepMetric};
use super::probes::ProbePlots;
use super::terminal;
use crate::Error;
use crate::backend::panics;
use crate::engine::event::{Evaluating, Event, Scope, Stepped};
use crate::engine::language_model::{Figures, LanguageModel};
use crate::engine::session::{Observer, Session};

/// Settings of the dashboard.
pub(crate) struct Options {
    /// Name of the run.
    pub(crate) label: String,
    /// Seconds per token at the measured matrix-product peak.
    pub(crate) seconds_per_token_at_peak: f64,
    /// Whether the session continues an earlier one.
    pub(crate) is_resumed: bool,
    /// Families of probes, each of which has a plot.
    pub(crate) probed: Vec<String>,
    /// Stops the run when the user asks for it in the dashboard.
    pub(crate) interrupter: Interrupter,
}

/// Function that works on a session and reports to an observer.
type Work<T> = Box<dyn FnOnce(&mut Session, &mut dyn Observer) -> Result<T, Error> + Send>;

/// Runs `work` under burn-train's dashboard. Returns the session and the result of `work`.
pub(crate) fn run<T: Send + 'static>(
    mut session: Session,
    options: Options,
    work: impl FnOnce(&mut Session, &mut dyn Observer) -> Result<T, Error> + Send + 'static,
) -> Result<(Session, T), Error> {
    let settings = session.experiment().train.clone();
    let floor = session.data().floor_bits_per_byte;
    let peak = options.seconds_per_token_at_peak;
    let intervals_done = options
        .is_resumed
        .then_some(session.state().step / settings.eval_every);
    // burn-train requires loaders. They are not read, because the session has its own.
    let unread: Arc<WindowLoader> = Arc::new(session.eval_loader(1)?);
    // The learner passes the model to the strategy and back. Its optimizer and schedule are not used.
    let carrier = Learner::new(
        session.take_model(),
        AdamWConfig::new().init(),
        ModuleLrScheduler::new(ConstantLr::new(0.0)),
    );
    let plots = Arc::new(ProbePlots::new(options.probed));
    let strategy = Arc::new(Strategy {
        handover: Mutex::new(Handover::Waiting(session, Box::new(work) as Work<T>)),
        plots: plots.clone(),
    });

    silence_after_hang_up();
    let renderer = TuiMetricsRendererWrapper::new(options.interrupter.clone(), intervals_done);
    terminal::opened(true);
    let mut training = SupervisedTraining::<LanguageModel>::new("", unread.clone(), unread)
        .with_training_strategy(TrainingStrategy::Custom(strategy.clone()))
        .with_interrupter(options.interrupter)
        .with_application_logger(None)
        .with_metric_logger(NoLog)
        .renderer(Box::new(renderer))
        .num_epochs(settings.steps.div_ceil(settings.eval_every))
        .label(&options.label);
    for measure in Measure::ALL {
        let floor = floor.filter(|_| measure == Measure::BitsPerByte);
        training = training.metric_train_numeric(StepMetric::new(measure, peak).with_floor(floor));
    }
    for measure in Measure::OF_EVALUATION {
        let floor = floor.filter(|_| measure == Measure::BitsPerByte);
        let metric = StepMetric::new(measure, peak).with_floor(floor);
        training = training.metric_valid_numeric(metric.of_evaluation());
    }
    for metric in plots.metrics() {
        training = training.metric_train_numeric(metric);
    }
    training = training
        .metric_train_numeric(CpuUse::new())
        .metric_train_numeric(CpuMemory::new());
    if let Some(epoch) = intervals_done {
        // Sets burn-train's first epoch. It reads no file, because there are no checkpointers.
        training = training.checkpoint(epoch);
    }
    let result = training.launch(carrier);
    // Closes the dashboard, so that later output appears on the main screen.
    terminal::closed();
    drop(result.renderer);

    match strategy.replace(Handover::Over) {
        Handover::Done(mut session, outcome) => {
            session.put_model(result.model);
            Ok((session, outcome?))
        }
        Handover::Waiting(..) | Handover::Over => Err(Error::Training(match result.error {
            Some(error) => error.to_string(),
            None => "burn-train did not run the session".into(),
        })),
    }
}

/// Silences a panic of burn-train's drawing thread after a hang-up, and releases the terminal. The thread panics
/// because it cannot restore the terminal, and ratatui would panic again because standard error is closed.
fn silence_after_hang_up() {
    panics::silence_if(|| {
        thread::current().name() == Some("train-renderer") && terminal::is_gone()
    });
}

/// The session on its way into burn-train's training and back.
enum Handover<T> {
    Waiting(Session, Work<T>),
    Done(Session, Result<T, Error>),
    Over,
}

struct Strategy<T> {
    handover: Mutex<Handover<T>>,
    plots: Arc<ProbePlots>,
}

impl<T> Strategy<T> {
    fn replace(&self, next: Handover<T>) -> Handover<T> {
        let mut handover = self.handover.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut handover, next)
    }
}

type Processor = SupervisedTrainingEventProcessor<LanguageModel>;

impl<T> SupervisedLearningStrategy<LanguageModel> for Strategy<T> {
    fn fit(
        &self,
        components: TrainingComponents<LanguageModel>,
        learner: Learner<LanguageModel>,
        _: TrainLoader<LanguageModel>,
        _: ValidLoader<LanguageModel>,
        _starting_epoch: usize,
    ) -> (LanguageModel, Processor) {
        let model = learner.model();
        // The learner shares the weights, and shared weights cannot change in place.
        drop(learner);
        let mut forwarder = EventForwarder {
            processor: components.event_processor,
            split: None,
            plots: self.plots.clone(),
        };
        let Handover::Waiting(mut session, work) = self.replace(Handover::Over) else {
            return (model, forwarder.processor);
        };
        session.put_model(model);
        let outcome = work(&mut session, &mut forwarder);
        let model = session.take_model();
        self.replace(Handover::Done(session, outcome));
        (model, forwarder.processor)
    }
}

/// Forwards the events of a session. An evaluation interval is an epoch for burn-train.
struct EventForwarder {
    processor: Processor,
    /// The interval under way, while it trains.
    split: Option<Interval>,
    plots: Arc<ProbePlots>,
}

/// Training steps between two evaluations.
struct Interval {
    number: usize,
    start: usize,
    end: usize,
}

impl EventForwarder {
    fn train(&mut self, event: LearnerEvent<Figures>) -> Result<(), Error> {
        let processed = self.processor.process_train(event);
        processed.map_err(|error| Error::Training(error.to_string()))
    }

    fn valid(&mut self, event: LearnerEvent<Figures>) -> Result<(), Error> {
        let processed = self.processor.process_valid(event);
        processed.map_err(|error| Error::Training(error.to_string()))
    }

    /// Begins the interval after `step` steps, unless it has begun.
    fn begin(&mut self, step: usize, session: &Session) -> Result<(), Error> {
        if self.split.is_some() {
            return Ok(());
        }
        let settings = &session.experiment().train;
        let number = step / settings.eval_every + 1;
        let end = (number * settings.eval_every).min(settings.steps);
        self.split = Some(Interval {
            number,
            start: step,
            end,
        });
        self.train(LearnerEvent::StartSplit {
            epoch_number: number,
            total_items: end - step,
        })
    }

    fn stepped(&mut self, stepped: &Stepped, session: &Session) -> Result<(), Error> {
        self.begin(stepped.step, session)?;
        let Some(Interval { start, end, .. }) = self.split else {
            return Ok(());
        };
        let done = stepped.step + 1;
        let progress = Progress::new(done - start, end - start, Some("steps".into()));
        let rate = session.learner().learning_rate().clone();
        let item = TrainingItem::new(stepped.figures, progress, Some(done), Some(rate));
        self.train(LearnerEvent::ProcessedItem(item))
    }

    fn evaluating(&mut self, evaluating: &Evaluating, session: &Session) -> Result<(), Error> {
        let number = interval(session);
        if evaluating.done == 0 {
            if let Some(split) = self.split.take() {
                self.train(LearnerEvent::EndSplit(split.number))?;
            }
            return self.valid(LearnerEvent::StartSplit {
                epoch_number: number,
                total_items: evaluating.windows,
            });
        }
        let figures = Figures {
            totals: evaluating.totals,
            seconds: evaluating.seconds,
            ..Figures::default()
        };
        let progress = Progress::new(evaluating.done, evaluating.windows, Some("windows".into()));
        let item = TrainingItem::new(figures, progress, None, None);
        self.valid(LearnerEvent::ProcessedItem(item))
    }
}

/// Returns the number of the interval that ends at the session's step.
fn interval(session: &Session) -> usize {
    let every = session.experiment().train.eval_every;
    session.state().step.div_ceil(every)
}

impl Observer for EventForwarder {
    fn observe(&mut self, event: &Event<'_>, session: &Session) -> Result<(), Error> {
        match event {
            Event::Stepped(stepped) => self.stepped(stepped, session),
            Event::Evaluating(evaluating) => self.evaluating(evaluating, session),
            Event::Evaluated(evaluated) => {
                let number = interval(session);
                self.valid(LearnerEvent::EndSplit(number))?;
                match evaluated.scope {
                    Scope::Interval => self.train(LearnerEvent::EndEpoch(number)),
                    Scope::Last | Scope::Best => Ok(()),
                }
            }
            Event::Probed(probed) => {
                self.plots.set(probed);
                Ok(())
            }
            Event::Started | Event::Saved | Event::Ended(_) => Ok(()),
        }
    }
}

/// Logger that discards metrics. It keeps burn-train from writing log files; the run directory has `metrics.jsonl`.
struct NoLog;

impl MetricLogger for NoLog {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}
