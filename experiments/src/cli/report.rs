//! The command `foretoken report`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use foretoken::record::run::{RunDirectory, refuse_duplicates};
use foretoken::show::format::Shown;
use foretoken::verify::compare::{self, Comparison};
use foretoken::{Error, json, outln, run_report};
use serde::Serialize;

use super::model::refused;

/// Write the report of a run, of several runs together, or of comparisons
///
/// The report of one run shows its losses, bits per byte, learning rate, gradient norm and speed, its probes, sample,
/// environment and experiment, and goes into the directory of the run. Curves of several runs lie over each other on
/// one page, with a table of the runs and of what differs between their experiments. An unfinished run is reported up
/// to its last step. The report of a comparison is written again, from its data. Each report is report.html, a page
/// that needs no network; report.md, the same facts as tables; and plots/, each plot as an SVG. Prints the path of each
/// page. To judge whether runs agree, see `foretoken compare RUN RUN`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken report runs/world-flex-1               one run
  foretoken report runs/world-flex-1 runs/other    two runs over each other
  foretoken report runs/compare-world-1            a comparison, from its data")]
pub(super) struct ReportArgs {
    /// Directories of runs or comparisons
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
    /// Directory for the report of runs [default: the run's own; of several runs: runs/report-<n>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object at the end and nothing else on standard output
    #[arg(long)]
    json: bool,
}

/// The output of `--json`.
#[derive(Serialize)]
struct Json {
    reports: Vec<Page>,
}

/// The path of a page.
#[derive(Serialize)]
#[serde(transparent)]
struct Page(#[serde(serialize_with = "json::path")] PathBuf);

pub(super) fn run(args: ReportArgs) -> Result<ExitCode, Error> {
    let mut runs = Vec::new();
    let mut comparisons = Vec::new();
    for directory in &args.directories {
        match kind(directory)? {
            Kind::Comparison => comparisons.push((compare::read(directory)?, directory)),
            Kind::Run => runs.push(RunDirectory::open(directory)?),
        }
    }
    if runs.is_empty() && args.out.is_some() {
        let message = "is for the report of runs; that of a comparison goes into its own directory";
        return Err(refused("--out", message));
    }
    refuse_duplicates(comparisons.iter().map(|(_, directory)| directory.as_path()))?;
    let mut pages = Vec::new();
    for (comparison, directory) in &comparisons {
        pages.push(compare::write_report(comparison, directory)?);
    }
    if !runs.is_empty() {
        pages.push(run_report::write(&runs, args.out.as_deref())?);
    }
    if args.json {
        let reports = pages.into_iter().map(Page).collect();
        outln!("{}", serde_json::to_string(&Json { reports })?);
    } else {
        for page in pages {
            outln!("{}", page.shown());
        }
    }
    Ok(ExitCode::SUCCESS)
}

enum Kind {
    Comparison,
    Run,
}

fn kind(directory: &Path) -> Result<Kind, Error> {
    if directory.join(Comparison::FILE).is_file() {
        return Ok(Kind::Comparison);
    }
    if directory.join("experiment.toml").is_file() {
        return Ok(Kind::Run);
    }
    let message = match fs::metadata(directory) {
        Ok(found) if found.is_dir() => {
            "is neither a run nor a comparison: it has no experiment.toml and no comparison.json"
        }
        Ok(_) => "is a file; name the directory of a run or of a comparison",
        Err(_) => "no such directory",
    };
    Err(Error::RunDirectory {
        path: directory.into(),
        message: message.into(),
    })
}
