//! Writes a [`Page`] as HTML, as Markdown, and each of its figures as SVG.
//!
//! ```text
//! <directory>/
//!   report.html       a single file that needs no network
//!   report.md         the content as text and tables
//!   plots/*.svg       one file for each figure, styled for print
//! ```

mod bars;
mod data;
mod figure;
mod heat_map;
mod html;
mod legend;
mod line_plot;
mod markdown;
mod page;
mod palette;
mod scale;
mod scatter;
mod svg;

pub(crate) use bars::{Bar, Bars, BoxRow, Boxes};
pub(crate) use heat_map::{Data, HeatCell, HeatMap, HeatRow};
pub(crate) use line_plot::{Band, Level, Line, LineKind, LinePlot, Mark, Width};
pub(crate) use page::{
    Block, Cell, Code, Figure, Kind, Layout, Legend, Page, Plot, Section, Table, Tile, Tone,
    headings,
};
pub(crate) use palette::run_class;
pub(crate) use scatter::{Mark as PointMark, Quantity as PlotAxis, Scatter, Series};

use std::fs;
use std::path::{Path, PathBuf};

use foretoken_datasets::files;

use crate::Error;

/// Writes `report.html`, `report.md` and `plots/*.svg` into `directory`. Returns the path of the page.
///
/// # Errors
///
/// Returns an error if a file cannot be written.
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
