//! Content of a report: a page of sections with texts, tables and figures. It does not depend on the source of its
//! numbers; comparisons and runs convert themselves into it.

use super::bars::{Bars, Boxes};
use super::heat_map::HeatMap;
use super::line_plot::LinePlot;
use super::scatter::Scatter;
use crate::show::format::significant;

/// A complete report.
#[derive(Debug)]
pub(crate) struct Page {
    /// Title of the window.
    pub title: String,
    /// Result in a sentence.
    pub headline: String,
    /// Subject of the page in a line.
    pub lead: String,
    pub sections: Vec<Section>,
    /// Name of the file with the complete data of the figures.
    pub data_file: &'static str,
}

impl Page {
    /// Returns every figure, in the order of the page.
    pub(super) fn figures(&self) -> impl Iterator<Item = &Figure> {
        let blocks = self.sections.iter().flat_map(|section| &section.blocks);
        blocks.flat_map(|block| match block {
            Block::Figures(figures) => figures.as_slice(),
            _ => &[],
        })
    }
}

/// A part of the page with a heading.
#[derive(Debug)]
pub(crate) struct Section {
    pub heading: String,
    /// Whether it is closed at first.
    pub folded: bool,
    pub blocks: Vec<Block>,
}

impl Section {
    /// Returns an open section.
    pub(crate) fn new(heading: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self {
            heading: heading.into(),
            folded: false,
            blocks,
        }
    }

    /// Returns a section that is closed at first.
    pub(crate) fn folded(heading: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self {
            folded: true,
            ..Self::new(heading, blocks)
        }
    }
}

/// A part of a section.
#[derive(Debug)]
pub(crate) enum Block {
    /// A paragraph.
    Text(String),
    /// A few numbers in large type.
    Tiles(Vec<Tile>),
    Table(Table),
    Legend(Legend),
    Figures(Vec<Figure>),
    /// Names with exact values, such as hashes.
    Facts(Vec<(&'static str, String)>),
    Code(Code),
}

/// An important number in large type.
#[derive(Debug, Clone)]
pub(crate) struct Tile {
    pub label: &'static str,
    pub value: String,
    /// Unit and context, in small type.
    pub detail: String,
}

/// Terms of a table with their meanings, and notes.
#[derive(Debug)]
pub(crate) struct Legend {
    pub heading: &'static str,
    pub entries: Vec<(Tone, String, String)>,
    pub notes_heading: &'static str,
    pub notes: Vec<String>,
}

/// Text in a fixed-width font.
#[derive(Debug)]
pub(crate) struct Code {
    /// Text alternative for screen readers.
    pub label: String,
    /// Language of the code block in Markdown.
    pub language: &'static str,
    pub text: String,
    /// Whether long lines are wrapped; otherwise they scroll.
    pub wraps: bool,
}

/// A table. The first cell of each row names the row.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub caption: &'static str,
    pub layout: Layout,
    /// Name and unit of each column.
    pub headings: Vec<(String, &'static str)>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Returns a table of estimates with standard errors and 95 % intervals.
    pub(crate) fn estimates(
        caption: &'static str,
        estimates: impl IntoIterator<Item = EstimateRow>,
    ) -> Self {
        let row = |(name, value, [error, low, high]): EstimateRow| {
            let number = |value| Cell::number(value, |value| significant(value, 5));
            vec![
                Cell::from(name),
                match value {
                    Some(_) => number(value),
                    None => Cell::from("not determined".to_owned()),
                },
                Cell::number(error, |error| significant(error, 2)),
                number(low),
                number(high),
            ]
        };
        Self {
            caption,
            layout: Layout::Scrolling,
            headings: headings([
                ("", ""),
                ("value", ""),
                ("standard error", ""),
                ("95 % from", ""),
                ("to", ""),
            ]),
            rows: estimates.into_iter().map(row).collect(),
        }
    }

    /// Returns a table with a column for each name. Each row has a name, whether a difference in it matters, and a
    /// value for each column. Rows that differ are marked, and equal values share one cell.
    pub(crate) fn side_by_side(
        caption: &'static str,
        names: Vec<String>,
        rows: Vec<(impl Into<String>, bool, Vec<String>)>,
    ) -> Self {
        let names = names.into_iter().map(|name| (name, ""));
        Self {
            caption,
            layout: Layout::Columns,
            headings: std::iter::once((String::new(), "")).chain(names).collect(),
            rows: rows
                .into_iter()
                .map(|(name, matters, values)| comparison_row(name.into(), matters, values))
                .collect(),
        }
    }
}

/// An estimate in a table: its name, its value if the data determine it, its standard error, and the ends of its interval.
pub(crate) type EstimateRow = (String, Option<f64>, [Option<f64>; 3]);

fn comparison_row(name: String, matters: bool, values: Vec<String>) -> Vec<Cell> {
    let same = values.windows(2).all(|pair| pair[0] == pair[1]);
    let (name, kind) = match matters && !same {
        true => (format!("≠ {name}"), Kind::Differs),
        false => (name, Kind::Text),
    };
    let more_columns = if same {
        values.len().saturating_sub(1)
    } else {
        0
    };
    let cell = |text, more_columns| Cell {
        text,
        kind,
        more_columns,
        ..Cell::default()
    };
    let shown = values.len() - more_columns;
    let values = values.into_iter().take(shown);
    std::iter::once(cell(name, 0))
        .chain(values.map(|value| cell(value, more_columns)))
        .collect()
}

/// Layout of a table that is wider than the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Each row becomes a card.
    Cards,
    /// The table scrolls on its own.
    Scrolling,
    /// Like `Scrolling`, with narrow columns and rows that can be marked as differing.
    Columns,
}

/// A cell of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub text: String,
    /// Text below it in small type.
    pub detail: String,
    pub kind: Kind,
    /// Columns that the cell spans beyond its own.
    pub more_columns: usize,
    /// Classes of the curve that the cell names: those of [`palette::run_class`](super::palette::run_class), or
    /// "reference".
    pub swatch: Option<String>,
}

/// Kind of content of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Text,
    Number,
    /// A number that does not exist.
    Missing,
    /// A word with a coloured background.
    Badge(Tone),
    /// A value of a row whose values differ.
    Differs,
}

/// Rating of a result, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Fair,
    Bad,
    Neutral,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }
}

impl Cell {
    /// Returns a cell with a number, or "–" for `None`.
    pub(crate) fn number<T>(value: Option<T>, shown: impl Fn(T) -> String) -> Self {
        let kind = match value {
            Some(_) => Kind::Number,
            None => Kind::Missing,
        };
        Self {
            kind,
            text: value.map_or(crate::show::format::NONE.into(), shown),
            ..Self::default()
        }
    }
}

/// Returns headings of a table, each with its unit.
pub(crate) fn headings<const N: usize>(
    names: [(&str, &'static str); N],
) -> Vec<(String, &'static str)> {
    names.map(|(name, unit)| (name.to_owned(), unit)).into()
}

/// A picture with its caption.
#[derive(Debug)]
pub(crate) struct Figure {
    /// Identifier. The picture's file is `plots/<id>.svg`, and the data's file is `<id>.csv`.
    pub id: String,
    pub caption: String,
    pub plot: Plot,
}

/// Picture of a figure.
#[derive(Debug)]
pub(crate) enum Plot {
    Lines(LinePlot),
    Bars(Bars),
    Boxes(Boxes),
    HeatMap(HeatMap),
    Scatter(Scatter),
}
