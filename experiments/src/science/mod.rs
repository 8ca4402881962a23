//! What the objective teaches: measurements of trained models.

mod bootstrap;
pub mod compress;
pub mod evaluate;
pub mod exposure;
pub mod memory;
pub mod probes;
mod random;
pub mod scaling;
mod share;
pub mod sweep;
pub mod tasks;

pub use share::{Share, ShareDifference};

use std::sync::atomic::{AtomicBool, Ordering};

use foretoken_datasets::DataError;

use crate::Error;

/// Returns an error once the user asks to stop.
fn check(interrupt: &AtomicBool) -> Result<(), Error> {
    match interrupt.load(Ordering::Relaxed) {
        true => Err(DataError::Interrupted.into()),
        false => Ok(()),
    }
}
