//! Everything that is run: an experiment becomes a run directory, on whichever backend.
//!
//! The binary `foretoken` is a thin layer over this library; see the crate's README.

pub mod backend;
pub mod checkpoint;
pub mod data;
pub mod environment;
mod error;
pub mod experiment;
pub mod generation;
pub mod learner;
pub mod metrics;
pub mod optimizer;
pub mod predict;
pub mod progress;
pub mod renderer;
pub mod run;
pub mod source;
mod spelling;
pub mod train;
mod training_loop;

pub use error::Error;
pub use experiment::Experiment;
