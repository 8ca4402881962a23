//! The directory of a fit: `fit.json`, tables and the report.

use std::path::PathBuf;

use super::page;
use super::record::Fits;
use super::study::FitRecord;
use crate::Error;
use crate::record::run::{ReportDirectory, write_atomically};

impl Fits {
    /// Writes `fit.json`, `runs.csv`, `estimates.csv`, `draws.csv`, `held-out.csv` and the report. Returns the path of the
    /// page.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn write(&self, directory: ReportDirectory) -> Result<PathBuf, Error> {
        let path = |name: &str| directory.path().join(name);
        write_atomically(&path(Self::FILE), &serde_json::to_vec_pretty(self)?)?;
        for (name, headings, rows) in TABLES {
            let table = table(&self.fits, headings, rows);
            let table = table.map_err(|error| Error::Evaluation(error.to_string()))?;
            write_atomically(&path(name), &table)?;
        }
        page::write(self, directory.path())
    }
}

/// Makes the rows of a table about a fit, without the law and the count that each begins with.
type Rows = fn(&FitRecord) -> Vec<Vec<String>>;

/// Names of the tables, headings after the first two, and rows.
const TABLES: [(&str, &[&str], Rows); 4] = [
    (
        "runs.csv",
        &["run", "N", "D", "C", "loss", "predicted", "log_residual"],
        runs,
    ),
    (
        "estimates.csv",
        &[
            "quantity",
            "value",
            "standard_error",
            "low",
            "high",
            "determined",
        ],
        estimates,
    ),
    ("draws.csv", &["kind", "number", "quantity", "value"], draws),
    (
        "held-out.csv",
        &[
            "run",
            "N",
            "D",
            "C",
            "measured",
            "predicted",
            "low",
            "high",
            "inside",
        ],
        held_out,
    ),
];

fn table(fits: &[FitRecord], headings: &[&str], rows: Rows) -> csv::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["law", "params"].iter().chain(headings))?;
    for fit in fits {
        let keys = [fit.formula.as_str(), fit.settings.convention.name()];
        for row in rows(fit) {
            writer.write_record(keys.into_iter().chain(row.iter().map(String::as_str)))?;
        }
    }
    writer
        .into_inner()
        .map_err(|error| error.into_error().into())
}

fn runs(fit: &FitRecord) -> Vec<Vec<String>> {
    let runs = fit.observations.iter().zip(fit.residuals());
    runs.map(|(run, residual)| {
        let predicted = run.loss * (-residual).exp();
        let numbers = [
            run.parameters,
            run.tokens,
            run.flops,
            run.loss,
            predicted,
            residual,
        ];
        named(&run.name, numbers)
    })
    .collect()
}

fn estimates(fit: &FitRecord) -> Vec<Vec<String>> {
    let estimates = fit.estimates.iter();
    estimates
        .map(|estimate| {
            let [low, high] = estimate.interval;
            let mut row = named(estimate.quantity.column(), [estimate.value]);
            row.extend([estimate.standard_error, low, high].map(optional));
            row.push(estimate.determined.to_string());
            row
        })
        .collect()
}

fn draws(fit: &FitRecord) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (kind, draws) in [("law", &fit.draws), ("runs", &fit.bootstrap)] {
        for (number, draw) in draws.iter().enumerate() {
            for (quantity, value) in fit.settings.law.parameters().iter().zip(draw) {
                rows.push(vec![
                    kind.to_owned(),
                    number.to_string(),
                    quantity.column().into(),
                    value.to_string(),
                ]);
            }
        }
    }
    rows
}

fn held_out(fit: &FitRecord) -> Vec<Vec<String>> {
    let held_out = fit.held_out.iter();
    held_out
        .map(|held| {
            let prediction = &held.prediction;
            let mut row = named(
                &held.name,
                [
                    prediction.parameters,
                    prediction.tokens,
                    prediction.flops,
                    held.measured,
                    prediction.loss.value,
                ],
            );
            row.extend(prediction.run_interval.map(optional));
            row.push(held.inside.to_string());
            row
        })
        .collect()
}

/// Returns a row of a name and numbers.
fn named<const N: usize>(name: &str, numbers: [f64; N]) -> Vec<String> {
    let numbers = numbers.iter().map(f64::to_string);
    std::iter::once(name.to_owned()).chain(numbers).collect()
}

fn optional(number: Option<f64>) -> String {
    number.map_or(String::new(), |number| number.to_string())
}
