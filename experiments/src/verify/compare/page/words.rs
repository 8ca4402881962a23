//! Sentences of a report, the same in HTML and Markdown.

use crate::verify::compare::{
    Comparison, Entrant, Envelope, Invariance, Judge, OUTCOME_LEVEL, Verdict,
};

use super::Run;
use crate::show::format::{count, listed, loss, significant};

/// Verdicts in a headline, from the worst to the best.
const VERDICTS: [Verdict; 6] = [
    Verdict::Differs,
    Verdict::Failed,
    Verdict::Outcome,
    Verdict::Rounding,
    Verdict::Identical,
    Verdict::Unavailable,
];

/// Largest number of names in a clause. More are replaced by their number.
const MAX_NAMES: usize = 4;

/// Returns the outcome in one sentence, with the worst verdicts first.
pub(super) fn headline(comparison: &Comparison, runs: &[Run<'_>]) -> String {
    let reference = comparison.reference.entrant;
    let mut clauses: Vec<String> = Vec::new();
    // The sentence names the reference only once.
    let mut unnamed = Some(reference);
    let own = |run: &&Run<'_>| run.entry.verdict == Verdict::Own;
    let backends = runs.iter().filter(|run| !own(run)).count();
    for verdict in VERDICTS {
        let of: Vec<&Run<'_>> = runs
            .iter()
            .filter(|run| run.entry.verdict == verdict)
            .collect();
        let groups = match verdict {
            // Without an envelope, the verdict on a backend that ran is "unavailable" too.
            Verdict::Unavailable => divided(&of, |run| run.class.is_some()),
            Verdict::Differs => divided(&of, |run| !is_only_inconsistent(run)),
            _ => vec![of],
        };
        for group in groups.into_iter().filter(|group| !group.is_empty()) {
            let subject = names(&group, backends, backends < runs.len());
            let predicate = predicate(&group, &mut unnamed);
            clauses.push(format!("{subject} {predicate}"));
        }
    }
    if comparison
        .reference
        .invariance
        .iter()
        .any(Invariance::differs)
    {
        clauses.push(format!(
            "the reference, {reference}, computes {OTHER_LOGITS}"
        ));
    }
    match (clauses.is_empty(), runs.len()) {
        (true, 0 | 1) if comparison.envelopes.is_empty() => {
            format!("Nothing was compared with {reference}.")
        }
        (true, _) => format!(
            "Only the reference's own backend was compared with {reference}, which is no evidence about another one."
        ),
        (false, _) => capitalised(&format!("{}.", clauses.join("; "))),
    }
}

/// Predicate of a backend that computes other logits in another way, without its verb.
const OTHER_LOGITS: &str = "other logits with a cache or in a batch than without";

/// Returns whether a backend differs from itself and not from the reference.
fn is_only_inconsistent(run: &Run<'_>) -> bool {
    run.entry.judged_by == [Judge::Invariance]
}

/// Divides runs by a property, those that have it first.
fn divided<'a>(runs: &[&'a Run<'a>], has: impl Fn(&Run<'a>) -> bool) -> Vec<Vec<&'a Run<'a>>> {
    let (with, without) = runs.iter().partition(|run| has(run));
    vec![with, without]
}

