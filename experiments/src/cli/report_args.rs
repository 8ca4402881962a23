//! Arguments of commands that can write a report.

use std::path::PathBuf;

use clap::Args;
use foretoken::Error;
use foretoken::record::run::ReportDirectory;

#[derive(Args)]
pub(super) struct ReportArgs {
    /// Write a report with figures, and all numbers as JSON, into --out
    #[arg(long)]
    report: bool,
    /// Directory of the report, which implies --report [default: the next free one in runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
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
