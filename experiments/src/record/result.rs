//! Result of a complete run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::run::{RESULT, RunDirectory};
use crate::{Error, json};

/// Summary of a complete run, which `--json` prints and `result.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The present path of the run directory.
    #[serde(serialize_with = "json::path")]
    pub run: PathBuf,
    /// The backend's name.
    pub backend: String,
    /// Optimizer steps taken.
    pub steps: usize,
    /// Training tokens seen: the targets that count, without the padding of windows of documents.
    pub tokens: usize,
    /// Nats per token, mean over the steps since the evaluation before the last.
    #[serde(deserialize_with = "json::number")]
    pub train_loss: f64,
    /// Nats per token of the last weights, over the validation windows that `train.final_eval_windows` names.
    #[serde(deserialize_with = "json::number")]
    pub valid_loss: f64,
    /// Bits per byte of the last weights, over the same windows.
    #[serde(deserialize_with = "json::number")]
    pub bits_per_byte: f64,
    /// exp(`valid_loss`): infinite from a loss of 709.8 on, which JSON holds as null.
    #[serde(deserialize_with = "json::number")]
    pub perplexity: f64,
    /// The best weights, which `generate` and `export` use; `None` if their checkpoint is missing, or an older version
    /// wrote the file.
    #[serde(default)]
    pub best: Option<BestWeights>,
    /// Entropy of the validation text in bits per byte, if its source is known.
    pub floor_bits_per_byte: Option<f64>,
    /// The least bits per byte for a model that sees only the validation windows; `None` if it is not known. It is the
    /// entropy of the text if every window shows the beginning of its documents.
    #[serde(default)]
    pub window_floor_bits_per_byte: Option<f64>,
    /// Share of the validation targets whose document begins before their window; `None` unless the text is a world's.
    #[serde(default)]
    pub cut_targets: Option<f64>,
    /// Training tokens per second of training.
    #[serde(deserialize_with = "json::number")]
    pub tokens_per_second: f64,
    /// Model FLOPs utilisation: a share of the measured matrix-product peak, 0 to 1.
    #[serde(deserialize_with = "json::number")]
    pub mfu: f64,
    /// Seconds in training steps.
    #[serde(deserialize_with = "json::number")]
    pub seconds: f64,
    /// Cost of the probes; `None` for a run without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<ProbeCost>,
}

/// Cost of the probes of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeCost {
    /// How often the model was probed.
    pub count: usize,
    /// Seconds that it took, which are not part of those of training steps.
    #[serde(deserialize_with = "json::number")]
    pub seconds: f64,
}

/// The weights with the lowest validation loss of all evaluations, over the windows of the final evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestWeights {
    /// Optimizer steps before them.
    pub step: usize,
    /// Nats per token.
    #[serde(deserialize_with = "json::number")]
    pub valid_loss: f64,
    /// Bits per byte.
    #[serde(deserialize_with = "json::number")]
    pub bits_per_byte: f64,
    /// exp(`valid_loss`).
    #[serde(deserialize_with = "json::number")]
    pub perplexity: f64,
}

/// Content of `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunResult {
    /// Whether the run stopped early.
    pub(crate) early: bool,
    /// Figures of the run.
    #[serde(flatten)]
    pub(crate) summary: Summary,
}

impl RunResult {
    /// Reads the result of a run; `None` unless the run is complete.
    pub(crate) fn read(run: &RunDirectory) -> Result<Option<Self>, Error> {
        let mut result: Option<Self> = run.read_json(RESULT)?;
        if let Some(Self { summary, .. }) = &mut result {
            // The directory may have moved.
            summary.run = run.path().into();
            // Perplexities are recomputed, because JSON cannot hold infinities.
            summary.perplexity = summary.valid_loss.exp();
            if let Some(best) = &mut summary.best {
                best.perplexity = best.valid_loss.exp();
            }
        }
        Ok(result)
    }

    pub(crate) fn write(&self, run: &RunDirectory) -> Result<(), Error> {
        run.write(RESULT, serde_json::to_vec_pretty(self)?)
    }
}
