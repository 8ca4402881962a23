//! Text that a study of free running prints.

use foretoken::science::Share;
use foretoken::science::evaluate::Estimate;
use foretoken::science::exposure::{Accumulated, ExposureRecord, Repetition, StrategyRecord};
use foretoken::show::format::{self, Shown, count, plural, significant};

use super::super::screen;

/// Columns of the text.
const WIDTH: usize = 80;

/// Columns of names.
const NAME: usize = 24;

/// Columns of names in the table of accumulated errors.
const SHORT_NAME: usize = 20;

/// Most lengths of a table.
const LENGTHS: usize = 9;

/// Returns the study in tables of 80 columns.
pub(super) fn shown(record: &ExposureRecord) -> String {
    let method = &record.method;
    let mut shown = format!(
        "{} on {} in {}\nagainst {}\n\n{}",
        record.model.shown(),
        record.backend,
        record.precision,
        method.oracle.words(),
        conditions(record)
    );
    shown += &match record.per_step() {
        Some(error) => format!(
            "Error of a step on the data, ε({}): {} nats{}\n\n",
            method.length,
            significant(error.value, 3),
            in_words(error, 3)
        ),
        None => "\n".into(),
    };
    shown += &accumulation(record);
    if let Some(verdict) = record.verdict() {
        shown += &wrapped(&verdict);
    }
    shown += &alive(record);
    if method.oracle.is_exact() {
        shown += &support(record);
        shown += &treatments(record);
    }
    shown += &repetition(record);
    shown + &format!("\n{}\n", format::seconds(record.seconds))
}

fn conditions(record: &ExposureRecord) -> String {
    let method = &record.method;
    let ends = match method.by_document {
        true => "the end of the document",
        false => "the context allows no more",
    };
    let limit = match method.prompt + method.length > method.context || method.by_document {
        true => format!("; {ends}"),
        false => String::new(),
    };
    wrapped(&format!(
        "{} sequences: a prompt of {} from {}, and up to {} (context {}{limit})",
        count(method.sequences as u64),
        plural(method.prompt, "token"),
        method.data,
        plural(method.length, "step"),
        method.context
    ))
}

/// Breaks a sentence into lines of 80 columns.
fn wrapped(text: &str) -> String {
    screen::wrapped(text, WIDTH).join("\n") + "\n"
}

/// Fills a first column of some width with a name. A longer name has a line of its own.
fn named(name: &str, width: usize) -> String {
    match name.chars().count() > width {
        true => format!("{name}\n{:<width$}", ""),
        false => format!("{name:<width$}"),
    }
}

/// Writes an interval behind a number: ` (0.1 to 0.2)`.
fn in_words(estimate: Estimate, digits: usize) -> String {
    estimate.interval.map_or(String::new(), |[low, high]| {
        format!(
            " ({} to {})",
            significant(low, digits),
            significant(high, digits)
        )
    })
}

fn value(estimate: Option<Estimate>, digits: usize) -> String {
    estimate.map_or(format::NONE.into(), |estimate| {
        significant(estimate.value, digits)
    })
}

/// Formats percents with one digit after the point.
fn percent(value: f64) -> String {
    match value.abs() {
        0.0..10_000.0 => format!("{value:.1}"),
        _ => significant(value, 3),
    }
}

fn percent_interval(estimate: Option<Estimate>) -> String {
    let interval = estimate.and_then(|estimate| estimate.interval);
    interval.map_or(String::new(), |[low, high]| {
        format!("{} to {}", percent(low), percent(high))
    })
}

fn accumulation(record: &ExposureRecord) -> String {
    let mut table = format!(
        "{}{:>5}{:>7}{:>9}{:>9}{:>11}  95 % interval\n",
        named("free running", SHORT_NAME),
        "l",
        "alive",
        "R(l)",
        "R/ε",
        "excess, %"
    );
    for strategy in &record.strategies {
        let last = strategy.last();
        let of = |of: fn(&Accumulated) -> Option<Estimate>| last.and_then(of);
        let number = |of: fn(&Accumulated) -> usize| {
            last.map_or(format::NONE.into(), |last| of(last).to_string())
        };
        let excess = strategy.excess();
        let row = format!(
            "{}{:>5}{:>7}{:>9}{:>9}{:>11}  {}",
            named(&strategy.strategy.name, SHORT_NAME),
            number(|last| last.length),
            number(|last| last.alive),
            value(of(|last| last.total), 4),
            value(of(|last| last.ratio), 4),
            excess.map_or(format::NONE.into(), |excess| percent(excess.value)),
            percent_interval(excess)
        );
        table += &format!("{}\n", row.trim_end());
    }
    table
}

