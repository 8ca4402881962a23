//! Experiment → learner → run directory.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use burn::train::metric::{CpuMemory, CpuUse};
use burn::train::{Interrupter, SupervisedTraining, TrainingStrategy};
use foretoken_model::{GenerationConfig, Sampler, SamplingConfig, generate};
use serde::{Deserialize, Serialize};

use crate::backend::matmul_gflops;
use crate::checkpoint::{Checkpoints, RunState, Saved};
use crate::data::Data;
use crate::environment::Environment;
use crate::identity::Identity;
use crate::learner::LanguageModel;
use crate::memory::refuse_training;
use crate::metrics::{Measure, StepMetric, Totals};
use crate::progress::BuildReporter;
use crate::renderer::{self, Dashboard};
use crate::run::{MetricsLog, Record, RunDirectory, read_metrics};
use crate::setup::{Setup, in_precision};
use crate::signals::Unsaved;
use crate::training_loop::{Ending, LoopState, TrainingLoop};
use crate::{Error, Experiment, terminal};

/// How to run, as opposed to what.
pub struct TrainOptions {
    /// Continue an existing run.
    pub resume: bool,
    /// The run directory; by default the next free one under `runs/`.
    pub out: Option<PathBuf>,
    /// What to show meanwhile.
    pub dashboard: Dashboard,
    /// Stops the run after the step under way.
    pub interrupter: Interrupter,
    /// Stops the making of tokens, before the first step.
    pub interrupted: Arc<AtomicBool>,
}

/// What a complete run is summed up in; `--json` prints it, `result.json` keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The run directory.
    pub run: PathBuf,
    /// The backend's name.
    pub backend: String,
    /// Optimizer steps taken.
    pub steps: usize,
    /// Training tokens seen.
    pub tokens: usize,
    /// Nats per token, mean over the steps of the last evaluation interval.
    pub train_loss: f64,
    /// Nats per token over the whole validation split.
    pub valid_loss: f64,
    /// Bits per byte over the whole validation split.
    pub bits_per_byte: f64,
    /// exp(`valid_loss`).
    pub perplexity: f64,
    /// Entropy of the validation text in bits per byte, where its source is known.
    pub floor_bits_per_byte: Option<f64>,
    /// Training tokens per second of training.
    pub tokens_per_second: f64,
    /// Model FLOPs utilisation: a share of the measured matrix-product peak, 0 to 1.
    pub mfu: f64,
    /// Seconds in training steps.
    pub seconds: f64,
}

/// How a call of [`train`] ended.
#[derive(Debug)]
pub enum Finished {
    /// The run is complete.
    Complete {
        /// Its figures.
        summary: Summary,
        /// Text that the model generated.
        sample: String,
        /// Whether it stopped early.
        early: bool,
    },
    /// The run can be resumed.
    Interrupted {
        /// Its directory.
        run: PathBuf,
        /// Steps taken.
        step: usize,
    },
}

