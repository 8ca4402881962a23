//! Comparison of finished runs, which may have been made on any machine.

use std::path::{Path, PathBuf};

use foretoken_datasets::files;

use super::judge::{Case, Curve};
use super::{Comparison, Entrant, Entry, Recorded, Reference, Unit, Verdict};
use crate::Error;
use crate::experiment::BackendSection;
use crate::record::environment::{self, Environment, History};
use crate::record::identity::{Identity, Origin};
use crate::record::run::{Record, RunDirectory, read_metrics};

/// Finished run, read from its directory.
struct Finished {
    path: PathBuf,
    origin: Origin,
    environment: Option<Environment>,
    curve: Curve,
    /// Reason why the curve has no final loss; `None` if it has one.
    without_final_loss: Option<String>,
    /// Training tokens in a step.
    tokens_per_step: usize,
}

impl Finished {
    fn read(path: &Path) -> Result<Self, Error> {
        let run = RunDirectory::open(path)?;
        let mut curve = Curve::default();
        let mut tokens_per_step = 0;
        let mut evaluated = None;
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
                        let message = format!(
                            "metrics.jsonl holds step {step} where step {} belongs; restore the file",
                            curve.losses.len()
                        );
                        return Err(Error::run_directory(path, message));
                    }
                    if !loss.is_finite() || !gradient_norm.is_finite() {
                        let message = format!(
                            "metrics.jsonl: the loss or the gradient norm of step {step} is not a number, so the run \
                             cannot be compared; leave it out"
                        );
                        return Err(Error::run_directory(path, message));
                    }
                    curve.losses.push(loss);
                    curve.gradient_norms.push(gradient_norm);
                    curve.seconds.push(seconds);
                    if step == 0 {
                        tokens_per_step = tokens;
                    }
                }
                Record::Evaluation { step, loss, .. } => evaluated = Some((step, loss)),
                Record::Probe(_) => {}
            }
        }
        let steps = curve.losses.len();
        if steps == 0 {
            let message = "metrics.jsonl holds no step yet; train the run first, or leave it out";
            return Err(Error::run_directory(path, message));
        }
        // Only an evaluation of the weights after the last step gives the final loss.
        let without_final_loss = match evaluated {
            Some((step, loss)) if step == steps => {
                curve.final_loss = Some(loss);
                None
            }
            Some((step, _)) => Some(format!(
                "the last evaluation is of step {step}, the last step is {steps}"
            )),
            None => Some("the run was never evaluated".into()),
        };
        Ok(Self {
            path: path.into(),
            origin: Origin {
                identity: Identity::of_run(&run)?,
                experiment: run.experiment()?,
            },
            environment: History::of_run(&run)?.map(|history| history.summary()),
            curve,
            without_final_loss,
            tokens_per_step,
        })
    }

    fn entrant(&self) -> Entrant {
        Entrant {
            name: self.backend().name,
            dtype: self.backend().dtype,
        }
    }

    fn backend(&self) -> &BackendSection {
        &self.origin.experiment.backend
    }

    /// Returns the curve over the first `steps` steps, and the reason if it has no final loss.
    fn first_steps(&self, steps: usize, eval_windows: usize) -> (Curve, Option<String>) {
        let taken = self.curve.losses.len();
        let own_windows = self.origin.experiment.train.eval_windows;
        let without = if taken != steps {
            Some(format!("only {steps} of its {taken} steps are compared"))
        } else if own_windows != eval_windows {
            Some(format!(
                "train.eval_windows is {own_windows} here and {eval_windows} for the reference"
            ))
        } else {
            self.without_final_loss.clone()
        };
        let mut curve = truncated(&self.curve, steps);
        if without.is_some() {
            curve.final_loss = None;
        }
        (curve, without)
    }
}

/// Returns the first `steps` steps of a curve, without a final loss if the run took more.
fn truncated(curve: &Curve, steps: usize) -> Curve {
    let mut curve = curve.clone();
    if curve.losses.len() != steps {
        curve.final_loss = None;
    }
    curve.losses.truncate(steps);
    curve.gradient_norms.truncate(steps);
    curve.seconds.truncate(steps);
    curve
}

