//! State of a comparison under way, computed from its events without a clock or a terminal.

use std::time::Duration;

use crate::backend::precision::Precision;
use crate::show::format;
use crate::show::statistics::median_of_sorted;
use crate::verify::compare::{Check, Entrant, Envelope, Event, Plan, Role, Verdict};

/// State that the display is drawn from.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The plan; `None` before the first event.
    pub(super) plan: Option<Plan>,
    /// The runs, in the order of the plan.
    pub(super) runs: Vec<Run>,
    /// At most one envelope for each precision.
    pub(super) envelopes: Vec<Envelope>,
    reference: Option<usize>,
}

/// Planned run with its results so far.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) role: Role,
    pub(super) entrant: Entrant,
    pub(super) phase: Phase,
    /// Losses, in nats per token.
    pub(super) losses: Points,
    /// |loss − reference's loss| at the steps at which both are known.
    pub(super) differences: Points,
    /// The step and the value of the largest difference. NaN counts as larger than any number.
    pub(super) worst: Option<(usize, f64)>,
    /// Distance of weights after the last step; `None` unless in lockstep.
    pub(super) weights_distance: Option<f64>,
    pub(super) checks: Option<Vec<Check>>,
    pub(super) peak_memory_bytes: Option<u64>,
    pub(super) verdict: Option<(Verdict, String)>,
    /// Time of the last event of this run.
    pub(super) updated: Duration,
    pub(super) began: Duration,
    /// Seconds of each step, sorted for the median.
    seconds: Vec<f64>,
}

/// Phase of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    Waiting,
    /// The first step is not done.
    Starting,
    Stepping,
    Ended,
    /// The run failed for this reason.
    Failed(String),
}

/// Values by step, in the order of steps. Steps may be missing.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Points(Vec<(usize, f64)>);

impl Points {
    fn set(&mut self, step: usize, value: f64) {
        // Nearly always this is the next step, which needs no search.
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
            updated: Duration::ZERO,
            began: Duration::ZERO,
            seconds: Vec::new(),
        }
    }

    /// Returns whether the run is under way.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Stepping)
    }

    /// Returns whether the run has ended or failed.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Failed(_))
    }

    /// Returns the median time of a step; `None` before the first.
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
    /// Applies an event at `now`, counted from the start of the display. An inconsistent event is ignored, because a
    /// display must not fail.
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
            Event::Started { run } => self.update(run, now, |run| {
                run.phase = Phase::Starting;
                run.began = now;
            }),
            Event::Checked { run, checks } => {
                self.update(run, now, |run| run.checks = Some(checks));
            }
            Event::Step {
                run: index,
                step,
                loss,
                seconds,
                weights_distance,
            } => {
                self.update(index, now, |run| {
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
            } => self.update(run, now, |run| {
                run.peak_memory_bytes = peak_memory_bytes;
                run.phase = failure.map_or(Phase::Ended, Phase::Failed);
            }),
            Event::Judged {
                run,
                verdict,
                reason,
            } => self.update(run, now, |run| run.verdict = Some((verdict, reason))),
        }
    }

    fn update(&mut self, run: usize, now: Duration, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.runs.get_mut(run) {
            run.updated = now;
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
            // An event of a run may arrive before the reference's event of that step.
            if other != reference && (other == index || index == reference) {
                run.compare(step, loss);
            }
        }
    }

    /// Returns the number of optimizer steps of each run.
    pub(super) fn steps(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| plan.steps)
    }

    /// Returns whether all runs take each step together.
    pub(super) fn lockstep(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.lockstep)
    }

    /// Returns whether a run takes no more steps. In lockstep, a run that misses a step has failed, although its event
    /// comes only at the end of all runs.
    pub(super) fn has_stopped(&self, run: &Run) -> bool {
        let lead = || self.runs.iter().map(|run| run.losses.len()).max();
        run.is_over() || self.lockstep() && run.losses.len() + 1 < lead().unwrap_or(0)
    }

    /// Returns training tokens per second at the median step.
    pub(super) fn tokens_per_second(&self, run: &Run) -> Option<f64> {
        let tokens = self.plan.as_ref()?.items_per_step as f64;
        run.step_seconds()
            .filter(|&seconds| seconds > 0.0)
            .map(|seconds| tokens / seconds)
    }

    /// Returns a speed with its unit.
    pub(super) fn speed(&self, rate: f64) -> String {
        let unit = self.plan.as_ref().map(|plan| plan.unit).unwrap_or_default();
        format!("{} {}", format::short_rate(rate), unit.per_second())
    }

    /// Returns the envelope of a precision.
    pub(super) fn envelope(&self, dtype: Precision) -> Option<&Envelope> {
        self.envelopes
            .iter()
            .find(|envelope| envelope.of.dtype == dtype)
    }

    /// Returns the first comparable step at which a run lies outside the envelope.
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

    /// Returns the position of a run among the runs of its kind, counted from 1, and their number.
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

    /// Returns the runs under way with their indices in the plan.
    pub(super) fn active(&self) -> impl Iterator<Item = (usize, &Run)> {
        let runs = self.runs.iter().enumerate();
        runs.filter(|(_, run)| run.is_active() && !self.has_stopped(run))
    }
}

/// Returns whether a difference is within a bound; false if either is NaN.
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
    fn run_waits_starts_steps_and_ends() {
        let mut state = after([Event::Planned(plan(2))]);
        assert_eq!(state.runs[0].phase, Phase::Waiting);
        state.apply(Event::Started { run: 0 }, Duration::from_secs(3));
        assert_eq!(state.runs[0].phase, Phase::Starting);
        assert_eq!(state.active().count(), 1);
        state.apply(step(0, 0, 4.0), Duration::from_secs(5));
        assert_eq!(state.runs[0].phase, Phase::Stepping);
        assert_eq!(state.runs[0].began, Duration::from_secs(3));
        assert_eq!(state.runs[0].updated, Duration::from_secs(5));
        state.apply(ended(0, None), Duration::from_secs(6));
        assert!(state.runs[0].is_over() && !state.runs[0].is_active());
        state.apply(ended(1, Some("no device")), Duration::from_secs(7));
        assert_eq!(state.runs[1].phase, Phase::Failed("no device".into()));
    }

    #[test]
    fn differences_are_taken_at_equal_steps_in_any_order_of_events() {
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
    fn nan_is_the_worst_difference() {
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
    fn median_time_ignores_a_slow_first_step() {
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
    fn longer_envelope_shows_which_run_is_outside() {
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
    fn runs_of_a_kind_are_numbered() {
        let state = after([Event::Planned(super::super::tests::full_plan())]);
        let places: Vec<_> = (0..state.runs.len())
            .filter(|&run| state.runs[run].role == Role::Rounding)
            .map(|run| state.place(run))
            .collect();
        assert_eq!(places, [(1, 3), (2, 3), (3, 3)]);
        assert_eq!(state.place(1000), (0, 0));
    }
}
