//! Everything that is run: an experiment becomes a run directory, on whichever backend.
//!
//! The binary `foretoken` is a thin layer over this library; see the crate's README.

pub mod backend;
pub mod bisect;
mod caught;
pub mod checkpoint;
pub mod compare;
pub mod data;
pub mod environment;
mod error;
pub mod experiment;
pub mod generation;
pub mod identity;
#[doc(hidden)]
pub mod json;
pub mod learner;
pub mod memory;
pub mod metrics;
pub mod optimizer;
pub mod output;
mod parameters;
pub mod precision;
pub mod predict;
pub mod progress;
mod records;
pub mod renderer;
pub mod report;
mod resume;
pub mod run;
mod setup;
pub mod signals;
pub mod source;
mod spelling;
mod step;
pub mod terminal;
pub mod train;
mod training_loop;

pub use error::Error;
pub use experiment::Experiment;
#[doc(hidden)]
pub use step::take_step;
