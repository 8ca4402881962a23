//! Arguments of commands that can write a report.

use std::path::PathBuf;

use clap::Args;
use foretoken::Error;
use foretoken::record::run::ReportDirectory;
use foretoken::show::format::{self, Shown};
use foretoken::show::output;
use serde::Serialize;

#[derive(Args)]
pub(super) struct ReportArgs {
    /// Write a report with figures, and all numbers as JSON, into --out
    #[arg(long)]
    report: bool,
    /// Directory of the report, which implies --report [default: the next free one in runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints a record, as JSON or as text, and writes its report if a directory was claimed for one.
///
/// # Errors
///
/// Returns an error if the report cannot be written.
pub(super) fn print_and_write<R: Serialize>(
    record: &R,
    json: bool,
    shown: impl FnOnce(&R) -> String,
    directory: Option<ReportDirectory>,
    write: impl FnOnce(&R, ReportDirectory) -> Result<PathBuf, Error>,
) -> Result<(), Error> {
    output::write(&match json {
        true => serde_json::to_string(record)? + "\n",
        false => format::plain(shown(record)),
    });
    if let Some(directory) = directory {
        let page = write(record, directory)?;
        if !json {
            output::write(&format!("Report: {}\n", page.shown()));
        }
    }
    Ok(())
}

impl ReportArgs {
    /// Claims the directory of the report, whose name begins with `prefix` unless it is given; `None` if no report is
    /// wanted.
    pub(super) fn claim(&self, prefix: &str) -> Result<Option<ReportDirectory>, Error> {
        let is_wanted = self.report || self.out.is_some();
        is_wanted
            .then(|| ReportDirectory::claim(self.out.as_deref(), prefix))
            .transpose()
    }
}
