//! Reports: a page for people, Markdown, and a picture for each figure, made of a [`Page`] and nothing else.
//!
//! ```text
//! <directory>/
//!   report.html       one file, needs no network
//!   report.md         the same facts as tables
//!   plots/*.svg       each figure for itself, fit for a paper
//! ```

mod bars;
mod data;
mod figure;
mod heat_map;
mod html;
mod line_plot;
mod markdown;
mod page;
mod palette;
mod scale;
mod svg;

pub(crate) use bars::{Bar, Bars, BoxRow, Boxes};
pub(crate) use heat_map::{HeatCell, HeatMap, HeatRow};
pub(crate) use line_plot::{Band, Level, Line, LineKind, LinePlot, Mark, Width};
pub(crate) use page::{
    Block, Cell, Code, Data, Figure, Kind, Layout, Legend, Page, Plot, Section, Table, Tile, Tone,
    headings,
};
pub(crate) use palette::run_class;

use std::fs;
use std::path::{Path, PathBuf};

use foretoken_datasets::files;

use crate::Error;

/// Writes `report.html`, `report.md` and `plots/*.svg` into `directory`; returns the path of the page.
///
/// # Errors
///
/// When the disk refuses.
pub(crate) fn write(page: &Page, directory: &Path) -> Result<PathBuf, Error> {
    let plots = directory.join("plots");
    fs::create_dir_all(&plots).map_err(Error::io("create", &plots))?;
    for figure in page.figures() {
        let path = plots.join(format!("{}.svg", figure.id));
        write_file(&path, &figure::paper(figure).standalone())?;
    }
    write_file(&directory.join("report.md"), &markdown::report(page))?;
    let path = directory.join("report.html");
    write_file(&path, &html::report(page))?;
    Ok(path)
}

fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    files::write_atomically(path, text.as_bytes()).map_err(Error::io("write", path))
}
