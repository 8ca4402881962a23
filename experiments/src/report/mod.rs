//! What a comparison found, to be read: a page, Markdown, and a picture for each plot.
//!
//! ```text
//! <directory>/
//!   comparison.json   the data; everything else is made from it and nothing else
//!   report.html       one file, needs no network
//!   report.md         the same facts as tables
//!   plots/*.svg       each plot for itself, fit for a paper
//! ```

mod bars;
mod data;
mod heat_map;
mod html;
mod line_plot;
mod markdown;
mod palette;
mod plots;
mod scale;
mod svg;
mod table;
#[cfg(test)]
mod tests;
mod words;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::record::run::write_atomically;
use crate::verify::compare::{Comparison, Entry};

/// An entrant as the report names and colours it.
#[derive(Debug)]
struct Run<'a> {
    entry: &'a Entry,
    /// [`Entry::label`], numbered where there are several of that name.
    name: String,
    /// Which of that name it is, from 1, where there are several.
    copy: Option<usize>,
    /// Colour and dash pattern; nothing where there is no curve.
    class: Option<String>,
}

impl<'a> Run<'a> {
    fn all(comparison: &'a Comparison) -> Vec<Self> {
        let entries = &comparison.backends;
        let mut drawn = 0;
        let run = |(index, entry): (usize, &'a Entry)| {
            let label = entry.label();
            let same = |other: &&Entry| other.label() == label;
            let copy = (entries.iter().filter(same).count() > 1)
                .then(|| entries[..=index].iter().filter(same).count());
            let class = (!entry.losses.is_empty()).then(|| {
                drawn += 1;
                palette::run_class(drawn - 1)
            });
            Self {
                entry,
                name: numbered(label, copy),
                copy,
                class,
            }
        };
        entries.iter().enumerate().map(run).collect()
    }

    /// The backend's name, numbered as the whole.
    fn backend(&self) -> String {
        numbered(self.entry.entrant.name.to_string(), self.copy)
    }

    /// The name as part of a file's.
    fn slug(&self) -> String {
        let Entry { entrant, fused, .. } = self.entry;
        let unfused = if *fused { "" } else { "-unfused" };
        let copy = self.copy.map_or(String::new(), |copy| format!("-{copy}"));
        format!("{}-{}{unfused}{copy}", entrant.name, entrant.dtype)
    }
}

fn numbered(name: String, copy: Option<usize>) -> String {
    match copy {
        Some(copy) => format!("{name} ({copy})"),
        None => name,
    }
}

/// Writes `report.html`, `report.md` and `plots/*.svg` into `directory`; gives the path of the page.
///
/// # Errors
///
/// When the disk refuses.
pub fn write(comparison: &Comparison, directory: &Path) -> Result<PathBuf, Error> {
    let runs = Run::all(comparison);
    let mut data = data::Data::default();
    let sections = plots::sections(comparison, &runs, &mut data);

    let plots = directory.join("plots");
    fs::create_dir_all(&plots).map_err(Error::io("create", &plots))?;
    for figure in sections.iter().flat_map(|section| &section.figures) {
        let path = plots.join(format!("{}.svg", figure.id));
        write_atomically(&path, figure.paper.standalone().as_bytes())?;
    }
    let markdown = markdown::report(comparison, &runs, &sections);
    write_atomically(&directory.join("report.md"), markdown.as_bytes())?;
    let page = directory.join("report.html");
    let html = html::report(comparison, &runs, &sections, data);
    write_atomically(&page, html.as_bytes())?;
    Ok(page)
}

/// The comparison whose `comparison.json` lies in `directory`.
///
/// # Errors
///
/// When there is none, or it is damaged.
pub fn read(directory: &Path) -> Result<Comparison, Error> {
    let path = directory.join(Comparison::FILE);
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound if !directory.exists() => {
            Error::run_directory(directory, "no such directory")
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::run_directory(
            directory,
            format!(
                "holds no comparison: there is no {} in it",
                Comparison::FILE
            ),
        ),
        ErrorKind::InvalidData => Error::run_directory(&path, "is damaged: it is not UTF-8"),
        _ => Error::io("read", &path)(error),
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Error::run_directory(
            &path,
            format!("is damaged, or of another version of foretoken: {error}"),
        )
    })
}