/// Judges finished runs over the steps that all of them took. The envelope is read from `envelope` (a directory with
/// `comparison.json` or `envelope.json`, or such a file), else from the first run that has one. The reference is the
/// one that the envelope was measured against, or the first run if there is no envelope.
///
/// # Errors
///
/// Returns an error if there is no run, a run cannot be read, the runs are not of the same experiment from the same
/// weights on the same data, or the envelope was measured on another experiment.
pub fn of_runs(paths: &[PathBuf], envelope: Option<&Path>) -> Result<Comparison, Error> {
    let runs = paths
        .iter()
        .map(|path| Finished::read(path))
        .collect::<Result<Vec<_>, Error>>()?;
    let Some(first) = runs.first() else {
        return Err(Error::Experiment {
            origin: "compare".into(),
            message: "no run directory is named; name at least two".into(),
        });
    };
    for run in &runs {
        let differences = first.origin.differences(&run.origin);
        if !differences.is_empty() {
            return Err(Error::run_directory(
                &run.path,
                format!(
                    "is not comparable with {}: they differ in {}; compare runs of one experiment",
                    first.path.display(),
                    differences.join(", ")
                ),
            ));
        }
    }
    let recorded = match envelope {
        Some(path) => Some(recorded(path, first)?),
        None => {
            let files = paths.iter().map(|path| path.join(Recorded::FILE));
            let mut files = files.filter(|file| file.is_file());
            files
                .next()
                .map(|file| recorded(&file, first))
                .transpose()?
        }
    };
    let recorded = recorded.as_ref();
    let measured = recorded.and_then(|recorded| recorded.origin.as_ref());
    let reference_experiment = &measured.unwrap_or(&first.origin).experiment;
    let reference = match recorded {
        Some(recorded) => recorded.reference.clone(),
        None => Reference {
            entrant: first.entrant(),
            losses: first.curve.losses.clone(),
            final_loss: first.curve.final_loss,
            invariance: Vec::new(),
        },
    };
    let environment = match recorded {
        Some(recorded) => &recorded.environment,
        None => &first.environment,
    };
    let taken = runs.iter().map(|run| run.curve.losses.len());
    let steps = taken.min().unwrap_or(0).min(reference.losses.len());
    let curve = truncated(
        &Curve {
            losses: reference.losses.clone(),
            final_loss: reference.final_loss,
            ..Curve::default()
        },
        steps,
    );
    let reference = Reference {
        losses: curve.losses.clone(),
        final_loss: curve.final_loss,
        ..reference
    };
    let mut envelopes = recorded.map_or(vec![], |recorded| recorded.envelopes.clone());
    for envelope in &mut envelopes {
        envelope.loss.truncate(steps);
        envelope.comparable = envelope.comparable.map(|comparable| comparable.min(steps));
        // The weights of finished runs at each step are not known.
        envelope.weights.clear();
    }
    let seeds = recorded.and_then(|recorded| recorded.seeds.clone());
    let is_own = |run: &Finished| {
        let (entrant, of) = (run.entrant(), reference.entrant);
        let precision =
            entrant.dtype == of.dtype || envelopes.iter().any(|e| e.of.dtype == entrant.dtype);
        let machine = match (&run.environment, environment) {
            (Some(here), Some(there)) => here.is_same_machine(there),
            _ => true,
        };
        entrant.name == of.name
            && precision
            && run.backend().fused == reference_experiment.backend.fused
            && machine
    };
    let first_curve = truncated(&first.curve, steps);
    let entries = runs.iter().enumerate().map(|(place, run)| {
        let eval_windows = reference_experiment.train.eval_windows;
        let (run_curve, without_final_loss) = run.first_steps(steps, eval_windows);
        let entrant = run.entrant();
        // Seeds of another precision do not count, because the end of the reference's backend in this one is unknown.
        let seeds = seeds
            .as_ref()
            .filter(|seeds| seeds.dtype.is_none_or(|dtype| dtype == entrant.dtype));
        let mut judgement = Case {
            curve: &run_curve,
            dtype: entrant.dtype,
            checks: &[],
            reference: &curve,
            // Without an envelope, only the same bits as the first run can be established.
            own: (place > 0 && recorded.is_none()).then_some(&first_curve),
            envelope: envelopes.iter().find(|e| e.of.dtype == entrant.dtype),
            seeds,
        }
        .judge();
        if place == 0 && recorded.is_none() {
            judgement.verdict = Verdict::Own;
            judgement.reason = "the others are compared against it".into();
        } else if is_own(run) {
            judgement = judgement.for_own_backend();
        }
        let known: Vec<String> = envelopes.iter().map(|e| e.of.dtype.to_string()).collect();
        let has_envelope = envelopes.iter().any(|e| e.of.dtype == entrant.dtype);
        if judgement.verdict == Verdict::Unavailable && !known.is_empty() && !has_envelope {
            judgement.reason = format!(
                "the envelope is for {}, and this run computes in {}",
                known.join(" and "),
                entrant.dtype
            );
        }
        if let Some(without) = without_final_loss {
            judgement.reason += &format!("; no final loss: {without}");
        }
        Entry {
            fused: run.backend().fused,
            run: Some(run.path.clone()),
            environment: run.environment.clone(),
            ..judgement.entry(entrant, run_curve, run.tokens_per_step)
        }
    });
    let Origin {
        identity,
        experiment,
    } = &first.origin;
    Ok(Comparison {
        experiment_hash: identity.experiment.clone(),
        backends: entries.collect(),
        foretoken: env!("CARGO_PKG_VERSION").into(),
        created: environment::now(),
        name: experiment.name.clone(),
        initial_weights: identity.initial_weights.clone(),
        data: identity.data.clone(),
        experiment: experiment.to_toml(),
        steps,
        unit: Unit::Tokens,
        tokens_per_step: first.tokens_per_step,
        lockstep: false,
        reference,
        envelopes,
        seeds,
    })
}

