//! Progress of a run: what it needs to go on besides weights, optimizer and schedule.

use serde::{Deserialize, Serialize};

use crate::json;

/// Everything besides weights and optimizer state that a run needs to go on.
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

/// The lowest validation loss and the step that had it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps taken.
    pub step: usize,
    /// Nats per token.
    #[serde(deserialize_with = "json::number")]
    pub loss: f64,
}

impl RunState {
    /// Whether the weights of this step have been evaluated; initial weights need not be.
    pub fn is_evaluated(&self) -> bool {
        self.evaluated == self.step
    }

    /// Records the validation loss of this step, in nats per token.
    pub(crate) fn judge(&mut self, loss: f64) {
        self.evaluated = self.step;
        // A loss that is not finite, which older versions kept, is worse than any.
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
