//! The command `foretoken scaling`.

mod fit;
mod predict;
mod prediction_words;
mod words;

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use foretoken::Error;
use foretoken::science::scaling::{Convention, Law};

/// Fit scaling laws to runs, and predict the loss of larger ones
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  foretoken scaling fit runs.csv --out chinchilla        any table with parameters, tokens or FLOPs, and losses
  foretoken scaling fit sweeps/ladder --hold-out         how well are the largest runs of a sweep predicted?
  foretoken scaling predict chinchilla --flops 1e24      the compute-optimal model of a budget")]
pub(super) enum ScalingCommand {
    Fit(fit::FitArgs),
    Predict(predict::PredictArgs),
}

pub(super) fn run(command: ScalingCommand) -> Result<ExitCode, Error> {
    match command {
        ScalingCommand::Fit(args) => fit::run(args),
        ScalingCommand::Predict(args) => predict::run(args),
    }
}

/// A law to fit, or to predict with.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LawName {
    /// L = E + A/N^α + B/D^β
    Chinchilla,
    /// L = ((N_c/N)^(α_N/α_D) + D_c/D)^α_D
    Kaplan,
    /// L = E + A/x^α
    Power,
    /// L = A/x^α
    PurePower,
}

impl LawName {
    fn is(self, law: Law) -> bool {
        match law {
            Law::Chinchilla => self == Self::Chinchilla,
            Law::Kaplan => self == Self::Kaplan,
            Law::Power { .. } => self == Self::Power,
            Law::PurePower { .. } => self == Self::PurePower,
        }
    }
}

/// Parameters that are counted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Params {
    /// All of them
    Total,
    /// Parameters without embeddings and head
    NonEmbedding,
    /// Parameters without embeddings, with the head
    WithHead,
    /// Every count that all runs have, side by side
    All,
}

impl Params {
    /// Returns the count; `None` for all.
    fn convention(self) -> Option<Convention> {
        match self {
            Self::Total => Some(Convention::Total),
            Self::NonEmbedding => Some(Convention::NonEmbedding),
            Self::WithHead => Some(Convention::WithHead),
            Self::All => None,
        }
    }
}