/// Returns the names of a group, or its size if it is large. `others` says whether the reference's own backend ran too.
fn names(group: &[&Run<'_>], backends: usize, others: bool) -> String {
    let names: Vec<String> = group.iter().map(|run| run.name.clone()).collect();
    match (
        names.len() == backends && backends > 1,
        names.len() > MAX_NAMES,
    ) {
        (true, _) if others => format!("all {backends} other backends"),
        (true, _) => format!("all {backends} backends"),
        (_, true) => format!("{} of {backends} backends", names.len()),
        _ => listed(&names),
    }
}

/// Returns the predicate for backends that share a verdict. It names the reference unless an earlier clause did.
fn predicate(group: &[&Run<'_>], unnamed: &mut Option<Entrant>) -> String {
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
        Verdict::Differs if group.iter().all(|run| is_only_inconsistent(run)) => {
            format!("{} {OTHER_LOGITS}", verb("computes", "compute"))
        }
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
        // A headline has no clause for this verdict.
        Verdict::Own => format!("{} the reference's own", verb("is", "are")),
    }
}

/// Capitalises a sentence unless it begins with the name of a backend.
fn capitalised(sentence: &str) -> String {
    for (word, capital) in [("all ", "All "), ("the ", "The ")] {
        if let Some(rest) = sentence.strip_prefix(word) {
            return format!("{capital}{rest}");
        }
    }
    sentence.into()
}

/// Returns one line about the compared experiment.
pub(super) fn subject(comparison: &Comparison) -> String {
    let Comparison {
        name,
        steps,
        unit,
        tokens_per_step,
        created,
        ..
    } = comparison;
    let plural = if *steps == 1 { "step" } else { "steps" };
    let lockstep = match comparison.lockstep {
        true => ", all backends in lockstep",
        false => "",
    };
    format!(
        "{name}: {} {plural} of {} {}{lockstep}; compared with {} on {}.",
        count(*steps as u64),
        count(*tokens_per_step as u64),
        unit.name(),
        comparison.reference.entrant,
        created.replace('T', " ").replace('Z', " UTC")
    )
}

/// Returns a note on the measurement of each envelope.
pub(super) fn envelopes(comparison: &Comparison) -> Vec<String> {
    if comparison.envelopes.is_empty() {
        return vec![
            "No envelope is known: there were no runs to measure how far rounding alone moves the loss."
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
            " Curves are comparable at no step: the envelope exceeds the scale of the loss from the start."
                .into()
        }
        Some(steps) if steps < envelope.loss.len() => format!(
            " Curves are comparable up to step {}: after that the envelope exceeds the scale of the loss of a step, \
             which is the standard deviation between seeds, or between successive steps if no other seed was run.",
            count(steps as u64 - 1)
        ),
        _ => String::new(),
    };
    let most = envelope.loss.last().map_or(String::new(), |last| {
        format!(
            " At the last step the envelope is {}.",
            significant(*last, 2)
        )
    });
    format!(
        "Envelope for {}: measured by {runs}, with unchanged initial weights and with weights moved by one unit in the \
         last place. At each step it is the bound that |loss − reference's loss| of one more such run stays within \
         with probability {quantile} (Student's t times the root of the mean square), at least one rounding of the \
         loss and never less than at the step before, times {}.{most}{comparable}",
        of.dtype,
        significant(*factor, 3)
            .trim_end_matches('0')
            .trim_end_matches('.')
    )
}

/// Returns a note on the runs with other seeds.
pub(super) fn seeds(comparison: &Comparison) -> String {
    let Some(seeds) = &comparison.seeds else {
        return "No other seeds were run, so it is unknown which difference of the final loss matters in practice."
            .into();
    };
    let names: Vec<String> = seeds.seeds.iter().map(u64::to_string).collect();
    let ends: Vec<String> = seeds.final_losses.iter().map(|end| loss(*end)).collect();
    format!(
        "Seeds {} end at {}{}. One more seed ends within ± {} of their mean with probability \
         {OUTCOME_LEVEL} (Student's t). The final loss and the mean loss of the last tenth of the steps are tested \
         in this way. Together these tests reject at most 1 % of runs that are no worse than another seed. A run that \
         ends as runs that differ only in rounding do is never rejected.",
        listed(&names),
        listed(&ends),
        preceded(" ", comparison.unit.of_loss()),
        significant(seeds.spread, 2)
    )
}

/// Returns a unit behind a separator; nothing without a unit.
pub(in crate::verify::compare) fn preceded(separator: &str, unit: &str) -> String {
    match unit {
        "" => String::new(),
        unit => format!("{separator}{unit}"),
    }
}

/// Note on the errors and bounds of checks.
pub(super) const CHECKS: &str = "Single steps, each taken from the reference's own weights and optimizer state on the \
     same batch. Error: ‖backend − reference‖ / ‖reference‖, the reference in f64. Bound: the error of the \
     reference's own backend in the tested precision, as a root mean square over runs that differ only in rounding, \
     times a factor. A bound of at least 1 explains everything: such a check cannot tell.";

/// Note on the comparisons of a backend's logits with its own.
pub(super) const INVARIANCE: &str = "Each backend against itself, on validation windows and with its own weights after \
     the last step: steps with a key/value cache against a full pass, and a batch of 8 windows against one window at a \
     time, also with a cache. Error: ‖difference‖ / ‖logits‖ at the worst position. Bound: what moving every weight by \
     one unit in the last place changes in the backend's own full pass, times a factor.";
