//! The report of a study of free running.

use std::path::PathBuf;

use super::accumulate::Accumulated;
use super::figures::{by_step, excess_by_length, outside};
use super::record::{ExposureRecord, StrategyRecord};
use super::repetition::Repetition;
use crate::Error;
use crate::record::run::{ReportDirectory, write_atomically};
use crate::report::{self, Block, Cell, Layout, Page, Section, Table, Tile, headings};
use crate::science::Share;
use crate::science::evaluate::Estimate;
use crate::show::format::{count, significant};

impl ExposureRecord {
    /// Writes `exposure.json` and the report. Returns the path of the page.
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

fn page(record: &ExposureRecord) -> Page {
    let method = &record.method;
    let mut sections = vec![
        Section::new("Overview", overview(record)),
        Section::new(
            "Errors by step",
            vec![Block::Figures(vec![by_step(record)])],
        ),
        Section::new("Accumulation", accumulation(record)),
    ];
    if method.oracle.is_exact() {
        sections.push(Section::new("Impossible texts", impossible(record)));
        sections.push(Section::new(
            "What leaving costs",
            vec![Block::Table(treatments(record))],
        ));
    }
    sections.push(Section::new(
        "Repetition",
        vec![Block::Table(repetition(record))],
    ));
    Page {
        title: format!("{}: free running", record.model),
        headline: record
            .verdict()
            .unwrap_or_else(|| format!("Free running over {} steps.", method.length)),
        lead: format!(
            "{} on {}:{}, against {}; {} sequences, each with a prompt of {} tokens from {} and up to {} steps.",
            record.model,
            record.backend,
            record.precision,
            method.oracle.words(),
            count(method.sequences as u64),
            method.prompt,
            method.data,
            method.length
        ),
        sections,
        data_file: ExposureRecord::FILE,
    }
}

fn range(estimate: Estimate) -> String {
    estimate.interval.map_or(String::new(), |[low, high]| {
        format!("{} to {}", significant(low, 3), significant(high, 3))
    })
}

fn overview(record: &ExposureRecord) -> Vec<Block> {
    let tile = |label, estimate: Option<Estimate>, unit: &str| {
        let estimate = estimate?;
        let detail = [unit.to_owned(), range(estimate)];
        Some(Tile {
            label,
            value: significant(estimate.value, 3),
            detail: detail
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
        })
    };
    let ancestral = record.ancestral();
    let support = ancestral.and_then(|record| record.support.as_ref());
    let tiles = [
        tile("Error of a step on data", record.per_step(), "nats"),
        tile(
            "Excess of free running, %",
            ancestral.and_then(StrategyRecord::excess),
            "",
        ),
        tile(
            "Impossible tokens in 1000",
            support.and_then(|support| support.per_thousand),
            "",
        ),
    ];
    vec![
        Block::Tiles(tiles.into_iter().flatten().collect()),
        Block::Text(
            "The error of a step is KL(o‖p), the divergence of the model p from the oracle o. Teacher forcing measures it on \
             contexts of the data; free running on contexts that the model has written, with each way of choosing tokens. \
             The excess is how much larger the sum over the steps is than on contexts of the data (Arora et al. 2022); each \
             step has the mean over the sequences that have not ended before it. \
             Ranges are 95 % intervals of a bootstrap over sequences."
                .into(),
        ),
    ]
}

fn accumulation(record: &ExposureRecord) -> Vec<Block> {
    let rows = record.strategies.iter().map(|strategy| {
        let last = strategy.last();
        let number = |of: fn(&Accumulated) -> Option<Estimate>, digits| {
            let estimate = last.and_then(of);
            Cell::number(estimate.map(|e| e.value), |value| {
                significant(value, digits)
            })
        };
        let excess = last.and_then(|last| last.excess);
        vec![
            Cell::from(strategy.strategy.name.clone()),
            Cell::number(last.map(|last| last.length as u64), count),
            Cell::number(last.map(|last| last.alive as u64), count),
            number(|last| last.total, 4),
            number(|last| last.ratio, 4),
            number(|last| last.excess, 3),
            end(excess, 0),
            end(excess, 1),
        ]
    });
    let mut blocks = vec![
        Block::Text(
            "R(l) is the sum over l steps of free running of the mean error of the sequences that take the step, and ε(l) the \
             mean error of a step on the data, of the sequences that take it there. Each row is at the largest l up to which \
             every step has 20 contexts or more."
                .into(),
        ),
        Block::Table(Table {
            caption: "Accumulated errors on possible contexts",
            layout: Layout::Scrolling,
            headings: headings([
                ("tokens", ""),
                ("l", "steps"),
                ("still going on", "sequences"),
                ("R(l)", "nats"),
                ("R(l)/ε(l)", "steps"),
                ("excess", "%"),
                ("95 % from", ""),
                ("to", ""),
            ]),
            rows: rows.collect(),
        }),
        Block::Figures(vec![excess_by_length(record)]),
    ];
    if record.has_ends() {
        blocks.push(Block::Table(alive(record)));
    }
    blocks
}

/// Counts the sequences that have not ended, by length.
fn alive(record: &ExposureRecord) -> Table {
    let lengths = record.method.lengths.iter().enumerate();
    let rows = lengths.map(|(index, length)| {
        let of = |alive: Option<usize>| Cell::number(alive.map(|alive| alive as u64), count);
        let walks = record.strategies.iter();
        let of_model = walks.map(|strategy| strategy.accumulated.get(index).map(|at| at.alive));
        let of_data = record.on_data.alive.get(index).copied();
        let length = Cell::number(Some(*length as u64), count);
        let cells = std::iter::once(of_data).chain(of_model).map(of);
        std::iter::once(length).chain(cells).collect()
    });
    let mut names = headings([("l", "steps"), ("data", "")]);
    let strategies = record.strategies.iter();
    names.extend(strategies.map(|strategy| (strategy.strategy.name.clone(), "")));
    Table {
        caption: "Sequences that take step l, and have not ended before",
        layout: Layout::Scrolling,
        headings: names,
        rows: rows.collect(),
    }
}

fn end(estimate: Option<Estimate>, index: usize) -> Cell {
    let ends = estimate.and_then(|estimate| estimate.interval);
    Cell::number(ends.map(|ends| ends[index]), |value| significant(value, 3))
}

fn impossible(record: &ExposureRecord) -> Vec<Block> {
    let share = |share: Option<Share>, of: fn(Share) -> f64| {
        Cell::number(share.map(of), |value| significant(100.0 * value, 3))
    };
    let number = |estimate: Option<Estimate>| {
        Cell::number(estimate.map(|e| e.value), |value| significant(value, 3))
    };
    let rows = record.strategies.iter().filter_map(|strategy| {
        let support = strategy.support.as_ref()?;
        let left = support.left.last().copied().flatten();
        let recovery = support.recovery.as_ref();
        let (back, after) = (
            recovery.and_then(|recovery| recovery.tokens),
            recovery.and_then(|recovery| recovery.errors_after),
        );
        Some(vec![
            Cell::from(strategy.strategy.name.clone()),
            share(left, |share| share.value),
            share(left, |share| share.interval[0]),
            share(left, |share| share.interval[1]),
            number(support.per_thousand),
            number(back),
            number(after),
            end(after, 0),
            end(after, 1),
        ])
    });
    vec![
        Block::Text(format!(
            "A sequence leaves the support of the oracle with a token that makes the text impossible, and is outside until \
             the next document begins. Shares are of all sequences within {} steps. The errors after the return are over \
             those of the data at the same places of a document: 1 is complete recovery (He et al. 2021).",
            record.method.length
        )),
        Block::Table(Table {
            caption: "Leaving the support, and coming back",
            layout: Layout::Scrolling,
            headings: headings([
                ("tokens", ""),
                ("have left", "%"),
                ("95 % from", ""),
                ("to", ""),
                ("per 1000 tokens", ""),
                ("median tokens outside", ""),
                ("errors after", "× data"),
                ("95 % from", ""),
                ("to", ""),
            ]),
            rows: rows.collect(),
        }),
        Block::Figures(vec![outside(record)]),
    ]
}

/// Sets the conventions about impossible contexts side by side.
fn treatments(record: &ExposureRecord) -> Table {
    let cell = |excess: Option<Estimate>| Cell {
        detail: excess.map_or(String::new(), range),
        ..Cell::number(excess.map(|e| e.value), |value| significant(value, 3))
    };
    let rows = record.strategies.iter().map(|strategy| {
        let smoothed = strategy.smoothed.as_ref();
        let smoothed = |index: usize| smoothed.map(|smoothed| &smoothed[index].accumulated);
        vec![
            Cell::from(strategy.strategy.name.clone()),
            cell(strategy.excess()),
            cell(strategy.excess_by(strategy.never_left.as_ref())),
            cell(strategy.excess_by(smoothed(0))),
            cell(strategy.excess_by(smoothed(1))),
        ]
    });
    let [first, second] = record
        .method
        .smoothing
        .map(|weight| format!("smoothed by {weight}"));
    Table {
        caption: "Excess in percent, by what an impossible context is charged",
        layout: Layout::Scrolling,
        headings: headings([
            ("tokens", ""),
            ("left out", ""),
            ("sequences that never left", ""),
            (&first, ""),
            (&second, ""),
        ]),
        rows: rows.collect(),
    }
}

fn repetition(record: &ExposureRecord) -> Table {
    let row = |name: &str, repetition: &Repetition| {
        let cell = |estimate: Option<Estimate>| Cell {
            detail: estimate.map_or(String::new(), range),
            ..Cell::number(estimate.map(|e| e.value), |value| significant(value, 3))
        };
        vec![
            Cell::from(name.to_owned()),
            cell(repetition.rep(16)),
            cell(repetition.rep(128)),
            cell(repetition.seq_rep(4)),
            cell(repetition.seq_rep(16)),
        ]
    };
    let mut rows = vec![
        row("data", &record.on_data.repetition),
        row("ranked first on data", &record.on_data.predicted),
    ];
    let strategies = record.strategies.iter();
    rows.extend(strategies.map(|strategy| row(&strategy.strategy.name, &strategy.repetition)));
    Table {
        caption: "Repeated tokens and n-grams (Welleck et al. 2019)",
        layout: Layout::Scrolling,
        headings: headings([
            ("tokens", ""),
            ("rep/16", ""),
            ("rep/128", ""),
            ("seq-rep-4", ""),
            ("seq-rep-16", ""),
        ]),
        rows,
    }
}
