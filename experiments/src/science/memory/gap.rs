//! The gap between a training text and a text that was not trained on, in bits per byte.

use std::sync::atomic::AtomicBool;

use foretoken_model::Transformer;
use serde::Serialize;

use super::sample::{Piece, Texts};
use crate::Error;
use crate::science::evaluate::{
    ContextPolicy, Document, Estimate, Evaluation, Evaluator, Segment, Settings, Text, TextSize,
};
use crate::science::random::Random;

/// Settings of a measurement of the gap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GapSettings {
    /// Largest number of windows of each text.
    pub windows: usize,
    /// Number of windows that are computed at once. It does not change the result.
    pub batch: usize,
    /// Seed of the choice of windows.
    pub seed: u64,
}

/// A measurement of the gap with its conditions: the output of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GapRecord {
    /// Path of the model, and the checkpoint of a run.
    pub model: String,
    /// Name of the backend.
    pub backend: &'static str,
    /// Precision of the weights.
    pub precision: &'static str,
    /// Number of tokens that the model reads at once.
    pub context: usize,
    /// Whether windows keep to documents.
    pub by_document: bool,
    /// How often training has read its text up to the checkpoint, on average.
    pub epochs: f64,
    /// Seed of the choice of windows.
    pub seed: u64,
    /// Windows that training has read.
    pub training: Evaluation,
    /// Windows of the validation text.
    pub held_out: Evaluation,
    /// Bits per byte of the held-out windows less those of the training windows.
    pub gap: Option<Estimate>,
    /// Loss of the held-out windows less that of the training windows, in nats per token.
    pub loss_gap: Option<Estimate>,
    /// Duration of reading and scoring.
    pub seconds: f64,
}

/// Results of both texts, and their difference.
pub struct GapMeasurement {
    /// Windows that training has read.
    pub training: Evaluation,
    /// Windows of the validation text.
    pub held_out: Evaluation,
    /// Difference in bits per byte.
    pub gap: Option<Estimate>,
    /// Difference in nats per token.
    pub loss_gap: Option<Estimate>,
}

impl GapSettings {
    /// Scores windows that the run has read in training, and windows of its validation text, each by itself.
    /// `progress` is called with the number of targets after each batch.
    ///
    /// # Errors
    ///
    /// Returns an error if a text is shorter than a window, the device fails, or `interrupt` is set.
    pub fn measure(
        &self,
        model: &Transformer,
        texts: Texts<'_>,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<GapMeasurement, Error> {
        let lengths = texts.data.tokenizer.token_lengths();
        let mut random = Random::stream(self.seed, 0);
        let training = texts.training(self.windows, &mut random)?;
        let held_out = texts.held_out(self.windows, &mut Random::stream(self.seed, 1))?;
        let settings = Settings {
            context: texts.context,
            policy: ContextPolicy::Stride(texts.context),
            batch: self.batch,
        };
        let mut score = |name: &str, pieces: &[Piece]| {
            let text = text(name, pieces, &lengths);
            let mut evaluator = Evaluator::new(model, settings, lengths.clone(), None, 1);
            evaluator.add(&text, interrupt, progress)?;
            evaluator.finish().ok_or_else(|| Error::Experiment {
                origin: "--checkpoint".into(),
                message: format!("the run has no {name} text up to this one; name a later one"),
            })
        };
        let (training, held_out) = (
            score("training", &training)?,
            score("validation", &held_out)?,
        );
        let clusters = training.total.clusters.min(held_out.total.clusters);
        let difference = |of: fn(&Evaluation) -> Option<Estimate>| {
            Some(of(&held_out)?.minus_independent(of(&training)?, clusters))
        };
        Ok(GapMeasurement {
            gap: difference(|evaluation| evaluation.total.bits_per_byte),
            loss_gap: difference(|evaluation| Some(evaluation.total.loss)),
            training,
            held_out,
        })
    }
}

impl GapRecord {
    /// Says in a sentence what the gap shows; `None` without an interval.
    pub fn verdict(&self) -> Option<String> {
        let gap = self.gap.or(self.loss_gap)?;
        let unit = match self.gap {
            Some(_) => "bits per byte",
            None => "nats per token",
        };
        let [low, high] = gap.interval?;
        Some(match low <= 0.0 && high >= 0.0 {
            true => format!(
                "These windows do not show a gap: it lies between {low:.4} and {high:.4} {unit}."
            ),
            false => format!(
                "Text that was trained on costs {:.4} {unit} {} ({:.4} to {:.4}).",
                gap.value.abs(),
                if gap.value > 0.0 { "less" } else { "more" },
                low.abs().min(high.abs()),
                low.abs().max(high.abs())
            ),
        })
    }
}

/// Returns the windows as a text, each of which is a document.
fn text(name: &str, pieces: &[Piece], lengths: &[usize]) -> Text {
    let length = |id: &u32| lengths.get(*id as usize).copied().unwrap_or(0);
    let segment = |(number, piece): (usize, &Piece)| Segment {
        documents: vec![Document {
            number,
            targets: piece.first..piece.ids.len(),
            size: TextSize {
                bytes: piece.ids[piece.first..].iter().map(length).sum(),
                ..TextSize::default()
            },
            skipped_bytes: 0,
        }],
        ids: piece.ids.clone(),
    };
    Text {
        name: name.into(),
        segments: pieces.iter().enumerate().map(segment).collect(),
        not_scored: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_documents_of_their_targets() {
        let piece = Piece {
            ids: vec![0, 1, 2, 1],
            first: 2,
        };
        let text = text("training", &[piece.clone(), piece], &[1, 2, 5]);
        assert_eq!(text.targets(), 4);
        let document = &text.segments[1].documents[0];
        assert_eq!(
            (
                document.number,
                document.targets.clone(),
                document.size.bytes
            ),
            (1, 2..4, 7)
        );
    }
}
