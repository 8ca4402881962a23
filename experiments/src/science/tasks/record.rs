//! Record of an evaluation on tasks, which `--json` prints.

use serde::Serialize;

use super::paired::TaskDifference;
use super::result::TaskResult;

/// Results of a model on tasks, with its conditions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TasksRecord {
    /// The model, and how it was computed.
    #[serde(flatten)]
    pub first: TasksModel,
    /// Seed of the draw of examples.
    pub seed: u64,
    /// Maximum number of items of each task, if there is one.
    pub limit: Option<usize>,
    /// Duration of reading, encoding and scoring.
    pub seconds: f64,
    /// A second model on the same items.
    pub against: Option<TasksAgainst>,
}

/// A model and its results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TasksModel {
    /// Path of the model, and the checkpoint of a run.
    pub model: String,
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// Number of tokens that the model reads at once.
    pub context: usize,
    /// The results, in the order of the request.
    pub tasks: Vec<TaskResult>,
}

/// A second model, and its differences from the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TasksAgainst {
    /// The second model.
    #[serde(flatten)]
    pub second: TasksModel,
    /// Its measures minus those of the first.
    pub differences: Vec<TaskDifference>,
}