/// Reads the envelope from a file or a directory, and checks that it belongs to the experiment of `run`.
fn recorded(path: &Path, run: &Finished) -> Result<Recorded, Error> {
    let file = match path.is_dir() {
        false => path.to_path_buf(),
        true => [Comparison::FILE, Recorded::FILE]
            .map(|name| path.join(name))
            .into_iter()
            .find(|file| file.is_file())
            .ok_or_else(|| {
                let message = "has neither comparison.json nor envelope.json; name the directory of a comparison with \
                               --envelope";
                Error::run_directory(path, message)
            })?,
    };
    let refused = |message: String| Error::run_directory(&file, message);
    let text = files::read_small_text(&file, Comparison::LARGEST)
        .map_err(|error| refused(format!("cannot be read: {error}")))?;
    let recorded = match serde_json::from_str::<Comparison>(&text) {
        Ok(comparison) => Recorded::of(&comparison)?,
        Err(_) => serde_json::from_str::<Recorded>(&text)
            .map_err(|error| refused(format!("is not an envelope file: {error}")))?,
    };
    let losses = &recorded.reference.losses;
    let is_curve = |of: &[f64]| of.len() == losses.len() && of.iter().all(|loss| loss.is_finite());
    let bounds = recorded.envelopes.iter().map(|envelope| &envelope.loss);
    let seeds = recorded.seeds.iter().flat_map(|seeds| &seeds.losses);
    if losses.is_empty()
        || ![losses]
            .into_iter()
            .chain(bounds)
            .chain(seeds)
            .all(|of| is_curve(of))
    {
        return Err(refused(
            "is not an envelope file: its curves are empty, have different lengths, or hold a value that is not a \
             number; restore the file"
                .into(),
        ));
    }
    let Some(origin) = &recorded.origin else {
        return Err(refused(
            "does not record the experiment that it was measured on, because an older version wrote it; name the \
             directory of its comparison with --envelope, or run `foretoken compare` again"
                .into(),
        ));
    };
    let differences = origin.differences(&run.origin);
    if !differences.is_empty() {
        return Err(refused(format!(
            "was measured on another experiment than {}: they differ in {}; measure an envelope for the run with \
             `foretoken compare {}`",
            run.path.display(),
            differences.join(", "),
            run.path.join("experiment.toml").display()
        )));
    }
    Ok(recorded)
}
