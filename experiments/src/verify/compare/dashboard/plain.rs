//! Lines for logs and pipes: the plan, the end of every run, and progress at intervals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::estimate;
use super::state::{Phase, State};
use super::words;
use crate::show::format::{self, plural};
use crate::verify::compare::{Event, Plan, Role, Verdict, Watcher};
use crate::{errln, outln};

/// Minimum interval between progress lines.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum interval between progress lines, so that a log shows that steps go on.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// Share of a run that is worth a progress line between the two intervals.
const MIN_SHARE: f64 = 0.1;

/// Output stream of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error, which leaves standard output to programs.
    Stderr,
}

/// Watcher that prints lines without colours or control characters.
#[derive(Debug)]
pub struct Plain {
    stream: Stream,
    lines: Lines,
    began: Instant,
    interrupted: Arc<AtomicBool>,
}

impl Plain {
    /// Creates a watcher that prints on `stream`. The flag `interrupted` stops the comparison.
    pub fn new(stream: Stream, interrupted: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            lines: Lines::default(),
            began: Instant::now(),
            interrupted,
        }
    }
}

impl Watcher for Plain {
    fn event(&mut self, event: Event) {
        for line in self.lines.event(event, self.began.elapsed()) {
            match self.stream {
                Stream::Stdout => outln!("{line}"),
                Stream::Stderr => errln!("{line}"),
            }
        }
    }

    fn wants_to_stop(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// Conversion of events to lines, without a stream or a clock.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: State,
    /// Time of the last progress line, and the share of its run that was done.
    reported: (Duration, f64),
}

impl Lines {
    pub(super) fn event(&mut self, event: Event, now: Duration) -> Vec<String> {
        let kind = Kind::of(&event);
        self.state.apply(event, now);
        match kind {
            Kind::Planned => self.state.plan.as_ref().map(plan_lines).unwrap_or_default(),
            Kind::Started => {
                self.reported = (now, 0.0);
                Vec::new()
            }
            Kind::Step(run) => self.progress(run, now).into_iter().collect(),
            Kind::Ended(run) => self.ended(run, now).into_iter().collect(),
            Kind::Judged(run) => self.judged(run).into_iter().collect(),
            Kind::Other => Vec::new(),
        }
    }

    fn progress(&mut self, index: usize, now: Duration) -> Option<String> {
        let run = self.state.runs.get(index)?;
        let silent = now.saturating_sub(self.reported.0);
        let done = run.losses.len() as f64 / self.state.steps().max(1) as f64;
        let is_small = done - self.reported.1 < MIN_SHARE;
        if silent < MIN_INTERVAL || silent < MAX_INTERVAL && is_small || done >= 1.0 {
            return None;
        }
        self.reported = (now, done);
        let all = estimate::overall(&self.state, now);
        let mut words = vec![words::now(&self.state)];
        // In lockstep no single run represents all.
        if !self.state.lockstep() {
            words.extend(
                run.losses
                    .last()
                    .map(|(_, loss)| format!("loss {}", format::short_loss(loss))),
            );
            words.extend(run.worst.map(|(_, worst)| difference(worst)));
            let speed = self.state.tokens_per_second(run);
            words.extend(speed.map(|speed| self.state.speed(speed)));
        }
        Some(format!(
            "[{:3.0} %] {}; {} elapsed, {}",
            (100.0 * all.fraction).floor(),
            words.join(", "),
            format::duration(now),
            words::left(all.left)
        ))
    }

    fn ended(&self, index: usize, now: Duration) -> Option<String> {
        let run = self.state.runs.get(index)?;
        let title = words::title(&self.state, index);
        let steps = plural(run.losses.len(), "step");
        if let Phase::Failed(reason) = &run.phase {
            return Some(format!(
                "{title} failed after {steps}: {}",
                words::one_line(reason)
            ));
        }
        let mut words = vec![steps];
        words.extend(
            run.losses
                .last()
                .map(|(_, loss)| format!("loss {}", format::short_loss(loss))),
        );
        // The curve of another seed is not comparable with the reference's.
        let comparable = !matches!(run.role, Role::Seed(_));
        words.extend(
            run.worst
                .filter(|_| comparable)
                .map(|(_, worst)| difference(worst)),
        );
        let distance = run.weights_distance.map(format::scientific);
        words.extend(distance.map(|distance| format!("weights distance {distance}")));
        let speed = self.state.tokens_per_second(run);
        words.extend(speed.map(|speed| self.state.speed(speed)));
        let memory = run
            .peak_memory_bytes
            .map(|bytes| format::plain(format::bytes(bytes)));
        words.extend(memory.map(|memory| format!("{memory} of memory")));
        words.push(format::duration(now.saturating_sub(run.began)));
        Some(format!("{title}: {}", words.join(", ")))
    }

