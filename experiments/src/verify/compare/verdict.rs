//! Verdicts with their names, signs and meanings. Reports, dashboards and the help of the command use these texts.

use serde::{Deserialize, Serialize};

/// Relation of a backend's numbers to the reference's. [`Verdict::meaning`] explains each verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Another backend gives the same bits as the reference's own in the same precision; or a finished run has the same
    /// bits as the first one.
    Identical,
    /// Rounding explains every difference.
    Rounding,
    /// Rounding explains every check and not the curve, but the outcome stays within what other seeds give.
    Outcome,
    /// Rounding does not explain a check, the outcome, a curve that no outcome excuses, or a difference between the
    /// backend's logits and its own, computed in another way.
    Differs,
    /// The run stopped before its last step.
    Failed,
    /// The backend cannot run here, or there is nothing to judge it by.
    Unavailable,
    /// The reference's own backend agrees with itself, so headlines do not count it.
    Own,
}

impl Verdict {
    /// All verdicts, from the best to the worst, with the one that judges nothing last.
    pub const ALL: [Self; 7] = [
        Self::Identical,
        Self::Rounding,
        Self::Outcome,
        Self::Differs,
        Self::Failed,
        Self::Unavailable,
        Self::Own,
    ];

    /// Returns name, sign, words and meaning.
    const fn texts(self) -> [&'static str; 4] {
        match self {
            Self::Identical => [
                "identical",
                "=",
                "identical bits",
                "Another backend gives the same bits as the reference's own backend in the same precision.",
            ],
            Self::Rounding => [
                "rounding",
                "✓",
                "agrees within rounding",
                "Rounding explains every difference: in the checks, in the comparable part of the loss curve, and at \
                 the end of the run.",
            ],
            Self::Outcome => [
                "outcome",
                "≈",
                "agrees in outcome",
                "Rounding explains every check but not the loss curve, and the run ends as other seeds do.",
            ],
            Self::Differs => [
                "differs",
                "≠",
                "differs",
                "Rounding does not explain a check, the end of the run, a loss curve that no outcome excuses, or that \
                 cached steps or batches give other logits: a bug, or another function.",
            ],
            Self::Failed => [
                "failed",
                "✗",
                "failed",
                "The run stopped before its last step.",
            ],
            Self::Unavailable => [
                "unavailable",
                "–",
                "unavailable",
                "The backend cannot run here, or there is nothing to judge it by.",
            ],
            Self::Own => [
                "own",
                "◇",
                "own backend",
                "The reference's own backend agrees with itself, which is no evidence about another backend.",
            ],
        }
    }

    /// Returns the name in `--json`.
    pub fn name(self) -> &'static str {
        self.texts()[0]
    }

    /// Returns a sign that distinguishes verdicts without colours.
    pub fn symbol(self) -> &'static str {
        self.texts()[1]
    }

    /// Returns the verdict in words.
    pub fn words(self) -> &'static str {
        self.texts()[2]
    }

    /// Returns the meaning of the verdict, in a sentence.
    pub fn meaning(self) -> &'static str {
        self.texts()[3]
    }
}
