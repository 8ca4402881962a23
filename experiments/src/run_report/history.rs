//! Reads the files of a run directory for a report.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use foretoken_datasets::files;
use foretoken_datasets::world::{Stream, Text, World};

use crate::engine::event::Probed;
use crate::record::checkpoint::Checkpoints;
use crate::record::environment::History;
use crate::record::identity::Identity;
use crate::record::result::{BestWeights, RunResult};
use crate::record::run::{MetricsLog, Record, RunDirectory, SAMPLE, read_metrics};
use crate::{Error, Experiment};

/// The file that marks runs of a comparison, which have no result of their own.
const ENVELOPE: &str = "envelope.json";

/// Maximum size, in bytes, of a validation text whose entropy is recomputed if no result has it.
const MAX_WORLD: u64 = 64 << 20;

/// Records of a run, up to its last recorded step.
pub(super) struct RunHistory {
    pub path: PathBuf,
    /// Name of its directory.
    pub name: String,
    pub experiment: Experiment,
    /// Training loss of each step from 0.
    pub losses: Vec<f64>,
    pub gradient_norms: Vec<f64>,
    pub learning_rates: Vec<f64>,
    pub seconds: Vec<f64>,
    /// Training tokens of each step.
    pub tokens: Vec<f64>,
    pub evaluations: Vec<Evaluation>,
    /// Probes in the order of their steps.
    pub probes: Vec<Probed>,
    /// `None` unless the run is complete.
    pub result: Option<RunResult>,
    /// Whether the run belongs to a comparison, and so has neither result nor checkpoints.
    pub of_comparison: bool,
    /// Entropy of the validation text in bits per byte, if its source is known.
    pub floor: Option<f64>,
    /// The least bits per byte for a model that sees only the validation windows; `None` if it is not known.
    pub window_floor: Option<f64>,
    pub sample: Option<String>,
    pub environment: Option<History>,
    /// `None` if an older version made the run.
    pub identity: Option<Identity>,
    /// Content of the tokenizer's file; `None` for runs of a comparison.
    pub tokenizer: Option<String>,
    /// Steps of the checkpoints that exist.
    pub checkpoints: Vec<usize>,
    /// Whether the last line of the metrics was incomplete and ignored.
    pub is_cut_short: bool,
}

/// An evaluation on validation windows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evaluation {
    pub step: usize,
    pub loss: f64,
    pub bits_per_byte: f64,
    pub accuracy: f64,
}

impl RunHistory {
    pub(super) fn read(run: &RunDirectory) -> Result<Self, Error> {
        let path = run.path();
        let log = path.join(MetricsLog::FILE);
        if !log.is_file() {
            let message = "has no metrics.jsonl, so it has no recorded step and nothing to report; report it after its \
                           first step";
            return Err(Error::run_directory(path, message));
        }
        let experiment = run.experiment()?;
        let result = RunResult::read(run)?;
        let known = result
            .as_ref()
            .and_then(|result| result.summary.floor_bits_per_byte);
        let mut history = Self {
            path: path.into(),
            name: name(path),
            losses: Vec::new(),
            gradient_norms: Vec::new(),
            learning_rates: Vec::new(),
            seconds: Vec::new(),
            tokens: Vec::new(),
            evaluations: Vec::new(),
            probes: Vec::new(),
            floor: match known {
                Some(floor) => Some(floor),
                None => floor(&experiment),
            },
            window_floor: result
                .as_ref()
                .and_then(|result| result.summary.window_floor_bits_per_byte),
            of_comparison: path.join(ENVELOPE).is_file(),
            sample: run.read(SAMPLE)?.filter(|text| !text.trim().is_empty()),
            environment: History::of_run(run)?,
            identity: run.read_json(Identity::FILE)?,
            tokenizer: run.read("tokenizer.json")?,
            checkpoints: Checkpoints::new(run.checkpoints()).steps(),
            is_cut_short: is_cut_short(&log)?,
            result,
            experiment,
        };
        let mut tokens_before = 0;
        for record in read_metrics(run)? {
            match record {
                Record::Step {
                    step,
                    tokens,
                    loss,
                    gradient_norm,
                    learning_rate,
                    seconds,
                } => {
                    if step != history.losses.len() {
                        let message = format!(
                            "has step {step} where step {} is expected; restore the file",
                            history.losses.len()
                        );
                        return Err(Error::run_directory(log, message));
                    }
                    history.losses.push(loss);
                    history.gradient_norms.push(gradient_norm);
                    history.learning_rates.push(learning_rate);
                    history.seconds.push(seconds);
                    history
                        .tokens
                        .push(tokens.saturating_sub(tokens_before) as f64);
                    tokens_before = tokens;
                }
                Record::Evaluation {
                    step,
                    loss,
                    bits_per_byte,
                    accuracy,
                    ..
                } => history.evaluations.push(Evaluation {
                    step,
                    loss,
                    bits_per_byte,
                    accuracy,
                }),
                Record::Probe(probed) => history.probes.push(probed),
            }
        }
        if history.losses.is_empty() {
            let message = "has no step in metrics.jsonl and nothing to report; report it after its first step";
            return Err(Error::run_directory(path, message));
        }
        // A resumed run may have evaluated or probed a step twice; the later one counts.
        let evaluations = &mut history.evaluations;
        evaluations.reverse();
        evaluations.sort_by_key(|evaluation| evaluation.step);
        evaluations.dedup_by_key(|evaluation| evaluation.step);
        let probes = &mut history.probes;
        probes.reverse();
        probes.sort_by_key(|probed| probed.step);
        probes.dedup_by_key(|probed| probed.step);
        Ok(history)
    }

