//! Training from experiment to result: runs a session with its run directory and its display.

mod notes;
mod resume;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::data::dataloader::DataLoader;
use burn::train::Interrupter;
use foretoken_model::{GenerationConfig, Sampler, SamplingConfig, generate};

use crate::backend::peak;
use crate::engine::data::Data;
use crate::engine::event::{Ending, Event, Scope};
use crate::engine::language_model::LanguageModel;
use crate::engine::memory::refuse_training;
use crate::engine::observers::Observers;
use crate::engine::probing::{ProbeWithNotes, Probing};
use crate::engine::session::{Observer, Session, SessionOptions};
use crate::engine::setup::Setup;
use crate::engine::state::RunState;
use crate::engine::totals::Totals;
use crate::record::checkpoint::Checkpoints;
use crate::record::environment::History;
use crate::record::identity::Identity;
use crate::record::result::{BestWeights, ProbeCost, RunResult, Summary};
use crate::record::run::{EXPERIMENT, MetricsLog, Record, RunDirectory, SAMPLE, read_metrics};
use crate::record::start::prepare;
use crate::show::burn_train;
use crate::show::dashboard::Dashboard;
use crate::show::lines::{Lines, Stream};
use crate::show::progress::BuildReporter;
use crate::show::signals::Unsaved;
use crate::train::resume::Resumption;
use crate::{Error, Experiment, errln};

/// Options of [`train`] that do not change what it computes.
pub struct TrainOptions {
    /// Whether to continue an existing run.
    pub resume: bool,
    /// The run directory. Defaults to the next free one under `runs/`.
    pub out: Option<PathBuf>,
    /// Display during the run.
    pub dashboard: Dashboard,
    /// Stops the run after the step under way.
    pub interrupter: Interrupter,
    /// Stops the token build before the first step.
    pub interrupted: Arc<AtomicBool>,
    /// Makes the probes of the experiment.
    pub probes: MakeProbe,
}

/// Function that makes the probe that an experiment asks for, if any, and notes about it.
pub type MakeProbe = fn(&Setup) -> Result<Option<ProbeWithNotes>, Error>;

