//! Runs as a report names and colours them.

use super::history::RunHistory;
use crate::report::run_class;

/// A run of the report.
pub(super) struct ReportedRun<'a> {
    pub run: &'a RunHistory,
    /// Name in legends.
    pub name: String,
    /// Colour and dash pattern.
    pub class: String,
}

impl<'a> ReportedRun<'a> {
    /// Names all runs after their directories, or after their paths if several directories have the same name.
    pub(super) fn all(runs: &'a [RunHistory]) -> Vec<Self> {
        let shown = |(index, run): (usize, &'a RunHistory)| {
            let alike = runs.iter().filter(|other| other.name == run.name);
            Self {
                run,
                name: match alike.count() {
                    1 => run.name.clone(),
                    _ => run.path.to_string_lossy().into_owned(),
                },
                class: class(index),
            }
        };
        runs.iter().enumerate().map(shown).collect()
    }
}

/// Returns the class of the run at `index`: a colour for each of the first seven, and dash patterns for further ones.
fn class(index: usize) -> String {
    match index {
        0..7 => format!("c{index} d0"),
        _ => run_class(index),
    }
}

/// Returns whether two runs have different tokenizers, so that nats per token cannot be compared.
pub(super) fn tokenizers_differ(runs: &[ReportedRun<'_>]) -> bool {
    let known: Vec<&String> = runs
        .iter()
        .filter_map(|run| run.run.tokenizer.as_ref())
        .collect();
    known.windows(2).any(|pair| pair[0] != pair[1])
}
