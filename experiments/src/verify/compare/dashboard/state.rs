//! What is known of a comparison under way: events go in, numbers come out. No clock, no terminal.

use std::time::Duration;

use crate::backend::precision::Precision;
use crate::show::statistics::median_of_sorted;
use crate::verify::compare::{Check, Entrant, Envelope, Event, Plan, Role, Verdict};

/// Everything that is shown.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Nothing until the first event.
    pub(super) plan: Option<Plan>,
    /// As in the plan.
    pub(super) runs: Vec<Run>,
    /// At most one for each entrant.
    pub(super) envelopes: Vec<Envelope>,
    reference: Option<usize>,
}

/// A planned run, and what it did so far.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) role: Role,
    pub(super) entrant: Entrant,
    pub(super) phase: Phase,
    /// Nats per token.
    pub(super) losses: Points,
    /// |loss − reference's loss|, where both are known.
    pub(super) differences: Points,
    /// The largest difference and its step. A difference that is no number counts as larger than any.
    pub(super) worst: Option<(usize, f64)>,
    /// Of the last step; in lockstep only.
    pub(super) weights_distance: Option<f64>,
    pub(super) checks: Option<Vec<Check>>,
    pub(super) peak_memory_bytes: Option<u64>,
    pub(super) verdict: Option<(Verdict, String)>,
    /// When something last happened to it.
    pub(super) touched: Duration,
    pub(super) began: Duration,
    /// Of each step, sorted: the median is in the middle.
    seconds: Vec<f64>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    Waiting,
    /// Its first step is not done.
    Starting,
    Stepping,
    Ended,
    /// With the reason.
    Failed(String),
}

/// Values by step, in the order of steps. Steps may be missing.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Points(Vec<(usize, f64)>);

impl Points {
    fn set(&mut self, step: usize, value: f64) {
        // Nearly always the next step, found at once at the end.
        if self.0.last().is_none_or(|&(last, _)| last < step) {
            return self.0.push((step, value));
        }
        match self.0.binary_search_by_key(&step, |&(step, _)| step) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (step, value)),
        }
    }

    fn get(&self, step: usize) -> Option<f64> {
        let at = self.0.binary_search_by_key(&step, |&(step, _)| step);
        at.ok().map(|at| self.0[at].1)
    }

    pub(super) fn last(&self) -> Option<(usize, f64)> {
        self.0.last().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, f64)> + Clone {
        self.0.iter().copied()
    }
}

impl Run {
    fn new(role: Role, entrant: Entrant) -> Self {
        Self {
            role,
            entrant,
            phase: Phase::Waiting,
            losses: Points::default(),
            differences: Points::default(),
            worst: None,
            weights_distance: None,
            checks: None,
            peak_memory_bytes: None,
            verdict: None,
            touched: Duration::ZERO,
            began: Duration::ZERO,
            seconds: Vec::new(),
        }
    }

    /// Whether it is at work.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Stepping)
    }

    /// Whether nothing more is to be waited for.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Failed(_))
    }

    /// Median time of a step; nothing before the first.
    pub(super) fn step_seconds(&self) -> Option<f64> {
        median_of_sorted(&self.seconds)
    }

    fn compare(&mut self, step: usize, reference: f64) {
        let Some(loss) = self.losses.get(step) else {
            return;
        };
        let difference = (loss - reference).abs();
        self.differences.set(step, difference);
        let larger = self
            .worst
            .is_none_or(|(_, worst)| difference.total_cmp(&worst).is_gt());
        if larger {
            self.worst = Some((step, difference));
        }
    }
}

