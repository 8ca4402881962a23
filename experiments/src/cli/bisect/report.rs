//! The text that `foretoken bisect` prints: the culprit, and a table of the compared results.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use foretoken::show::format::Shown;
use foretoken::verify::bisect::{Bisection, Culprit, Direction, Row};

use crate::cli::screen;

/// Number of rows shown before and after a culprit.
const AROUND: usize = 4;

/// Number of rows shown if there is no culprit.
const LARGEST: usize = 10;

/// Hint at the operations that bisection cannot compare.
const FUSED: &str = "\
Bisection runs Burn's own operations one by one; training fuses some of them. If
`compare` still finds a difference, suspect the fused operations and switch them
off with --set backend.fused=false.
";

pub(super) fn report(found: &Bisection, all: bool, colours: bool) -> String {
    let paint = |style: Style, text: &str| match colours {
        true => format!("{style}{text}{style:#}"),
        false => text.to_owned(),
    };
    let [sequences, tokens] = found.batch;
    // The reference always agrees with itself.
    let is_reference = |name: &&String| format!("{name}:{}", found.dtype) == found.reference;
    let mut text = String::new();
    match &found.culprit {
        Some(culprit) => {
            let headline = format!(
                "{} diverges from the reference at {}, {}.",
                culprit.backend,
                culprit.path,
                culprit.direction.name()
            );
            text += &paint(Style::new().bold(), &headline);
            text += "\n\n";
            text += &details(culprit);
            for other in found
                .backends
                .iter()
                .filter(|name| **name != culprit.backend)
            {
                text += &match found.culprits.iter().find(|c| c.backend == *other) {
                    Some(c) => format!(
                        "{other} diverges at {}, {}: {}, {} its bound.\n",
                        c.path,
                        c.direction.name(),
                        short(&c.of),
                        times(c.ratio)
                    ),
                    None if is_reference(&other) => format!("{other} is the reference itself.\n"),
                    None => format!("{other} agrees within rounding at every operation.\n"),
                };
            }
        }
        None => {
            let (itself, others): (Vec<_>, Vec<_>) = found.backends.iter().partition(is_reference);
            let names: Vec<&str> = others.into_iter().map(String::as_str).collect();
            let headline = match names[..] {
                [] => "Nothing was compared with the reference.".into(),
                [name] => format!("{name} agrees within rounding at every operation."),
                _ => format!(
                    "{} agree within rounding at every operation.",
                    names.join(" and ")
                ),
            };
            text += &paint(Style::new().bold(), &headline);
            text += "\n";
            for name in itself {
                text += &format!("{name} is the reference itself.\n");
            }
            if let Some(row) = largest(found, 1).first().map(|at| &found.operations[*at]) {
                text += &format!(
                    "The largest error is {} its bound:\n{} at {}.\n",
                    times(row.worst_ratio()),
                    short(&row.of),
                    row.path
                );
            }
            if found.fused {
                text += FUSED;
            }
        }
    }
    let culprit = found.culprit.as_ref().and_then(|c| found.row_of(c));
    let rows: Vec<usize> = match (all, culprit) {
        (true, _) => (0..found.operations.len()).collect(),
        (false, Some(at)) => {
            let end = (at + AROUND + 1).min(found.operations.len());
            (at.saturating_sub(AROUND)..end).collect()
        }
        (false, None) => largest(found, LARGEST),
    };
    text += "\n";
    text += &table(found, &rows, culprit, &paint);
    text += &format!(
        "\nErrors in {} relative to {}, in the Euclidean norm.\nBatch of {sequences} x {tokens} tokens.\n",
        found.dtype, found.reference
    );
    if !all {
        text += "--all shows every operation.\n";
    }
    if let Some(directory) = &found.directory {
        text += &format!("Written: {}\n", directory.shown());
    }
    text
}