    fn judged(&self, index: usize) -> Option<String> {
        let run = self.state.runs.get(index)?;
        let (verdict, reason) = run.verdict.as_ref()?;
        Some(verdict_line(&run.entrant.to_string(), *verdict, reason))
    }
}

/// Part of an event that its lines depend on, after the event itself has been applied to the state.
enum Kind {
    Planned,
    Started,
    Step(usize),
    Ended(usize),
    Judged(usize),
    Other,
}

impl Kind {
    fn of(event: &Event) -> Self {
        match event {
            Event::Planned(_) => Self::Planned,
            Event::Started { .. } => Self::Started,
            Event::Step { run, .. } => Self::Step(*run),
            Event::Ended { run, .. } => Self::Ended(*run),
            Event::Judged { run, .. } => Self::Judged(*run),
            Event::Checked { .. } | Event::Enveloped(_) => Self::Other,
        }
    }
}

fn plan_lines(plan: &Plan) -> Vec<String> {
    let order = match plan.lockstep {
        true => "all together, step by step",
        false => "one after the other",
    };
    let mut lines = vec![
        format!(
            "comparison \"{}\": {} of {}, {order}",
            words::one_line(&plan.name),
            plural(plan.runs.len(), "run"),
            plural(plan.steps, "step"),
        ),
        format!("  reference    {}", plan.reference),
    ];
    let mut rounding: Vec<(String, usize)> = Vec::new();
    let (mut seeds, mut backends) = (Vec::new(), Vec::new());
    for run in &plan.runs {
        let on = run.entrant.to_string();
        match run.role {
            Role::Reference => {}
            Role::Rounding => match rounding.iter_mut().find(|(other, _)| *other == on) {
                Some((_, count)) => *count += 1,
                None => rounding.push((on, 1)),
            },
            Role::Seed(seed) => seeds.push(format!("{seed} on {on}")),
            Role::Entrant => backends.push(on),
        }
    }
    let rounding: Vec<_> = rounding
        .into_iter()
        .map(|(on, count)| format!("{} on {on}", plural(count, "run")))
        .collect();
    for (what, list) in [
        ("rounding", rounding),
        ("seeds", seeds),
        ("backends", backends),
    ] {
        if !list.is_empty() {
            lines.push(format!("  {what:<11}  {}", list.join(", ")));
        }
    }
    let unavailable = plan.unavailable.iter();
    lines.extend(unavailable.map(|(entrant, reason)| {
        format!(
            "  {:<11}  {entrant}: {}",
            "unavailable",
            words::one_line(reason)
        )
    }));
    lines
}

fn verdict_line(name: &str, verdict: Verdict, reason: &str) -> String {
    let reason = words::one_line(reason);
    let verdict = format!("{} {}", verdict.symbol(), verdict.words());
    match reason.is_empty() {
        true => format!("{name} {verdict}"),
        false => format!("{name} {verdict}: {reason}"),
    }
}

fn difference(worst: f64) -> String {
    format!("max |Δloss| {}", format::scientific(worst))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ended, full_plan, plan, step, step_in};
    use super::*;

    fn lines_of(events: impl IntoIterator<Item = (u64, Event)>) -> Vec<String> {
        let mut lines = Lines::default();
        events
            .into_iter()
            .flat_map(|(second, event)| lines.event(event, Duration::from_secs(second)))
            .collect()
    }

    #[test]
    fn plan_is_the_first_lines() {
        assert_eq!(
            lines_of([(0, Event::Planned(full_plan()))]),
            [
                "comparison \"world\": 8 runs of 4 steps, one after the other",
                "  reference    flex:f64",
                "  rounding     3 runs on flex:f32",
                "  seeds        2 on flex:f64",
                "  backends     flex:f32, ndarray:f32, wgpu:f32",
                "  unavailable  cuda:f32: no device answers",
            ]
        );
    }

    #[test]
    fn every_run_has_a_line_when_it_ends() {
        let lines = lines_of([
            (0, Event::Planned(plan(2))),
            (0, Event::Started { run: 0 }),
            (1, step(0, 0, 4.0)),
            (2, ended(0, None)),
            (2, Event::Started { run: 1 }),
            (3, step(1, 0, 4.25)),
            (9, ended(1, None)),
        ]);
        assert_eq!(
            lines[lines.len() - 2..],
            [
                "reference flex:f32: 1 step, loss 4.0000, 1.0k tokens/s, 512 MiB of memory, 2s",
                "ndarray:f32: 1 step, loss 4.2500, max |Δloss| 2.5e-1, 1.0k tokens/s, 512 MiB of memory, 7s",
            ]
        );
    }

    #[test]
    fn failures_and_verdicts_are_one_line_each() {
        let lines = lines_of([
            (0, Event::Planned(plan(2))),
            (1, ended(1, Some("no device:\n\x1b[31mdriver\r\nlost"))),
            (
                2,
                Event::Judged {
                    run: 1,
                    verdict: Verdict::Differs,
                    reason: "left the\tenvelope".into(),
                },
            ),
        ]);
        assert_eq!(
            lines[lines.len() - 2..],
            [
                "ndarray:f32 failed after 0 steps: no device: [31mdriver lost",
                "ndarray:f32 ≠ differs: left the envelope",
            ]
        );
        let control = |line: &String| line.chars().any(char::is_control);
        assert!(!lines.iter().any(control));
    }

    #[test]
    fn progress_lines_are_at_most_a_minute_apart() {
        let mut long = plan(1);
        long.steps = 1000;
        let mut events = vec![(0, Event::Planned(long)), (0, Event::Started { run: 0 })];
        // A step takes a second, so that 10 % of the run take longer than a minute.
        events.extend((0..300).map(|index| (index as u64 + 1, step_in(0, index, 1.0))));
        let mut lines = lines_of(events);
        let lines = lines.split_off(2);
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert_eq!(
            lines[0],
            "[  6 %] reference flex:f32, step 60 of 1000, loss 1.0000, 1.0k tokens/s; 1m elapsed, about 15m 40s left"
        );
    }

    #[test]
    fn short_runs_have_no_progress_lines() {
        let mut events = vec![(0, Event::Planned(plan(1)))];
        events.extend((0..4).map(|index| (index as u64, step(0, index, 1.0))));
        assert_eq!(lines_of(events).len(), 2);
    }
}
