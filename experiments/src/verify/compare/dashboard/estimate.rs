//! Progress of a comparison, and an estimate of the time left.

use std::time::Duration;

use super::state::{Run, State};

/// Share of the work that is done, and the time left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Progress {
    /// 0 to 1, weighted by time if the speed of a run is known.
    pub(super) fraction: f64,
    pub(super) left: Left,
}

impl Progress {
    /// Progress before anything has run.
    pub(super) const NONE: Self = Self {
        fraction: 0.0,
        left: Left::Unknown,
    };
}

/// Time left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Left {
    /// Nothing has been measured.
    Unknown,
    /// Time left without the runs that have never run.
    AtLeast(Duration),
    About(Duration),
}

/// Returns the progress of all runs at `now`.
pub(super) fn overall(state: &State, now: Duration) -> Progress {
    of_runs(state, &mut state.runs.iter(), now)
}

/// Returns the progress of one run at `now`.
pub(super) fn of_run(state: &State, run: &Run, now: Duration) -> Progress {
    of_runs(state, &mut std::iter::once(run), now)
}

fn of_runs<'a>(
    state: &'a State,
    runs: &mut dyn Iterator<Item = &'a Run>,
    now: Duration,
) -> Progress {
    // Seconds done and left; steps of runs without a known speed are counted separately.
    let (mut done, mut left, mut unknown_done, mut unknown_left) = (0.0, 0.0, 0.0, 0.0);
    let (mut steps, mut seconds) = (0.0, 0.0);
    // In lockstep the run with the fewest steps takes the next one.
    let next = state.active().map(|(_, run)| run);
    let next = next.min_by_key(|run| run.losses.len());
    let next = next.filter(|run| run.losses.len() > 0);
    let last = state.runs.iter().map(|run| run.updated).max();
    let since = now.saturating_sub(last.unwrap_or(now)).as_secs_f64();
    for run in runs {
        let taken = run.losses.len().min(state.steps());
        let remaining = match state.has_stopped(run) {
            true => 0,
            false => state.steps() - taken,
        };
        // The steps that a failed run did not take count as done.
        let taken = (state.steps() - remaining) as f64;
        let remaining = remaining as f64;
        match step_seconds(state, run) {
            Some(step) => {
                // The time within the step under way counts as well.
                let is_next = next.is_some_and(|next| std::ptr::eq(next, run));
                let underway = if is_next { since.min(step) } else { 0.0 };
                let ahead = (remaining * step - underway).max(0.0);
                done += (taken + remaining) * step - ahead;
                left += ahead;
                steps += taken + remaining;
                seconds += (taken + remaining) * step;
            }
            None => {
                unknown_done += taken;
                unknown_left += remaining;
            }
        }
    }
    // The share assumes that runs of unknown speed are as fast as the others on average.
    let typical = if seconds > 0.0 { seconds / steps } else { 1.0 };
    let share_done = done + unknown_done * typical;
    let share_left = left + unknown_left * typical;
    let total = share_done + share_left;
    Progress {
        fraction: if total > 0.0 {
            (share_done / total).clamp(0.0, 1.0)
        } else {
            0.0
        },
        left: match (Duration::try_from_secs_f64(left), unknown_left > 0.0) {
            _ if state.runs.is_empty() => Left::Unknown,
            (Ok(left), false) => Left::About(left),
            (Ok(left), true) if !left.is_zero() => Left::AtLeast(left),
            _ => Left::Unknown,
        },
    }
}

