//! Probes: what a model can, item by item, along its training.
//!
//! [Items](foretoken_datasets::world::Item) of a world have a right answer and wrong ones, of which the exact
//! distribution says which is which. Each gives the likelihoods of its answers, from which smooth measures (log-likelihood,
//! probability, Brier score, bits per byte) and all-or-nothing ones (accuracy, exact match) follow. A study puts them side
//! by side over checkpoints: what seems to emerge suddenly in one may grow steadily in another (Schaeffer et al. 2023,
//! "Are Emergent Abilities of Large Language Models a Mirage?", arXiv 2304.15004).

mod emergence;
mod figures;
mod logistic;
mod means;
mod measured;
mod page;
mod prediction;
mod questions;
mod record;
mod score;
mod signal;
mod study;
mod suddenness;
mod training;
mod words;

pub use emergence::Emergence;
pub use logistic::Logistic;
pub use means::{Ceiling, LevelMeans, Means, Measure};
pub use prediction::{HeldOut, Prediction};
pub use questions::{FamilyItems, Questions};
pub use record::{CheckpointProbes, FamilyScores, ProbeRecord};
pub use score::ItemScore;
pub use signal::{Signal, SignalRow};
pub use study::{Selection, Study};
pub use suddenness::{Comparison, Jump};
pub use training::in_training;
