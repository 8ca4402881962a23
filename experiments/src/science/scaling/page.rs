//! The report of a fit.

use std::path::{Path, PathBuf};

use super::record::Fits;
use crate::Error;
use crate::report::{self, Page};

/// Writes the report. Returns the path of the page.
pub(super) fn write(fits: &Fits, directory: &Path) -> Result<PathBuf, Error> {
    let page = Page {
        title: "Scaling law".into(),
        headline: format!("{} runs", fits.fits[0].observations.len()),
        lead: fits.sources.join(", "),
        sections: Vec::new(),
        data_file: Fits::FILE,
    };
    report::write(&page, directory)
}
