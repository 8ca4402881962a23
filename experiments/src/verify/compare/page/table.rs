//! Tables of a comparison's report.

use crate::record::environment::Environment;
use crate::report::{Cell, Kind, Layout, Table, Tone, headings};
use crate::verify::compare::{
    Check, Checked, Comparison, Computation, Invariance, Outcome, Verdict,
};

use super::Run;
use super::errors::ratio;
use crate::show::format::{self, NONE, count, loss, significant};

/// Creates the table of verdicts, with the reference in the first row.
pub(super) fn verdicts(comparison: &Comparison, runs: &[Run<'_>]) -> Table {
    let reference = &comparison.reference;
    let unit = comparison.unit;
    let none = || Cell::number(None, loss);
    let first = vec![
        Cell {
            swatch: Some("reference".into()),
            ..reference.entrant.name.to_string().into()
        },
        reference.entrant.dtype.to_string().into(),
        Cell {
            kind: Kind::Badge(Tone::Neutral),
            ..String::from("reference").into()
        },
        none(),
        none(),
        none(),
        none(),
        Cell::number(reference.final_loss, loss),
        none(),
        none(),
        none(),
        String::from("All others are compared against it.").into(),
    ];
    Table {
        caption: "Verdict on each backend",
        layout: Layout::Cards,
        headings: headings([
            ("backend", ""),
            ("dtype", ""),
            ("verdict", ""),
            ("first step", "out of bounds"),
            ("comparable", "steps"),
            ("max |Δloss|", unit.of_loss()),
            ("envelope", "at that step"),
            ("final loss", unit.of_loss()),
            ("ends as other seeds", ""),
            ("speed", unit.per_second()),
            ("peak memory", ""),
            ("reason", ""),
        ]),
        rows: std::iter::once(first)
            .chain(runs.iter().map(verdict_row))
            .collect(),
    }
}

/// Returns the tone of a verdict, which decides its colour.
pub(super) fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Identical | Verdict::Rounding => Tone::Good,
        Verdict::Outcome => Tone::Fair,
        Verdict::Differs | Verdict::Failed => Tone::Bad,
        Verdict::Unavailable | Verdict::Own => Tone::Neutral,
    }
}

fn verdict_row(run: &Run<'_>) -> Vec<Cell> {
    let entry = run.entry;
    let two_digits = |value: f64| significant(value, 2);
    let symbol = entry.verdict.symbol();
    let outcomes = &entry.outcomes;
    let ends_as_seeds = (!outcomes.is_empty()).then(|| outcomes.iter().all(Outcome::ends_as_seeds));
    vec![
        Cell {
            swatch: run.class.clone(),
            ..run.backend().into()
        },
        Cell {
            detail: if entry.fused { "" } else { "unfused" }.into(),
            ..entry.entrant.dtype.to_string().into()
        },
        Cell {
            kind: Kind::Badge(tone(entry.verdict)),
            ..format!("{symbol} {}", entry.verdict.words()).into()
        },
        Cell::number(entry.first_step, |step| count(step as u64)),
        Cell::number(entry.comparable_steps, |steps| count(steps as u64)),
        Cell::number(entry.max_abs_loss_difference, two_digits),
        Cell::number(entry.envelope, two_digits),
        Cell::number(entry.final_loss, loss),
        Cell::number(ends_as_seeds, |inside| {
            if inside { "yes" } else { "no" }.into()
        }),
        Cell::number(entry.tokens_per_second, format::rate),
        Cell::number(entry.peak_memory_bytes, format::bytes),
        entry.reason.clone().into(),
    ]
}

/// Creates the table of checks with the worst check of each kind, relative to its bound; `None` without checks.
pub(super) fn checks(runs: &[Run<'_>]) -> Option<Table> {
    let kinds = [
        (Checked::Loss, "loss"),
        (Checked::Logits, "logits"),
        (Checked::Output, "outputs"),
        (Checked::Gradient, "gradients"),
        (Checked::Update, "updates"),
        (Checked::Movement, "movement"),
    ];
    let checked: Vec<&Run<'_>> = runs
        .iter()
        .filter(|run| !run.entry.checks.is_empty())
        .collect();
    let kinds = kinds.into_iter().filter(|(of, _)| {
        let mut checks = checked.iter().flat_map(|run| &run.entry.checks);
        // The column of movement is shown only if a backend changes no weight.
        checks.any(|check| check.of == *of && (*of != Checked::Movement || !check.holds()))
    });
    let kinds: Vec<_> = kinds.collect();
    let row = |run: &&Run<'_>| {
        let first = Cell {
            swatch: run.class.clone(),
            ..run.name.clone().into()
        };
        let cells = kinds.iter().map(|(of, _)| worst(&run.entry.checks, *of));
        std::iter::once(first).chain(cells).collect()
    };
    let names = kinds.iter().map(|(_, name)| ((*name).to_owned(), ""));
    (!kinds.is_empty()).then(|| Table {
        caption: "Checks of single steps: error and bound of the worst check of each kind",
        layout: Layout::Scrolling,
        headings: std::iter::once(("backend".to_owned(), ""))
            .chain(names)
            .collect(),
        rows: checked.iter().map(row).collect(),
    })
}

