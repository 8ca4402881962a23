//! What the objective teaches: measurements of trained models.

pub mod compress;
pub mod evaluate;
pub mod probes;
pub mod scaling;
pub mod sweep;

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
