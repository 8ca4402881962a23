//! `foretoken report`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foretoken::verify::compare::{Comparison, of_runs, read, write_report};
use foretoken::{Error, outln};

/// Write the report of comparisons, or of runs
///
/// Of a comparison it is written again, from its data. Of a run it shows the run alone; runs side by side are
/// for `foretoken compare RUN RUN --out DIR`. Each directory gets report.html, a page that needs no network;
/// report.md, the same facts as tables; and plots/, each plot as an SVG. Prints the path of each page.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken report runs/compare-world-1            after an update, with what is new in reports
  foretoken report runs/world-flex-1               one run's curves and environment")]
pub(super) struct ReportArgs {
    /// Directories of comparisons or runs
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
}

pub(super) fn run(args: ReportArgs) -> Result<ExitCode, Error> {
    for directory in &args.directories {
        let is_run = directory.join("experiment.toml").is_file()
            && !directory.join(Comparison::FILE).is_file();
        let comparison = match is_run {
            true => of_runs(std::slice::from_ref(directory), None)?,
            false => read(directory)?,
        };
        let page = write_report(&comparison, directory)?;
        outln!("{}", page.display());
    }
    Ok(ExitCode::SUCCESS)
}