/// Result of a call of [`train`].
#[derive(Debug)]
pub enum Finished {
    /// The run is complete.
    Complete {
        /// Its figures.
        summary: Box<Summary>,
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

/// Trains an experiment, or continues a run of it.
///
/// # Errors
///
/// Returns a user's mistake before anything is written, and any failure of the run; see [`Error::exit_code`].
pub fn train(experiment: Experiment, options: TrainOptions) -> Result<Finished, Error> {
    let device = experiment
        .backend
        .name
        .device_for(experiment.backend.dtype)?;
    // The directory is claimed before anything is read, so that a second process is refused at once.
    let run = match (options.resume, &options.out) {
        (false, out) => RunDirectory::create(out.as_deref(), &experiment)?,
        (true, Some(path)) => RunDirectory::open(path)?.claimed()?,
        (true, None) => RunDirectory::latest(&experiment)?.claimed()?,
    };
    let resumed = options.resume.then_some(&run);
    let progress = BuildReporter::new(options.dashboard);
    let monitor = progress.monitor(&options.interrupted);
    let setup = prepare(experiment, resumed, monitor)?;
    drop(progress);
    let experiment = setup.experiment.clone();
    let settings = &experiment.train;
    let precision = experiment.backend.dtype;
    refuse_training(&setup.model, settings.batch, precision, &device)?;
    // Data that is too short is refused before anything is written.
    setup.train_loader(settings.seed, &device)?;
    setup.eval_loader(settings.eval_windows, &device)?;
    let (probe, probe_notes) = (options.probes)(&setup)?.unzip();

    let resumption = match resumed {
        Some(run) => {
            let resumption = Resumption::new(run, &setup)?;
            if !resumption.reopened
                && let Some(finished) = finished_before(run)?
            {
                if options.dashboard != Dashboard::None {
                    errln!(
                        "note: {} is finished, so nothing was trained; extend it with --set train.steps=N",
                        run.path().display()
                    );
                }
                return Ok(finished);
            }
            Some(resumption)
        }
        None => None,
    };
    let saved = resumption.as_ref().and_then(|r| r.saved.as_ref());
    let transformer = setup.transformer(settings.seed, &device.clone().autodiff())?;
    // A checkpoint replaces the initial weights, so they have no identity.
    let identity = match saved {
        Some(_) => None,
        None => Some(Identity::new(&setup, &transformer)?),
    };
    if options.resume
        && let (Some(identity), Some(before)) =
            (&identity, run.read_json::<Identity>(Identity::FILE)?)
        && identity.initial_weights != before.initial_weights
    {
        return Err(Error::run_directory(
            run.path(),
            "started from other weights than model.init_from names now; restore those weights, or start a new run",
        ));
    }
    let mut session = Session::with_weights(&setup, SessionOptions::of(&experiment), transformer)?;
    if let Some(saved) = saved {
        session.load(saved.path(), saved.state.clone())?;
    }
    let started_at = session.state().step;
    let log = MetricsLog::open(&run, started_at)?;
    if let Some(identity) = identity {
        identity.write(&run)?;
    }
    match &resumption {
        Some(resumption) => {
            resumption.record(&run, &setup)?;
            // The fingerprint of the data covers the tokenizer, so the file can be restored.
            let tokenizer = setup.data.tokenizer.to_json();
            if run.read("tokenizer.json")?.as_ref() != Some(&tokenizer) {
                run.write("tokenizer.json", tokenizer)?;
            }
        }
        None => {
            // The experiment is written last, because it makes the directory a run that can be resumed.
            run.write("tokenizer.json", setup.data.tokenizer.to_json())?;
            run.write(EXPERIMENT, experiment.to_toml())?;
        }
    }
    History::add(&run, experiment.backend.name, started_at)?;
    let notes = resumption.iter().flat_map(|r| r.notes.clone());
    let notes = notes.chain(notes::of(&setup));
    let notes = notes.chain(probe_notes.into_iter().flatten());
    if options.dashboard != Dashboard::None {
        notes.for_each(|note| errln!("note: {note}"));
    }

    let peak = peak(experiment.backend.name)? * 1e9;
    let seconds_per_token_at_peak = setup.model.flops_per_token() / peak;
    let label = format!("{} on {}", experiment.name, experiment.backend.name);
    let headline = format!(
        "{label}: {} parameters, {} a step, {} training tokens, matrix-product peak {:.0} GFLOP/s; writing {}",
        setup.model.parameters(),
        tokens_of_a_step(&setup)?,
        setup.data.train_tokens(),
        peak / 1e9,
        run.path().display()
    );
    let checkpoints = Checkpoints::new(run.checkpoints());
    let probed = probe.as_ref().map_or(Vec::new(), |probe| probe.families());
    let interrupter = options.interrupter.clone();
    let work = move |session: &mut Session, display: &mut dyn Observer| {
        let stop = || interrupter.should_stop();
        let mut record = Observers::new().with(log).with(checkpoints.clone());
        let mut observer = (&mut record, display);
        let mut observer = Probing::new(probe, &mut observer);
        run_to_the_end(session, &checkpoints, &mut observer, &stop)
            .map_err(|error| error.with_checkpoint(|| checkpoints.last_finite()))
    };
    let unsaved = Unsaved::begin();
    let (session, outcome) = match options.dashboard {
        Dashboard::Tui => {
            let options = burn_train::Options {
                label,
                seconds_per_token_at_peak,
                is_resumed: saved.is_some(),
                probed,
                interrupter: options.interrupter,
            };
            burn_train::run(session, options, work)?
        }
        dashboard => {
            let stream = match dashboard {
                Dashboard::Plain => Some(Stream::Stdout),
                Dashboard::PlainOnStderr => Some(Stream::Stderr),
                Dashboard::Tui | Dashboard::None => None,
            };
            let mut lines = Lines::new(headline, stream, seconds_per_token_at_peak, &session);
            let outcome = work(&mut session, &mut lines)?;
            (session, outcome)
        }
    };
    if outcome.ending == Ending::Interrupted {
        return Ok(Finished::Interrupted {
            run: run.path().into(),
            step: outcome.state.step,
        });
    }
    // All later work can be repeated from the last checkpoint.
    drop(unsaved);
    // The optimizer is dropped to free memory.
    let model = session.into_model();
    let early = outcome.ending == Ending::EarlyStop;
    let sample = sample(&experiment, &setup.data, &model)?;
    let summary = summarise(
        &run,
        &experiment,
        &outcome,
        &setup.data,
        seconds_per_token_at_peak,
    )?;
    run.write(SAMPLE, &sample)?;
    let result = RunResult { early, summary };
    result.write(&run)?;
    Ok(Finished::Complete {
        summary: Box::new(result.summary),
        sample,
        early,
    })
}

/// Describes the tokens of a step: the targets that count. Windows of documents have positions without any, which are
/// named too.
fn tokens_of_a_step(setup: &Setup) -> Result<String, Error> {
    let train = &setup.experiment.train;
    let context = setup.model.context;
    let positions = train.batch * train.accumulation * context;
    Ok(match setup.data.counted_share(context)? {
        1.0 => format!("{positions} tokens"),
        share => format!(
            "{:.0} tokens in {positions} positions",
            share * positions as f64
        ),
    })
}

/// Result of the training loop and the final evaluations.
struct Outcome {
    ending: Ending,
    state: RunState,
    /// Sums over the windows of the final evaluation, with the last weights; empty if interrupted.
    evaluation: Totals,
    /// Sums over the same windows, with the [best](RunState::best) weights; `None` if interrupted, or if their
    /// checkpoint is missing.
    best: Option<Totals>,
}

/// Trains to the last step, then evaluates the last and the best weights over the same windows.
fn run_to_the_end(
    session: &mut Session,
    checkpoints: &Checkpoints,
    observer: &mut dyn Observer,
    stop: &dyn Fn() -> bool,
) -> Result<Outcome, Error> {
    observer.observe(&Event::Started, session)?;
    let mut ending = session.run_until(usize::MAX, observer, stop)?;
    let mut evaluations = None;
    if ending != Ending::Interrupted {
        evaluations = final_evaluations(session, checkpoints, observer, stop)?;
        if evaluations.is_none() {
            ending = Ending::Interrupted;
            observer.observe(&Event::Saved, session)?;
        }
    }
    observer.observe(&Event::Ended(ending), session)?;
    let (evaluation, best) = evaluations.unwrap_or_default();
    Ok(Outcome {
        ending,
        state: session.state().clone(),
        evaluation,
        best,
    })
}

/// Evaluates the last and the best weights, and returns their sums; `None` if `stop` breaks an evaluation off.
fn final_evaluations(
    session: &mut Session,
    checkpoints: &Checkpoints,
    observer: &mut dyn Observer,
    stop: &dyn Fn() -> bool,
) -> Result<Option<(Totals, Option<Totals>)>, Error> {
    let settings = &session.experiment().train;
    let loader = session.eval_loader(settings.final_eval_windows)?;
    let step = session.state().step;
    let same_windows =
        session.eval_loader(settings.eval_windows)?.num_items() == loader.num_items();
    let last = match session.last_evaluation() {
        Some(last) if same_windows && last.step == step => Some(*last),
        _ => session.evaluate(&loader, Scope::Last, observer, stop)?,
    };
    let Some(last) = last else {
        return Ok(None);
    };
    let best = match session.state().best {
        Some(best) if best.step == step => Some(last),
        Some(best) if checkpoints.steps().contains(&best.step) => {
            let record = checkpoints.weights(best.step)?;
            match session.evaluate_best(record, best.step, &loader, observer, stop) {
                Ok(Some(evaluated)) => Some(evaluated),
                Ok(None) => return Ok(None),
                Err(Error::Training(message)) => {
                    return Err(Error::checkpoint(checkpoints.path(best.step), message));
                }
                Err(error) => return Err(error),
            }
        }
        _ => None,
    };
    Ok(Some((last.totals, best.map(|best| best.totals))))
}

/// Reads the result of a finished run; `None` if the run has none.
fn finished_before(run: &RunDirectory) -> Result<Option<Finished>, Error> {
    let Some(RunResult { early, summary }) = RunResult::read(run)? else {
        return Ok(None);
    };
    Ok(Some(Finished::Complete {
        summary: Box::new(summary),
        sample: run.read(SAMPLE)?.unwrap_or_default(),
        early,
    }))
}

fn sample(experiment: &Experiment, data: &Data, model: &LanguageModel) -> Result<String, Error> {
    let tokens = experiment.train.sample_tokens;
    if tokens == 0 {
        return Ok(String::new());
    }
    // The first validation token may be inside a sentence, but it is in the vocabulary.
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
    let mut text = [prompt, continuation].concat();
    // A model with a padded vocabulary can draw ids that the tokenizer does not have.
    text.retain(|id| (*id as usize) < data.tokenizer.vocab_size());
    Ok(data.tokenizer.decode(&text)?)
}

fn summarise(
    run: &RunDirectory,
    experiment: &Experiment,
    outcome: &Outcome,
    data: &Data,
    seconds_per_token_at_peak: f64,
) -> Result<Summary, Error> {
    let (state, evaluation) = (&outcome.state, &outcome.evaluation);
    let records = read_metrics(run)?;
    let evaluated = |record: &Record| match record {
        Record::Evaluation { step, .. } => Some(*step),
        Record::Step { .. } | Record::Probe(_) => None,
    };
    let interval = records.iter().filter_map(evaluated);
    let interval = interval.filter(|step| *step < state.step).max();
    let losses: Vec<f64> = records
        .iter()
        .filter_map(|record| match record {
            Record::Step { step, loss, .. } if *step >= interval.unwrap_or(0) => Some(*loss),
            _ => None,
        })
        .collect();
    let probes = records.iter().filter_map(|record| match record {
        Record::Probe(probed) => Some(probed.seconds),
        _ => None,
    });
    let probes = ProbeCost {
        count: probes.clone().count(),
        seconds: probes.sum(),
    };
    let best = outcome.best.zip(state.best);
    let tokens_per_second = state.tokens as f64 / state.seconds;
    let context = experiment.model.context;
    let window_floor = match (&data.world, context) {
        (Some(world), Some(context)) => Some(world.window_floor(context)?),
        _ => None,
    };
    Ok(Summary {
        run: run.path().into(),
        backend: experiment.backend.name.to_string(),
        steps: state.step,
        tokens: state.tokens,
        train_loss: losses.iter().sum::<f64>() / losses.len() as f64,
        valid_loss: evaluation.loss(),
        bits_per_byte: evaluation.bits_per_byte(),
        perplexity: evaluation.perplexity(),
        best: best.map(|(evaluation, best)| BestWeights {
            step: best.step,
            valid_loss: evaluation.loss(),
            bits_per_byte: evaluation.bits_per_byte(),
            perplexity: evaluation.perplexity(),
        }),
        floor_bits_per_byte: data.floor_bits_per_byte,
        window_floor_bits_per_byte: window_floor.and_then(|floor| floor.bits_per_byte),
        cut_targets: window_floor.map(|floor| floor.cut),
        tokens_per_second,
        mfu: tokens_per_second * seconds_per_token_at_peak,
        seconds: state.seconds,
        probes: (probes.count > 0).then_some(probes),
    })
}
