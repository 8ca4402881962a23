//! Scaling laws: fits of the loss by parameters and tokens, intervals whose coverage is tested, and predictions.

mod classical;
mod condition;
mod directory;
mod estimates;
mod figures;
mod fit;
mod form;
mod intervals;
mod isoflop;
mod law;
mod noise;
mod objective;
mod observations;
mod page;
mod predict;
mod prediction;
pub(in crate::science) mod random;
mod record;
mod run;
mod runs;
mod study;
mod table;
mod tables;

pub use condition::Condition;
pub use estimates::QuantityEstimate;
pub use intervals::LEVEL;
pub use isoflop::{Approaches, Bias, Budget, Frontier, Optimum};
pub use law::{Fitted, Law, Quantity, Variable};
pub use noise::NoiseSummary;
pub use observations::{Observation, Observations};
pub use predict::{FAR, Predictor, hold_out};
pub use prediction::{HeldOut, LossPrediction, OptimumPrediction, Prediction};
pub use record::Fits;
pub use run::{Convention, Floor};
pub use study::{EntropyCheck, FitRecord, Method, Settings, THRESHOLD, Test};
pub use table::Columns;

#[cfg(test)]
mod tests;
