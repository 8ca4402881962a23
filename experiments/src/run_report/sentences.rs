//! Sentences of a report: its headline, its subject, and notes on missing data.

use super::history::RunHistory;
use super::reported_run::{ReportedRun, tokenizers_differ};
use crate::experiment::TrainSection;
use crate::show::format::{self, count, significant};

/// Significant digits of bits per byte.
pub(super) const BITS_DIGITS: usize = 4;

/// Returns the names of the runs as part of a sentence.
pub(super) fn names(runs: &[ReportedRun<'_>]) -> String {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    format::listed(&names)
}

/// Returns the result in a sentence.
pub(super) fn headline(runs: &[ReportedRun<'_>]) -> String {
    match runs {
        [only] => headline_of_one(only),
        _ => headline_of_several(runs),
    }
}

fn headline_of_one(run: &ReportedRun<'_>) -> String {
    let (name, run) = (&run.name, run.run);
    if let Some(step) = run.broken_from() {
        let step = count(step as u64);
        return format!("The training loss of {name} is not finite from step {step} on.");
    }
    let steps = steps(run.steps());
    let reached = finite_bits(run).map(|bits| {
        let above = run
            .reachable_floor()
            .map_or(String::new(), |(floor, of_windows)| {
                // The difference has as many decimals as the bits per byte.
                let decimals = if bits < 1.0 { 4 } else { 3 };
                let above = bits - floor;
                let what = match of_windows {
                    true => "the floor of its windows",
                    false => "the entropy of its text",
                };
                format!(", {above:.decimals$} above {what}")
            });
        format!("{} bits per byte{above}", significant(bits, BITS_DIGITS))
    });
    match (&run.result, reached) {
        (Some(_), Some(reached)) => format!("{name} reaches {reached}, after {steps}."),
        (Some(_), None) => format!("{name} is complete after {steps}."),
        (None, Some(reached)) if run.of_comparison => {
            format!("{name} reaches {reached}, after {steps} of a comparison.")
        }
        (None, None) if run.of_comparison => format!("{name} took {steps} of a comparison."),
        (None, reached) => {
            let so_far = reached.map_or(String::new(), |reached| {
                format!("; its last evaluation was at {reached}")
            });
            format!(
                "{name} is unfinished: {} of {} are recorded{so_far}.",
                count(run.steps() as u64),
                self::steps(run.experiment.train.steps)
            )
        }
    }
}

fn headline_of_several(runs: &[ReportedRun<'_>]) -> String {
    let number = runs.len();
    if same_data(runs) == SameData::No {
        return format!("{number} runs on different data.");
    }
    let best = runs
        .iter()
        .filter_map(|run| Some((run, finite_bits(run.run)?)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b));
    match (best, same_data(runs)) {
        (Some((run, bits)), SameData::Yes) if !final_windows_differ(runs) => format!(
            "{} reaches the fewest bits per byte of {number} runs: {}.",
            run.name,
            significant(bits, BITS_DIGITS)
        ),
        (Some(_), _) => format!("{number} runs."),
        (None, _) => format!("{number} runs without evaluations."),
    }
}

fn finite_bits(run: &RunHistory) -> Option<f64> {
    let (bits, _) = run.validation()?;
    bits.is_finite().then_some(bits)
}

/// `1 step`, `60 steps`.
fn steps(number: usize) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} step{plural}", count(number as u64))
}

/// Returns the subject of the page in a line.
pub(super) fn lead(runs: &[ReportedRun<'_>]) -> String {
    match runs {
        [only] => lead_of_one(only.run),
        _ => format!("Curves of {}.", names(runs)),
    }
}

fn lead_of_one(run: &RunHistory) -> String {
    let backend = &run.experiment.backend;
    let tokens = run.tokens_per_step();
    let positions = run.positions_per_step();
    let padded = positions.filter(|positions| tokens.round() < *positions as f64);
    let mut lead = format!(
        "Experiment {} on {}:{}, {} tokens per step{}",
        run.experiment.name,
        backend.name,
        backend.dtype,
        count(tokens.round() as u64),
        padded.map_or(String::new(), |positions| format!(
            " in {} positions",
            count(positions as u64)
        ))
    );
    if let Some(environment) = &run.environment {
        let started = &environment.start.started;
        let started = started.replace('T', " ").replace('Z', " UTC");
        lead += &format!("; started {started}");
        let resumed = environment.resumed.iter();
        let resumed: Vec<String> = resumed
            .map(|time| format!("step {}", count(time.step as u64)))
            .collect();
        if !resumed.is_empty() {
            lead += &format!(", resumed at {}", format::listed(&resumed));
        }
    }
    lead + "."
}

/// Whether runs read the same data, by the identities in their directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SameData {
    Yes,
    No,
    Unknown,
}

fn same_data(runs: &[ReportedRun<'_>]) -> SameData {
    let data: Vec<&String> = runs
        .iter()
        .filter_map(|run| Some(&run.run.identity.as_ref()?.data))
        .collect();
    if data.windows(2).any(|pair| pair[0] != pair[1]) {
        return SameData::No;
    }
    match data.len() == runs.len() {
        true => SameData::Yes,
        false => SameData::Unknown,
    }
}

/// Returns notes on what cannot be compared and what is missing.
pub(super) fn notes(runs: &[ReportedRun<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    if runs.len() > 1 {
        notes.extend(comparability(runs));
    }
    let prefix = |run: &ReportedRun<'_>| match runs.len() {
        1 => String::new(),
        _ => format!("{}: ", run.name),
    };
    for run in runs {
        let missing = missing(run.run);
        if !missing.is_empty() {
            notes.push(prefix(run) + &missing.join(" "));
        }
    }
    notes
}

fn comparability(runs: &[ReportedRun<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    match (tokenizers_differ(runs), same_data(runs)) {
        (true, _) => notes.push(
            "The runs have different tokenizers, so their nats per token cannot be compared. Bits per byte can be \
             compared if the validation text is the same."
                .into(),
        ),
        (false, SameData::No) => notes.push(
            "The runs read different data, so their losses do not show which model is better.".into(),
        ),
        (false, SameData::Unknown) => notes.push(
            "Some runs have no identity.json, so it is not known whether all read the same data.".into(),
        ),
        (false, SameData::Yes) => {}
    }
    if differ(runs, |train| train.eval_windows) {
        notes.push(
            "Evaluations read different numbers of windows: train.eval_windows differs.".into(),
        );
    }
    if final_windows_differ(runs) {
        notes.push(
            "Final evaluations read different numbers of windows, so their losses do not show which model is better: \
             train.final_eval_windows differs."
                .into(),
        );
    }
    let complete = runs.iter().filter(|run| run.run.result.is_some()).count();
    let some_windows = runs
        .iter()
        .any(|run| run.run.experiment.train.eval_windows > 0);
    if complete > 0 && complete < runs.len() && some_windows {
        notes.push(
            "Validation numbers of complete runs are from the final evaluation, and those of other runs from their \
             last evaluation."
                .into(),
        );
    }
    notes
}

/// Returns the number of windows of an evaluation in words; 0 stands for all.
fn windows(number: usize) -> String {
    match number {
        0 => "the whole validation text".into(),
        1 => "1 window of it".into(),
        _ => format!("{} windows of it", count(number as u64)),
    }
}

/// Whether the final evaluations of complete runs read different numbers of windows.
fn final_windows_differ(runs: &[ReportedRun<'_>]) -> bool {
    differ(runs, |train| train.final_eval_windows)
}

fn differ(runs: &[ReportedRun<'_>], setting: fn(&TrainSection) -> usize) -> bool {
    let mut settings = runs.iter().map(|run| setting(&run.run.experiment.train));
    let first = settings.next();
    settings.any(|other| Some(other) != first)
}

/// Returns sentences about what is missing from the directory of a run.
fn missing(run: &RunHistory) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let settings = &run.experiment.train;
    let is_unfinished = run.result.is_none() && !run.of_comparison;
    if run.result.is_some() && settings.eval_windows != settings.final_eval_windows {
        notes.push(format!(
            "The validation loss and the bits per byte above are of the final evaluation, over {}; the curves and the \
             accuracy are of evaluations in training, over {}.",
            windows(settings.final_eval_windows),
            windows(settings.eval_windows)
        ));
    }
    if is_unfinished {
        let message = "The run is not complete, so it has no sample and no final evaluation.";
        notes.push(message.into());
    }
    if run.of_comparison {
        notes.push("Runs of a comparison have no sample and no checkpoints.".into());
    }
    if run.evaluations.is_empty() {
        notes.push(match run.of_comparison {
            true => "The run has no evaluation.".into(),
            false => format!(
                "The run has no evaluation yet; the first evaluation is after step {}.",
                count(settings.eval_every.min(settings.steps) as u64)
            ),
        });
    }
    if run.is_cut_short {
        notes.push(
            "The last line of metrics.jsonl is incomplete and ignored, because the process was stopped while it wrote \
             the line, or is still writing it."
                .into(),
        );
    }
    let files: Vec<String> = [
        (
            "environment.json, with machine and versions",
            run.environment.is_none(),
        ),
        ("identity.json, with hashes", run.identity.is_none()),
    ]
    .into_iter()
    .filter(|(_, is_missing)| *is_missing)
    .map(|(name, _)| name.to_owned())
    .collect();
    if !files.is_empty() {
        notes.push(format!("The directory has no {}.", files.join(", and no ")));
    }
    if is_unfinished {
        notes.push(format!(
            "To continue the run: foretoken train --resume --out {}",
            run.path.display()
        ));
    }
    notes
}
