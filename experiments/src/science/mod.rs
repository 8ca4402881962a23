//! What the objective teaches: measurements of trained models.

pub mod compress;
pub mod evaluate;
mod random;
pub mod scaling;
pub mod sweep;
pub mod tasks;

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
