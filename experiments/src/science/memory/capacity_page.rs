//! Capacities with their conditions, and the report of them.

use std::path::PathBuf;

use serde::Serialize;

use super::capacities::{Capacities, Capacity, LowerBound};
use super::capacity::Memorised;
use crate::Error;
use crate::record::run::{ReportDirectory, write_atomically};
use crate::report::{
    self, Block, Cell, Figure, Layout, Page, Plot, PlotAxis, PointMark, Scatter, Section, Series,
    Table, Width, headings, run_class,
};
use crate::science::evaluate::Estimate;
use crate::show::format::{count, plural, significant};

/// A measurement of capacities: the output of `--json`, and the content of `capacity.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CapacityRecord {
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// Memorised bits of each run.
    pub runs: Vec<Memorised>,
    /// Capacities by the size of the model.
    #[serde(flatten)]
    pub capacities: Capacities,
    /// Duration of the measurement, without training.
    pub seconds: f64,
}

impl CapacityRecord {
    /// Name of the file with the record.
    pub const FILE: &str = "capacity.json";

    /// Writes `capacity.json` and the report. Returns the path of the page.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn write(&self, directory: ReportDirectory) -> Result<PathBuf, Error> {
        let json = serde_json::to_vec_pretty(self)?;
        write_atomically(&directory.path().join(Self::FILE), &json)?;
        report::write(&page(self), directory.path())
    }

    /// Says what the runs show.
    pub fn verdict(&self) -> String {
        let (bounds, reached): (Vec<&Capacity>, Vec<&Capacity>) = self
            .capacities
            .models
            .iter()
            .partition(|model| model.lower_bound.is_some());
        let per_parameter = self.capacities.per_parameter;
        // An interval that contains 0 says nothing of the mean.
        let mean = per_parameter
            .filter(|mean| mean.interval.is_some_and(|[low, _]| low > 0.0))
            .filter(|_| reached.len() > 1);
        match (&reached[..], mean) {
            ([], _) => lower_bounds(&bounds),
            ([only], _) => format!(
                "The models of one size, whose text was too large for them, hold {} bits per parameter.",
                significant(only.per_parameter.value, 3)
            ),
            (sizes, None) => format!(
                "Models of {} hold {} bits per parameter; more sizes would tell what they have in common.",
                plural(sizes.len(), "size"),
                range(sizes)
            ),
            (sizes, Some(mean)) => format!(
                "Models of {} hold {} bits per parameter{}.",
                plural(sizes.len(), "size"),
                significant(mean.value, 3),
                mean.interval.map_or(String::new(), |[low, high]| format!(
                    " ({} to {})",
                    significant(low, 3),
                    significant(high, 3)
                ))
            ),
        }
    }

    /// Says how much of the capacities came late; `None` if none is reached.
    pub fn late(&self) -> Option<String> {
        let models = self.capacities.models.iter();
        let reached = models.filter(|model| model.lower_bound.is_none());
        let shares = reached.filter_map(|model| model.late_share);
        let most = shares.reduce(f64::max)?;
        Some(format!(
            "Of these capacities at most {} % came in the second half of training.",
            significant(100.0 * most.max(0.0), 2)
        ))
    }
}

/// Says what is known if no capacity is.
fn lower_bounds(models: &[&Capacity]) -> String {
    let overflowing: Vec<&Capacity> = models
        .iter()
        .filter(|model| model.lower_bound != Some(LowerBound::TextTooSmall))
        .copied()
        .collect();
    if overflowing.is_empty() {
        return "Each size holds nearly all of the text of which it holds most, so that no capacity is known; train on larger \
                texts, and longer on those that are."
            .into();
    }
    let is_learning = |model: &&Capacity| model.lower_bound == Some(LowerBound::StillLearning);
    let advice = match overflowing.iter().any(is_learning) {
        true => "they were still learning, so that no capacity is known; train longer",
        false => {
            "whether they were still learning is not known; train with a checkpoint halfway (train.keep)"
        }
    };
    format!(
        "Models of {} hold at least {} bits per parameter: {advice}.",
        plural(overflowing.len(), "size"),
        range(&overflowing)
    )
}

/// Returns the range of the bits per parameter.
fn range(models: &[&Capacity]) -> String {
    let each = models.iter().map(|model| model.per_parameter.value);
    let ends = [f64::min, f64::max].map(|end| each.clone().reduce(end).unwrap_or(f64::NAN));
    let [least, most] = ends.map(|end| significant(end, 3));
    match models.len() {
        1 => least,
        _ => format!("{least} to {most}"),
    }
}

fn page(record: &CapacityRecord) -> Page {
    let mut what = vec![
        Block::Text(
            "A text that a known process has drawn has −log₂ P bits. What a model saves on its training text beyond that it \
             has memorised (Morris et al. 2025). Its capacity is the most that it holds of any text, if this text was too \
             large for it, and if at most 5 % of these bits came in the second half of training; otherwise it is a lower bound."
                .into(),
        ),
    ];
    what.extend(record.late().map(Block::Text));
    what.push(Block::Figures(vec![by_text(record), by_parameters(record)]));
    what.push(Block::Table(models(record)));
    Page {
        title: "Capacity".into(),
        headline: record.verdict(),
        lead: format!(
            "{} on {}:{}.",
            plural(record.runs.len(), "run"),
            record.backend,
            record.precision
        ),
        sections: vec![
            Section::new("Capacity", what),
            Section::new("Runs", vec![Block::Table(runs(record))]),
        ],
        data_file: CapacityRecord::FILE,
    }
}

