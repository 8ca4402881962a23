//! The report of an attempt at extraction.

use std::path::PathBuf;

use super::groups::Group;
use super::record::{Excess, ExtractRecord, PrefixRecord, SetRecord};
use crate::Error;
use crate::record::run::{ReportDirectory, write_atomically};
use crate::report::{
    self, Block, Cell, Figure, Layout, Page, Plot, PlotAxis, PointMark, Scatter, Section, Series,
    Table, Width, headings, run_class,
};
use crate::science::{Share, ShareDifference};
use crate::show::format::{count, significant};

impl ExtractRecord {
    /// Writes `extraction.json` and the report. Returns the path of the page.
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

fn page(record: &ExtractRecord) -> Page {
    let last = |set: &SetRecord| {
        let group = set
            .by_prefix
            .last()
            .and_then(|by_prefix| by_prefix.all.as_ref());
        group.map_or("no".into(), |group| percent(group.greedy.value))
    };
    let excess = record.excess.last().and_then(|excess| excess.greedy);
    let sections = vec![
        Section::new(
            "By the length of the prefix",
            vec![
                Block::Text(
                    "A suffix is extracted if greedy decoding gives it after the prefix (Carlini et al. 2022). What is \
                     extracted of text that was not trained on was not memorised: it is predictable. Bars are exact 95 % \
                     intervals."
                        .into(),
                ),
                Block::Figures(vec![by_prefix(record)]),
                Block::Table(prefixes(record)),
                Block::Table(excesses(record)),
            ],
        ),
        Section::new(
            "By occurrences in the training text",
            vec![Block::Table(occurrences(record))],
        ),
    ];
    Page {
        title: format!("{}: extraction", record.model),
        headline: format!(
            "Of training sequences {} % are extracted, of held-out ones {} %, with prefixes of {} tokens{}.",
            last(&record.training),
            last(&record.held_out),
            record.prefixes.last().copied().unwrap_or(0),
            excess.map_or(String::new(), |excess| format!(
                ": an excess of {} percentage points ({})",
                percent(excess.value),
                excess.interval.map(percent).join(" to ")
            ))
        ),
        lead: format!(
            "{} on {}:{}; suffixes of {} tokens, {} sequences of the training text and {} of the validation text.",
            record.model,
            record.backend,
            record.precision,
            record.suffix,
            count(record.training.sequences as u64),
            count(record.held_out.sequences as u64)
        ),
        sections,
        data_file: ExtractRecord::FILE,
    }
}

fn percent(share: f64) -> String {
    significant(100.0 * share, 3)
}

fn sets(record: &ExtractRecord) -> [(&'static str, &SetRecord); 2] {
    [
        ("training", &record.training),
        ("held out", &record.held_out),
    ]
}

fn by_prefix(record: &ExtractRecord) -> Figure {
    let mut all = Vec::new();
    for (index, (name, set)) in sets(record).into_iter().enumerate() {
        let shares = set.by_prefix.iter();
        let shares = shares.filter_map(|at| Some((at.prefix as f64, at.all.as_ref()?.greedy)));
        let bars = shares
            .clone()
            .flat_map(|(prefix, share)| share.interval.map(|end| (prefix, 100.0 * end)));
        let line = shares
            .clone()
            .map(|(prefix, share)| (prefix, 100.0 * share.value));
        for (mark, points) in [
            (PointMark::Bars, bars.collect()),
            (PointMark::Line, line.collect()),
        ] {
            all.push(Series {
                name: name.into(),
                mark,
                class: run_class(index),
                points,
            });
        }
    }
    Figure {
        id: "extracted-by-prefix".into(),
        caption: "Share of the sequences whose suffix greedy decoding gives, by the length of the prefix.".into(),
        plot: Plot::Scatter(Scatter {
            label: "Extracted sequences by the length of the prefix".into(),
            x: PlotAxis {
                name: "prefix, tokens",
                log: true,
            },
            y: PlotAxis {
                name: "extracted, %",
                log: false,
            },
            width: Width::Full,
            series: all,
        }),
    }
}

/// Returns the cells of a group: greedy extraction, discoverable shares, bits per token.
fn cells(group: Option<&Group>, samples: &[u64]) -> Vec<Cell> {
    let share = |share: Option<Share>| Cell {
        detail: share.map_or(String::new(), |share| {
            let [low, high] = share.interval.map(percent);
            format!("{low} to {high}")
        }),
        ..Cell::number(share.map(|share| share.value), percent)
    };
    let mut cells = vec![
        Cell::number(group.map(|group| group.greedy.trials), count),
        share(group.map(|group| group.greedy)),
    ];
    for index in 0..samples.len() {
        cells.push(share(group.map(|group| group.discoverable[index].share)));
    }
    let bits = group.and_then(|group| group.bits_per_token);
    cells.push(Cell::number(bits.map(|bits| bits.value), |bits| {
        significant(bits, 3)
    }));
    cells
}

fn columns(record: &ExtractRecord, first: &str) -> Vec<(String, &'static str)> {
    let mut columns = headings([
        (first, ""),
        ("text", ""),
        ("sequences", ""),
        ("greedy", "%"),
    ]);
    columns.extend(discoverable_columns(record, "%"));
    columns.push(("suffix".into(), "bits/token"));
    columns
}

fn discoverable_columns(
    record: &ExtractRecord,
    unit: &'static str,
) -> impl Iterator<Item = (String, &'static str)> {
    record.samples.iter().map(move |samples| {
        let name = format!("({samples}, {})-discoverable", record.probability);
        (name, unit)
    })
}

fn prefixes(record: &ExtractRecord) -> Table {
    let row = |name: &str, at: &PrefixRecord| {
        let names = [at.prefix.to_string(), name.into()].map(Cell::from);
        let cells = cells(at.all.as_ref(), &record.samples);
        names.into_iter().chain(cells).collect()
    };
    let rows = (0..record.prefixes.len())
        .flat_map(|index| sets(record).map(|(name, set)| row(name, &set.by_prefix[index])));
    Table {
        caption: "Extraction by the length of the prefix",
        layout: Layout::Scrolling,
        headings: columns(record, "prefix"),
        rows: rows.collect(),
    }
}

/// Excess of the training text over the held-out one.
fn excesses(record: &ExtractRecord) -> Table {
    let cell = |difference: Option<ShareDifference>| Cell {
        detail: difference.map_or(String::new(), |difference| {
            difference.interval.map(percent).join(" to ")
        }),
        ..Cell::number(difference.map(|difference| difference.value), percent)
    };
    let row = |excess: &Excess| {
        let mut cells = vec![Cell::from(excess.prefix.to_string()), cell(excess.greedy)];
        for index in 0..record.samples.len() {
            cells.push(cell(excess.discoverable.get(index).copied().flatten()));
        }
        cells
    };
    let mut columns = headings([("prefix", ""), ("greedy", "points")]);
    columns.extend(discoverable_columns(record, "points"));
    Table {
        caption: "Excess: percentage points of training sequences less those of held-out ones, with intervals of Newcombe",
        layout: Layout::Scrolling,
        headings: columns,
        rows: record.excess.iter().map(row).collect(),
    }
}

fn occurrences(record: &ExtractRecord) -> Table {
    let rows = sets(record).into_iter().flat_map(|(name, set)| {
        let groups = set
            .by_prefix
            .last()
            .map_or(&[][..], |at| &at.by_occurrences);
        groups.iter().map(move |group| {
            let names = [range(group), name.into()].map(Cell::from);
            names
                .into_iter()
                .chain(cells(Some(group), &record.samples))
                .collect()
        })
    });
    Table {
        caption: "Extraction by how often prefix and suffix occur in the training text, with the longest prefix",
        layout: Layout::Scrolling,
        headings: columns(record, "occurrences"),
        rows: rows.collect(),
    }
}

fn range(group: &Group) -> String {
    match group.from == group.to {
        true => count(group.from),
        false => format!("{} to {}", count(group.from), count(group.to)),
    }
}