impl State {
    /// Takes in what happened at `now`, counted from when watching began. What makes no sense is ignored: a
    /// display is no place to fail in.
    pub(super) fn apply(&mut self, event: Event, now: Duration) {
        match event {
            Event::Planned(plan) => {
                let runs = plan.runs.iter();
                *self = Self {
                    runs: runs.map(|run| Run::new(run.role, run.entrant)).collect(),
                    reference: plan.runs.iter().position(|run| run.role == Role::Reference),
                    envelopes: Vec::new(),
                    plan: Some(plan),
                };
            }
            Event::Enveloped(envelope) => {
                match self.envelopes.iter_mut().find(|of| of.of == envelope.of) {
                    Some(known) => *known = envelope,
                    None => self.envelopes.push(envelope),
                }
            }
            Event::Started { run } => self.touch(run, now, |run| {
                run.phase = Phase::Starting;
                run.began = now;
            }),
            Event::Checked { run, checks } => {
                self.touch(run, now, |run| run.checks = Some(checks));
            }
            Event::Step {
                run: index,
                step,
                loss,
                seconds,
                weights_distance,
            } => {
                self.touch(index, now, |run| {
                    run.phase = Phase::Stepping;
                    run.losses.set(step, loss);
                    run.weights_distance = weights_distance.or(run.weights_distance);
                    if seconds.is_finite() && seconds >= 0.0 {
                        let at = run.seconds.partition_point(|&other| other < seconds);
                        run.seconds.insert(at, seconds);
                    }
                });
                self.compare(index, step);
            }
            Event::Ended {
                run,
                peak_memory_bytes,
                failure,
            } => self.touch(run, now, |run| {
                run.peak_memory_bytes = peak_memory_bytes;
                run.phase = failure.map_or(Phase::Ended, Phase::Failed);
            }),
            Event::Judged {
                run,
                verdict,
                reason,
            } => self.touch(run, now, |run| run.verdict = Some((verdict, reason))),
        }
    }

    fn touch(&mut self, run: usize, now: Duration, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.runs.get_mut(run) {
            run.touched = now;
            change(run);
        }
    }

    fn compare(&mut self, index: usize, step: usize) {
        let Some(reference) = self.reference else {
            return;
        };
        let loss = self.runs[reference].losses.get(step);
        let Some(loss) = loss else { return };
        for (other, run) in self.runs.iter_mut().enumerate() {
            // In lockstep an entrant may take a step before the reference does.
            if other != reference && (other == index || index == reference) {
                run.compare(step, loss);
            }
        }
    }

    /// Optimizer steps of each run.
    pub(super) fn steps(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| plan.steps)
    }

    /// Whether all runs take each step together.
    pub(super) fn lockstep(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.lockstep)
    }

    /// Whether nothing more is to be expected of a run. In lockstep, who misses a step has failed, although that
    /// is told only when all end.
    pub(super) fn is_out(&self, run: &Run) -> bool {
        let lead = || self.runs.iter().map(|run| run.losses.len()).max();
        run.is_over() || self.lockstep() && run.losses.len() + 1 < lead().unwrap_or(0)
    }

    /// Training tokens per second at the median step.
    pub(super) fn tokens_per_second(&self, run: &Run) -> Option<f64> {
        let tokens = self.plan.as_ref()?.tokens_per_step as f64;
        run.step_seconds()
            .filter(|&seconds| seconds > 0.0)
            .map(|seconds| tokens / seconds)
    }

    /// What rounding explains in a precision.
    pub(super) fn envelope(&self, dtype: Precision) -> Option<&Envelope> {
        self.envelopes
            .iter()
            .find(|envelope| envelope.of.dtype == dtype)
    }

    /// The first step at which a run lies outside the envelope, as far as that is known and tells anything.
    pub(super) fn first_outside(&self, run: &Run) -> Option<usize> {
        let envelope = self.envelope(run.entrant.dtype)?;
        let bounds = &envelope.loss;
        let known = envelope.comparable.unwrap_or(bounds.len());
        run.differences
            .iter()
            .take_while(|&(step, _)| step < bounds.len().min(known))
            .find(|&(step, difference)| !is_within(difference, bounds[step]))
            .map(|(step, _)| step)
    }

    /// Which of its kind a run is, counted from 1, and how many there are.
    pub(super) fn place(&self, index: usize) -> (usize, usize) {
        let Some(run) = self.runs.get(index) else {
            return (0, 0);
        };
        let alike = |other: &&Run| other.role == run.role && other.entrant == run.entrant;
        (
            self.runs[..=index].iter().filter(alike).count(),
            self.runs.iter().filter(alike).count(),
        )
    }

    /// The runs at work, by their places in the plan.
    pub(super) fn active(&self) -> impl Iterator<Item = (usize, &Run)> {
        let runs = self.runs.iter().enumerate();
        runs.filter(|(_, run)| run.is_active() && !self.is_out(run))
    }
}

