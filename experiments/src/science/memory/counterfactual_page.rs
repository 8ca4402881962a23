//! Counterfactual memorisation with its conditions, and the report of it.

use std::path::PathBuf;

use serde::Serialize;

use super::counterfactual::{DocumentMemory, Savings};
use crate::Error;
use crate::record::run::{ReportDirectory, write_atomically};
use crate::report::{
    self, Block, Cell, Figure, Layout, Page, Plot, PlotAxis, PointMark, Scatter, Section, Series,
    Table, Width, headings, run_class,
};
use crate::show::format::{count, plural, significant};

/// Documents in the table of the report.
const LISTED: usize = 50;

/// Points of the curve of quantiles.
const POINTS: usize = 200;

/// A measurement of counterfactual memorisation: the output of `--json`, and the content of `counterfactual.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CounterfactualRecord {
    /// Directories of the runs.
    pub runs: Vec<String>,
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// Share of the documents that a run was trained on.
    pub share: f64,
    /// Number of documents of the training text.
    pub total: usize,
    /// Documents with too few models with them, or without them, which are not measured.
    pub undecided: usize,
    /// Seed of the choice of documents, and of the bootstrap.
    pub seed: u64,
    /// Results.
    #[serde(flatten)]
    pub savings: Savings,
    /// Duration of scoring.
    pub seconds: f64,
}

impl CounterfactualRecord {
    /// Name of the file with the record.
    pub const FILE: &str = "counterfactual.json";

    /// Writes `counterfactual.json` and the report. Returns the path of the page.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn write(&self, directory: ReportDirectory) -> Result<PathBuf, Error> {
        let json = serde_json::to_vec_pretty(self)?;
        write_atomically(&directory.path().join(Self::FILE), &json)?;
        report::write(&page(self), directory.path())
    }

    /// Says how many documents are memorised.
    pub fn verdict(&self) -> String {
        format!(
            "{} of {} memorised (Benjamini and Hochberg, 5 %).",
            count(self.savings.memorised as u64),
            plural(self.savings.documents.len(), "document")
        )
    }
}

fn page(record: &CounterfactualRecord) -> Page {
    Page {
        title: "Counterfactual memorisation".into(),
        headline: record.verdict(),
        lead: format!(
            "{} on {}:{}, each trained on {} % of {} documents.",
            plural(record.runs.len(), "run"),
            record.backend,
            record.precision,
            significant(100.0 * record.share, 3),
            count(record.total as u64)
        ),
        sections: vec![Section::new(
            "Bits saved per byte",
            vec![
                Block::Text(
                    "What models that were not trained on a document need for it, less what models need that were, in bits \
                     per byte (Zhang et al. 2021). Intervals of documents are Welch's, over models; a document counts as \
                     memorised by his one-sided test, with a share of false discoveries of 5 % at most."
                        .into(),
                ),
                Block::Figures(vec![quantiles(record)]),
                Block::Table(documents(record)),
            ],
        )],
        data_file: CounterfactualRecord::FILE,
    }
}

fn quantiles(record: &CounterfactualRecord) -> Figure {
    let documents = &record.savings.documents;
    let step = documents.len().div_ceil(POINTS).max(1);
    let curve = |of: fn(&DocumentMemory) -> Option<f64>| -> Vec<(f64, f64)> {
        let ranked = documents.iter().enumerate().step_by(step);
        ranked
            .filter_map(|(rank, document)| {
                let share = 100.0 * (rank as f64 + 0.5) / documents.len() as f64;
                Some((share, of(document)?))
            })
            .collect()
    };
    let series = [
        (
            "saved",
            PointMark::Line,
            curve(|document| Some(document.saved.value)),
        ),
        (
            "95 % interval",
            PointMark::Dots,
            [
                curve(|document| document.saved.interval.map(|ends| ends[0])),
                curve(|document| document.saved.interval.map(|ends| ends[1])),
            ]
            .concat(),
        ),
    ];
    Figure {
        id: "saved-by-document".into(),
        caption: "Bits saved per byte of the documents, from the largest savings on.".into(),
        plot: Plot::Scatter(Scatter {
            label: "Bits saved per byte of the documents".into(),
            x: PlotAxis {
                name: "documents, %",
                log: false,
            },
            y: PlotAxis {
                name: "saved, bits per byte",
                log: false,
            },
            width: Width::Full,
            series: series
                .into_iter()
                .enumerate()
                .map(|(index, (name, mark, points))| Series {
                    name: name.into(),
                    mark,
                    class: run_class(index),
                    points,
                })
                .collect(),
        }),
    }
}

fn documents(record: &CounterfactualRecord) -> Table {
    let number = |value: f64| format!("{value:.3}");
    let row = |document: &DocumentMemory| {
        vec![
            Cell::from(document.document.to_string()),
            Cell {
                detail: document
                    .saved
                    .interval
                    .map_or(String::new(), |[low, high]| {
                        format!("{} to {}", number(low), number(high))
                    }),
                ..Cell::number(Some(document.saved.value), number)
            },
            Cell::number(Some(document.p_value), |p| significant(p, 2)),
            Cell::from(if document.is_memorised { "yes" } else { "no" }.to_owned()),
            Cell::number(Some(document.with as u64), count),
            Cell::number(Some(document.without as u64), count),
            Cell::from(document.text.clone()),
        ]
    };
    let listed = record.savings.documents.iter().take(LISTED);
    Table {
        caption: "Documents with the largest savings",
        layout: Layout::Scrolling,
        headings: headings([
            ("document", ""),
            ("saved", "bits/byte"),
            ("p", ""),
            ("memorised", ""),
            ("models with", ""),
            ("without", ""),
            ("begins", ""),
        ]),
        rows: listed.map(row).collect(),
    }
}
