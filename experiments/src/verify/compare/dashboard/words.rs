//! Short texts for states, the same on the full screen and in lines.

use std::time::Duration;

use super::estimate::Left;
use super::state::{Phase, Run, State};
use crate::backend::Backend;
use crate::show::format::{NONE, duration};
use crate::verify::compare::{Role, Verdict};

/// Returns the title of a run, such as `rounding run 3 of 8 on flex:f32`.
pub(super) fn title(state: &State, index: usize) -> String {
    let Some(run) = state.runs.get(index) else {
        return NONE.into();
    };
    let on = run.entrant;
    match run.role {
        Role::Reference => format!("reference {on}"),
        Role::Rounding => {
            let (place, of) = state.place(index);
            format!("rounding run {place} of {of} on {on}")
        }
        Role::Seed(seed) => format!("seed {seed} on {on}"),
        Role::Entrant => on.to_string(),
    }
}

/// Describes what is being run, such as `ndarray:f32, compiling kernels`.
pub(super) fn now(state: &State) -> String {
    let mut active = state.active();
    let steps = state.steps();
    match (active.next(), active.next()) {
        (None, _) if state.plan.is_none() => "waiting for the plan".into(),
        (None, _) if state.runs.iter().all(Run::is_over) => "all runs are over".into(),
        (None, _) if state.runs.iter().any(|run| run.updated > Duration::ZERO) => {
            "between two runs".into()
        }
        (None, _) => "preparing".into(),
        (Some((index, run)), None) => {
            format!("{}, {}", title(state, index), step_text(run, steps))
        }
        (Some((_, first)), Some(_)) => {
            let last = state.active().last();
            // Runs are prepared one after the other before they step together.
            if let Some((index, run)) = last.filter(|_| first.losses.len() == 0) {
                return format!("{}, {}", title(state, index), step_text(run, steps));
            }
            let count = state.active().count();
            format!("{count} runs, step by step, {}", step_text(first, steps))
        }
    }
}

fn step_text(run: &Run, steps: usize) -> String {
    match (run.losses.last(), run.entrant.name) {
        (Some((step, _)), _) if step.saturating_add(1) >= steps => "last step done".into(),
        (Some((step, _)), _) => format!("step {} of {steps}", step.saturating_add(1)),
        (None, Backend::Wgpu | Backend::Cuda | Backend::Rocm | Backend::CubeclCpu) => {
            "compiling kernels".into()
        }
        (None, _) => "first step".into(),
    }
}

/// Describes the time left, such as `about 2m 3s left`.
pub(super) fn left(left: Left) -> String {
    match left {
        Left::Unknown => format!("{NONE} left"),
        Left::AtLeast(time) => format!("more than {} left", duration(time)),
        Left::About(time) => format!("about {} left", duration(time)),
    }
}

/// Describes the comparable steps of a run, such as `up to step 143`; `None` until they are known.
pub(super) fn comparable(state: &State, run: &Run) -> Option<String> {
    let comparable = state.envelope(run.entrant.dtype)?.comparable?;
    Some(match comparable.checked_sub(1) {
        None => "at no step".into(),
        Some(last) if comparable >= state.steps() => format!("in all steps, 0 to {last}"),
        Some(last) => format!("up to step {last}"),
    })
}

/// Returns the status or verdict of a run, as a sign and a word.
pub(super) fn status(state: &State, run: &Run) -> (&'static str, &'static str) {
    if let Some((verdict, _)) = &run.verdict {
        return (verdict.symbol(), verdict.name());
    }
    match &run.phase {
        Phase::Failed(_) => (Verdict::Failed.symbol(), Verdict::Failed.name()),
        Phase::Waiting => ("·", "waiting"),
        _ if !run.is_over() && state.has_stopped(run) => ("✗", "stopped"),
        Phase::Starting => ("▸", "starting"),
        Phase::Stepping if state.first_outside(run).is_some() => ("▸", "outside"),
        Phase::Stepping => ("▸", "running"),
        Phase::Ended if run.role == Role::Reference => ("◆", "reference"),
        Phase::Ended => ("…", "ended"),
    }
}

/// Joins text from outside into one line without control characters, which a terminal would execute.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Shortens a text to a number of characters, with `…` for the rest.
pub(super) fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.into(),
        Some(_) => text
            .chars()
            .take(characters.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ended, full_plan, plan, step};
    use super::*;
    use crate::verify::compare::Event;

    #[test]
    fn text_is_short_and_on_one_line() {
        let all = [
            (shortened("äbc", 3), "äbc"),
            (shortened("äbcd", 3), "äb…"),
            (shortened("ab", 0), "…"),
            (one_line(" a\n\tb\x1b[31m "), "a b [31m"),
        ];
        for (written, expected) in all {
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn current_run_is_named_with_its_step() {
        let mut state = State::default();
        assert_eq!(now(&state), "waiting for the plan");
        state.apply(Event::Planned(full_plan()), Duration::ZERO);
        assert_eq!(now(&state), "preparing");
        let place = |role| {
            let mut runs = full_plan().runs.into_iter();
            runs.position(|run| run.role == role).expect("planned")
        };
        let rounding = place(Role::Rounding);
        state.apply(Event::Started { run: rounding + 1 }, Duration::ZERO);
        assert_eq!(now(&state), "rounding run 2 of 3 on flex:f32, first step");
        state.apply(step(rounding + 1, 0, 1.0), Duration::ZERO);
        assert_eq!(now(&state), "rounding run 2 of 3 on flex:f32, step 1 of 4");
        state.apply(ended(rounding + 1, None), Duration::from_secs(1));
        assert_eq!(now(&state), "between two runs");
        assert_eq!(title(&state, place(Role::Seed(2))), "seed 2 on flex:f64");
        let wgpu = state.runs.len() - 1;
        state.apply(Event::Started { run: wgpu }, Duration::ZERO);
        assert_eq!(now(&state), "wgpu:f32, compiling kernels");
    }

    #[test]
    fn one_text_describes_all_runs_in_lockstep() {
        let mut state = State::default();
        let mut plan = plan(2);
        plan.lockstep = true;
        state.apply(Event::Planned(plan), Duration::ZERO);
        state.apply(Event::Started { run: 0 }, Duration::ZERO);
        assert_eq!(now(&state), "reference flex:f32, first step");
        state.apply(Event::Started { run: 1 }, Duration::ZERO);
        assert_eq!(now(&state), "ndarray:f32, first step");
        state.apply(step(0, 0, 1.0), Duration::ZERO);
        assert_eq!(now(&state), "2 runs, step by step, step 1 of 4");
        for at in 1..4 {
            state.apply(step(0, at, 1.0), Duration::ZERO);
        }
        assert_eq!(now(&state), "reference flex:f32, last step done");
    }

    #[test]
    fn verdicts_have_different_signs() {
        let all = Verdict::ALL;
        let signs: std::collections::HashSet<_> = all.map(Verdict::symbol).into_iter().collect();
        assert_eq!(signs.len(), all.len());
    }
}
