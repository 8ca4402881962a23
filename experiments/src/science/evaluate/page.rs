//! The report of an evaluation.

use std::path::PathBuf;

use super::curves::{Bin, Calibration};
use super::estimate::Estimate;
use super::measures::Measures;
use super::paired::RoundingVerdict;
use super::record::{EvaluationRecord, Second};
use crate::Error;
use crate::record::run::{ReportDirectory, write_atomically};
use crate::report::{
    self, Bar, Bars, Block, Cell, Figure, Layout, Line, LineKind, LinePlot, Page, Plot, Section,
    Table, Tile, Width, headings, run_class,
};
use crate::show::format::{self, count, significant};

impl EvaluationRecord {
    /// Writes `evaluation.json` and the report. Returns the path of the page.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn write(&self, directory: ReportDirectory) -> Result<PathBuf, Error> {
        let json = serde_json::to_vec_pretty(self)?;
        write_atomically(&directory.path().join(Self::FILE), &json)?;
        report::write(&page(self), directory.path())
    }
}

/// Returns the page of an evaluation.
fn page(record: &EvaluationRecord) -> Page {
    let total = &record.evaluation.total;
    let mut sections = vec![
        Section::new("Overview", overview(record)),
        Section::new("Measures", vec![Block::Table(measures(total))]),
        Section::new(
            "Loss by context",
            vec![Block::Figures(vec![by_context(record)])],
        ),
    ];
    if let Some(second) = &record.against {
        sections.insert(2, Section::new("Comparison", comparison(record, second)));
    }
    if let Some(bins) = &record.evaluation.by_frequency {
        let figure = Block::Figures(vec![by_frequency(bins)]);
        sections.push(Section::new("Loss by frequency", vec![figure]));
    }
    sections.push(Section::new("Calibration", calibration(record)));
    if record.evaluation.texts.len() > 1 {
        sections.push(Section::new("Texts", vec![Block::Table(texts(record))]));
    }
    Page {
        title: format!("{}: evaluation", record.model),
        headline: headline(record),
        lead: format!(
            "{} on {}:{}; {}.",
            record.model,
            record.backend,
            record.precision,
            record.settings().words()
        ),
        sections,
        data_file: EvaluationRecord::FILE,
    }
}

fn headline(record: &EvaluationRecord) -> String {
    let total = &record.evaluation.total;
    let tokens = format!("{} tokens", count(total.tokens));
    match total.bits_per_byte {
        Some(bits) => format!("{} bits per byte over {tokens}.", with_interval(bits, 4)),
        None => format!(
            "{} nats per token over {tokens}.",
            with_interval(total.loss, 4)
        ),
    }
}

/// Formats an estimate with its interval: `0.334 (0.320 to 0.349)`.
fn with_interval(estimate: Estimate, digits: usize) -> String {
    let value = significant(estimate.value, digits);
    match estimate.interval {
        Some([low, high]) => format!(
            "{value} ({} to {})",
            significant(low, digits),
            significant(high, digits)
        ),
        None => value,
    }
}

fn overview(record: &EvaluationRecord) -> Vec<Block> {
    let total = &record.evaluation.total;
    let range = |estimate: Estimate| {
        estimate.interval.map_or(String::new(), |[low, high]| {
            format!("{} to {}", significant(low, 4), significant(high, 4))
        })
    };
    let tile = |label, estimate: Estimate, unit: &str| Tile {
        label,
        value: significant(estimate.value, 4),
        detail: match (unit, range(estimate)) {
            ("", range) => range,
            (unit, range) if range.is_empty() => unit.into(),
            (unit, range) => format!("{unit}; {range}"),
        },
    };
    let mut tiles = Vec::new();
    if let Some(bits) = total.bits_per_byte {
        let floor = record.floor_bits_per_byte.map_or(String::new(), |floor| {
            format!("source {}", significant(floor, 4))
        });
        tiles.push(tile("Bits per byte", bits, &floor));
    }
    tiles.push(tile("Loss", total.loss, "nats per token"));
    tiles.push(tile("Perplexity", total.perplexity, "per token"));
    tiles.push(tile("Accuracy, %", total.accuracy.scaled(100.0), ""));
    let mut blocks = vec![Block::Tiles(tiles)];
    if total.clusters > 1 {
        blocks.push(Block::Text(format!(
            "Ranges are 95 % confidence intervals over {} {}.",
            count(total.clusters as u64),
            total.clusters_are.words()
        )));
    }
    if record.evaluation.not_scored > 0 {
        blocks.push(Block::Text(format!(
            "Tokens without a prediction, because no token precedes them: {}.",
            count(record.evaluation.not_scored)
        )));
    }
    if !record.tokenizer_is_exact {
        blocks.push(Block::Text(
            "The tokenizer changes text, so that its tokens do not stand for exactly its bytes."
                .into(),
        ));
    }
    blocks
}

