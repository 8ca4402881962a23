//! A run in memory: its data, model, optimizer and schedule, the only training step and evaluation loop, and the events
//! that observers receive.
//!
//! [`session::Session`] is the entry point. This module prints nothing and does not depend on run directories.

pub mod data;
pub mod documents;
pub mod evaluation;
pub mod event;
pub mod language_model;
pub mod learner;
pub mod memory;
pub mod observers;
pub mod optimizer;
pub(crate) mod parameters;
pub mod perturbation;
pub mod probing;
pub(crate) mod records;
pub(crate) mod rounding;
pub mod schedule;
pub mod session;
pub mod setup;
pub mod state;
pub mod step;
pub mod totals;