/// No number is within nothing.
fn is_within(difference: f64, bound: f64) -> bool {
    difference <= bound
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ended, entrant, plan, step};
    use super::*;

    fn after(events: impl IntoIterator<Item = Event>) -> State {
        let mut state = State::default();
        for (second, event) in events.into_iter().enumerate() {
            state.apply(event, Duration::from_secs(second as u64));
        }
        state
    }

    #[test]
    fn a_run_waits_starts_steps_and_ends() {
        let mut state = after([Event::Planned(plan(2))]);
        assert_eq!(state.runs[0].phase, Phase::Waiting);
        state.apply(Event::Started { run: 0 }, Duration::from_secs(3));
        assert_eq!(state.runs[0].phase, Phase::Starting);
        assert_eq!(state.active().count(), 1);
        state.apply(step(0, 0, 4.0), Duration::from_secs(5));
        assert_eq!(state.runs[0].phase, Phase::Stepping);
        assert_eq!(state.runs[0].began, Duration::from_secs(3));
        assert_eq!(state.runs[0].touched, Duration::from_secs(5));
        state.apply(ended(0, None), Duration::from_secs(6));
        assert!(state.runs[0].is_over() && !state.runs[0].is_active());
        state.apply(ended(1, Some("no device")), Duration::from_secs(7));
        assert_eq!(state.runs[1].phase, Phase::Failed("no device".into()));
    }

    #[test]
    fn differences_are_taken_at_equal_steps_whoever_comes_first() {
        let state = after([
            Event::Planned(plan(2)),
            step(0, 0, 4.0),
            step(1, 0, 4.5),
            step(1, 1, 3.0),
            step(0, 1, 3.25),
            step(1, 2, 1.0),
        ]);
        let differences: Vec<_> = state.runs[1].differences.iter().collect();
        assert_eq!(differences, [(0, 0.5), (1, 0.25)]);
        assert_eq!(state.runs[1].worst, Some((0, 0.5)));
        assert_eq!(state.runs[0].differences.len(), 0);
    }

    #[test]
    fn a_difference_that_is_no_number_is_the_worst() {
        let state = after([
            Event::Planned(plan(2)),
            step(0, 0, 4.0),
            step(0, 1, 4.0),
            step(1, 0, f64::NAN),
            step(1, 1, f64::INFINITY),
        ]);
        let (at, worst) = state.runs[1].worst.expect("two differences");
        assert!(at == 0 && worst.is_nan());
    }

    #[test]
    fn the_median_is_not_the_first_slow_step() {
        let mut state = after([Event::Planned(plan(2))]);
        for (index, seconds) in [30.0, 0.5, 0.25, f64::NAN, -1.0].into_iter().enumerate() {
            let event = Event::Step {
                run: 0,
                step: index,
                loss: 1.0,
                seconds,
                weights_distance: None,
            };
            state.apply(event, Duration::ZERO);
        }
        assert_eq!(state.runs[0].step_seconds(), Some(0.5));
        assert_eq!(state.tokens_per_second(&state.runs[0]), Some(2048.0));
    }

    #[test]
    fn the_envelope_grows_and_tells_who_is_outside() {
        let envelope = |loss: &[f64]| {
            Event::Enveloped(Envelope {
                of: entrant(0),
                runs: 8,
                quantile: 0.95,
                comparable: None,
                losses: Vec::new(),
                final_losses: Vec::new(),
                factor: 2.0,
                loss: loss.to_vec(),
                weights: Vec::new(),
            })
        };
        let mut state = after([
            Event::Planned(plan(2)),
            envelope(&[0.1]),
            step(0, 0, 4.0),
            step(0, 1, 4.0),
            step(1, 0, 4.0),
            step(1, 1, 4.5),
        ]);
        assert_eq!(state.first_outside(&state.runs[1]), None);
        state.apply(envelope(&[0.1, 0.2]), Duration::ZERO);
        assert_eq!(state.envelopes.len(), 1);
        assert_eq!(state.first_outside(&state.runs[1]), Some(1));
    }

    #[test]
    fn runs_of_a_kind_are_counted() {
        let state = after([Event::Planned(super::super::tests::full_plan())]);
        let places: Vec<_> = (0..state.runs.len())
            .filter(|&run| state.runs[run].role == Role::Rounding)
            .map(|run| state.place(run))
            .collect();
        assert_eq!(places, [(1, 3), (2, 3), (3, 3)]);
        assert_eq!(state.place(1000), (0, 0));
    }
}
