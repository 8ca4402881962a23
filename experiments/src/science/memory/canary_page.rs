//! A measurement of canaries with its conditions, and the report of it.

use std::path::PathBuf;

use serde::Serialize;

use super::canaries::{CanaryGroup, CanaryRank};
use crate::Error;
use crate::record::run::{ReportDirectory, write_atomically};
use crate::report::{
    self, Block, Cell, Figure, Layout, Page, Plot, PlotAxis, PointMark, Scatter, Section, Series,
    Table, Width, headings, run_class,
};
use crate::show::format::{count, listed, significant};

/// Mean exposure of secrets that a model has never seen, in bits: 1 / ln 2.
pub const EXPOSURE_OF_CHANCE: f64 = std::f64::consts::LOG2_E;

/// A measurement of canaries: the output of `--json`, and the content of `exposures.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CanaryRecord {
    /// Path of the model, and the checkpoint of the run.
    pub model: String,
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// How often training has read its text up to the checkpoint, on average.
    pub epochs: f64,
    /// Text before a secret.
    pub prefix: String,
    /// Symbols of a secret.
    pub symbols: usize,
    /// Number of possible secrets.
    pub candidates: f64,
    /// Entropy of a secret, in bits.
    pub entropy_bits: f64,
    /// Number of other secrets that each canary is ranked among.
    pub references: usize,
    /// Seed of these secrets.
    pub seed: u64,
    /// Mean exposure of secrets that were never seen, 1 / ln 2 bits.
    pub exposure_of_chance: f64,
    /// Canaries by the number of their copies, ascending; the controls have 0.
    pub groups: Vec<CanaryGroup>,
    /// Every canary.
    pub canaries: Vec<CanaryRank>,
    /// Duration of ranking.
    pub seconds: f64,
}

impl CanaryRecord {
    /// Name of the file with the record.
    pub const FILE: &str = "exposures.json";

    /// Writes `exposures.json` and the report. Returns the path of the page.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn write(&self, directory: ReportDirectory) -> Result<PathBuf, Error> {
        let json = serde_json::to_vec_pretty(self)?;
        write_atomically(&directory.path().join(Self::FILE), &json)?;
        report::write(&page(self), directory.path())
    }

    /// Returns the largest exposure that the references show, in bits.
    pub fn largest(&self) -> f64 {
        ((self.references + 1) as f64).log2()
    }

    /// Says which canaries were memorised.
    pub fn verdict(&self) -> String {
        let planted = self.groups.iter().filter(|group| group.copies > 0);
        let memorised: Vec<String> = planted
            .filter(|group| group.is_memorised)
            .map(|group| group.copies.to_string())
            .collect();
        let copies = match &memorised[..] {
            [] => return "No planted secrets are ranked above chance (Holm's test at 5 %).".into(),
            [one] if one == "1" => "1 copy".to_owned(),
            _ => format!("{} copies", listed(&memorised)),
        };
        format!("Secrets with {copies} are ranked above chance (Holm's test, 5 %).")
    }
}

/// Returns a number of copies for tables.
pub fn copies(number: u64) -> String {
    match number {
        0 => "0 (controls)".into(),
        _ => count(number),
    }
}

fn page(record: &CanaryRecord) -> Page {
    let what = format!(
        "A canary is a document with a secret of {} bits (Carlini et al. 2019). Its rank is 1 plus the number of other \
         secrets, of {} that are drawn like it, which the model finds at least as likely; its exposure is log₂ of the \
         number of all of them over the rank, at most {} bits. Secrets that were never seen have {} bits on average. \
         Intervals are over canaries, or those of the share of a canary's references (Clopper and Pearson).",
        significant(record.entropy_bits, 3),
        count(record.references as u64),
        significant(record.largest(), 3),
        significant(record.exposure_of_chance, 3),
    );
    Page {
        title: format!("{}: canaries", record.model),
        headline: record.verdict(),
        lead: format!(
            "{} on {}:{}; {} canaries and controls; {} epochs of the training text.",
            record.model,
            record.backend,
            record.precision,
            count(record.canaries.len() as u64),
            significant(record.epochs, 2)
        ),
        sections: vec![
            Section::new(
                "Exposure by copies",
                vec![
                    Block::Text(what),
                    Block::Figures(vec![by_copies(record)]),
                    Block::Table(groups(record)),
                ],
            ),
            Section::new("Canaries", vec![Block::Table(canaries(record))]),
        ],
        data_file: CanaryRecord::FILE,
    }
}

