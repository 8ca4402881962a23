//! Progress of a run, besides weights, optimizer and schedule.

use serde::{Deserialize, Serialize};

use crate::json;

/// State that a run needs to continue, besides weights, optimizer and schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Optimizer steps taken.
    pub step: usize,
    /// Training tokens seen.
    pub tokens: usize,
    /// Seconds spent in training steps.
    #[serde(deserialize_with = "json::number")]
    pub seconds: f64,
    /// The step of the last evaluation.
    pub evaluated: usize,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since the best one.
    pub evaluations_since_best: usize,
    /// SHA-256 over tokens and tokenizer.
    pub data: String,
}

/// The lowest validation loss and its step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps taken.
    pub step: usize,
    /// Nats per token.
    #[serde(deserialize_with = "json::number")]
    pub loss: f64,
}

impl RunState {
    /// Returns whether the weights of this step have been evaluated. Initial weights need no evaluation.
    pub fn is_evaluated(&self) -> bool {
        self.evaluated == self.step
    }

    /// Records the validation loss of this step, in nats per token.
    pub(crate) fn record_evaluation(&mut self, loss: f64) {
        self.evaluated = self.step;
        // Older versions kept a non-finite loss, which is worse than any other.
        let improves = |best: Best| !best.loss.is_finite() || loss < best.loss;
        if self.best.is_none_or(improves) {
            self.best = Some(Best {
                step: self.step,
                loss,
            });
            self.evaluations_since_best = 0;
        } else {
            self.evaluations_since_best += 1;
        }
    }
}