/// Trains an experiment, or continues it.
///
/// # Errors
///
/// What the user can mend is found before anything is written; see [`Error::exit_code`].
pub fn train(experiment: Experiment, options: TrainOptions) -> Result<Finished, Error> {
    let device = experiment
        .backend
        .name
        .device_for(experiment.backend.dtype)?;
    // Before anything is read, so that of two processes the second is refused at once.
    let run = match (options.resume, &options.out) {
        (false, out) => RunDirectory::create(out.as_deref(), &experiment)?,
        (true, Some(path)) => RunDirectory::open(path)?.claimed()?,
        (true, None) => RunDirectory::latest(&experiment)?.claimed()?,
    };
    let resumed = options.resume.then_some(&run);
    let progress = BuildReporter::new(options.dashboard);
    let monitor = progress.monitor(&options.interrupted);
    let setup = Setup::new(experiment, resumed, monitor)?;
    drop(progress);
    let experiment = setup.experiment.clone();
    let settings = &experiment.train;
    let precision = experiment.backend.dtype;
    refuse_training(&setup.model, settings.batch, precision, &device)?;
    let train_loader = setup.train_loader(settings.seed, &device)?;
    let valid_loader = Arc::new(setup.eval_loader(settings.eval_windows, &device)?);
    let whole_validation = Arc::new(setup.eval_loader(0, &device)?);
    let fingerprint = setup.data.fingerprint.clone();

    let saved = match resumed {
        Some(run) => last_checkpoint(run, &experiment, &fingerprint)?,
        None => None,
    };
    if let Some(finished) = finished_before(&run) {
        return Ok(finished);
    }
    let state = match &saved {
        Some(saved) => saved.state.clone(),
        None => RunState {
            data: fingerprint,
            ..Default::default()
        },
    };
    let log = MetricsLog::open(&run, state.step)?;
    let transformer = setup.transformer(settings.seed, &device.clone().autodiff())?;
    if !options.resume {
        let identity = Identity::new(&setup, &transformer)?;
        run.write(Identity::FILE, serde_json::to_vec_pretty(&identity)?)?;
        // The experiment last: it is what makes the directory a run that can be resumed.
        run.write("tokenizer.json", setup.data.tokenizer.to_json())?;
        run.write("experiment.toml", experiment.to_toml())?;
    }
    run.write(
        "environment.json",
        serde_json::to_vec_pretty(&Environment::capture(experiment.backend.name))?,
    )?;

    let transformer = in_precision(transformer, experiment.backend.dtype);
    let model = LanguageModel::new(transformer, settings.seed);
    let learner = setup.learner(model.of(&experiment));
    let peak = matmul_gflops(&device)? * 1e9;
    let seconds_per_token_at_peak = setup.model.flops_per_token() / peak;
    let started_at = state.step;
    let intervals_done = saved.is_some().then_some(started_at / settings.eval_every);
    let learner = match saved {
        Some(saved) => learner.load(saved)?,
        None => learner,
    };
    let of_burn = learner.of_burn();
    let training_loop = Arc::new(TrainingLoop {
        experiment: experiment.clone(),
        device: device.clone(),
        whole_validation,
        checkpoints: Checkpoints::new(run.checkpoints()),
        seconds_per_token_at_peak,
        learner: Mutex::new(learner),
        progress: Mutex::new(LoopState {
            state,
            log,
            outcome: None,
        }),
    });
    let epochs = settings.steps.div_ceil(settings.eval_every);
    let label = format!("{} on {}", experiment.name, experiment.backend.name);
    let headline = format!(
        "{label}: {} parameters, {} tokens a step, {} training tokens, matrix-product peak {:.0} GFLOP/s; writing {}",
        setup.model.parameters(),
        settings.batch * settings.accumulation * setup.model.context,
        setup.data.train_tokens(),
        peak / 1e9,
        run.path().display()
    );
    let renderer = renderer::init(
        options.dashboard,
        headline,
        &experiment,
        started_at,
        options.interrupter.clone(),
        intervals_done,
    );
    let mut training =
        SupervisedTraining::<LanguageModel>::new(run.path(), Arc::new(train_loader), valid_loader)
            .with_training_strategy(TrainingStrategy::Custom(training_loop.clone()))
            .with_interrupter(options.interrupter)
            .with_application_logger(None)
            .with_metric_logger(renderer::Discard)
            .renderer(renderer)
            .num_epochs(epochs)
            .label(&label);
    let metric = |measure| {
        let floor = setup
            .data
            .floor_bits_per_byte
            .filter(|_| measure == Measure::BitsPerByte);
        StepMetric::new(measure).with_floor(floor)
    };
    for measure in Measure::ALL {
        training = training.metric_train_numeric(metric(measure));
    }
    for measure in Measure::OF_EVALUATION {
        training = training.metric_valid_numeric(metric(measure));
    }
    training = training
        .metric_train_numeric(CpuUse::new())
        .metric_train_numeric(CpuMemory::new());
    if let Some(epoch) = intervals_done {
        // Where burn-train's count of epochs begins; without checkpointers it reads nothing.
        training = training.checkpoint(epoch);
    }

    let unsaved = Unsaved::begin();
    let result = training.launch(of_burn);
    // Closes the dashboard, so that what follows is printed on the user's own screen.
    terminal::closed();
    drop(result.renderer);
    let outcome = {
        let mut progress = training_loop
            .progress
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        progress.outcome.take()
    };
    // Its optimizer is not needed any more.
    drop(training_loop);
    let outcome = outcome.unwrap_or_else(|| {
        Err(Error::Training(match result.error {
            Some(error) => error.to_string(),
            None => "the loop did not run".into(),
        }))
    })?;
    if outcome.ending == Ending::Interrupted {
        return Ok(Finished::Interrupted {
            run: run.path().into(),
            step: outcome.state.step,
        });
    }
    // What follows can be made again from the last checkpoint.
    drop(unsaved);
    let early = outcome.ending == Ending::EarlyStop;
    let sample = sample(&experiment, &setup.data, &result.model)?;
    let summary = summarise(
        &run,
        &experiment,
        &outcome.state,
        &outcome.evaluation,
        setup.data.floor_bits_per_byte,
        seconds_per_token_at_peak,
    )?;
    run.write("sample.txt", &sample)?;
    let record = CompleteRun { early, summary };
    run.write("result.json", serde_json::to_vec_pretty(&record)?)?;
    Ok(Finished::Complete {
        summary: record.summary,
        sample,
        early,
    })
}

