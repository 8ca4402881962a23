//! Events of a session, with their numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::language_model::Figures;
use super::totals::Totals;
use crate::json;

/// A change in a session. Observers receive the session in its state after the change.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A run begins, or continues from a checkpoint. The owner of the session reports it.
    Started,
    /// An optimizer step was taken.
    Stepped(&'a Stepped),
    /// An evaluation has begun, or a part of it is done.
    Evaluating(&'a Evaluating),
    /// An evaluation is complete.
    Evaluated(&'a Evaluated),
    /// Probes of the weights are complete.
    Probed(&'a Probed),
    /// The session is at a step at which it can be resumed. The observer of checkpoints saves it.
    Saved,
    /// A run and its final evaluations have ended without an error. The owner of the session reports it.
    Ended(Ending),
}

/// An optimizer step.
#[derive(Debug, Clone, Copy)]
pub struct Stepped {
    /// Number of earlier steps.
    pub step: usize,
    /// Loss before the update, speed, learning rate and gradient norm.
    pub figures: Figures,
}

/// Purpose of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Evaluation every `train.eval_every` steps, over `train.eval_windows` windows.
    Interval,
    /// Final evaluation of the last weights, over `train.final_eval_windows` windows.
    Last,
    /// Final evaluation of the best weights, over the same windows.
    Best,
}

/// An evaluation under way.
#[derive(Debug, Clone, Copy)]
pub struct Evaluating {
    /// Its purpose.
    pub scope: Scope,
    /// Windows that have been read.
    pub done: usize,
    /// Total number of windows.
    pub windows: usize,
    /// Targets in a window.
    pub context: usize,
    /// Sums over the targets that have been read.
    pub totals: Totals,
    /// Seconds since it began.
    pub seconds: f64,
}

/// A complete evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Evaluated {
    /// Its purpose.
    pub scope: Scope,
    /// Optimizer steps before the evaluation.
    pub step: usize,
    /// Sums over all targets.
    pub totals: Totals,
    /// Duration in seconds.
    pub seconds: f64,
}

/// Probes of the weights after a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// Optimizer steps before the probes.
    pub step: usize,
    /// Training tokens before the probes.
    pub tokens: usize,
    /// Duration in seconds.
    #[serde(deserialize_with = "json::number")]
    pub seconds: f64,
    /// The families of items, in order.
    pub families: Vec<ProbedFamily>,
}

/// Means over the items of a family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbedFamily {
    /// Its name.
    pub name: String,
    /// Number of items.
    pub items: usize,
    /// Share of right answers of a model without a preference among the answers; `None` in older logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// Measures by name.
    pub measures: BTreeMap<String, ProbedMeasure>,
}

/// A mean over items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProbedMeasure {
    /// The mean.
    #[serde(deserialize_with = "json::number")]
    pub value: f64,
    /// Ends of the 95 % confidence interval; `None` for a single item.
    pub interval: Option<[f64; 2]>,
}

/// Reason for the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps are taken.
    Complete,
    /// The validation loss stopped improving.
    EarlyStop,
    /// A stop was requested.
    Interrupted,
}