fn measures(total: &Measures) -> Table {
    let rows = [
        ("loss, nats per token", Some(total.loss)),
        ("loss, bits per token", Some(total.bits_per_token)),
        ("perplexity per token", Some(total.perplexity)),
        ("bits per byte", total.bits_per_byte),
        ("bits per character", total.bits_per_character),
        ("perplexity per word", total.word_perplexity),
        ("accuracy, %", Some(total.accuracy.scaled(100.0))),
        (
            "accuracy of the first five, %",
            Some(total.top_5_accuracy.scaled(100.0)),
        ),
        ("mean rank", Some(total.mean_rank)),
    ];
    let row = |(name, estimate): (&str, Option<Estimate>)| {
        let estimate = estimate?;
        let end = |index: usize| estimate.interval.map(|ends| ends[index]);
        let numbers = [estimate.standard_error, end(0), end(1)];
        Some((name.to_owned(), Some(estimate.value), numbers))
    };
    Table::estimates(
        "Measures of all scored tokens",
        rows.into_iter().filter_map(row),
    )
}

/// Sets the second model beside the first.
fn comparison(record: &EvaluationRecord, second: &Second) -> Vec<Block> {
    let first = &record.evaluation.total;
    let difference = &second.difference;
    let row = |name: &str, values: [Option<Estimate>; 3]| {
        let [first, other, difference] = values;
        let value = |estimate: Option<Estimate>| {
            let value = estimate.map(|estimate| estimate.value);
            Cell::number(value, |value| significant(value, 5))
        };
        let end = |index: usize| difference.and_then(|d| d.interval).map(|ends| ends[index]);
        let small = |value| significant(value, 3);
        vec![
            Cell::from(name.to_owned()),
            value(first),
            value(other),
            Cell::number(difference.map(|difference| difference.value), small),
            Cell::number(end(0), small),
            Cell::number(end(1), small),
        ]
    };
    let rows = vec![
        row(
            "bits per byte",
            [
                first.bits_per_byte,
                second.total.bits_per_byte,
                difference.bits_per_byte,
            ],
        ),
        row(
            "loss, nats per token",
            [Some(first.loss), Some(second.total.loss), difference.loss],
        ),
    ];
    let mut blocks = vec![
        Block::Text(format!(
            "The second model is {} on {}:{}. Differences are the second minus the first, with 95 % intervals paired over {} \
             {}.",
            second.model,
            second.backend,
            second.precision,
            count(difference.clusters as u64),
            difference.clusters_are.words()
        )),
        Block::Table(Table {
            caption: "Two models on the same text",
            layout: Layout::Scrolling,
            headings: headings([
                ("", ""),
                ("first", ""),
                ("second", ""),
                ("difference", ""),
                ("95 % from", ""),
                ("to", ""),
            ]),
            rows,
        }),
    ];
    if let Some(rounding) = &second.rounding {
        blocks.push(Block::Text(match rounding.verdict {
            RoundingVerdict::Identical => {
                "Both have the same weights, and every token has the same bits.".into()
            }
            verdict => format!(
                "Both have the same weights. Tokens differ by {} nats in the root mean square, and one rounding of every weight \
                 changes them by {}: the difference is {}.",
                significant(rounding.root_mean_square, 2),
                significant(rounding.of_one_rounding, 2),
                match verdict {
                    RoundingVerdict::Differs => "more than rounding",
                    _ => "rounding",
                }
            ),
        }));
    }
    blocks
}

fn by_context(record: &EvaluationRecord) -> Figure {
    let bins = &record.evaluation.by_context;
    let line = |name: &str, kind, values: Vec<f64>| Line {
        name: name.into(),
        kind,
        class: run_class(0),
        steps: Some(bins.iter().map(|bin| middle(bin) as usize).collect()),
        values,
    };
    let plot = LinePlot {
        label: "Loss by the number of tokens before the predicted one".into(),
        axis: "tokens before the predicted one",
        quantity: "loss, nats per token",
        log: false,
        width: Width::Full,
        lines: vec![line(
            "mean loss",
            LineKind::Run,
            bins.iter().map(|bin| bin.loss.value).collect(),
        )],
        bands: Vec::new(),
        levels: Vec::new(),
        marks: Vec::new(),
    };
    Figure {
        id: "loss-by-context".into(),
        caption: "Mean loss by the number of tokens that the model saw before the predicted one. From 17 on, numbers are \
                  grouped, eight groups to a doubling."
            .into(),
        plot: Plot::Lines(plot),
    }
}

fn middle(bin: &Bin) -> u64 {
    bin.from.midpoint(bin.to)
}