fn details(culprit: &Culprit) -> String {
    let shapes = |shapes: &[Vec<usize>]| {
        let shapes: Vec<String> = shapes.iter().map(|shape| format!("{shape:?}")).collect();
        shapes.join(", ")
    };
    let mut lines = vec![
        (
            "operation",
            format!("{}, {}", culprit.operation, culprit.of),
        ),
        (
            "shapes",
            match culprit.shapes.inputs.is_empty() {
                true => format!("{:?}", culprit.shapes.output),
                false => format!(
                    "{} of {}",
                    shapes(std::slice::from_ref(&culprit.shapes.output)),
                    shapes(&culprit.shapes.inputs)
                ),
            },
        ),
        (
            "local error",
            format!(
                "{:.1e}; rounding explains {:.1e}",
                culprit.local_error, culprit.bound
            ),
        ),
        ("ratio", format!("{} the bound", times(culprit.ratio))),
        (
            "worst element",
            format!(
                "{:?}: {:.9e}, expected {:.9e}",
                culprit.worst.index, culprit.worst.value, culprit.worst.expected
            ),
        ),
        (
            "carried error",
            format!("{:.1e}, in an ordinary pass", culprit.carried_error),
        ),
    ];
    if let Some(smallest) = culprit.smallest.as_ref().filter(|s| !s.is_empty()) {
        lines.push(("smallest case", shapes(smallest)));
    }
    if let Some(file) = &culprit.reproduction {
        lines.push(("reproduction", file.shown()));
    }
    let lines: String = lines
        .into_iter()
        .map(|(name, value)| format!("  {name:<14} {value}\n"))
        .collect();
    lines + "\n"
}

/// Returns the indices of the rows with the largest ratios.
fn largest(found: &Bisection, count: usize) -> Vec<usize> {
    let ratio = |at: &usize| found.operations[*at].worst_ratio();
    let mut rows: Vec<usize> = (0..found.operations.len()).collect();
    rows.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)));
    rows.truncate(count);
    rows.sort_unstable();
    rows
}

/// Writes the ratio of an error to its bound.
fn times(ratio: f64) -> String {
    match ratio {
        _ if !ratio.is_finite() => "infinitely many times".into(),
        _ if ratio < 10.0 => format!("{ratio:.2} times"),
        _ if ratio < 1e4 => format!("{ratio:.0} times"),
        _ => format!("{ratio:.0e} times"),
    }
}

/// Returns a name for a narrow column: `∂` for a gradient, and the last part of a parameter's path.
fn short(of: &str) -> String {
    if let Some(path) = of.strip_prefix("gradient of parameter ") {
        return format!("∂{}", path.rsplit('.').next().unwrap_or(path));
    }
    match of.strip_prefix("gradient of ") {
        Some(of) => format!("∂{of}"),
        None => of.replace("updated parameter", "updated"),
    }
}

/// Writes an error with one digit, because only its size matters.
fn size(error: f64) -> String {
    match error {
        0.0 => "0".into(),
        _ if !error.is_finite() => "inf".into(),
        _ => format!("{error:.0e}"),
    }
}

