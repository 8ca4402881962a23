//! Runs of an experiment on every backend, and the verdicts on them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::judge::{Case, Curve, Judgement};
use super::memory::Peak;
use super::plan::CompareOptions;
use super::runs::free_name;
use super::statistics::prediction_half_width;
use super::step_checks::{MeasuredStep, Rounding, StepInputs, checked_steps};
use super::training::{Outline, Training, TrainingRun};
use super::variant::Variant;
use super::{
    Check, Comparison, Entrant, Entry, Envelope, Event, Invariance, Plan, PlannedRun, Reference,
    Role, Seeds, Verdict, Watcher,
};
use crate::Error;
use crate::backend::panics::caught;
use crate::backend::precision::Precision;
use crate::engine::parameters::{Parameters, total_distance};
use crate::record::environment::{self, Environment};
use crate::record::identity::Identity;
use crate::record::run::MetricsLog;

/// Runs the plan; returns `None` if the watcher stops it.
pub(super) fn measure<T: Training>(
    training: &T,
    options: &CompareOptions,
    plan: Plan,
    directory: Option<&Path>,
    watcher: &mut dyn Watcher,
) -> Result<Option<Comparison>, Error> {
    let identity = training.identity(plan.reference)?;
    watcher.event(Event::Planned(plan.clone()));
    let mut live = Live::new(training, options, plan, directory, watcher)?;
    if !live.run()? {
        return Ok(None);
    }
    Ok(Some(live.comparison(identity)))
}

/// Index of the reference among the runs.
const REFERENCE: usize = 0;

/// Run of the plan, with its state while it runs and its results.
struct Run<R> {
    planned: PlannedRun,
    variant: Variant,
    /// `None` before its first step, after its last, and after a failure.
    running: Option<R>,
    peak: Option<Peak>,
    curve: Curve,
    checks: Vec<Check>,
    invariance: Vec<Invariance>,
    directory: Option<PathBuf>,
    log: Option<MetricsLog>,
}

/// Comparison under way.
struct Live<'a, T: Training> {
    training: &'a T,
    outline: Outline,
    plan: Plan,
    directory: Option<&'a Path>,
    watcher: &'a mut dyn Watcher,
    runs: Vec<Run<T::Run>>,
    seeds: Option<Seeds>,
}

impl<'a, T: Training> Live<'a, T> {
    fn new(
        training: &'a T,
        options: &CompareOptions,
        plan: Plan,
        directory: Option<&'a Path>,
        watcher: &'a mut dyn Watcher,
    ) -> Result<Self, Error> {
        let mut runs: Vec<Run<T::Run>> = Vec::new();
        let mut entrants = 0;
        // Indices of the named backends that can run.
        let available: Vec<usize> = (0..options.entrants.len())
            .filter(|index| {
                let named = &options.entrants[*index];
                !plan.unavailable.iter().any(|(entrant, _)| entrant == named)
            })
            .collect();
        for planned in &plan.runs {
            let mut variant = Variant::default();
            match planned.role {
                Role::Reference => {}
                Role::Rounding => {
                    let before = runs.iter().map(|run| run.planned);
                    let before = before.filter(|run| run == planned).count() as u64;
                    let unchanged = before == 0 && planned.entrant != plan.reference;
                    variant.nudge = (!unchanged).then_some(before);
                }
                Role::Seed(seed) => variant.seed = Some(seed),
                Role::Entrant => {
                    let perturbation = options.perturbations.get(&available[entrants]);
                    variant.perturbation = perturbation.cloned().unwrap_or_default();
                    entrants += 1;
                }
            }
            runs.push(Run {
                planned: *planned,
                variant,
                running: None,
                peak: None,
                curve: Curve::default(),
                checks: Vec::new(),
                invariance: Vec::new(),
                directory: None,
                log: None,
            });
        }
        Ok(Self {
            training,
            outline: training.outline(),
            plan,
            directory,
            watcher,
            runs,
            seeds: None,
        })
    }

