//! Signal and noise of probes: whether a measure tells models apart.
//!
//! Signal is the relative spread of the final scores of different models, `(max - min) / |mean|`. Noise is the relative
//! standard deviation of the scores of the last checkpoints of one model, meaned over models. A measure with a high ratio
//! of both tells models apart by more than it changes between two checkpoints (Heineman et al. 2025, "Signal and Noise",
//! arXiv 2508.13144).

use std::path::PathBuf;

use foretoken_datasets::world::Family;
use serde::Serialize;

use super::means::Measure;
use super::measured::{BOOTSTRAP, mean};
use super::score::ItemScore;
use crate::json;

/// Most last checkpoints of a run.
pub(super) const LAST: usize = 5;

/// Measures that are compared.
const COMPARED: [Measure; 6] = [
    Measure::Accuracy,
    Measure::ExactMatch,
    Measure::PRight,
    Measure::Brier,
    Measure::LogLikelihood,
    Measure::BitsPerByte,
];

/// Signal and noise over the runs of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Signal {
    /// Directory of the sweep.
    #[serde(serialize_with = "json::path")]
    pub sweep: PathBuf,
    /// Names of the runs.
    pub runs: Vec<String>,
    /// Runs that are left out, with the reason.
    pub skipped: Vec<String>,
    /// A row for each family and measure.
    pub rows: Vec<SignalRow>,
}

/// Signal and noise of a measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SignalRow {
    /// The family.
    pub family: Family,
    /// The measure.
    pub measure: Measure,
    /// Relative spread of the runs.
    pub signal: f64,
    /// Relative standard deviation of the last checkpoints of a run.
    pub noise: f64,
    /// Signal over noise; `None` if the last checkpoints do not differ.
    pub ratio: Option<f64>,
    /// Ends of its 95 % interval, over items.
    pub interval: Option<[f64; 2]>,
}

/// Scores of a family at the last checkpoints of each run: `[run][checkpoint][item]`.
pub(super) type LastScores<'s> = Vec<Vec<&'s [ItemScore]>>;

/// Returns a row for each measure of a family.
pub(super) fn rows(family: Family, runs: &LastScores<'_>) -> Vec<SignalRow> {
    let items = runs
        .iter()
        .flatten()
        .next()
        .map_or(0, |scores| scores.len());
    if items == 0 {
        return Vec::new();
    }
    let every: Vec<usize> = (0..items).collect();
    let row = |measure: Measure| {
        let [signal, noise] = parts(measure, runs, &every)?;
        let ratio = |[signal, noise]: [f64; 2]| (noise > 0.0).then(|| signal / noise);
        let ratios = BOOTSTRAP.draws(items, |chosen| ratio(parts(measure, runs, chosen)?));
        Some(SignalRow {
            family,
            measure,
            signal,
            noise,
            ratio: ratio([signal, noise]),
            interval: BOOTSTRAP.interval(ratios.into_iter()),
        })
    };
    COMPARED.into_iter().filter_map(row).collect()
}

/// Returns signal and noise over the chosen items; `None` if a mean is 0, which nothing is relative to.
fn parts(measure: Measure, runs: &LastScores<'_>, chosen: &[usize]) -> Option<[f64; 2]> {
    let curves: Vec<Vec<f64>> = runs
        .iter()
        .map(|run| {
            run.iter()
                .map(|scores| mean(measure, scores, chosen))
                .collect()
        })
        .collect();
    let finals: Vec<f64> = curves
        .iter()
        .filter_map(|curve| curve.last().copied())
        .collect();
    let highest = finals.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lowest = finals.iter().copied().fold(f64::INFINITY, f64::min);
    let relative = |spread: f64, values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean != 0.0).then(|| spread / mean.abs())
    };
    let noise: Vec<f64> = curves
        .iter()
        .map(|curve| relative(deviation(curve), curve))
        .collect::<Option<_>>()?;
    Some([
        relative(highest - lowest, &finals)?,
        noise.iter().sum::<f64>() / noise.len() as f64,
    ])
}

/// Returns the sample standard deviation of at least two numbers.
fn deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (n - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::means::tests::scored;
    use super::*;

    #[test]
    fn signal_and_noise_are_relative_spreads() {
        // p(right) of three runs at two checkpoints.
        let p = [[0.2, 0.3], [0.5, 0.5], [0.7, 0.9]];
        let scores = p.map(|run| run.map(|p| vec![scored(p, 1.0 - p); 8]));
        let runs: LastScores<'_> = scores
            .iter()
            .map(|run| run.iter().map(Vec::as_slice).collect())
            .collect();
        let rows = rows(Family::Facts, &runs);
        let row = rows
            .iter()
            .find(|row| row.measure == Measure::PRight)
            .unwrap();
        let signal = (0.9 - 0.3) / (1.7 / 3.0);
        let half = 0.5f64.sqrt();
        let noise = (0.1 * half / 0.25 + 0.0 + 0.2 * half / 0.8) / 3.0;
        assert!((row.signal - signal).abs() < 1e-9, "{row:?}");
        assert!((row.noise - noise).abs() < 1e-9, "{row:?}");
        assert!((row.ratio.unwrap() - signal / noise).abs() < 1e-9);
        // All items are alike, so that no draw differs.
        let [low, high] = row.interval.unwrap();
        assert!((high - low).abs() < 1e-9);
    }
}