fn table(
    found: &Bisection,
    rows: &[usize],
    culprit: Option<usize>,
    paint: &dyn Fn(Style, &str) -> String,
) -> String {
    // The table has columns for carried errors only if there are at most two backends.
    let carried = found.backends.len() <= 2;
    let cells = |row: &Row| {
        let mut cells = vec![short(&row.of), size(row.bound)];
        for name in &found.backends {
            let number =
                |of: &BTreeMap<String, f64>| size(of.get(name).copied().unwrap_or(f64::NAN));
            cells.push(number(&row.local));
            if carried {
                cells.push(number(&row.carried));
            }
        }
        cells
    };
    let mut header = vec!["RESULT".to_owned(), "BOUND".into()];
    let mut names = vec![String::new(), String::new()];
    for name in &found.backends {
        names.push(name.clone());
        header.push("LOCAL".into());
        if carried {
            names.push(String::new());
            header.push("CARRIED".into());
        }
    }
    let paths = rows
        .iter()
        .map(|at| found.operations[*at].path.chars().count());
    let width = paths.max().unwrap_or(0).clamp(9, 34);
    let line = |mark: &str, path: &str, cells: &[String]| {
        let path = screen::shortened(path.into(), width);
        let mut line = format!("{mark} {path:<width$} {:<8} {:>5}", cells[0], cells[1]);
        for (index, cell) in cells[2..].iter().enumerate() {
            line += &match index % 2 == 1 && carried {
                true => format!(" {cell:>7}"),
                false => format!("  {cell:>5}"),
            };
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(" ", "", &names) + &line(" ", "OPERATION", &header);
    let mut direction = None;
    for at in rows {
        let row = &found.operations[*at];
        if direction.is_some_and(|before: Direction| before != row.direction) {
            text += "\n";
        }
        direction = Some(row.direction);
        let mark = if culprit == Some(*at) { ">" } else { " " };
        let line = line(mark, &row.path, &cells(row));
        let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
        text += &match row.worst_ratio() <= 1.0 {
            true => line,
            false => paint(red, line.trim_end()) + "\n",
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use foretoken::backend::precision::Precision;

    use super::*;

    fn found() -> Bisection {
        let both = |a, b| BTreeMap::from([("flex".to_owned(), a), ("libtorch".to_owned(), b)]);
        let row = |path: &str, of: &str, direction, b: f64| Row {
            path: path.into(),
            operation: "linear".into(),
            direction,
            of: of.into(),
            shape: vec![4, 4],
            local: both(1e-8, b),
            carried: both(0.0, f64::INFINITY),
            ratio: both(0.1, b * 1e7),
            bound: 1e-7,
        };
        Bisection {
            reference: "flex:f64".into(),
            dtype: Precision::F32,
            fused: true,
            backends: vec!["flex".into(), "libtorch".into()],
            culprit: None,
            culprits: Vec::new(),
            experiment: "world".into(),
            batch: [4, 128],
            directory: None,
            operations: vec![
                row(
                    "blocks.10.feed_forward.activation",
                    "output",
                    Direction::Forward,
                    1e-8,
                ),
                row(
                    "blocks.10.feed_forward.activation",
                    "gradient of input 0",
                    Direction::Backward,
                    1e-8,
                ),
                row(
                    "blocks.10.attention.output",
                    "gradient of parameter blocks.10.attention.output.weight",
                    Direction::Backward,
                    f64::INFINITY,
                ),
            ],
        }
    }

    #[test]
    fn the_report_fits_80_columns() {
        for all in [false, true] {
            let text = report(&found(), all, false);
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
            assert!(text.contains("∂weight"), "{text}");
        }
    }

    #[test]
    fn the_report_mentions_fused_operations_only_if_training_fuses() {
        let mut found = found();
        assert!(report(&found, false, false).contains(FUSED));
        found.fused = false;
        assert!(!report(&found, true, false).contains("fused"));
    }

    #[test]
    fn the_reference_is_not_reported_as_agreeing() {
        let mut found = found();
        found.dtype = Precision::F64;
        let text = report(&found, false, false);
        assert!(text.starts_with(
            "libtorch agrees within rounding at every operation.\nflex is the reference itself.\n"
        ));
        found.backends = vec!["flex".into()];
        let text = report(&found, false, false);
        assert!(text.starts_with(
            "Nothing was compared with the reference.\nflex is the reference itself.\n"
        ));
    }

    #[test]
    fn the_report_starts_with_the_culprit() {
        let mut found = found();
        let row = &found.operations[2];
        let culprit = Culprit {
            backend: "libtorch".into(),
            path: row.path.clone(),
            operation: row.operation.clone(),
            direction: row.direction,
            of: row.of.clone(),
            shapes: foretoken::verify::bisect::Shapes {
                inputs: vec![vec![512, 64]],
                output: vec![64, 64],
            },
            local_error: f64::INFINITY,
            bound: 1e-7,
            ratio: f64::INFINITY,
            carried_error: 0.25,
            worst: foretoken::verify::bisect::Worst {
                index: vec![3, 60],
                value: f64::NAN,
                expected: -1.25e-3,
            },
            smallest: Some(vec![vec![1, 64]]),
            input: None,
            reproduction: Some("runs/bisect-world-1/reproduction.rs".into()),
        };
        found.culprits = vec![culprit.clone()];
        found.culprit = Some(culprit);
        let text = report(&found, false, false);
        assert!(text.starts_with(
            "libtorch diverges from the reference at blocks.10.attention.output, backward.\n"
        ));
        assert!(text.contains("flex agrees within rounding at every operation."));
        assert!(!text.contains(FUSED));
        let marked: Vec<&str> = text.lines().filter(|line| line.starts_with('>')).collect();
        assert_eq!(marked.len(), 1);
        assert!(marked[0].contains("∂weight"));
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn only_rows_out_of_bounds_are_coloured() {
        let text = report(&found(), true, true);
        assert!(text.contains("\u{1b}[31m"), "{text}");
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, report(&found(), true, false));
    }
}
