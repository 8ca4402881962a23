//! What a report is made of: a page of sections with texts, tables and figures. It knows numbers and names, and not
//! where they come from; comparisons and runs convert themselves into it.

use serde_json::Value;

use super::bars::{Bars, Boxes};
use super::heat_map::HeatMap;
use super::line_plot::LinePlot;

/// A whole report.
#[derive(Debug)]
pub(crate) struct Page {
    /// Title of the window.
    pub title: String,
    /// The result in a sentence.
    pub headline: String,
    /// What the page is about, in a line.
    pub lead: String,
    pub sections: Vec<Section>,
    /// The file that holds all numbers behind the figures.
    pub data_file: &'static str,
}

impl Page {
    /// Every figure, in the order of the page.
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
    /// Whether a reader has to open it.
    pub folded: bool,
    pub blocks: Vec<Block>,
}

impl Section {
    /// An open section.
    pub(crate) fn new(heading: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self {
            heading: heading.into(),
            folded: false,
            blocks,
        }
    }

    /// A section that a reader has to open.
    pub(crate) fn folded(heading: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self {
            folded: true,
            ..Self::new(heading, blocks)
        }
    }
}

/// What a section consists of.
#[derive(Debug)]
pub(crate) enum Block {
    /// A paragraph that introduces what follows.
    Text(String),
    /// A few numbers, large.
    Tiles(Vec<Tile>),
    Table(Table),
    Legend(Legend),
    Figures(Vec<Figure>),
    /// Names with exact values, such as hashes.
    Facts(Vec<(&'static str, String)>),
    Code(Code),
}

/// A number that a reader looks for first.
#[derive(Debug, Clone)]
pub(crate) struct Tile {
    pub label: &'static str,
    pub value: String,
    /// Unit and context, smaller.
    pub detail: String,
}

/// Terms that a table uses, each with its meaning, and notes.
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
    /// Names it for those who do not see it.
    pub label: String,
    /// Language, for Markdown.
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
    /// A table with a column for each name. Each row has a name, whether a difference in it matters, and a value for
    /// each column: rows that differ are marked, and equal values share one cell.
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
                .map(|(name, matters, values)| side_by_side(name.into(), matters, values))
                .collect(),
        }
    }
}

fn side_by_side(name: String, matters: bool, values: Vec<String>) -> Vec<Cell> {
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

/// How a page shows a table that is wider than the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Rows become cards.
    Cards,
    /// The table scrolls by itself.
    Scrolling,
    /// As `Scrolling`, with narrow columns and rows that may be marked as differing.
    Columns,
}

/// A cell of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub text: String,
    /// Smaller text below it.
    pub detail: String,
    pub kind: Kind,
    /// Columns that the cell spans beyond its own.
    pub more_columns: usize,
    /// Classes of the curve that the cell names: see [`palette::run_class`](super::palette::run_class), or
    /// "reference".
    pub swatch: Option<String>,
}

/// What a cell holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Text,
    Number,
    /// A number that does not exist.
    Missing,
    /// A word on a coloured ground.
    Badge(Tone),
    /// A value of a row whose values are not all the same.
    Differs,
}

/// How good something is.
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
    /// A number, or "–" where there is none.
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

/// Headings of a table, each with its unit.
pub(crate) fn headings<const N: usize>(
    names: [(&str, &'static str); N],
) -> Vec<(String, &'static str)> {
    names.map(|(name, unit)| (name.to_owned(), unit)).into()
}

/// A picture with its caption.
#[derive(Debug)]
pub(crate) struct Figure {
    /// Its file is `plots/<id>.svg`, its data's `<id>.csv`.
    pub id: String,
    pub caption: String,
    pub plot: Plot,
}

/// Kinds of pictures.
#[derive(Debug)]
pub(crate) enum Plot {
    Lines(LinePlot),
    Bars(Bars),
    Boxes(Boxes),
    HeatMap(HeatMap),
}

/// Numbers behind a figure, as a reader downloads them.
#[derive(Debug)]
pub(crate) struct Data {
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<Value>>,
}
