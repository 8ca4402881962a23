//! Verdicts: the one place that names them, gives them a sign, and says what they mean. Reports, dashboards and the help
//! of the command use these texts.

use serde::{Deserialize, Serialize};

/// How an entrant's numbers relate to the reference's. [`Verdict::meaning`] says what each of them means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Another backend gives the same bits as the reference's own in the same precision; or a finished run gives
    /// those of the first one.
    Identical,
    /// Rounding explains every difference.
    Rounding,
    /// Rounding explains every check and not the curve, but the outcome stays within what other seeds give.
    Outcome,
    /// Rounding does not explain a check, the outcome, or a curve that no outcome excuses.
    Differs,
    /// It stopped on its way.
    Failed,
    /// It cannot run here, or there is nothing to judge it by.
    Unavailable,
    /// The reference's own backend agrees with itself, so headlines do not count it.
    Own,
}

impl Verdict {
    /// Every verdict, from the best to the worst, and last the one that judges nothing.
    pub const ALL: [Self; 7] = [
        Self::Identical,
        Self::Rounding,
        Self::Outcome,
        Self::Differs,
        Self::Failed,
        Self::Unavailable,
        Self::Own,
    ];

    /// Name, sign, words and meaning.
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
                "Rounding does not explain a check, the end of the run, or a loss curve that no outcome excuses: a \
                 bug, or another function.",
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

    /// The name that `--json` has.
    pub fn name(self) -> &'static str {
        self.texts()[0]
    }

    /// A sign that tells verdicts apart without colours.
    pub fn symbol(self) -> &'static str {
        self.texts()[1]
    }

    /// The verdict in words.
    pub fn words(self) -> &'static str {
        self.texts()[2]
    }

    /// What the verdict means, in a sentence.
    pub fn meaning(self) -> &'static str {
        self.texts()[3]
    }
}
