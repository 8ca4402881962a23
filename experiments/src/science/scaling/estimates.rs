//! Quantities of a fit with their uncertainty.

use serde::{Deserialize, Serialize};

use super::intervals::{Calibration, Problem, quantile};
use super::law::{Fitted, Quantity};
use super::objective::{Matrix, VARIABLES, Vector};

/// A quantity with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QuantityEstimate {
    /// The quantity.
    pub quantity: Quantity,
    /// Value at the minimum.
    pub value: f64,
    /// Standard error from the bootstrap over runs.
    pub standard_error: Option<f64>,
    /// Ends of the 95 % interval; `None` for an end that the data do not determine, and for losses without noise.
    pub interval: [Option<f64>; 2],
    /// Ends of the 95 % percentile interval of the bootstrap over runs.
    pub bootstrap_interval: Option<[f64; 2]>,
    /// Whether the data determine the quantity: both ends of its interval exist, and those of what it depends on.
    pub determined: bool,
}

impl QuantityEstimate {
    /// Removes what follows from noise that the losses do not have.
    pub(super) fn forget_intervals(&mut self) {
        self.standard_error = None;
        self.interval = [None; 2];
        self.bootstrap_interval = None;
    }

    /// Whether the value and the ends of its intervals are numbers, in order.
    pub(super) fn is_ordered(&self) -> bool {
        let is_interval =
            |[low, high]: [f64; 2]| low <= high && low.is_finite() && high.is_finite();
        let is_open = |[low, high]: [Option<f64>; 2]| match (low, high) {
            (Some(low), Some(high)) => is_interval([low, high]),
            (Some(end), None) | (None, Some(end)) => end.is_finite(),
            (None, None) => true,
        };
        let is_error = |error: f64| error.is_finite() && error >= 0.0;
        self.value.is_finite()
            && self.standard_error.is_none_or(is_error)
            && is_open(self.interval)
            && self.bootstrap_interval.is_none_or(is_interval)
    }
}

/// Returns the estimates of all quantities.
pub(super) fn estimates(
    problem: &Problem<'_>,
    fitted: &Fitted,
    calibration: &Calibration,
    bootstrap: &[Fitted],
) -> Vec<QuantityEstimate> {
    let estimate = |quantity: Quantity| {
        let value = fitted.get(quantity)?;
        let interval = match quantity.is_scale() {
            true => {
                let drawn = calibration
                    .draws
                    .iter()
                    .filter_map(|draw| draw.fitted.get(quantity));
                basic_interval(value, drawn.collect())
            }
            false => match calibration.allowed(quantity) {
                Some(allowed) => problem.profile_interval(quantity, allowed),
                None => [None; 2],
            },
        };
        let resampled: Vec<f64> = bootstrap
            .iter()
            .filter_map(|fitted| fitted.get(quantity))
            .collect();
        Some(QuantityEstimate {
            quantity,
            value,
            standard_error: deviation(&resampled),
            interval,
            bootstrap_interval: quantile(resampled.clone(), 0.025)
                .zip(quantile(resampled, 0.975))
                .map(|(a, b)| [a, b]),
            determined: interval.iter().all(Option::is_some),
        })
    };
    let mut estimates: Vec<QuantityEstimate> =
        problem.law.quantities().filter_map(estimate).collect();
    // A coefficient without its exponent means nothing.
    for (scale, exponent) in [
        (Quantity::A, Quantity::Alpha),
        (Quantity::B, Quantity::Beta),
        (Quantity::NC, Quantity::AlphaN),
        (Quantity::DC, Quantity::AlphaD),
    ] {
        let open =
            |estimate: &QuantityEstimate| estimate.quantity == exponent && !estimate.determined;
        if estimates.iter().any(open) {
            let coefficient = estimates
                .iter_mut()
                .find(|estimate| estimate.quantity == scale);
            if let Some(estimate) = coefficient {
                estimate.determined = false;
                estimate.interval = [None; 2];
            }
        }
    }
    estimates
}

/// Returns the basic bootstrap interval of a positive quantity, by its logarithm: the error of the fit is distributed like
/// that of the fits of drawn samples, whose truth is `value`.
pub(super) fn basic_interval(value: f64, drawn: Vec<f64>) -> [Option<f64>; 2] {
    let errors: Vec<f64> = drawn.iter().map(|drawn| (drawn / value).ln()).collect();
    if errors.iter().any(|error| !error.is_finite()) {
        return [None; 2];
    }
    [0.975, 0.025].map(|share| quantile(errors.clone(), share).map(|error| value * (-error).exp()))
}

fn deviation(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    deviation.is_finite().then_some(deviation)
}

/// Returns the covariance of the parameters over the bootstrap, in the order of the formula.
pub(super) fn covariance(bootstrap: &[Fitted], parameters: &[Quantity]) -> Vec<Vec<f64>> {
    let draws: Vec<Vector> = bootstrap.iter().map(|fitted| fitted.values).collect();
    let Some(covariance) = covariance_of(&draws, parameters.len()) else {
        return Vec::new();
    };
    let rows = covariance.iter().take(parameters.len());
    rows.map(|row| row[..parameters.len()].to_vec()).collect()
}

/// Returns the covariance of the first `count` numbers; `None` with fewer than two draws.
pub(super) fn covariance_of(draws: &[Vector], count: usize) -> Option<Matrix> {
    if draws.len() < 2 {
        return None;
    }
    let number = draws.len() as f64;
    let mut means: Vector = [0.0; VARIABLES];
    for draw in draws {
        for (mean, value) in means.iter_mut().zip(draw) {
            *mean += value / number;
        }
    }
    let mut covariance: Matrix = [[0.0; VARIABLES]; VARIABLES];
    for draw in draws {
        for i in 0..count {
            for j in 0..count {
                covariance[i][j] += (draw[i] - means[i]) * (draw[j] - means[j]) / (number - 1.0);
            }
        }
    }
    Some(covariance)
}
