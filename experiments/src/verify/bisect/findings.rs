//! What was found, as plain data: `bisect.json` and `--json` are this.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backend::precision::Precision;
use crate::json;

/// The stage in which something is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From tokens to loss.
    Forward,
    /// From the loss to gradients.
    Backward,
    /// From gradients to weights.
    Update,
}

impl Direction {
    /// The name, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Update => "update",
        }
    }
}

/// Sizes of what an operation takes and gives, as the model has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shapes {
    /// Inputs; of an update, the gradient.
    pub inputs: Vec<Vec<usize>>,
    /// What differs.
    pub output: Vec<usize>,
}

/// The element that is furthest out of its bound.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worst {
    /// Where it stands.
    pub index: Vec<usize>,
    /// What the backend computes; null where it is no number.
    pub value: f64,
    /// What the reference computes.
    pub expected: f64,
}

/// The first place where a backend's error is more than rounding explains.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Culprit {
    /// The backend.
    pub backend: String,
    /// The module and operation, such as `blocks.0.attention.scores`; of an update, the parameter.
    pub path: String,
    /// What is computed there.
    pub operation: String,
    /// In which stage.
    pub direction: Direction,
    /// Which of its results: the output, a gradient.
    pub of: String,
    /// Sizes.
    pub shapes: Shapes,
    /// ‖backend − reference‖ / ‖reference‖ where both start from the reference's numbers; null where it is no
    /// number.
    pub local_error: f64,
    /// What rounding explains of it.
    pub bound: f64,
    /// The largest of error / bound over the tensor and over its elements, which have bounds of their own.
    pub ratio: f64,
    /// The same as `local_error` in an ordinary pass, with all that was carried here.
    pub carried_error: f64,
    /// The element that is furthest out.
    pub worst: Worst,
    /// Shapes of the inputs of the smallest case that was found to show it.
    pub smallest: Option<Vec<Vec<usize>>>,
    /// The numbers of that case.
    #[serde(serialize_with = "json::optional_path")]
    pub input: Option<PathBuf>,
    /// A program that shows it, with nothing but Burn.
    #[serde(serialize_with = "json::optional_path")]
    pub reproduction: Option<PathBuf>,
}

/// One result of one operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The module and operation; of an update, the parameter.
    pub path: String,
    /// What is computed there.
    pub operation: String,
    /// In which stage.
    pub direction: Direction,
    /// Which of its results.
    pub of: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Error of each backend where it starts from the reference's numbers.
    pub local: BTreeMap<String, f64>,
    /// Error of each backend in an ordinary pass.
    pub carried: BTreeMap<String, f64>,
    /// The largest of error / bound, over the tensor and over its elements: more than 1 is more than rounding.
    pub ratio: BTreeMap<String, f64>,
    /// What rounding explains of the local error.
    pub bound: f64,
}

impl Row {
    /// The largest ratio of all backends; one that is no number is larger than any.
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

/// What was found. Numbers that are none become null in JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bisection {
    /// What all are measured against, such as `flex:f64`.
    pub reference: String,
    /// The precision of the backends.
    pub dtype: Precision,
    /// Whether training fuses operations that are compared one by one here, as `backend.fused` says.
    pub fused: bool,
    /// The backends, in the order in which they were named.
    pub backends: Vec<String>,
    /// The first place of all; nothing where rounding explains everything.
    pub culprit: Option<Culprit>,
    /// The first place of each backend that has one.
    pub culprits: Vec<Culprit>,
    /// The experiment's name.
    pub experiment: String,
    /// Sequences and tokens in each.
    pub batch: [usize; 2],
    /// Where it was written.
    #[serde(serialize_with = "json::optional_path")]
    pub directory: Option<PathBuf>,
    /// Everything that was compared, in the order of computation.
    pub operations: Vec<Row>,
}

impl Bisection {
    /// The file of the directory that holds all of this.
    pub const FILE: &str = "bisect.json";

    /// The row of a culprit.
    pub fn row_of(&self, culprit: &Culprit) -> Option<usize> {
        self.operations.iter().position(|row| {
            row.path == culprit.path && row.direction == culprit.direction && row.of == culprit.of
        })
    }
}
