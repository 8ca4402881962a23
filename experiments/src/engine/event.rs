//! Events of a session, with their figures.

use super::language_model::Figures;
use super::totals::Totals;

/// A change in a session. Observers receive the session as it is right after it.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A run begins, or continues from a checkpoint. Whoever owns the session reports it.
    Started,
    /// An optimizer step was taken.
    Stepped(&'a Stepped),
    /// A part of an evaluation is done, or none of it yet.
    Evaluating(&'a Evaluating),
    /// An evaluation is complete.
    Evaluated(&'a Evaluated),
    /// The session stands where a run can be resumed: whoever keeps checkpoints saves it now.
    Saved,
    /// A run has ended without an error, its final evaluations included. Whoever owns the session reports it.
    Ended(Ending),
}

/// An optimizer step.
#[derive(Debug, Clone, Copy)]
pub struct Stepped {
    /// Steps taken before it.
    pub step: usize,
    /// Loss before the update, speed, learning rate and gradient norm.
    pub figures: Figures,
}

/// Purpose of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One of every `train.eval_every` steps, over `train.eval_windows` windows.
    Interval,
    /// The last weights, over `train.final_eval_windows` windows.
    Last,
    /// The best weights, over the same windows.
    Best,
}

/// An evaluation under way.
#[derive(Debug, Clone, Copy)]
pub struct Evaluating {
    /// Its purpose.
    pub scope: Scope,
    /// Windows that have been read.
    pub done: usize,
    /// Windows in all.
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
    /// Optimizer steps behind the weights.
    pub step: usize,
    /// Sums over all targets.
    pub totals: Totals,
    /// Seconds.
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
