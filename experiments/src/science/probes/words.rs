//! Results of probes in sentences.

use super::emergence::Emergence;
use super::means::Measure;
use super::measured::sign;
use super::prediction::Prediction;
use super::record::FamilyScores;
use super::suddenness::Comparison;
use crate::show::format::{THIN, plural, significant};

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

impl FamilyScores {
    /// Says what a perfect model scores; `None` if the exact distribution does not say it, or says that it scores 100 %.
    pub fn ceiling_sentence(&self) -> Option<String> {
        let ceiling = self.ceiling?;
        let whole = |share: f64| share > 1.0 - 1e-9;
        let mut parts = Vec::new();
        if !whole(ceiling.exact_match) {
            parts.push(format!("exact match {}", percent(ceiling.exact_match)));
        }
        if !whole(ceiling.p_right) {
            parts.push(format!("p(right) {}", short(ceiling.p_right)));
        }
        let of = match ceiling.items == self.scores.len() {
            true => String::new(),
            false => format!(
                ", on the {} of {} items that the world can write",
                ceiling.items,
                self.scores.len()
            ),
        };
        (!parts.is_empty()).then(|| {
            format!(
                "{}: the ceiling is {}{of}.",
                self.family,
                parts.join(" and ")
            )
        })
    }
}

impl Emergence {
    /// Says in sentences whether a measure jumps where others do not, and whether bits per byte predict the accuracy.
    pub fn sentences(&self) -> Vec<String> {
        vec![self.comparison_sentence(), self.prediction.sentence()]
    }

    fn jump(&self, measure: Measure) -> Option<String> {
        let jump = self.jumps.iter().find(|jump| jump.measure == measure)?;
        Some(format!(
            "{} ({} %) of its change between steps {} and {}",
            percent(jump.share),
            percents(jump.interval?),
            jump.from,
            jump.to
        ))
    }

    /// Says whether exact match or the Brier score changes more suddenly, or what it would take to say it.
    fn comparison_sentence(&self) -> String {
        let items = match self.compared_items == self.items {
            true => plural(self.items, "item"),
            false => format!(
                "the {} of {} items whose right answer a perfect model writes",
                self.compared_items, self.items
            ),
        };
        let verdict = match self.comparison {
            Comparison::TooFewCheckpoints {
                checkpoints,
                needed,
            } => {
                return format!(
                    "Which measure changes more suddenly takes {needed} checkpoints to say, and there are {checkpoints}; keep \
                     more with train.keep."
                );
            }
            Comparison::TooFewItems { items, needed } => {
                return format!(
                    "Exact match is not compared: it takes {needed} items whose right answer a perfect model writes, and \
                     there are {items}; ask for more with --items."
                );
            }
            Comparison::Unclear { measure } => {
                return format!(
                    "Largest steps are not compared: {} is not shown to change from the first to the last checkpoint over \
                     {items}. More items, or checkpoints that are further apart, may show it.",
                    named(measure)
                );
            }
            Comparison::Undecided => {
                "The intervals overlap, so that these items do not tell which of the two is more sudden; more items would \
                 narrow them."
                    .into()
            }
            Comparison::DependsOnCheckpoint { step } => format!(
                "Which of the two is more sudden depends on the choice of checkpoints: without that of step {step} the \
                 intervals overlap. Keep more of them with train.keep."
            ),
            Comparison::MoreSudden {
                measure: Measure::ExactMatch,
            } => "Exact match is the more sudden one at these checkpoints, also without any one of them: its jump is in part \
                  one of the measure."
                .into(),
            Comparison::MoreSudden { measure } => format!(
                "At these checkpoints {} is the more sudden one, also without any one of them.",
                named(measure)
            ),
        };
        let described = [Measure::ExactMatch, Measure::Brier].map(|measure| self.jump(measure));
        let [Some(exact), Some(smooth)] = described else {
            return verdict;
        };
        let (first, last) = (self.steps.first(), self.steps.last());
        format!(
            "At {} from step {} to {}, over {items}, exact match makes {exact}, the Brier score {smooth}. {verdict}",
            plural(self.steps.len(), "checkpoint"),
            first.copied().unwrap_or(0),
            last.copied().unwrap_or(0)
        )
    }
}

fn named(measure: Measure) -> &'static str {
    match measure {
        Measure::Brier => "the Brier score",
        measure => measure.words(),
    }
}

impl Prediction {
    /// Says in sentences what is predicted, as far as the intervals carry it.
    pub fn sentence(&self) -> String {
        match self {
            Self::TooFew {
                checkpoints,
                needed,
            } => format!(
                "Too few checkpoints to predict accuracy from bits per byte: {checkpoints}, and {needed} are needed, because \
                 the curve has 4 parameters."
            ),
            Self::Unclear {
                fitted,
                change,
                interval,
            } => format!(
                "Accuracy cannot be predicted from bits per byte: over the first {fitted} checkpoints, which would be fitted, \
                 it is not shown to change ({} points{}). More items, or later checkpoints, may show it.",
                points(*change),
                interval.map_or(String::new(), |interval| format!(", {}", percents(interval)))
            ),
            Self::Predicted {
                error_interval: None,
                ..
            }
            | Self::Predicted {
                advantage_interval: None,
                ..
            } => "Accuracy is not predicted from bits per byte: too few draws of items have a curve for an interval; more \
                  items would give one."
                .into(),
            Self::Predicted {
                fitted,
                held_out,
                error,
                error_interval: Some(of_error),
                absolute_error,
                persistence_error,
                advantage_interval: Some(of_advantage),
                depends_on,
                ..
            } => {
                let signs = [*of_error, *of_advantage].map(|interval| sign(Some(interval)));
                let mut sentence = format!(
                    "From bits per byte, a curve of the first {fitted} checkpoints predicts the accuracy of the last {}; \
                     measured minus predicted is {} points on average ({}). Its mean absolute error is {} points less than \
                     that of assuming that accuracy stays as it was ({}).",
                    held_out.len(),
                    points(*error),
                    percents(*of_error),
                    points(persistence_error - absolute_error),
                    percents(*of_advantage),
                );
                if let Some(step) = depends_on {
                    return sentence
                        + &format!(
                            " Without the checkpoint of step {step} an interval lies on another side of 0, so that nothing \
                             follows; keep more checkpoints with train.keep."
                        );
                }
                sentence += match signs[0] {
                    0 => " The curve is not shown to be wrong on average.",
                    1 => " The prediction is too low.",
                    _ => " The prediction is too high.",
                };
                sentence += match signs[1] {
                    0 => {
                        " Whether it is better than assuming no change is not shown; more items, or held-out checkpoints \
                         between which accuracy changes more, may show it."
                    }
                    1 => " It is better than assuming no change.",
                    _ => " It is worse than assuming no change.",
                };
                sentence
            }
        }
    }
}

/// Formats a number of a table with three digits.
pub(super) fn short(value: f64) -> String {
    significant(value, 3)
}

#[cfg(test)]
mod tests;
