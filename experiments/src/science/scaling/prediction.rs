//! Predicted numbers with their intervals.

use serde::{Deserialize, Serialize};

/// A predicted number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The prediction.
    pub value: f64,
    /// Ends of the 95 % interval.
    pub interval: [Option<f64>; 2],
}

/// A loss predicted for a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossPrediction {
    /// Parameters N.
    pub parameters: f64,
    /// Training tokens D.
    pub tokens: f64,
    /// Training FLOPs C.
    pub flops: f64,
    /// Mean loss of such runs.
    pub loss: Prediction,
    /// Interval that contains the measured loss of one such run.
    pub run_interval: [Option<f64>; 2],
    /// Quantities that lie more than a factor of 10 beyond the data, in words, each with its factor.
    pub extrapolation: Vec<(String, f64)>,
}

/// The division of a compute budget between parameters and tokens with the lowest loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptimumPrediction {
    /// Training FLOPs C, of which 6 N D.
    pub flops: f64,
    /// Parameters N.
    pub parameters: Prediction,
    /// Training tokens D.
    pub tokens: Prediction,
    /// Tokens per parameter.
    pub ratio: Prediction,
    /// The loss there.
    pub loss: LossPrediction,
}

/// A held-out run: its loss as predicted, and as measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Path of the run, or file and line.
    pub name: String,
    /// The prediction.
    pub prediction: LossPrediction,
    /// Measured loss.
    pub measured: f64,
    /// Whether the interval of a run contains the measured loss.
    pub inside: bool,
}