    /// Runs everything; returns false if interrupted.
    fn run(&mut self) -> Result<bool, Error> {
        let all = 0..self.runs.len();
        let rounds: Vec<Vec<usize>> = match self.plan.lockstep {
            true => vec![all.collect()],
            false => all.map(|run| vec![run]).collect(),
        };
        for runs in rounds {
            for run in &runs {
                self.start(*run)?;
            }
            // Each event carries the whole envelope, so events are throttled.
            let envelope_interval = self.plan.steps.div_ceil(500);
            let checked = match runs[0] {
                REFERENCE => checked_steps(self.plan.steps),
                _ => Vec::new(),
            };
            for step in 1..=self.plan.steps {
                if checked.contains(&(step - 1)) && !self.check()? {
                    return Ok(false);
                }
                let expected = match self.plan.lockstep {
                    true => Some(self.step(runs[0], None)?.unwrap_or_default()),
                    false => None,
                };
                for run in runs.iter().skip(usize::from(self.plan.lockstep)) {
                    self.step(*run, expected.as_ref())?;
                    if self.watcher.wants_to_stop() {
                        return Ok(false);
                    }
                }
                let is_due = step.is_multiple_of(envelope_interval) || step == self.plan.steps;
                if self.plan.lockstep && is_due {
                    self.envelopes().into_iter().for_each(|envelope| {
                        self.watcher.event(Event::Enveloped(envelope));
                    });
                }
            }
            for run in &runs {
                if !self.end(*run)? {
                    return Ok(false);
                }
            }
            for run in runs {
                self.publish(run);
            }
        }
        Ok(true)
    }