/// Memorised bits by the bits of the text, a line for each size of the model.
fn by_text(record: &CapacityRecord) -> Figure {
    let mut series: Vec<Series> = Vec::new();
    for (index, model) in record.capacities.models.iter().enumerate() {
        let of_size = record.runs.iter();
        let of_size = of_size.filter(|run| run.parameters == model.parameters);
        let mut points: Vec<(f64, f64)> = of_size
            .filter_map(|run| Some((run.text_bits, run.bits?.value)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        for mark in [PointMark::Line, PointMark::Dots] {
            series.push(Series {
                name: plural(model.parameters, "parameter"),
                mark,
                class: run_class(index),
                points: points.clone(),
            });
        }
    }
    let texts = record.runs.iter().map(|run| run.text_bits);
    let ends = [f64::min, f64::max].map(|end| texts.clone().reduce(end).unwrap_or(1.0));
    series.push(Series {
        name: "all of the text".into(),
        mark: PointMark::Line,
        class: run_class(record.capacities.models.len()),
        points: ends.map(|end| (end, end)).to_vec(),
    });
    Figure {
        id: "memorised-by-text".into(),
        caption: "Memorised bits by the information of the training text. A model holds all of a small text, and no more than \
                  its capacity of a large one."
            .into(),
        plot: Plot::Scatter(Scatter {
            label: "Memorised bits by the information of the text".into(),
            x: PlotAxis {
                name: "information of the text, bits",
                log: true,
            },
            y: PlotAxis {
                name: "memorised, bits",
                log: true,
            },
            width: Width::Half,
            series,
        }),
    }
}

fn by_parameters(record: &CapacityRecord) -> Figure {
    let points = |is_reached: bool| {
        let models = record.capacities.models.iter();
        let models = models.filter(|model| model.lower_bound.is_none() == is_reached);
        models
            .map(|model| (model.parameters as f64, model.bits.value))
            .collect::<Vec<_>>()
    };
    let mut series = vec![
        Series {
            name: "capacity".into(),
            mark: PointMark::Dots,
            class: run_class(0),
            points: points(true),
        },
        Series {
            name: "lower bound".into(),
            mark: PointMark::Crosses,
            class: run_class(1),
            points: points(false),
        },
    ];
    series.retain(|series| !series.points.is_empty());
    if let Some(mean) = record.capacities.per_parameter {
        let sizes = record.capacities.models.iter();
        let sizes = sizes.map(|model| model.parameters as f64);
        let line = |parameters: f64| (parameters, mean.value * parameters);
        series.push(Series {
            name: format!("{} bits per parameter", significant(mean.value, 3)),
            mark: PointMark::Line,
            class: run_class(2),
            points: sizes.map(line).collect(),
        });
    }
    Figure {
        id: "capacity-by-parameters".into(),
        caption: "Capacity by the number of parameters, with the mean of the bits per parameter."
            .into(),
        plot: Plot::Scatter(Scatter {
            label: "Capacity by the number of parameters".into(),
            x: PlotAxis {
                name: "parameters",
                log: true,
            },
            y: PlotAxis {
                name: "capacity, bits",
                log: true,
            },
            width: Width::Half,
            series,
        }),
    }
}

/// Returns the cell of an estimate, with its interval.
fn cell(estimate: Option<Estimate>, shown: impl Fn(f64) -> String) -> Cell {
    Cell {
        detail: estimate
            .and_then(|estimate| estimate.interval)
            .map_or(String::new(), |[low, high]| {
                format!("{} to {}", shown(low), shown(high))
            }),
        ..Cell::number(estimate.map(|estimate| estimate.value), &shown)
    }
}

fn whole(bits: f64) -> String {
    match bits < 0.0 {
        true => format!("−{}", count(bits.abs().round() as u64)),
        false => count(bits.round() as u64),
    }
}

fn models(record: &CapacityRecord) -> Table {
    let row = |model: &Capacity| {
        vec![
            Cell::number(Some(model.parameters as u64), count),
            cell(Some(model.bits), whole),
            cell(Some(model.per_parameter), |bits| significant(bits, 3)),
            Cell::from(model.note()),
        ]
    };
    Table {
        caption: "Bits that models of a size hold. Intervals are over documents",
        layout: Layout::Scrolling,
        headings: headings([
            ("parameters", ""),
            ("held", "bits"),
            ("per parameter", "bits"),
            ("", ""),
        ]),
        rows: record.capacities.models.iter().map(row).collect(),
    }
}

fn runs(record: &CapacityRecord) -> Table {
    let row = |run: &Memorised| {
        vec![
            Cell::from(run.run.clone()),
            Cell::number(Some(run.parameters as u64), count),
            Cell::number(Some(run.documents as u64), count),
            Cell::number(Some(run.text_bits), whole),
            Cell::number(Some(run.epochs), |epochs| significant(epochs, 3)),
            cell(run.bits, whole),
            Cell::number(run.late_share(), |share| significant(100.0 * share, 2)),
        ]
    };
    Table {
        caption: "What each run has memorised",
        layout: Layout::Scrolling,
        headings: headings([
            ("run", ""),
            ("parameters", ""),
            ("documents", ""),
            ("text", "bits"),
            ("epochs", ""),
            ("memorised", "bits"),
            ("in the second half", "%"),
        ]),
        rows: record.runs.iter().map(row).collect(),
    }
}
