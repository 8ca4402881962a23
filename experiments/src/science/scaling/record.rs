//! Fits of the same runs, and the file `fit.json` that `scaling predict` reads.

use std::io::ErrorKind;
use std::path::Path;

use foretoken_datasets::files::{self, printable};
use serde::{Deserialize, Serialize};

use super::law::Law;
use super::run::{Convention, refused};
use super::study::FitRecord;
use crate::Error;

/// Largest size of a `fit.json` that is read.
const LARGEST: u64 = 256 << 20;

/// Fits of the same runs: one for each law and each count of parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fits {
    /// The sources of the runs, as given.
    pub sources: Vec<String>,
    /// Unfinished runs that were left out, with the reason.
    pub skipped: Vec<String>,
    /// Number of runs with the largest losses that were left out.
    pub dropped: usize,
    /// The fits. The one with the lowest objective predicts by default.
    pub fits: Vec<FitRecord>,
}

impl Fits {
    /// Name of the file.
    pub const FILE: &str = "fit.json";

    /// Reads a `fit.json`, or that of a directory.
    ///
    /// # Errors
    ///
    /// Returns an error if there is none, or it is not one that `scaling fit` writes.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let path = match path.is_dir() {
            true => path.join(Self::FILE),
            false => path.to_path_buf(),
        };
        let origin = path.display().to_string();
        let advice = "give the file or the directory that foretoken scaling fit --out writes";
        let text = files::read_text(&path, LARGEST).map_err(|error| match error.kind() {
            ErrorKind::NotFound => refused(origin.as_str(), format!("does not exist; {advice}")),
            ErrorKind::InvalidData => refused(origin.as_str(), format!("is not UTF-8; {advice}")),
            _ => Error::io("read", &path)(error),
        })?;
        let fits: Self = serde_json::from_str(&text).map_err(|error| {
            refused(
                origin.as_str(),
                format!("is not a fit: {}; {advice}", printable(&error.to_string())),
            )
        })?;
        let problem = fits.fits.iter().find_map(FitRecord::problem);
        match problem {
            Some(problem) => Err(refused(
                origin,
                format!("is not a fit: {problem}; {advice}"),
            )),
            None if fits.fits.is_empty() => {
                Err(refused(origin, format!("has no fit in it; {advice}")))
            }
            None => Ok(fits),
        }
    }

    /// Returns the fit with the lowest objective; `None` without fits.
    pub fn best(&self) -> Option<&FitRecord> {
        lowest(self.fits.iter())
    }

    /// Returns the fit with the lowest objective of those of a law and of a count of parameters, each if it is named.
    ///
    /// # Errors
    ///
    /// Returns an error that names the laws and counts that there are.
    pub fn choose(
        &self,
        is_wanted: impl Fn(Law) -> bool,
        convention: Option<Convention>,
    ) -> Result<&FitRecord, Error> {
        let fits = self.fits.iter().filter(|fit| is_wanted(fit.settings.law));
        let fits =
            fits.filter(|fit| convention.is_none_or(|wanted| fit.settings.convention == wanted));
        lowest(fits).ok_or_else(|| {
            let names: Vec<String> = self
                .fits
                .iter()
                .map(|fit| {
                    format!(
                        "{} with --count {}",
                        fit.formula,
                        fit.settings.convention.name()
                    )
                })
                .collect();
            let message = format!("name none of the fits, which are {}", names.join("; "));
            refused("--law and --count", message)
        })
    }
}

fn lowest<'f>(fits: impl Iterator<Item = &'f FitRecord>) -> Option<&'f FitRecord> {
    fits.min_by(|a, b| a.objective.total_cmp(&b.objective))
}