/// What `result.json` holds.
#[derive(Serialize, Deserialize)]
struct CompleteRun {
    early: bool,
    #[serde(flatten)]
    summary: Summary,
}

/// The result of a run that needs no more training.
fn finished_before(run: &RunDirectory) -> Option<Finished> {
    let record: CompleteRun = serde_json::from_str(&run.read("result.json")?).ok()?;
    Some(Finished::Complete {
        summary: record.summary,
        sample: run.read("sample.txt").unwrap_or_default(),
        early: record.early,
    })
}

/// The last checkpoint of the run to continue, if it got that far.
fn last_checkpoint(
    run: &RunDirectory,
    experiment: &Experiment,
    fingerprint: &str,
) -> Result<Option<Saved>, Error> {
    let differences = experiment.differences(&run.experiment()?);
    if !differences.is_empty() {
        return Err(Error::run_directory(
            run.path(),
            format!(
                "holds another experiment: {}; leave out the differing --set, or start a new run without --resume",
                differences.join(", ")
            ),
        ));
    }
    let checkpoints = Checkpoints::new(run.checkpoints());
    let saved = match checkpoints.steps().last() {
        Some(step) => Some(checkpoints.load(*step)?),
        None => None,
    };
    if let Some(saved) = &saved
        && saved.state.data != fingerprint
    {
        return Err(Error::run_directory(
            run.path(),
            "was trained on other data: the text behind [data] has changed since; restore it, or start a new run",
        ));
    }
    Ok(saved)
}

fn sample(experiment: &Experiment, data: &Data, model: &LanguageModel) -> Result<String, Error> {
    let tokens = experiment.train.sample_tokens;
    if tokens == 0 {
        return Ok(String::new());
    }
    // The validation split opens at a document's border or in the middle of a sentence; either way its
    // first token is one the model knows.
    let prompt = data.valid.to_vec(0..1)?;
    let sampler = Sampler::new(SamplingConfig::default(), experiment.train.seed)?;
    let continuation = generate(
        &model.transformer,
        std::slice::from_ref(&prompt),
        &GenerationConfig::new(tokens),
        &mut [sampler],
        |_, _| ControlFlow::Continue(()),
    )?
    .concat();
    let text = [prompt, continuation].concat();
    Ok(data.tokenizer.decode(&text)?)
}

fn summarise(
    run: &RunDirectory,
    experiment: &Experiment,
    state: &RunState,
    evaluation: &Totals,
    floor_bits_per_byte: Option<f64>,
    seconds_per_token_at_peak: f64,
) -> Result<Summary, Error> {
    let losses: Vec<f64> = read_metrics(run)?
        .iter()
        .rev()
        .filter_map(|record| match record {
            Record::Step { loss, .. } => Some(*loss),
            Record::Evaluation { .. } => None,
        })
        .take(experiment.train.eval_every)
        .collect();
    let tokens_per_second = state.tokens as f64 / state.seconds;
    Ok(Summary {
        run: run.path().into(),
        backend: experiment.backend.name.to_string(),
        steps: state.step,
        tokens: state.tokens,
        train_loss: losses.iter().sum::<f64>() / losses.len() as f64,
        valid_loss: evaluation.loss(),
        bits_per_byte: evaluation.bits_per_byte(),
        perplexity: evaluation.perplexity(),
        floor_bits_per_byte,
        tokens_per_second,
        mfu: tokens_per_second * seconds_per_token_at_peak,
        seconds: state.seconds,
    })
}
