//! What a report says in sentences, alike in HTML and Markdown.

use crate::verify::compare::{Comparison, Entrant, Envelope, OUTCOME_LEVEL, Verdict};

use super::Run;
use crate::show::format::{count, listed, loss, significant};

/// The verdicts that a headline tells, from the worst to the best.
const VERDICTS: [Verdict; 6] = [
    Verdict::Differs,
    Verdict::Failed,
    Verdict::Outcome,
    Verdict::Rounding,
    Verdict::Identical,
    Verdict::Unavailable,
];

/// More names than this in one breath are counted instead.
const MOST_NAMES: usize = 4;

/// The outcome in one sentence, the worst first.
pub(super) fn headline(comparison: &Comparison, runs: &[Run<'_>]) -> String {
    let reference = comparison.reference.entrant;
    let mut clauses: Vec<String> = Vec::new();
    // Named once: all of the sentence is about it.
    let mut unnamed = Some(reference);
    let own = |run: &&Run<'_>| run.entry.verdict == Verdict::Own;
    let entrants = runs.iter().filter(|run| !own(run)).count();
    for verdict in VERDICTS {
        let of: Vec<&Run<'_>> = runs
            .iter()
            .filter(|run| run.entry.verdict == verdict)
            .collect();
        // Without an envelope, a run that took place is "unavailable" too.
        let (ran, absent): (Vec<_>, Vec<_>) = of.iter().partition(|run| run.class.is_some());
        let groups = match verdict {
            Verdict::Unavailable => vec![ran, absent],
            _ => vec![of],
        };
        for group in groups.into_iter().filter(|group| !group.is_empty()) {
            let who = who(&group, entrants);
            let said = said(&group, &mut unnamed);
            clauses.push(format!("{who} {said}"));
        }
    }
    match (clauses.is_empty(), runs.len()) {
        (true, 0 | 1) if comparison.envelopes.is_empty() => {
            format!("Nothing was compared with {reference}.")
        }
        (true, _) => format!(
            "Only the reference's own backend was compared with {reference}, which says nothing about another one."
        ),
        (false, _) => capitalised(&format!("{}.", clauses.join("; "))),
    }
}

fn who(group: &[&Run<'_>], entrants: usize) -> String {
    let names: Vec<String> = group.iter().map(|run| run.name.clone()).collect();
    match (
        names.len() == entrants && entrants > 1,
        names.len() > MOST_NAMES,
    ) {
        (true, _) => format!("all {entrants} entrants"),
        (_, true) => format!("{} of {entrants} entrants", names.len()),
        _ => listed(&names),
    }
}

/// What is said of entrants that have one verdict; the reference is named if it was not before.
fn said(group: &[&Run<'_>], unnamed: &mut Option<Entrant>) -> String {
    let verb = |one: &'static str, several: &'static str| match group {
        [_] => one,
        _ => several,
    };
    let mut with = |preposition: &str| match unnamed.take() {
        Some(reference) => format!(" {preposition} {reference}"),
        None => String::new(),
    };
    let verdict = group.first().map(|run| run.entry.verdict);
    match verdict.unwrap_or(Verdict::Unavailable) {
        Verdict::Identical => format!("{} identical bits", verb("gives", "give")),
        Verdict::Rounding => {
            format!(
                "{}{} within rounding",
                verb("agrees", "agree"),
                with("with")
            )
        }
        Verdict::Outcome => format!("{}{} in outcome", verb("agrees", "agree"), with("with")),
        Verdict::Differs => {
            let from = group.iter().filter_map(|run| run.entry.first_step).min();
            let from = from.map_or(String::new(), |step| {
                format!(", from step {} on", count(step as u64))
            });
            format!("{}{}{from}", verb("differs", "differ"), with("from"))
        }
        Verdict::Failed => "failed".into(),
        Verdict::Unavailable if group.iter().any(|run| run.class.is_some()) => {
            "cannot be judged without an envelope".into()
        }
        Verdict::Unavailable => format!("{} unavailable here", verb("is", "are")),
        // Never part of a headline.
        Verdict::Own => format!("{} the reference's own", verb("is", "are")),
    }
}

/// Names of backends stay as they are written.
fn capitalised(sentence: &str) -> String {
    match sentence.strip_prefix("all ") {
        Some(rest) => format!("All {rest}"),
        None => sentence.into(),
    }
}

/// What was compared, in a line.
pub(super) fn subject(comparison: &Comparison) -> String {
    let Comparison {
        name,
        steps,
        tokens_per_step,
        created,
        ..
    } = comparison;
    let plural = if *steps == 1 { "step" } else { "steps" };
    let lockstep = match comparison.lockstep {
        true => ", all entrants in lockstep",
        false => "",
    };
    format!(
        "{name}: {} {plural} of {} tokens{lockstep}; compared with {} on {}.",
        count(*steps as u64),
        count(*tokens_per_step as u64),
        comparison.reference.entrant,
        created.replace('T', " ").replace('Z', " UTC")
    )
}

/// How each envelope was measured.
pub(super) fn envelopes(comparison: &Comparison) -> Vec<String> {
    if comparison.envelopes.is_empty() {
        return vec![
            "No envelope is known: nothing was run that shows how far rounding alone moves the loss."
                .into(),
        ];
    }
    comparison.envelopes.iter().map(envelope).collect()
}

fn envelope(envelope: &Envelope) -> String {
    let Envelope {
        of,
        runs,
        quantile,
        factor,
        ..
    } = envelope;
    let runs = match runs {
        1 => format!("1 run of {of}"),
        _ => format!("{runs} runs of {of}"),
    };
    let comparable = match envelope.comparable {
        Some(0) => {
            " Curves are comparable at no step: it exceeds the scale of the loss from the start."
                .into()
        }
        Some(steps) if steps < envelope.loss.len() => format!(
            " Curves are comparable up to step {}: from there on it exceeds the scale of the loss of a step, which \
             is the standard deviation between seeds, or without other seeds between successive steps.",
            count(steps as u64 - 1)
        ),
        _ => String::new(),
    };
    let most = envelope.loss.last().map_or(String::new(), |last| {
        format!(" At the last step it is {}.", significant(*last, 2))
    });
    format!(
        "Envelope for {}: {runs}, with initial weights as they are and moved by one unit in the last place; \
         at each step, what |loss − reference's loss| of one more such run stays within with probability {quantile} \
         (Student's t times the root of the mean square), but no less than a rounding of the loss itself or than at \
         the step before, times {}.{most}{comparable}",
        of.dtype,
        significant(*factor, 3)
            .trim_end_matches('0')
            .trim_end_matches('.')
    )
}

/// What the seeds show.
pub(super) fn seeds(comparison: &Comparison) -> String {
    let Some(seeds) = &comparison.seeds else {
        return "No other seeds were run, so it is not known what spread of the final loss matters in \
                practice."
            .into();
    };
    let names: Vec<String> = seeds.seeds.iter().map(u64::to_string).collect();
    let ends: Vec<String> = seeds.final_losses.iter().map(|end| loss(*end)).collect();
    format!(
        "Seeds {} end at {} nats per token. One more ends within ± {} of their mean with probability {OUTCOME_LEVEL} \
         (Student's t). Final loss and mean of the last tenth of the steps are tested so, which accuses at most 1 % \
         of runs that are no worse than another seed; and nothing is accused that ends where runs do that rounding \
         alone set apart.",
        listed(&names),
        listed(&ends),
        significant(seeds.spread, 2)
    )
}

/// What the bounds of checks are.
pub(super) const CHECKS: &str = "Single steps, each taken from the reference's own weights and optimizer state on the \
     same batch. Error: ‖entrant − reference‖ / ‖reference‖, the reference in f64. Bound: the error of the \
     reference's own backend in the entrant's precision, as a root mean square over runs that rounding set apart, times a \
     factor. A bound of 1 and more explains everything: \
     such a check cannot tell.";
