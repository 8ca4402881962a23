//! Numbers and states as short words, the same on the full screen and in lines.

use std::time::Duration;

use super::estimate::Left;
use super::state::{Phase, Run, State};
use crate::backend::Backend;
use crate::verify::compare::{Role, Verdict};

/// Where there is no number yet.
pub(super) const NONE: &str = "–";

/// What a run is, such as `rounding run 3 of 8 on flex:f32`.
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

/// What is being run, such as `ndarray:f32, compiling kernels`.
pub(super) fn now(state: &State) -> String {
    let mut active = state.active();
    let steps = state.steps();
    match (active.next(), active.next()) {
        (None, _) if state.plan.is_none() => "waiting for the plan".into(),
        (None, _) if state.runs.iter().all(Run::is_over) => "all runs are over".into(),
        (None, _) if state.runs.iter().any(|run| run.touched > Duration::ZERO) => {
            "between two runs".into()
        }
        (None, _) => "preparing".into(),
        (Some((index, run)), None) => {
            format!("{}, {}", title(state, index), doing(run, steps))
        }
        (Some((_, first)), Some(_)) => {
            let last = state.active().last();
            // One after the other is made ready before they step together.
            if let Some((index, run)) = last.filter(|_| first.losses.len() == 0) {
                return format!("{}, {}", title(state, index), doing(run, steps));
            }
            let count = state.active().count();
            format!("{count} runs, step by step, {}", doing(first, steps))
        }
    }
}

fn doing(run: &Run, steps: usize) -> String {
    match (run.losses.last(), run.entrant.name) {
        (Some((step, _)), _) if step.saturating_add(1) >= steps => "last step done".into(),
        (Some((step, _)), _) => format!("step {} of {steps}", step.saturating_add(1)),
        (None, Backend::Wgpu | Backend::Cuda | Backend::Rocm | Backend::CubeclCpu) => {
            "compiling kernels".into()
        }
        (None, _) => "first step".into(),
    }
}

/// `1.2345`: nats per token.
pub(super) fn loss(nats: f64) -> String {
    match nats.is_finite() && nats.abs() >= 1e4 {
        true => format!("{nats:.1e}"),
        false => format!("{nats:.4}"),
    }
}

/// `1.2e-7`, and `0` where it is exactly that.
pub(super) fn difference(value: f64) -> String {
    match value == 0.0 || !value.is_finite() {
        true => value.to_string(),
        false => format!("{value:.1e}"),
    }
}

/// `12.3k`
pub(super) fn speed(per_second: f64) -> String {
    match per_second {
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate if rate < 999.5 => format!("{rate:.0}"),
        rate if rate < 99_950.0 => format!("{:.1}k", rate / 1e3),
        rate if rate < 999_500.0 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

/// `312 MiB`
pub(super) fn memory(bytes: u64) -> String {
    let mib = bytes as f64 / (1 << 20) as f64;
    match mib {
        mib if mib < 9.95 => format!("{mib:.1} MiB"),
        mib if mib < 1023.5 => format!("{mib:.0} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// `2m 3s`; without seconds from an hour on.
pub(super) fn duration(time: Duration) -> String {
    let seconds = match time.as_secs() {
        short @ 0..3600 => short,
        long => long - long % 60,
    };
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// `about 2m 3s left`
pub(super) fn left(left: Left) -> String {
    match left {
        Left::Unknown => format!("{NONE} left"),
        Left::AtLeast(time) => format!("more than {} left", duration(time)),
        Left::About(time) => format!("about {} left", duration(time)),
    }
}

/// How far a run's curve can be compared, such as `up to step 143`; nothing before that is known.
pub(super) fn comparable(state: &State, run: &Run) -> Option<String> {
    let comparable = state.envelope(run.entrant.dtype)?.comparable?;
    Some(match comparable.checked_sub(1) {
        None => "at no step".into(),
        Some(last) if comparable >= state.steps() => format!("in all steps, 0 to {last}"),
        Some(last) => format!("up to step {last}"),
    })
}

/// One state or verdict of a run, as a sign and a word.
pub(super) fn standing(state: &State, run: &Run) -> (&'static str, &'static str) {
    if let Some((verdict, _)) = &run.verdict {
        return (verdict.symbol(), verdict.name());
    }
    match &run.phase {
        Phase::Failed(_) => (Verdict::Failed.symbol(), Verdict::Failed.name()),
        Phase::Waiting => ("·", "waiting"),
        _ if !run.is_over() && state.is_out(run) => ("✗", "stopped"),
        Phase::Starting => ("▸", "starting"),
        Phase::Stepping if state.first_outside(run).is_some() => ("▸", "outside"),
        Phase::Stepping => ("▸", "running"),
        Phase::Ended if run.role == Role::Reference => ("◆", "reference"),
        Phase::Ended => ("…", "ended"),
    }
}

/// Others' words as one line without control characters, which a terminal would obey.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// At most so many characters, with `…` for what is left out.
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
    fn numbers_are_short() {
        let all = [
            (loss(3.45678), "3.4568"),
            (loss(f64::NAN), "NaN"),
            (loss(-f64::INFINITY), "-inf"),
            (loss(1e30), "1.0e30"),
            (difference(0.0), "0"),
            (difference(1.234e-7), "1.2e-7"),
            (difference(f64::INFINITY), "inf"),
            (speed(0.25), "0.2"),
            (speed(999.9), "1.0k"),
            (speed(12_345.0), "12.3k"),
            (speed(123_456.0), "123k"),
            (speed(2.5e6), "2.5M"),
            (memory(1 << 20), "1.0 MiB"),
            (memory(312 << 20), "312 MiB"),
            (memory(1 << 30), "1.0 GiB"),
            (duration(Duration::from_millis(123_900)), "2m 3s"),
            (duration(Duration::from_secs(7384)), "2h 3m"),
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
    fn what_runs_now_is_said() {
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
    fn in_lockstep_one_line_stands_for_all() {
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
    fn verdicts_differ_in_sign() {
        let all = Verdict::ALL;
        let signs: std::collections::HashSet<_> = all.map(Verdict::symbol).into_iter().collect();
        assert_eq!(signs.len(), all.len());
    }
}
