//! Results of a comparison as text.

use super::page::preceded;
use super::{Comparison, Computation, Invariance, OUTCOME_LEVEL, Verdict};
use crate::backend::precision::Precision;

impl Comparison {
    /// Returns the verdicts with their reasons as a text of several lines.
    pub fn to_text(&self) -> String {
        table(self)
    }
}

/// Writes a line with the verdict and a line with the reason for each backend.
fn table(comparison: &Comparison) -> String {
    let number =
        |value: Option<f64>, format: &dyn Fn(f64) -> String| value.map_or("-".to_owned(), format);
    let header = [
        "",
        "VERDICT",
        "STEP",
        "|ΔLOSS|",
        "ENVELOPE",
        "FINAL",
        &comparison.unit.per_second().to_uppercase(),
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(comparison.backends.iter().map(|entry| {
        [
            entry.label(),
            format!("{} {}", entry.verdict.symbol(), entry.verdict.name()),
            entry.first_step.map_or("-".into(), |step| step.to_string()),
            number(entry.max_abs_loss_difference, &|v| format!("{v:.1e}")),
            number(entry.envelope, &|v| format!("{v:.1e}")),
            number(entry.final_loss, &|v| format!("{v:.4}")),
            number(entry.tokens_per_second, &|v| format!("{v:.0}")),
        ]
    }));
    let lines = aligned(&rows, 2);
    let mut text = format!(
        "{}, {} steps of {} {}, measured against {}\n\n{}",
        comparison.name,
        comparison.steps,
        comparison.tokens_per_step,
        comparison.unit.name(),
        comparison.reference.entrant,
        lines[0]
    );
    let names = rows.iter().map(|row| row[0].chars().count());
    let width = names.max().unwrap_or(0);
    for (line, entry) in lines[1..].iter().zip(&comparison.backends) {
        text += line;
        text += &format!("{:width$}  {}\n", "", entry.reason);
    }
    text += &invariance_table(comparison);
    let mut ran = comparison.backends.iter().filter(|e| !e.losses.is_empty());
    if ran.all(|entry| entry.verdict == Verdict::Own) {
        text += "\nOnly the reference's own backend was compared, which is no evidence about another one.\n";
    }
    match &comparison.seeds {
        Some(seeds) => {
            text += &format!(
                "\nOne more seed ends within {:.4} ± {:.4}{} with probability {OUTCOME_LEVEL}, estimated from {} \
                 seeds.\n",
                seeds.mean(),
                seeds.spread,
                preceded(" ", comparison.unit.of_loss()),
                seeds.seeds.len()
            );
        }
        None => text += "\nNo other seed was run to compare with.\n",
    }
    for envelope in &comparison.envelopes {
        text += &format!(
            "Envelope: {} times the distance that one more run of {} stays within at a step with probability {}, \
             estimated from {} runs that differ only in rounding.\n",
            envelope.factor, envelope.of, envelope.quantile, envelope.runs
        );
    }
    if comparison.envelopes.is_empty() {
        let compared = |dtype: &Precision| {
            let mut entries = comparison.backends.iter();
            entries.any(|entry| entry.entrant.dtype == *dtype)
        };
        let dtypes = Precision::ALL.into_iter().filter(compared);
        let dtypes: Vec<String> = dtypes.map(|dtype| dtype.to_string()).collect();
        text += &format!(
            "No envelope: none of the runs has one. To measure it:\n  foretoken compare EXPERIMENT.toml --backends \
             flex --dtypes {} --out DIR, then --envelope DIR\n",
            dtypes.join(",")
        );
    }
    text
}

/// Writes a line for each backend whose logits were computed in several ways, the reference first; nothing if none was.
fn invariance_table(comparison: &Comparison) -> String {
    let reference = &comparison.reference;
    let reference = (
        format!("{} (reference)", reference.entrant),
        &reference.invariance,
    );
    let backends = comparison.backends.iter();
    let measured = backends.map(|entry| (entry.label(), &entry.invariance));
    let mut rows = vec![["", "CACHED STEPS", "BATCH OF 8", "CACHED BATCH OF 8"].map(str::to_owned)];
    for (name, invariance) in std::iter::once(reference).chain(measured) {
        let cell = |of: Computation| {
            let of = invariance.iter().find(|invariance| invariance.of == of);
            of.map_or("-".into(), invariance_cell)
        };
        if !invariance.is_empty() {
            let [steps, batch, both] = Computation::ALL.map(cell);
            rows.push([name, steps, batch, both]);
        }
    }
    match rows.len() {
        1 => String::new(),
        _ => format!(
            "\nEach backend's logits against its own, computed in another way:\n{}",
            aligned(&rows, 4).concat()
        ),
    }
}

fn invariance_cell(invariance: &Invariance) -> String {
    let symbol = invariance.verdict.symbol();
    match invariance.verdict {
        Verdict::Identical => format!("{symbol} identical"),
        Verdict::Unavailable => format!("{symbol} cannot tell"),
        verdict => format!("{symbol} {} {:.1e}", verdict.name(), invariance.error),
    }
}

/// Returns one line for each row, with columns as wide as their cells, the first `left` of them aligned to the left.
fn aligned<const N: usize>(rows: &[[String; N]], left: usize) -> Vec<String> {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column < left {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}
