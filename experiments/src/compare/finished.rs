//! Runs that are finished, made anywhere, are judged as if they had run side by side.

use std::path::{Path, PathBuf};

use super::judge::{Case, Curve};
use super::{Comparison, Entrant, Entry, Recorded, Reference, Verdict};
use crate::environment::{self, Environment};
use crate::identity::Identity;
use crate::run::{Record, RunDirectory, read_metrics};
use crate::{Error, Experiment};

/// A finished run, read back.
struct Finished {
    path: PathBuf,
    experiment: Experiment,
    identity: Identity,
    environment: Option<Environment>,
    recorded: Option<Recorded>,
    curve: Curve,
    /// Training tokens of a step.
    tokens_per_step: usize,
}

impl Finished {
    fn read(path: &Path) -> Result<Self, Error> {
        let run = RunDirectory::open(path)?;
        let mut curve = Curve::default();
        let mut tokens_per_step = 0;
        for record in read_metrics(&run)? {
            match record {
                Record::Step {
                    tokens,
                    loss,
                    gradient_norm,
                    seconds,
                    step,
                    ..
                } => {
                    if step != curve.losses.len() {
                        let message = format!("metrics.jsonl has no step {}", curve.losses.len());
                        return Err(Error::run_directory(path, message));
                    }
                    curve.losses.push(loss);
                    curve.gradient_norms.push(gradient_norm);
                    curve.seconds.push(seconds);
                    if step == 0 {
                        tokens_per_step = tokens;
                    }
                }
                Record::Evaluation { step, loss, .. } => {
                    // Of the weights after the last step, or it says nothing about the end.
                    let last = step == curve.losses.len();
                    curve.final_loss = last.then_some(loss);
                }
            }
        }
        if curve.losses.is_empty() {
            return Err(Error::run_directory(path, "has taken no step yet"));
        }
        Ok(Self {
            path: path.into(),
            experiment: run.experiment()?,
            identity: Identity::of_run(&run)?,
            environment: parsed(&run, "environment.json")?,
            recorded: parsed(&run, Recorded::FILE)?,
            curve,
            tokens_per_step,
        })
    }

    fn entrant(&self) -> Entrant {
        Entrant {
            name: self.experiment.backend.name,
            dtype: self.experiment.backend.dtype,
        }
    }

    /// What makes this run another one than `other`, wherever they ran.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = self.experiment.decisive_differences(&other.experiment);
        let (ours, theirs) = (&self.identity, &other.identity);
        for (what, ours, theirs) in [
            (
                "initial weights",
                &ours.initial_weights,
                &theirs.initial_weights,
            ),
            ("data", &ours.data, &theirs.data),
        ] {
            if ours != theirs {
                differences.push(format!("{what} ({:.8}… and {:.8}…)", ours, theirs));
            }
        }
        differences
    }
}

fn parsed<T: serde::de::DeserializeOwned>(
    run: &RunDirectory,
    name: &str,
) -> Result<Option<T>, Error> {
    let Some(text) = run.read(name) else {
        return Ok(None);
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Error::run_directory(run.path().join(name), format!("is damaged: {error}"))
    })
}