/// Median time of a step of this run, or else of others on the same backend in the same precision.
fn step_seconds(state: &State, run: &Run) -> Option<f64> {
    run.step_seconds().or_else(|| {
        let alike = state.runs.iter().filter(|one| one.entrant == run.entrant);
        let (mut count, mut sum) = (0.0, 0.0);
        for seconds in alike.filter_map(Run::step_seconds) {
            count += 1.0;
            sum += seconds;
        }
        (count > 0.0).then(|| sum / count)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ended, plan, step_in};
    use super::*;
    use crate::verify::compare::{Event, Role};

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn time_left_is_unknown_before_the_first_step() {
        let mut state = State::default();
        assert_eq!(overall(&state, secs(1.0)).left, Left::Unknown);
        state.apply(Event::Planned(plan(2)), secs(0.0));
        state.apply(Event::Started { run: 0 }, secs(0.0));
        let progress = overall(&state, secs(9.0));
        assert_eq!(progress.left, Left::Unknown);
        assert_eq!(progress.fraction, 0.0);
    }

    #[test]
    fn estimate_without_all_backends_is_a_lower_bound() {
        // Two backends with 4 steps each.
        let mut state = State::default();
        state.apply(Event::Planned(plan(2)), secs(0.0));
        state.apply(step_in(0, 0, 10.0), secs(10.0));
        let progress = overall(&state, secs(10.0));
        assert_eq!(progress.left, Left::AtLeast(secs(30.0)));
        assert_eq!(progress.fraction, 0.125);
        state.apply(step_in(1, 0, 1.0), secs(11.0));
        let progress = overall(&state, secs(11.0));
        assert_eq!(progress.left, Left::About(secs(30.0 + 3.0)));
        assert_eq!(progress.fraction, 11.0 / 44.0);
    }

    #[test]
    fn speed_of_a_waiting_run_is_taken_from_the_same_backend() {
        let mut plan = plan(2);
        plan.runs[1].entrant = plan.runs[0].entrant;
        plan.runs[1].role = Role::Rounding;
        let mut state = State::default();
        state.apply(Event::Planned(plan), secs(0.0));
        for step in 0..4 {
            state.apply(step_in(0, step, 2.0), secs(0.0));
        }
        state.apply(ended(0, None), secs(8.0));
        assert_eq!(overall(&state, secs(8.0)).left, Left::About(secs(8.0)));
        assert_eq!(overall(&state, secs(8.0)).fraction, 0.5);
        assert_eq!(
            of_run(&state, &state.runs[1], secs(8.0)).left,
            Left::About(secs(8.0))
        );
    }

    #[test]
    fn time_left_decreases_within_a_step_and_not_past_it() {
        let mut state = State::default();
        state.apply(Event::Planned(plan(1)), secs(0.0));
        state.apply(step_in(0, 0, 60.0), secs(60.0));
        let left = |now| overall(&state, secs(now)).left;
        assert_eq!(left(60.0), Left::About(secs(180.0)));
        assert_eq!(left(90.0), Left::About(secs(150.0)));
        assert_eq!(left(500.0), Left::About(secs(120.0)));
    }

    #[test]
    fn run_that_misses_a_step_in_lockstep_is_not_in_the_estimate() {
        let mut state = State::default();
        let mut plan = plan(2);
        plan.lockstep = true;
        state.apply(Event::Planned(plan), secs(0.0));
        state.apply(step_in(0, 0, 1.0), secs(1.0));
        state.apply(step_in(1, 0, 9.0), secs(10.0));
        state.apply(step_in(0, 1, 1.0), secs(11.0));
        assert_eq!(overall(&state, secs(11.0)).left, Left::About(secs(29.0)));
        assert_eq!(overall(&state, secs(13.0)).left, Left::About(secs(27.0)));
        state.apply(step_in(0, 2, 1.0), secs(12.0));
        assert_eq!(overall(&state, secs(12.0)).left, Left::About(secs(1.0)));
    }

    #[test]
    fn failed_run_is_done() {
        let mut state = State::default();
        state.apply(Event::Planned(plan(1)), secs(0.0));
        state.apply(ended(0, Some("no device")), secs(1.0));
        let progress = overall(&state, secs(1.0));
        assert_eq!(progress.fraction, 1.0);
        assert_eq!(progress.left, Left::About(Duration::ZERO));
    }
}
