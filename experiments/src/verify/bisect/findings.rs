//! The findings of a bisection as plain data, as written to `bisect.json` and printed by `--json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backend::precision::Precision;
use crate::json;

/// The stage in which something is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The pass from tokens to loss.
    Forward,
    /// The pass from the loss to gradients.
    Backward,
    /// The step from gradients to weights.
    Update,
}

impl Direction {
    /// Returns the name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Update => "update",
        }
    }
}

/// Shapes of an operation's inputs and output, as in the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shapes {
    /// The shapes of the inputs, or that of the gradient for an update.
    pub inputs: Vec<Vec<usize>>,
    /// The shape of the result that differs.
    pub output: Vec<usize>,
}

/// The element that exceeds its bound by the largest factor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worst {
    /// The element's index in the tensor.
    pub index: Vec<usize>,
    /// The backend's value; null in JSON if it is not finite.
    pub value: f64,
    /// The reference's value.
    pub expected: f64,
}

/// The first result of a backend whose error is larger than rounding explains.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Culprit {
    /// The backend.
    pub backend: String,
    /// The module and operation, such as `blocks.0.attention.scores`, or the parameter for an update.
    pub path: String,
    /// The kind of operation.
    pub operation: String,
    /// The stage.
    pub direction: Direction,
    /// The result that differs: the output, a gradient.
    pub of: String,
    /// Shapes of the inputs and of the result.
    pub shapes: Shapes,
    /// ‖backend − reference‖ / ‖reference‖ when both start from the reference's numbers; null in JSON if it is
    /// not finite.
    pub local_error: f64,
    /// The largest local error that rounding explains.
    pub bound: f64,
    /// The largest of error / bound over the tensor and over its elements, which have bounds of their own.
    pub ratio: f64,
    /// The error in an ordinary pass, which includes the errors of earlier operations.
    pub carried_error: f64,
    /// The worst element.
    pub worst: Worst,
    /// Shapes of the inputs of the smallest case found that shows the error.
    pub smallest: Option<Vec<Vec<usize>>>,
    /// The file with the numbers of that case.
    #[serde(serialize_with = "json::optional_path")]
    pub input: Option<PathBuf>,
    /// The source of a program that shows the error and needs only Burn.
    #[serde(serialize_with = "json::optional_path")]
    pub reproduction: Option<PathBuf>,
}

/// One result of one operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The module and operation, or the parameter for an update.
    pub path: String,
    /// The kind of operation.
    pub operation: String,
    /// The stage.
    pub direction: Direction,
    /// The result that is compared: the output, a gradient.
    pub of: String,
    /// The shape of the result.
    pub shape: Vec<usize>,
    /// The error of each backend when it starts from the reference's numbers.
    pub local: BTreeMap<String, f64>,
    /// The error of each backend in an ordinary pass.
    pub carried: BTreeMap<String, f64>,
    /// The largest of error / bound over the tensor and over its elements. Above 1, rounding does not explain it.
    pub ratio: BTreeMap<String, f64>,
    /// The largest local error that rounding explains.
    pub bound: f64,
}

impl Row {
    /// Returns the largest ratio of all backends. NaN counts as infinite.
    pub fn worst_ratio(&self) -> f64 {
        let number = |ratio: &f64| {
            if ratio.is_nan() {
                f64::INFINITY
            } else {
                *ratio
            }
        };
        self.ratio.values().map(number).fold(0.0, f64::max)
    }
}

/// The findings of a bisection. Numbers that are not finite become null in JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bisection {
    /// The backend and precision of the reference, such as `flex:f64`.
    pub reference: String,
    /// The precision of the backends.
    pub dtype: Precision,
    /// The value of `backend.fused`: whether training fuses operations that are compared one by one here.
    pub fused: bool,
    /// The backends, in the order in which they were named.
    pub backends: Vec<String>,
    /// The earliest culprit of all backends; `None` if rounding explains every error.
    pub culprit: Option<Culprit>,
    /// The first culprit of each backend that has one.
    pub culprits: Vec<Culprit>,
    /// The experiment's name.
    pub experiment: String,
    /// The number of sequences, and of tokens in each.
    pub batch: [usize; 2],
    /// The directory that the findings were written to.
    #[serde(serialize_with = "json::optional_path")]
    pub directory: Option<PathBuf>,
    /// Every compared result, in the order of computation.
    pub operations: Vec<Row>,
}

impl Bisection {
    /// Name of the file with the findings.
    pub const FILE: &str = "bisect.json";

    /// Returns the index of the row that a culprit refers to.
    pub fn row_of(&self, culprit: &Culprit) -> Option<usize> {
        self.operations.iter().position(|row| {
            row.path == culprit.path && row.direction == culprit.direction && row.of == culprit.of
        })
    }
}