/// Counts the sequences that have not ended, at some of the lengths; nothing if none ends.
fn alive(record: &ExposureRecord) -> String {
    if !record.has_ends() {
        return String::new();
    }
    let lengths = &record.method.lengths;
    let step = lengths.len().div_ceil(LENGTHS).max(1);
    // The last one and those at equal distances before it.
    let mut shown: Vec<usize> = (0..lengths.len()).rev().step_by(step).collect();
    shown.reverse();
    let row = |name: &str, numbers: &dyn Fn(usize) -> usize| {
        let cells = shown.iter().map(|index| format!("{:>6}", numbers(*index)));
        format!("{}{}\n", named(name, NAME), cells.collect::<String>())
    };
    let mut table = format!(
        "\n{}",
        row("sequences alive at l =", &|index| lengths[index])
    );
    table += &row("data", &|index| record.on_data.alive[index]);
    for strategy in &record.strategies {
        table += &row(&strategy.strategy.name, &|index| {
            strategy.accumulated[index].alive
        });
    }
    table
}

fn support(record: &ExposureRecord) -> String {
    let mut table = format!(
        "\n{:<24} {:>7} {:<15} {:>8} {:>6} {:>7}\n{:<24} {:>7} {:<15} {:>8} {:>6} {:>7}\n",
        "impossible texts",
        "have",
        "",
        "per 1000",
        "tokens",
        "errors",
        "",
        "left, %",
        "95 % interval",
        "tokens",
        "out",
        "after"
    );
    let mut notes = String::new();
    for strategy in &record.strategies {
        let Some(support) = &strategy.support else {
            continue;
        };
        let left = support.left.last().copied().flatten();
        let recovery = support.recovery.as_ref();
        let after = recovery.and_then(|recovery| recovery.errors_after);
        let row = format!(
            "{} {:>7} {:<15} {:>8} {:>6} {:>7}",
            named(&strategy.strategy.name, NAME),
            left.map_or(format::NONE.into(), |share| percent(100.0 * share.value)),
            left.map_or(String::new(), share_interval),
            value(support.per_thousand, 3),
            value(recovery.and_then(|recovery| recovery.tokens), 3),
            after.map_or(format::NONE.into(), |after| format!("{:.2} ×", after.value))
        );
        table += &format!("{}\n", row.trim_end());
        if strategy.strategy.is_ancestral()
            && let Some(recovery) = recovery
            && let Some(after) = after
        {
            notes = wrapped(&format!(
                "{} of the {} times that a text of {} became impossible, it was possible again before its end. Errors after \
                 that were {:.2} times{} those of the data at the same places of a document.",
                recovery.returns,
                recovery.leaves,
                strategy.strategy.name,
                after.value,
                in_words(after, 3)
            ));
        }
    }
    table + &notes
}

fn share_interval(share: Share) -> String {
    let [low, high] = share.interval.map(|end| percent(100.0 * end));
    format!("{low} to {high}")
}

/// Sets the conventions about impossible contexts side by side.
fn treatments(record: &ExposureRecord) -> String {
    let shown = |excess: Option<Estimate>| {
        excess.map_or(format::NONE.into(), |excess| percent(excess.value))
    };
    let [first, second] = record.method.smoothing.map(|weight| match weight {
        1e-4.. => format!("o + {weight}"),
        _ => format!("o + {weight:e}"),
    });
    let mut table = format!(
        "\n{:<24} {:>11} {:>11} {:>11} {:>11}\n",
        "excess, %, by treatment", "left out", "never left", first, second
    );
    for strategy in &record.strategies {
        let smoothed = strategy.smoothed.as_ref();
        let smoothed = |index: usize| smoothed.map(|smoothed| &smoothed[index].accumulated);
        table += &format!(
            "{} {:>11} {:>11} {:>11} {:>11}\n",
            named(&strategy.strategy.name, NAME),
            shown(strategy.excess()),
            shown(strategy.excess_by(strategy.never_left.as_ref())),
            shown(strategy.excess_by(smoothed(0))),
            shown(strategy.excess_by(smoothed(1)))
        );
    }
    table
        + &wrapped(
            "Impossible contexts are left out; or all sequences that left are; or the oracle is mixed with a uniform \
             distribution of this weight, and is uniform there.",
        )
}

fn repetition(record: &ExposureRecord) -> String {
    let of_data = &record.on_data.repetition;
    let mut table = format!(
        "\n{:<24} {:>9} {:>9} {:>10} {:>10}\n",
        "repetition, %", "rep/16", "rep/128", "seq-rep-4", "seq-rep-16"
    );
    let mut row = |name: &str, repetition: &Repetition| {
        let share = |estimate: Option<Estimate>| {
            estimate.map_or(format::NONE.into(), |estimate| {
                percent(100.0 * estimate.value)
            })
        };
        table += &format!(
            "{} {:>9} {:>9} {:>10} {:>10}\n",
            named(name, NAME),
            share(repetition.rep(16)),
            share(repetition.rep(128)),
            share(repetition.seq_rep(4)),
            share(repetition.seq_rep(16))
        );
    };
    row("data", of_data);
    row("ranked first on data", &record.on_data.predicted);
    for StrategyRecord {
        strategy,
        repetition,
        ..
    } in &record.strategies
    {
        row(&strategy.name, repetition);
    }
    table
}
