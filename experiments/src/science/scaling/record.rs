//! The files of a fit: `fit.json`, which `scaling predict` reads, tables and the report.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use foretoken_datasets::files::printable;
use serde::{Deserialize, Serialize};

use super::law::{Law, Quantity};
use super::observations::{Convention, refused};
use super::study::FitRecord;
use crate::Error;
use crate::record::run::{Claim, create_directory, write_atomically};

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
        let file = fs::File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                refused(origin.as_str(), format!("does not exist; {advice}"))
            }
            _ => Error::io("read", &path)(error),
        })?;
        let mut text = String::new();
        file.take(LARGEST)
            .read_to_string(&mut text)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => {
                    refused(origin.as_str(), format!("is not UTF-8; {advice}"))
                }
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

    /// Writes `fit.json`, `runs.csv`, `estimates.csv`, `draws.csv`, `held-out.csv` and the report. Returns the path of the
    /// page.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn write(&self, directory: ReportDirectory) -> Result<PathBuf, Error> {
        let ReportDirectory(claim) = directory;
        let path = |name: &str| claim.path.join(name);
        write_atomically(&path(Self::FILE), &serde_json::to_vec_pretty(self)?)?;
        for (name, table) in [
            ("runs.csv", self.runs()),
            ("estimates.csv", self.estimates()),
            ("draws.csv", self.draws()),
            ("held-out.csv", self.held_out()),
        ] {
            write_atomically(&path(name), table?.as_slice())?;
        }
        super::page::write(self, &claim.path)
    }

    /// Returns the names of law and count that a row of a table begins with.
    fn keys(fit: &FitRecord) -> [String; 2] {
        [fit.formula.clone(), fit.settings.convention.name().into()]
    }

    /// Returns the cells that rows about runs begin with: keys, name, N, D and C, measured and predicted loss.
    fn row(fit: &FitRecord, name: &str, size: [f64; 3], losses: [f64; 2]) -> Vec<String> {
        let mut row = Self::keys(fit).to_vec();
        row.push(name.into());
        row.extend(size.iter().chain(&losses).map(f64::to_string));
        row
    }

    fn runs(&self) -> Result<Vec<u8>, Error> {
        let mut rows = vec![strings([
            "law",
            "params",
            "run",
            "N",
            "D",
            "C",
            "loss",
            "predicted",
            "log_residual",
        ])];
        for fit in &self.fits {
            for (run, residual) in fit.observations.iter().zip(fit.residuals()) {
                let predicted = run.loss * (-residual).exp();
                let size = [run.parameters, run.tokens, run.flops];
                let mut row = Self::row(fit, &run.name, size, [run.loss, predicted]);
                row.push(residual.to_string());
                rows.push(row);
            }
        }
        csv(rows)
    }

    fn estimates(&self) -> Result<Vec<u8>, Error> {
        let mut rows = vec![strings([
            "law",
            "params",
            "quantity",
            "value",
            "standard_error",
            "low",
            "high",
            "determined",
        ])];
        for fit in &self.fits {
            for estimate in &fit.estimates {
                let mut row = Self::keys(fit).to_vec();
                row.extend([
                    estimate.quantity.column().to_owned(),
                    estimate.value.to_string(),
                ]);
                let [low, high] = estimate.interval;
                row.extend([estimate.standard_error, low, high].map(optional));
                row.push(estimate.determined.to_string());
                rows.push(row);
            }
        }
        csv(rows)
    }

    fn draws(&self) -> Result<Vec<u8>, Error> {
        let mut rows = vec![strings([
            "law", "params", "kind", "number", "quantity", "value",
        ])];
        for fit in &self.fits {
            for (kind, draws) in [("law", &fit.draws), ("runs", &fit.bootstrap)] {
                for (number, draw) in draws.iter().enumerate() {
                    for (quantity, value) in fit.settings.law.parameters().iter().zip(draw) {
                        let mut row = Self::keys(fit).to_vec();
                        row.extend([
                            kind.to_owned(),
                            number.to_string(),
                            Quantity::column(*quantity).into(),
                            value.to_string(),
                        ]);
                        rows.push(row);
                    }
                }
            }
        }
        csv(rows)
    }

    fn held_out(&self) -> Result<Vec<u8>, Error> {
        let mut rows = vec![strings([
            "law",
            "params",
            "run",
            "N",
            "D",
            "C",
            "measured",
            "predicted",
            "low",
            "high",
            "inside",
        ])];
        for fit in &self.fits {
            for held in &fit.held_out {
                let prediction = &held.prediction;
                let size = [prediction.parameters, prediction.tokens, prediction.flops];
                let losses = [held.measured, prediction.loss.value];
                let mut row = Self::row(fit, &held.name, size, losses);
                row.extend(prediction.run_interval.map(optional));
                row.push(held.inside.to_string());
                rows.push(row);
            }
        }
        csv(rows)
    }
}

fn lowest<'f>(fits: impl Iterator<Item = &'f FitRecord>) -> Option<&'f FitRecord> {
    fits.min_by(|a, b| a.objective.total_cmp(&b.objective))
}

fn optional(number: Option<f64>) -> String {
    number.map_or(String::new(), |number| number.to_string())
}

fn strings<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).into()
}

fn csv(rows: Vec<Vec<String>>) -> Result<Vec<u8>, Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer
            .write_record(row)
            .map_err(|error| Error::Evaluation(error.to_string()))?;
    }
    writer
        .into_inner()
        .map_err(|error| Error::Evaluation(error.to_string()))
}

/// A directory that is reserved for the report of a fit. It is removed if nothing is written.
#[derive(Debug)]
pub struct ReportDirectory(Claim);

impl ReportDirectory {
    /// Claims `out`, which must be empty, or the next free `runs/scaling-<n>`.
    ///
    /// # Errors
    ///
    /// Returns an error if `out` is not empty or cannot be made.
    pub fn claim(out: Option<&Path>) -> Result<Self, Error> {
        create_directory(out, "scaling-").map(Self)
    }
}
