//! Everything that is run: an experiment becomes a run directory, on whichever backend.
//!
//! The binary `foretoken` is a thin layer over this library; see README.md at the root of the workspace.

pub mod backend;
mod cache;
pub mod engine;
mod error;
pub mod experiment;
#[doc(hidden)]
pub mod json;
pub mod record;
mod report;
pub mod run_report;
pub mod science;
pub mod serve;
pub mod show;
mod spelling;
pub mod text;
pub mod train;
pub mod verify;

pub use error::{Advice, Error};
pub use experiment::Experiment;
