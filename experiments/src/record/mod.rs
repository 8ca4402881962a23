//! Reading and writing the files of a run: the run directory, its metrics log, checkpoints, identity and environment.

pub mod branch;
pub mod checkpoint;
pub mod data;
pub mod environment;
pub mod identity;
pub(crate) mod observer;
pub mod result;
pub mod run;
pub mod source;
pub(crate) mod start;