fn by_frequency(bins: &[Bin]) -> Figure {
    let name = |bin: &Bin| match (bin.from, bin.to) {
        (0, 0) => "does not occur".into(),
        (from, to) if from == to => format!("{} times", count(to)),
        (from, to) => format!("{} to {} times", count(from), count(to)),
    };
    let bar = |bin: &Bin| Bar {
        name: name(bin),
        class: run_class(0),
        value: Some(bin.loss.value),
    };
    Figure {
        id: "loss-by-frequency".into(),
        caption: "Mean loss by how often the token occurs in the training text: groups that each make up about a tenth of \
                  it."
            .into(),
        plot: Plot::Bars(Bars {
            label: "Loss by the frequency of the token in the training text",
            row: "occurrences",
            quantity: "loss",
            shown: |value| format!("{}{}nats", significant(value, 3), format::THIN),
            rows: bins.iter().map(bar).collect(),
        }),
    }
}

fn calibration(record: &EvaluationRecord) -> Vec<Block> {
    let calibration = &record.evaluation.calibration;
    let percent = |share: f64| format!("{}{}%", significant(100.0 * share, 3), format::THIN);
    let rows = calibration.bins.iter().map(|bin| {
        vec![
            Cell::from(format!("{} to {}", percent(bin.from), percent(bin.to))),
            Cell::number(Some(bin.tokens), count),
            Cell::number(Some(bin.probability), percent),
            Cell::number(Some(bin.accuracy.value), percent),
            Cell::number(bin.accuracy.interval.map(|ends| ends[0]), percent),
            Cell::number(bin.accuracy.interval.map(|ends| ends[1]), percent),
        ]
    });
    vec![
        Block::Text(format!(
            "How often the most probable token is right differs from its probability by {} percentage points on average: the \
             expected calibration error.",
            significant(100.0 * calibration.expected_calibration_error, 3)
        )),
        Block::Figures(vec![reliability(calibration)]),
        Block::Table(Table {
            caption: "Probability of the most probable token, and how often it is right",
            layout: Layout::Scrolling,
            headings: headings([
                ("probability", ""),
                ("tokens", ""),
                ("mean probability", ""),
                ("right", ""),
                ("95 % from", ""),
                ("to", ""),
            ]),
            rows: rows.collect(),
        }),
    ]
}

/// Draws how often the most probable token is right by its probability.
fn reliability(calibration: &Calibration) -> Figure {
    let percent = |share: f64| 100.0 * share;
    let bins = || calibration.bins.iter();
    let steps: Vec<usize> = bins()
        .map(|bin| percent(bin.probability).round() as usize)
        .collect();
    let line = |name: &str, kind, run, values| Line {
        name: name.into(),
        kind,
        class: run_class(run),
        steps: Some(steps.clone()),
        values,
    };
    let right = bins().map(|bin| percent(bin.accuracy.value)).collect();
    let perfect = bins().map(|bin| percent(bin.probability)).collect();
    Figure {
        id: "reliability".into(),
        caption: "How often the most probable token is right, by its probability. On the line of perfect calibration both are \
                  equal."
            .into(),
        plot: Plot::Lines(LinePlot {
            label: "How often the most probable token is right, by its probability".into(),
            axis: "probability of the most probable token, %",
            quantity: "right, %",
            log: false,
            width: Width::Full,
            lines: vec![
                line("observed", LineKind::Run, 0, right),
                line("perfect calibration", LineKind::Reference, 1, perfect),
            ],
            bands: Vec::new(),
            levels: Vec::new(),
            marks: Vec::new(),
        }),
    }
}

fn texts(record: &EvaluationRecord) -> Table {
    let rows = record.evaluation.texts.iter().map(|text| {
        let bits = text.measures.bits_per_byte;
        let end = |index: usize| bits.and_then(|bits| bits.interval).map(|ends| ends[index]);
        let number = |value| significant(value, 4);
        vec![
            Cell::from(text.name.clone()),
            Cell::number(Some(text.measures.tokens), count),
            Cell::number(Some(text.measures.bytes), count),
            Cell::number(Some(text.documents as u64), count),
            Cell::number(Some(text.measures.loss.value), number),
            Cell::number(bits.map(|bits| bits.value), number),
            Cell::number(end(0), number),
            Cell::number(end(1), number),
        ]
    });
    Table {
        caption: "Each text",
        layout: Layout::Scrolling,
        headings: headings([
            ("text", ""),
            ("tokens", ""),
            ("bytes", ""),
            ("documents", ""),
            ("loss", "nats/token"),
            ("bits per byte", ""),
            ("95 % from", ""),
            ("to", ""),
        ]),
        rows: rows.collect(),
    }
}