    /// Returns the number of recorded steps.
    pub(super) fn steps(&self) -> usize {
        self.losses.len()
    }

    /// Returns the evaluation of the best weights: the one that the result names, or else the lowest loss so far.
    pub(super) fn best(&self) -> Option<Evaluation> {
        let named = self.best_of_result();
        let mut evaluations = self.evaluations.iter().copied();
        match named {
            Some(best) => evaluations.find(|evaluation| evaluation.step == best.step),
            None => evaluations
                .filter(|evaluation| evaluation.loss.is_finite())
                .min_by(|a, b| a.loss.total_cmp(&b.loss)),
        }
    }

    /// Returns the best weights that the result names.
    pub(super) fn best_of_result(&self) -> Option<BestWeights> {
        self.result.as_ref().and_then(|result| result.summary.best)
    }

    /// Returns bits per byte and nats per token of the final evaluation, or else of the last evaluation so far.
    pub(super) fn validation(&self) -> Option<(f64, f64)> {
        match (&self.result, self.evaluations.last()) {
            (Some(result), _) => Some((result.summary.bits_per_byte, result.summary.valid_loss)),
            (None, Some(last)) => Some((last.bits_per_byte, last.loss)),
            (None, None) => None,
        }
    }

    /// Returns the floor that the run can reach, in bits per byte, and whether it is that of the windows and above the
    /// entropy of the text. It is the entropy of the text if no floor of the windows is known.
    pub(super) fn reachable_floor(&self) -> Option<(f64, bool)> {
        match self.window_floor {
            Some(windows) if self.floor != Some(windows) => Some((windows, true)),
            _ => self.floor.map(|floor| (floor, false)),
        }
    }

    /// Returns the training tokens of a step: the targets that count, of which windows of documents have fewer than
    /// positions. It is the mean of all steps.
    pub(super) fn tokens_per_step(&self) -> f64 {
        self.tokens.iter().sum::<f64>() / self.tokens.len().max(1) as f64
    }

    /// Returns the positions that a step computes; `None` if the experiment does not name its context.
    pub(super) fn positions_per_step(&self) -> Option<usize> {
        let (train, context) = (&self.experiment.train, self.experiment.model.context?);
        Some(train.batch * train.accumulation * context)
    }

    /// Returns the training tokens per second over all steps.
    pub(super) fn tokens_per_second(&self) -> Option<f64> {
        let seconds: f64 = self.seconds.iter().sum();
        let tokens: f64 = self.tokens.iter().sum();
        match &self.result {
            Some(result) => Some(result.summary.tokens_per_second),
            None => Some(tokens / seconds),
        }
        .filter(|rate| rate.is_finite())
    }

    /// Returns the seconds spent in training steps.
    pub(super) fn training_seconds(&self) -> f64 {
        let seconds = self.seconds.iter();
        seconds.filter(|seconds| seconds.is_finite()).sum()
    }

    /// Returns the first step whose loss is not finite.
    pub(super) fn broken_from(&self) -> Option<usize> {
        self.losses.iter().position(|loss| !loss.is_finite())
    }
}

/// Returns the name of a run's directory, also for paths such as `.`.
fn name(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.into());
    let name = absolute.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Computes the entropy of the synthetic validation text, in bits per byte; `None` for other text.
fn floor(experiment: &Experiment) -> Option<f64> {
    let config = experiment.data.world.as_ref()?;
    let (world, size) = (World::new(config).ok()?, config.size(Stream::Valid));
    if world.mean_bytes(size) > MAX_WORLD {
        return None;
    }
    let Text { text, bits, .. } = world.text(Stream::Valid, size);
    (!text.is_empty()).then(|| bits / text.len() as f64)
}

/// Returns whether a file ends inside a line, which [`read_metrics`] ignores.
fn is_cut_short(path: &Path) -> Result<bool, Error> {
    let last_byte = || -> std::io::Result<Option<u8>> {
        let mut file = files::open_regular(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(None);
        }
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(Some(last[0]))
    };
    let last = last_byte().map_err(Error::io("read", path))?;
    Ok(last.is_some_and(|byte| byte != b'\n'))
}
