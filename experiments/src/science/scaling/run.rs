//! A finished run as its source has it.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::record::identity::Origin;

/// Largest number of observations, which bounds memory and time.
pub(super) const LARGEST: usize = 20_000;

/// Parameters of a model that are counted. The choice changes the exponents of small models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// All parameters (Hoffmann et al. 2022).
    Total,
    /// Parameters without embeddings and head (Kaplan et al. 2020).
    NonEmbedding,
    /// Parameters that every token is multiplied with: those without embeddings, and the head, also if it is tied.
    WithHead,
}

impl Convention {
    /// Every convention.
    pub const ALL: [Self; 3] = [Self::Total, Self::NonEmbedding, Self::WithHead];

    /// Returns the name, as `--params` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::NonEmbedding => "non-embedding",
            Self::WithHead => "with-head",
        }
    }

    /// Returns what is counted, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Total => "all parameters",
            Self::NonEmbedding => "parameters without embeddings and head",
            Self::WithHead => "parameters without embeddings, with the head",
        }
    }
}

/// Kind of a known least loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Floor {
    /// Least loss of a model that sees only the validation windows.
    Window,
    /// Entropy of the text.
    Text,
}

impl Floor {
    /// Returns what it is, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Window => "the least loss for what a window shows",
            Self::Text => "the entropy of the text",
        }
    }
}

/// A finished run as it is read, with all counts of its parameters that are known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    /// Path of the run, or file and line.
    pub name: String,
    /// Counts by [`Convention::ALL`].
    pub parameters: [Option<f64>; 3],
    /// Training tokens; `None` where they follow from FLOPs and parameters.
    pub tokens: Option<f64>,
    /// Training FLOPs; `None` where they are 6 N D.
    pub flops: Option<f64>,
    pub loss: f64,
    /// Known least losses, in the unit of the loss; the preferred one first.
    pub floors: Vec<(Floor, f64)>,
    /// Experiment and data; `None` for a row of a table.
    pub origin: Option<Box<Origin>>,
    /// Training tokens and validation losses along the run.
    pub curve: Vec<(f64, f64)>,
}

/// Returns an error about a source.
pub(super) fn refused(origin: impl Into<String>, message: impl Into<String>) -> Error {
    Error::Experiment {
        origin: origin.into(),
        message: message.into(),
    }
}
