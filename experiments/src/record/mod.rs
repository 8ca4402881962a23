//! Files of a run, written and read again: the run directory, its metrics log, its checkpoints, its identity and its
//! environment.

pub mod checkpoint;
pub mod environment;
pub mod identity;
pub(crate) mod observer;
pub mod run;
pub mod source;
pub(crate) mod start;
