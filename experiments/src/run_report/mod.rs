//! The report of training runs: one run in detail, or several in the same figures.
//!
//! Reads run directories and makes a page of figures and tables, which `report` writes. It needs neither a backend nor
//! the training data, so that a run can be reported on any machine.

mod curves;
mod differences;
mod history;
mod order;
mod overview;
mod probes;
mod reported_run;
mod sentences;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::Error;
use crate::record::environment::{Environment, History};
use crate::record::run::{MetricsLog, RunDirectory, create_directory, refuse_duplicates};
use crate::report::{self, Block, Code, Page, Section, Table};
use history::RunHistory;
use reported_run::ReportedRun;

/// Writes the report of runs, and returns the path of the page. By default, the report of one run is written into its
/// directory, and the report of several into the next free `runs/report-<n>`. Runs in the order of their names are shown
/// in the order of the numbers in them.
///
/// # Errors
///
/// Returns an error if a run cannot be read, has no step or is named twice, if `out` exists and is not empty, or if a
/// file cannot be written.
pub fn write(runs: &[RunDirectory], out: Option<&Path>) -> Result<PathBuf, Error> {
    refuse_duplicates(runs.iter().map(RunDirectory::path))?;
    let ordered = order::in_order(runs);
    let read = ordered.into_iter().map(RunHistory::read);
    let histories = read.collect::<Result<Vec<_>, Error>>()?;
    let page = page(&histories);
    match (out, runs) {
        (None, [only]) => report::write(&page, only.path()),
        _ => {
            let claim = create_directory(out, "report-")?;
            report::write(&page, &claim.path)
        }
    }
}

fn page(histories: &[RunHistory]) -> Page {
    let runs = ReportedRun::all(histories);
    let mut sections = vec![overview::section(&runs)];
    sections.extend(curves::sections(&runs));
    sections.extend(probes::section(&runs));
    sections.extend(samples(&runs));
    sections.extend(environments(&runs));
    sections.push(experiments(&runs));
    Page {
        title: format!("{}: report", sentences::names(&runs)),
        headline: sentences::headline(&runs),
        lead: sentences::lead(&runs),
        sections,
        data_file: MetricsLog::FILE,
    }
}

/// Returns the section of generated texts; `None` if no run has one.
fn samples(runs: &[ReportedRun<'_>]) -> Option<Section> {
    let samples = runs
        .iter()
        .filter_map(|run| Some((run, run.run.sample.as_ref()?)));
    let blocks: Vec<Block> = samples
        .flat_map(|(run, text)| {
            let code = Block::Code(Code {
                label: format!("Text that {} generated", run.name),
                language: "text",
                text: text.clone(),
                wraps: true,
            });
            let name = (runs.len() > 1).then(|| Block::Text(run.name.clone()));
            name.into_iter().chain([code])
        })
        .collect();
    (!blocks.is_empty()).then(|| Section::new("Sample", blocks))
}

/// Returns the section of machines and versions; `None` if no environment is known.
fn environments(runs: &[ReportedRun<'_>]) -> Option<Section> {
    let known = runs
        .iter()
        .filter_map(|run| Some((run, run.run.environment.as_ref()?)));
    let (runs, environments): (Vec<_>, Vec<Environment>) = known
        .map(|(run, history): (_, &History)| (run, history.summary()))
        .unzip();
    if runs.is_empty() {
        return None;
    }
    let environments: Vec<&Environment> = environments.iter().collect();
    let rows = Environment::side_by_side(&environments);
    let names = runs.iter().map(|run| run.name.clone()).collect();
    let caption = match runs.len() {
        1 => "Machine and versions of the run",
        _ => "Machine and versions of each run; ≠ marks differences",
    };
    let table = Table::side_by_side(caption, names, rows);
    Some(Section::folded("Environment", vec![Block::Table(table)]))
}

/// Returns the section of experiment files and hashes. For several runs, a table of the keys that differ comes first.
fn experiments(runs: &[ReportedRun<'_>]) -> Section {
    let differences = (runs.len() > 1).then(|| differences::block(runs));
    let files = runs.iter().flat_map(|run| {
        let mut facts = vec![("run", run.run.path.to_string_lossy().into_owned())];
        if let Some(identity) = &run.run.identity {
            facts.push(("experiment", identity.experiment.clone()));
            facts.push(("initial weights", identity.initial_weights.clone()));
            facts.push(("data", identity.data.clone()));
        }
        [
            Block::Facts(facts),
            Block::Code(Code {
                label: format!("Experiment file of {}", run.name),
                language: "toml",
                text: run.run.experiment.to_toml(),
                wraps: false,
            }),
        ]
    });
    let blocks = differences.into_iter().chain(files).collect();
    Section::folded("Experiment", blocks)
}
