//! Report of a comparison: its tables, its figures, and the texts beside them.

mod errors;
mod figures;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub(super) use words::preceded;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use foretoken_datasets::files;

use super::{Comparison, Entry, Verdict};
use crate::Error;
use crate::report::{self, Block, Code, Legend, Page, Section, run_class};

/// Backend under test with its name and colour in the report.
#[derive(Debug)]
struct Run<'a> {
    entry: &'a Entry,
    /// [`Entry::label`], numbered if several entries have it.
    name: String,
    /// Number among entries with the same label, from 1; `None` if there is only one.
    copy: Option<usize>,
    /// CSS class with colour and dash pattern; `None` if there is no curve.
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
                run_class(drawn - 1)
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

    /// Returns the backend's name without precision, numbered like [`Run::name`].
    fn backend(&self) -> String {
        numbered(self.entry.entrant.name.to_string(), self.copy)
    }

    /// Returns the name as part of a file name.
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

/// Writes `report.html`, `report.md` and `plots/*.svg` of a comparison into `directory`; returns the path of the page.
///
/// # Errors
///
/// Returns an error if a file cannot be written.
pub fn write_report(comparison: &Comparison, directory: &Path) -> Result<PathBuf, Error> {
    report::write(&page(comparison), directory)
}

/// Creates the page of a comparison.
fn page(comparison: &Comparison) -> Page {
    let runs = Run::all(comparison);
    let mut sections = vec![Section::new(
        "Verdicts",
        vec![
            Block::Table(table::verdicts(comparison, &runs)),
            Block::Legend(legend(comparison)),
        ],
    )];
    sections.extend(figures::sections(comparison, &runs));
    if let Some(environments) = table::environments(&runs) {
        let table = Block::Table(environments);
        sections.push(Section::new("Environments", vec![table]));
    }
    // Two comparisons are of the same experiment if these are equal. A caller's module has no experiment file.
    let mut facts = vec![
        ("experiment", comparison.experiment_hash.clone()),
        ("initial weights", comparison.initial_weights.clone()),
        ("data", comparison.data.clone()),
        ("foretoken", comparison.foretoken.clone()),
        ("created", comparison.created.clone()),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    let mut experiment = vec![Block::Facts(facts)];
    if !comparison.experiment.is_empty() {
        experiment.push(Block::Code(Code {
            label: "Experiment file".into(),
            language: "toml",
            text: comparison.experiment.clone(),
            wraps: false,
        }));
    }
    sections.push(Section::new("Experiment", experiment));
    Page {
        title: format!("{}: comparison of backends", comparison.name),
        headline: words::headline(comparison, &runs),
        lead: words::subject(comparison),
        sections,
        data_file: Comparison::FILE,
    }
}

fn legend(comparison: &Comparison) -> Legend {
    let entry = |verdict: Verdict| {
        let term = format!("{} {}", verdict.symbol(), verdict.words());
        (table::tone(verdict), term, verdict.meaning().to_owned())
    };
    let mut notes = words::envelopes(comparison);
    notes.push(words::seeds(comparison));
    Legend {
        heading: "What the verdicts mean",
        entries: Verdict::ALL.map(entry).into(),
        notes_heading: "How they were measured",
        notes,
    }
}

/// Reads the comparison whose `comparison.json` lies in `directory`.
///
/// # Errors
///
/// Returns an error if there is none or it is damaged.
pub fn read(directory: &Path) -> Result<Comparison, Error> {
    let path = directory.join(Comparison::FILE);
    let text =
        files::read_small_text(&path, Comparison::LARGEST).map_err(|error| match error.kind() {
            ErrorKind::NotFound if !directory.exists() => {
                Error::run_directory(directory, "no such directory")
            }
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::run_directory(
                directory,
                format!(
                    "holds no comparison, because it has no {}; name the directory of a comparison",
                    Comparison::FILE
                ),
            ),
            ErrorKind::InvalidData => {
                Error::run_directory(&path, "is damaged: it is not UTF-8; restore the file")
            }
            _ => Error::io("read", &path)(error),
        })?;
    serde_json::from_str(&text).map_err(|error| {
        Error::run_directory(
            &path,
            format!("is damaged, or of another version of foretoken: {error}; restore the file"),
        )
    })
}
