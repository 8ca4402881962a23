//! Results of probes in sentences.

use super::emergence::{Emergence, Jump, Prediction};
use super::means::Measure;
use crate::show::format::{THIN, significant};

/// Formats a share as a percentage with one decimal.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}{THIN}%", 100.0 * share)
}

/// Formats the ends of an interval of shares.
fn percents([low, high]: [f64; 2]) -> String {
    format!("{} to {}", points(low), points(high))
}

/// Formats a share in percentage points.
fn points(share: f64) -> String {
    let text = format!("{:.1}", 100.0 * share);
    match text.as_str() {
        "-0.0" => "0.0".into(),
        _ => text,
    }
}

impl Emergence {
    /// Says in sentences whether a measure jumps where others do not, and whether bits per byte predict the accuracy.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        sentences.extend(self.jump_sentence());
        sentences.push(self.prediction.sentence());
        sentences
    }

    fn jump(&self, measure: Measure) -> Option<(&Jump, [f64; 2])> {
        let jump = self.jumps.iter().find(|jump| jump.measure == measure)?;
        Some((jump, jump.interval?))
    }

    /// Compares the largest step of exact match with that of the Brier score; `None` if either has no clear change.
    fn jump_sentence(&self) -> Option<String> {
        if self.jumps.is_empty() {
            return None;
        }
        let described = |jump: &Jump, interval: [f64; 2]| {
            format!(
                "{} ({} %) of its change between steps {} and {}",
                percent(jump.share),
                percents(interval),
                jump.from,
                jump.to
            )
        };
        let [exact, smooth] =
            [Measure::ExactMatch, Measure::Brier].map(|measure| self.jump(measure));
        let Some(((exact, of_exact), (smooth, of_smooth))) = exact.zip(smooth) else {
            return Some(
                "The largest steps cannot be compared: exact match or the Brier score does not clearly change from the first \
                 to the last checkpoint."
                    .into(),
            );
        };
        let verdict = match (of_exact[0] > of_smooth[1], of_smooth[0] > of_exact[1]) {
            (true, _) => {
                "Exact match is the more sudden one: its jump is in part one of the measure."
            }
            (_, true) => "The Brier score is the more sudden one.",
            _ => "These items cannot tell which is the more sudden one.",
        };
        Some(format!(
            "Exact match makes {}, the Brier score {}. {verdict}",
            described(exact, of_exact),
            described(smooth, of_smooth)
        ))
    }
}

impl Prediction {
    /// Says in sentences what is predicted.
    pub fn sentence(&self) -> String {
        match self {
            Self::TooFew {
                checkpoints,
                needed,
            } => format!(
                "Too few checkpoints to predict accuracy from bits per byte: {checkpoints}, and {needed} are needed, because \
                 the curve has 4 parameters."
            ),
            Self::Unchanged { accuracy } => format!(
                "Accuracy cannot be predicted from bits per byte: it is {} at every checkpoint that would be fitted.",
                percent(*accuracy)
            ),
            Self::Predicted {
                fitted,
                held_out,
                error,
                error_interval,
                absolute_error,
                persistence_error,
                ..
            } => {
                let verdict = match error_interval {
                    None => "too few draws of items have a curve for an interval".into(),
                    Some(interval @ [low, high]) => format!(
                        "{}, which {} 0",
                        percents(*interval),
                        match *low <= 0.0 && 0.0 <= *high {
                            true => "includes",
                            false => "excludes",
                        }
                    ),
                };
                let use_of = match absolute_error < persistence_error {
                    true => "less than",
                    false => "no less than",
                };
                format!(
                    "From bits per byte, a curve of the first {fitted} checkpoints predicts the accuracy of the last {}; \
                     measured minus predicted is {} points on average ({verdict}). The mean absolute error is {} points, \
                     {use_of} the {} of assuming that accuracy stays as it was.",
                    held_out.len(),
                    points(*error),
                    points(*absolute_error),
                    points(*persistence_error)
                )
            }
        }
    }
}

/// Formats a number of a table with three digits.
pub(super) fn short(value: f64) -> String {
    significant(value, 3)
}