fn by_copies(record: &CanaryRecord) -> Figure {
    // Controls have no place on a logarithmic axis, and chance is a line.
    let planted = record.canaries.iter().filter(|canary| canary.copies > 0);
    let dots = planted.map(|canary| (canary.copies as f64, canary.exposure));
    let groups = record.groups.iter().filter(|group| group.copies > 0);
    let ends = [f64::min, f64::max].map(|end| {
        let copies = groups.clone().map(|group| group.copies as f64);
        copies.reduce(end).unwrap_or(1.0)
    });
    let means = groups
        .clone()
        .map(|group| (group.copies as f64, group.exposure.value));
    let bars = groups.clone().flat_map(|group| {
        let interval = group.exposure.interval.into_iter().flatten();
        interval.map(|end| (group.copies as f64, end))
    });
    let controls = record.groups.iter().find(|group| group.copies == 0);
    let level = |value: f64| ends.map(|copies| (copies, value)).to_vec();
    let series = [
        ("canaries", PointMark::Dots, 0, dots.collect()),
        ("mean", PointMark::Bars, 1, bars.collect()),
        ("mean", PointMark::Line, 1, means.collect()),
        (
            "controls, mean",
            PointMark::Line,
            2,
            controls.map_or(Vec::new(), |group| level(group.exposure.value)),
        ),
        (
            "never seen, 1 / ln 2",
            PointMark::Line,
            3,
            level(record.exposure_of_chance),
        ),
    ];
    let series = series.map(|(name, mark, class, points): (_, _, _, Vec<_>)| Series {
        name: name.into(),
        mark,
        class: run_class(class),
        points,
    });
    Figure {
        id: "exposure-by-copies".into(),
        caption: "Exposure of the canaries by the number of their copies in the training text."
            .into(),
        plot: Plot::Scatter(Scatter {
            label: "Exposure by the number of copies".into(),
            x: PlotAxis {
                name: "copies",
                log: true,
            },
            y: PlotAxis {
                name: "exposure, bits",
                log: false,
            },
            width: Width::Full,
            series: series
                .into_iter()
                .filter(|series| !series.points.is_empty())
                .collect(),
        }),
    }
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("{low:.2} to {high:.2}")
}

fn groups(record: &CanaryRecord) -> Table {
    let row = |group: &CanaryGroup| {
        vec![
            Cell::from(copies(group.copies)),
            Cell::number(Some(group.canaries as u64), count),
            Cell::number(Some(group.first as u64), count),
            Cell {
                detail: group.exposure.interval.map_or(String::new(), interval),
                ..Cell::number(Some(group.exposure.value), |bits| format!("{bits:.2}"))
            },
            Cell::number(Some(group.bits), |bits| format!("{bits:.1}")),
            Cell::number(Some(group.chance), |chance| significant(chance, 2)),
        ]
    };
    Table {
        caption: "Canaries by the number of their copies",
        layout: Layout::Scrolling,
        headings: headings([
            ("copies", ""),
            ("canaries", ""),
            ("ranked first", ""),
            ("exposure", "bits"),
            ("secret", "bits"),
            ("by chance", ""),
        ]),
        rows: record.groups.iter().map(row).collect(),
    }
}

fn canaries(record: &CanaryRecord) -> Table {
    let row = |canary: &CanaryRank| {
        vec![
            Cell::from(record.prefix.replacen("{}", &canary.name, 1) + &canary.secret),
            Cell::from(copies(canary.copies)),
            Cell::number(Some(canary.rank), count),
            Cell {
                detail: interval(canary.interval),
                ..Cell::number(Some(canary.exposure), |bits| format!("{bits:.2}"))
            },
            Cell::number(Some(canary.bits), |bits| format!("{bits:.1}")),
        ]
    };
    Table {
        caption: "Every canary",
        layout: Layout::Scrolling,
        headings: headings([
            ("canary", ""),
            ("copies", ""),
            ("rank", ""),
            ("exposure", "bits"),
            ("secret", "bits"),
        ]),
        rows: record.canaries.iter().map(row).collect(),
    }
}
