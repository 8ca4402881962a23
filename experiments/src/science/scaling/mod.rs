//! Scaling laws: fits of the loss by parameters and tokens, intervals whose coverage is tested, and predictions.

mod classical;
mod condition;
mod figures;
mod fit;
mod intervals;
mod isoflop;
mod law;
mod noise;
mod objective;
mod observations;
mod page;
mod predict;
mod random;
mod record;
mod runs;
mod study;
mod table;

pub use condition::Condition;
pub use intervals::LEVEL;
pub use isoflop::{Approaches, Bias, Budget, Frontier, Optimum};
pub use law::{Fitted, Law, Quantity, Variable};
pub use observations::{Columns, Convention, Observation, Observations};
pub use predict::{
    FAR, HeldOut, LossPrediction, OptimumPrediction, Prediction, Predictor, hold_out,
};
pub use record::{Fits, ReportDirectory};
pub use study::{
    EntropyCheck, FitRecord, Method, NoiseSummary, QuantityEstimate, Settings, THRESHOLD, Test,
};

#[cfg(test)]
mod tests;
