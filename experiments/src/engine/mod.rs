//! One run in memory: the data, the model in training, its optimizer and its schedule, the training step, and the sums
//! that every measure follows from.

pub mod data;
pub mod learner;
pub mod memory;
pub mod optimizer;
pub(crate) mod parameters;
pub(crate) mod records;
pub(crate) mod setup;
pub(crate) mod step;
pub mod totals;
