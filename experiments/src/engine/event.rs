//! Events of a session, with their numbers.

use super::language_model::Figures;
use super::totals::Totals;

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