fn worst(checks: &[Check], of: Checked) -> Cell {
    let of_kind = || checks.iter().filter(|check| check.of == of);
    let Some(worst) = of_kind().max_by(|a, b| severity(a).total_cmp(&severity(b))) else {
        return String::from(NONE).into();
    };
    let (sign, relation, tone) = match worst.holds() {
        true => ("✓", '≤', Tone::Good),
        false => ("✗", '>', Tone::Bad),
    };
    let [error, bound] = [worst.error, worst.bound].map(|value| significant(value, 2));
    let out = of_kind().filter(|check| !check.holds()).count();
    let mut details = vec![format!("step {}", count(worst.step as u64))];
    details[0] += &worst
        .path
        .as_ref()
        .map_or(String::new(), |path| format!(", {path}"));
    if out > 0 {
        details.push(format!("{out} of {} out of bound", of_kind().count()));
    }
    match of_kind()
        .filter(|check| check.holds() && !check.decides())
        .count()
    {
        0 => {}
        undecided => details.push(format!("{undecided} of {} cannot tell", of_kind().count())),
    }
    let detail = details.join("; ");
    Cell {
        text: match worst.error.is_nan() {
            true => format!("{sign} {error}"),
            false => format!("{sign} {error} {relation} {bound}"),
        },
        detail,
        kind: Kind::Badge(tone),
        ..Cell::default()
    }
}

/// Creates the table of logits that a backend computes in several ways, with the reference in the first row; `None` if
/// none was checked.
pub(super) fn invariance(comparison: &Comparison, runs: &[Run<'_>]) -> Option<Table> {
    let reference = &comparison.reference;
    let first = Cell {
        swatch: Some("reference".into()),
        ..format!("{} (reference)", reference.entrant).into()
    };
    let of_run = |run: &Run<'_>| Cell {
        swatch: run.class.clone(),
        ..run.name.clone().into()
    };
    let entries = runs.iter().map(|run| (of_run(run), &run.entry.invariance));
    let rows: Vec<Vec<Cell>> = std::iter::once((first, &reference.invariance))
        .chain(entries)
        .filter(|(_, invariance)| !invariance.is_empty())
        .map(|(name, invariance)| {
            let cells = Computation::ALL.map(|of| {
                let of = invariance.iter().find(|invariance| invariance.of == of);
                of.map_or(String::from(NONE).into(), invariance_cell)
            });
            std::iter::once(name).chain(cells).collect()
        })
        .collect();
    let names = Computation::ALL.map(|of| (of.words().to_owned(), ""));
    (!rows.is_empty()).then(|| Table {
        caption: "Logits of each backend against its own, computed in another way: error and bound",
        layout: Layout::Scrolling,
        headings: std::iter::once(("backend".to_owned(), ""))
            .chain(names)
            .collect(),
        rows,
    })
}

fn invariance_cell(invariance: &Invariance) -> Cell {
    let two_digits = |value: f64| significant(value, 2);
    let [error, bound] = [invariance.error, invariance.bound].map(two_digits);
    let verdict = invariance.verdict;
    let symbol = verdict.symbol();
    let difference = format!("max |Δlogit| {}", two_digits(invariance.max_abs_difference));
    let (text, detail) = match verdict {
        Verdict::Identical => (format!("{symbol} identical"), String::new()),
        Verdict::Differs if invariance.error.is_nan() => {
            (format!("{symbol} {error}"), String::new())
        }
        Verdict::Differs => (format!("{symbol} {error} > {bound}"), difference),
        Verdict::Unavailable => (format!("{symbol} cannot tell"), format!("bound {bound}")),
        _ => (format!("{symbol} {error} ≤ {bound}"), difference),
    };
    Cell {
        text,
        detail,
        kind: Kind::Badge(tone(verdict)),
        ..Cell::default()
    }
}

/// Returns error divided by bound, with NaN as the worst.
fn severity(check: &Check) -> f64 {
    match ratio(check) {
        ratio if ratio.is_nan() => f64::INFINITY,
        ratio => ratio,
    }
}

/// Creates the table of environments; `None` if none is known.
pub(super) fn environments(runs: &[Run<'_>]) -> Option<Table> {
    let known: Vec<(&Run<'_>, &Environment)> = runs
        .iter()
        .filter_map(|run| Some((run, run.entry.environment.as_ref()?)))
        .collect();
    if known.is_empty() {
        return None;
    }
    let environments: Vec<&Environment> = known.iter().map(|(_, of)| *of).collect();
    let mut rows = Environment::side_by_side(&environments);
    if known.iter().any(|(run, _)| run.entry.run.is_some()) {
        let directory = |run: &Run<'_>| {
            let path = run.entry.run.as_ref();
            path.map_or(NONE.into(), |path| path.display().to_string())
        };
        let values = known.iter().map(|(run, _)| directory(run)).collect();
        rows.push(("run directory", false, values));
    }
    let names = known.iter().map(|(run, _)| run.name.clone()).collect();
    Some(Table::side_by_side(
        "Environment of each backend; ≠ marks rows that are not the same for all",
        names,
        rows,
    ))
}