    /// Checks every backend under test at the step that the reference takes next; returns false if interrupted.
    fn check(&mut self) -> Result<bool, Error> {
        let Some(run) = &self.runs[REFERENCE].running else {
            return Ok(true);
        };
        let on = self.plan.reference;
        let (inputs, reference) = attempt(|| {
            let inputs = StepInputs::new(self.training, on, run)?;
            let variant = Variant::default();
            let step = MeasuredStep::measure(self.training, on, &variant, &inputs)?;
            Ok((inputs, step))
        })
        .map_err(|failure| reference_failed(on, &failure))?;
        let terms = self.outline.terms;
        let mut rounding = HashMap::<Precision, Rounding>::new();
        for number in 0..self.runs.len() {
            if self.watcher.wants_to_stop() {
                return Ok(false);
            }
            let run = &mut self.runs[number];
            let entrant = run.planned.entrant;
            let measure = || MeasuredStep::measure(self.training, entrant, &run.variant, &inputs);
            match run.planned.role {
                Role::Rounding => {
                    if let Ok(step) = attempt(measure) {
                        let of = rounding.entry(entrant.dtype);
                        let of = of.or_insert_with(|| Rounding::new(terms));
                        of.add(&step, &reference, entrant.dtype);
                    }
                }
                Role::Entrant if run.curve.failure.is_none() => {
                    let Some(rounding) = rounding.get(&entrant.dtype) else {
                        continue;
                    };
                    match attempt(measure) {
                        Ok(step) => {
                            let checks = step.checks(&reference, rounding, &inputs, entrant.dtype);
                            run.checks.extend(checks);
                            self.watcher.event(Event::Checked {
                                run: number,
                                checks: run.checks.clone(),
                            });
                        }
                        Err(failure) => {
                            run.curve.failure = Some(failure);
                            // In lockstep the run has already started.
                            if run.running.take().is_some() {
                                self.report_end(number);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Prepares a run for its first step.
    fn start(&mut self, number: usize) -> Result<(), Error> {
        self.watcher.event(Event::Started { run: number });
        let run = &mut self.runs[number];
        let entrant = run.planned.entrant;
        if run.planned.role == Role::Entrant
            && let Some(directory) = self.directory
        {
            let name = free_name(directory, entrant);
            let directory = directory.join(&name);
            match attempt(|| self.training.open_log(entrant, &directory)) {
                Ok(Some(log)) => (run.directory, run.log) = (Some(name.into()), Some(log)),
                Ok(None) => {}
                Err(failure) => run.curve.failure = Some(failure),
            }
        }
        // In lockstep runs share the memory of the process and the device.
        if !self.plan.lockstep
            && let Ok(device) = entrant.name.device()
        {
            run.peak = Some(Peak::start(&device));
        }
        if run.curve.failure.is_none() {
            match attempt(|| self.training.start(entrant, &run.variant, None)) {
                Ok(running) => run.running = Some(running),
                Err(failure) => run.curve.failure = Some(failure),
            }
        }
        if run.running.is_none() {
            self.report_end(number);
        }
        Ok(())
    }

    /// Takes the next step of a run that still runs; returns its weights after the step if in lockstep.
    fn step(
        &mut self,
        number: usize,
        expected: Option<&Parameters>,
    ) -> Result<Option<Parameters>, Error> {
        let lockstep = self.plan.lockstep;
        let run = &mut self.runs[number];
        let Some(running) = &mut run.running else {
            return Ok(None);
        };
        let taken = attempt(|| {
            let step = running.step()?;
            let weights = match lockstep {
                true => Some(running.weights()?),
                false => None,
            };
            Ok((step, weights))
        });
        let (taken, weights) = match taken {
            Ok(taken) => taken,
            Err(failure) => {
                run.running = None;
                run.curve.failure = Some(failure);
                self.report_end(number);
                return Ok(None);
            }
        };
        let weights_distance = match (&weights, expected) {
            (Some(weights), Some(expected)) => Some(total_distance(weights, expected)),
            _ => None,
        };
        if let Some(peak) = &mut run.peak {
            peak.sample();
        }
        running.record(&mut run.log)?;
        run.curve.push(taken);
        run.curve.weights_distance.extend(weights_distance);
        self.watcher.event(Event::Step {
            run: number,
            step: taken.step,
            loss: taken.loss,
            seconds: taken.seconds,
            weights_distance,
        });
        Ok(weights)
    }

    /// Evaluates a run that took all its steps, checks that it computes the same outputs in every way, and drops its
    /// state; returns false if interrupted.
    fn end(&mut self, number: usize) -> Result<bool, Error> {
        let run = &mut self.runs[number];
        if let Some(running) = &mut run.running {
            let stop = || self.watcher.wants_to_stop();
            match attempt(|| running.evaluate(&mut run.log, &stop)) {
                Ok(None) => return Ok(false),
                Ok(loss) => run.curve.final_loss = loss,
                Err(failure) => run.curve.failure = Some(failure),
            }
        }
        if self.runs[number].running.is_some() {
            self.report_end(number);
        }
        // After the end is reported, so that the run's peak memory is that of training and evaluation.
        let run = &mut self.runs[number];
        let planned = run.planned;
        if let Some(running) = &run.running
            && run.curve.failure.is_none()
            && matches!(planned.role, Role::Reference | Role::Entrant)
        {
            match attempt(|| running.invariance()) {
                Ok(invariance) => run.invariance = invariance,
                Err(failure) => {
                    let what = "logits with a cache or in a batch could not be computed";
                    run.curve.failure = Some(format!("{what}: {failure}"));
                }
            }
        }
        run.running = None;
        if let Some(log) = run.log.take() {
            log.sync()?;
        }
        match (run.planned.role, &run.curve.failure) {
            (Role::Reference, Some(failure)) => Err(reference_failed(run.planned.entrant, failure)),
            _ => Ok(true),
        }
    }

    /// Records a run's peak memory and sends the event of its end.
    fn report_end(&mut self, number: usize) {
        let run = &mut self.runs[number];
        run.curve.peak_memory_bytes = run.peak.take().and_then(|peak| peak.bytes());
        self.watcher.event(Event::Ended {
            run: number,
            peak_memory_bytes: run.curve.peak_memory_bytes,
            failure: run.curve.failure.clone(),
        });
    }

    /// Sends the events that follow from the end of a run: envelopes or its verdict.
    fn publish(&mut self, number: usize) {
        let planned = self.runs[number].planned;
        let last_of_role = !self.runs[number + 1..]
            .iter()
            .any(|run| same_purpose(run.planned, planned));
        match planned.role {
            Role::Reference => {}
            Role::Rounding if last_of_role => {
                if let Some(envelope) = self.envelope(planned.entrant.dtype) {
                    self.watcher.event(Event::Enveloped(envelope));
                }
            }
            Role::Seed(_) if last_of_role => {
                self.seeds = self.spread(planned.entrant.dtype);
                // The number of comparable steps depends on the seeds.
                self.envelopes().into_iter().for_each(|envelope| {
                    self.watcher.event(Event::Enveloped(envelope));
                });
            }
            Role::Rounding | Role::Seed(_) => {}
            Role::Entrant => {
                let judgement = self.judge(number);
                self.watcher.event(Event::Judged {
                    run: number,
                    verdict: judgement.verdict,
                    reason: judgement.reason,
                });
            }
        }
    }

    fn judge(&self, number: usize) -> Judgement {
        let run = &self.runs[number];
        let dtype = run.planned.entrant.dtype;
        let judgement = Case {
            curve: &run.curve,
            dtype,
            checks: &run.checks,
            reference: &self.runs[REFERENCE].curve,
            own: self.own_curve(dtype),
            envelope: self.envelope(dtype).as_ref(),
            seeds: self.seeds.as_ref(),
        }
        .judge()
        .with_invariance(&run.invariance);
        // The reference's backend has also run for the envelope, in every tested precision that it computes in.
        let is_own = run.planned.entrant.name == self.plan.reference.name
            && run.variant.perturbation.is_none();
        match is_own {
            true => judgement.for_own_backend(),
            false => judgement,
        }
    }

    /// Returns the run of the reference's backend in a precision with unchanged weights.
    fn own_curve(&self, dtype: Precision) -> Option<&Curve> {
        let own = |run: &&Run<T::Run>| {
            matches!(run.planned.role, Role::Reference | Role::Rounding)
                && run.planned.entrant.dtype == dtype
                && run.variant.nudge.is_none()
                && run.curve.failure.is_none()
        };
        self.runs.iter().find(own).map(|run| &run.curve)
    }

    fn envelope(&self, dtype: Precision) -> Option<Envelope> {
        let of = Entrant {
            name: self.plan.reference.name,
            dtype,
        };
        let runs: Vec<&Curve> = self
            .runs
            .iter()
            .filter(|run| run.planned.role == Role::Rounding && run.planned.entrant == of)
            .map(|run| &run.curve)
            .filter(|curve| curve.failure.is_none())
            .collect();
        let reference = &self.runs[REFERENCE].curve;
        let mut envelope = Envelope::measure(of, &runs, reference)?;
        let comparable = envelope.comparable_steps(&reference.losses, self.seeds.as_ref());
        envelope.comparable = Some(comparable);
        Some(envelope)
    }

    /// Returns one envelope for each precision.
    fn envelopes(&self) -> Vec<Envelope> {
        Precision::ALL
            .into_iter()
            .filter_map(|dtype| self.envelope(dtype))
            .collect()
    }

    fn spread(&self, dtype: Precision) -> Option<Seeds> {
        let first = self.own_curve(dtype)?;
        let others = self.runs.iter().filter_map(|run| match run.planned.role {
            Role::Seed(seed) if run.curve.failure.is_none() => Some((seed, &run.curve)),
            _ => None,
        });
        let seed = self.outline.seed;
        let (seeds, curves): (Vec<u64>, Vec<&Curve>) =
            std::iter::once((seed, first)).chain(others).unzip();
        let final_losses: Vec<f64> = curves.iter().filter_map(|curve| curve.final_loss).collect();
        if final_losses.len() < 2 || final_losses.len() < seeds.len() {
            return None;
        }
        Some(Seeds {
            seeds,
            losses: curves.iter().map(|curve| curve.losses.clone()).collect(),
            spread: prediction_half_width(&final_losses, final_losses.len()),
            final_losses,
            dtype: Some(dtype),
        })
    }

    fn comparison(&self, identity: Identity) -> Comparison {
        let fused = self.outline.fused;
        let entry = |number: usize| {
            let run = &self.runs[number];
            Entry {
                fused,
                run: run.directory.clone(),
                environment: Some(Environment::capture(run.planned.entrant.name)),
                checks: run.checks.clone(),
                invariance: run.invariance.clone(),
                ..self.judge(number).entry(
                    run.planned.entrant,
                    run.curve.clone(),
                    self.plan.items_per_step,
                )
            }
        };
        let entrants = (0..self.runs.len())
            .filter(|number| self.runs[*number].planned.role == Role::Entrant)
            .map(entry);
        let unavailable = self.plan.unavailable.iter();
        let unavailable = unavailable.map(|(entrant, reason)| Entry {
            fused,
            ..Entry::without_a_run(*entrant, Verdict::Unavailable, reason.clone())
        });
        let reference = &self.runs[REFERENCE].curve;
        Comparison {
            reference: Reference {
                entrant: self.plan.reference,
                losses: reference.losses.clone(),
                final_loss: reference.final_loss,
                invariance: self.runs[REFERENCE].invariance.clone(),
            },
            experiment_hash: identity.experiment,
            backends: entrants.chain(unavailable).collect(),
            foretoken: env!("CARGO_PKG_VERSION").into(),
            created: environment::now(),
            name: self.plan.name.clone(),
            initial_weights: identity.initial_weights,
            data: identity.data,
            experiment: self.outline.experiment.clone(),
            steps: self.plan.steps,
            tokens_per_step: self.plan.items_per_step,
            unit: self.plan.unit,
            lockstep: self.plan.lockstep,
            envelopes: self.envelopes(),
            seeds: self.seeds.clone(),
        }
    }
}

/// Does `work`; returns the reason of a failure as a sentence for a table.
fn attempt<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, String> {
    caught(|| {
        work().map_err(|error| match error {
            Error::Training(reason) => reason,
            Error::NotFinite {
                loss,
                step,
                gradient_norm,
                ..
            } => format!("the loss is {loss} and the gradient norm {gradient_norm} at step {step}"),
            error => error.to_string(),
        })
    })
}

fn reference_failed(reference: Entrant, failure: &str) -> Error {
    Error::Training(format!("the reference, {reference}, failed: {failure}"))
}

fn same_purpose(a: PlannedRun, b: PlannedRun) -> bool {
    match (a.role, b.role) {
        (Role::Rounding, Role::Rounding) => a.entrant == b.entrant,
        (Role::Seed(_), Role::Seed(_)) => true,
        _ => false,
    }
}
