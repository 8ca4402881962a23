//! How well a model predicts a text: loss, perplexity, bits per byte, accuracy and ranks, each with its uncertainty.

mod context;
mod curves;
mod estimate;
mod measures;
mod page;
mod paired;
mod record;
mod score;
mod text;

pub use context::{ContextPolicy, StrideArgument};
pub use curves::{Bin, Calibration, CalibrationBin, Frequencies};
pub use estimate::Estimate;
pub(in crate::science) use estimate::{NORMAL_QUANTILE, Ratio};
pub use measures::{ClusterKind, DocumentResult, Evaluation, Evaluator, Measures, TextResult};
pub use paired::{PairedDifference, Rounding, RoundingVerdict, with_rounded_weights};
pub use record::{EvaluationRecord, Second};
pub use score::Settings;
pub(in crate::science) use score::{BatchLimit, TargetScore, score, score_padded};
pub use text::{Document, Encoder, Segment, Text, TextSize};
