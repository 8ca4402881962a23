//! Sweeps: many runs of one experiment, with other values for some of its keys.
//!
//! A [`Plan`] is expanded to [`Run`]s, which child processes train into ordinary run directories. The directory of a
//! sweep has everything that a process needs to go on with it:
//!
//! ```text
//! sweeps/<name>/
//!   plan.toml               the plan
//!   base.toml               the experiment that it names
//!   index.jsonl             one line per run: state, keys, cost, result
//!   experiments/<run>.toml  its experiment
//!   runs/<run>/             its run directory
//!   claims/<run>.<n>        the process that trains it, or trained it
//!   failures/<run>.json     why it has no result
//!   logs/<run>.log          what its process printed
//! ```
//!
//! The files of the runs are the truth, and the index is made from them.

mod children;
mod claim;
mod directory;
mod execute;
mod expand;
mod formula;
mod grid;
mod index;
mod keys;
mod ladder;
mod plan;
mod plan_file;
mod range;
mod run;
mod shard;
mod speed;
mod status;
pub mod view;
mod worker;

pub mod slurm;
#[cfg(test)]
mod tests;

pub use children::divide_threads;
pub use directory::SweepDirectory;
pub use execute::{ExecuteOptions, Executed, execute};
pub use expand::expand;
pub use index::{Entry, State};
pub use plan::Plan;
pub use run::{Cost, Run, Shared};
pub use shard::Shard;
pub use speed::{Speeds, estimate, kept};
pub use status::Status;
pub use worker::{BUSY, Worked, WorkerArgs, work};