/// Judges finished runs over the steps that all of them took. The envelope is the one recorded in `envelope`
/// (a directory with `comparison.json` or `envelope.json`, or such a file), else one that any of the runs
/// carries; the reference is the one that it was measured against, and without an envelope the first run.
///
/// # Errors
///
/// When there are fewer than two runs, one cannot be read, they are not runs of the same experiment from the
/// same weights on the same data, or the envelope is of another experiment.
pub fn of_runs(paths: &[PathBuf], envelope: Option<&Path>) -> Result<Comparison, Error> {
    let runs = paths
        .iter()
        .map(|path| Finished::read(path))
        .collect::<Result<Vec<_>, Error>>()?;
    let Some(first) = runs.first() else {
        return Err(Error::Experiment {
            origin: "compare".into(),
            message: "name at least two run directories".into(),
        });
    };
    for run in &runs {
        let differences = first.differences(run);
        if !differences.is_empty() {
            return Err(Error::run_directory(
                &run.path,
                format!(
                    "is not comparable with {}: they differ in {}",
                    first.path.display(),
                    differences.join(", ")
                ),
            ));
        }
    }
    let recorded = match envelope {
        Some(path) => Some(recorded(path, &first.identity)?),
        None => runs.iter().find_map(|run| run.recorded.clone()),
    };
    let mut steps = runs.iter().map(|run| run.curve.losses.len()).min();
    let reference = match &recorded {
        Some(recorded) => {
            steps = steps.map(|steps| steps.min(recorded.reference.losses.len()));
            recorded.reference.clone()
        }
        None => Reference {
            entrant: first.entrant(),
            losses: first.curve.losses.clone(),
            final_loss: first.curve.final_loss,
        },
    };
    let steps = steps.unwrap_or(0);
    let shortened = |curve: &Curve| {
        let mut curve = curve.clone();
        // The loss at the end is that of the same number of steps, or it cannot be compared.
        if curve.losses.len() != steps {
            curve.final_loss = None;
        }
        curve.losses.truncate(steps);
        curve.gradient_norms.truncate(steps);
        curve.seconds.truncate(steps);
        curve
    };
    let of_reference = shortened(&Curve {
        losses: reference.losses.clone(),
        final_loss: reference.final_loss,
        ..Curve::default()
    });
    let mut envelopes = recorded.as_ref().map_or(vec![], |r| r.envelopes.clone());
    for envelope in &mut envelopes {
        envelope.loss.truncate(steps);
        // Of finished runs the weights on the way are not known.
        envelope.weights.clear();
    }
    let seeds = recorded.as_ref().and_then(|r| r.seeds.clone());
    let first_curve = shortened(&first.curve);
    let entries = runs.iter().enumerate().map(|(place, run)| {
        let curve = shortened(&run.curve);
        let entrant = run.entrant();
        let judgement = Case {
            entrant: &curve,
            checks: &[],
            reference: &of_reference,
            // The first run is what others can be identical to; of itself that says nothing.
            own: (place > 0).then_some(&first_curve),
            envelope: envelopes.iter().find(|e| e.of.dtype == entrant.dtype),
            seeds: seeds.as_ref(),
        }
        .judge();
        let (verdict, reason) = match place == 0 && recorded.is_none() {
            true => (
                Verdict::Identical,
                "it is what the others are measured against".into(),
            ),
            false => (judgement.verdict, judgement.reason),
        };
        Entry {
            fused: run.experiment.backend.fused,
            first_step: judgement.first_step,
            max_abs_loss_difference: judgement.max_abs_loss_difference,
            envelope: judgement.envelope,
            final_loss: curve.final_loss,
            tokens_per_second: curve.tokens_per_second(run.tokens_per_step),
            inside_seed_spread: judgement.inside_seed_spread,
            run: Some(run.path.clone()),
            environment: run.environment.clone(),
            losses: curve.losses,
            seconds: curve.seconds,
            gradient_norms: curve.gradient_norms,
            ..Entry::without_a_run(entrant, verdict, reason)
        }
    });
    Ok(Comparison {
        experiment_hash: first.identity.experiment.clone(),
        backends: entries.collect(),
        foretoken: env!("CARGO_PKG_VERSION").into(),
        created: environment::now(),
        name: first.experiment.name.clone(),
        initial_weights: first.identity.initial_weights.clone(),
        data: first.identity.data.clone(),
        experiment: first.experiment.to_toml(),
        steps,
        tokens_per_step: first.tokens_per_step,
        lockstep: false,
        reference: Reference {
            losses: of_reference.losses,
            ..reference
        },
        envelopes,
        seeds,
    })
}

/// The envelope in a file or a directory, which has to be of the same experiment where that is said.
fn recorded(path: &Path, identity: &Identity) -> Result<Recorded, Error> {
    let file = match path.is_dir() {
        false => path.to_path_buf(),
        true => [Comparison::FILE, Recorded::FILE]
            .map(|name| path.join(name))
            .into_iter()
            .find(|file| file.is_file())
            .ok_or_else(|| {
                let message = "has neither comparison.json nor envelope.json";
                Error::run_directory(path, message)
            })?,
    };
    let text = std::fs::read_to_string(&file).map_err(Error::io("read", &file))?;
    if let Ok(comparison) = serde_json::from_str::<Comparison>(&text) {
        let ours = (&comparison.experiment_hash, &comparison.data);
        if ours != (&identity.experiment, &identity.data) {
            let message = "was measured on another experiment or other data than the runs";
            return Err(Error::run_directory(&file, message));
        }
        return Ok(Recorded::of(&comparison));
    }
    serde_json::from_str(&text)
        .map_err(|error| Error::run_directory(&file, format!("is no envelope: {error}")))
}
