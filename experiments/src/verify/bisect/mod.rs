//! Finds the first operation at which two backends diverge: one batch, forward, backward and the update.
//!
//! A reference computes in f64. Each operation is then recomputed on every backend from the reference's
//! numbers, so that its error is its own (*local*) and not inherited from earlier operations (*carried*). The
//! first operation whose local error is not explained by rounding is named, and the smallest case that shows
//! the error is written as a standalone program.
//!
//! The bisected operations are Burn's own, because a pass that is watched operation by operation does not use
//! the fused ones. [`compare`](crate::verify::compare) trains with the fused ones, so a difference that appears
//! only there is in a fused operation.
//!
//! Dropout is switched off: it multiplies by factors that the host draws.

mod bisector;
mod findings;
mod formula;
mod judge;
mod numbers;
mod pass;
mod program;
mod replay;
mod reproduction;
mod shrink;
mod update;
mod wiring;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use foretoken_datasets::Monitor;

#[doc(hidden)]
pub use bisector::{Bisector, Examination};
pub use findings::{Bisection, Culprit, Direction, Row, Shapes, Worst};

use self::bisector::labels;
use self::judge::DRAWS;
use crate::backend::Backend;
use crate::backend::panics::caught;
use crate::backend::precision::Precision;
use crate::engine::perturbation::Perturbation;
use crate::record::run::{create_directory, write_atomically};
use crate::{Error, Experiment};

/// Options of [`bisect`].
pub struct BisectOptions<'a> {
    /// The backends under test.
    pub backends: Vec<Backend>,
    /// The precision that the backends compute in.
    pub dtype: Precision,
    /// The directory to write. Defaults to the next free `runs/bisect-<experiment>-<n>`.
    pub out: Option<PathBuf>,
    /// Stops the bisection, which then writes nothing.
    pub interrupted: Arc<AtomicBool>,
    /// Shows the progress of building the token files.
    pub monitor: Monitor<'a>,
    /// Called before each stage with its name, the number of stages done, and their total.
    pub progress: &'a dyn Fn(&str, usize, usize),
    /// A deviation for each backend, with which tests plant mistakes.
    pub perturbations: Vec<Perturbation>,
}

/// Finds where the backends first diverge, and writes the findings to a directory.
///
/// # Errors
///
/// Returns an error if the experiment cannot start, a backend is missing or fails, or the directory cannot be
/// written.
pub fn bisect(experiment: Experiment, options: &BisectOptions<'_>) -> Result<Bisection, Error> {
    for backend in &options.backends {
        backend.device_for(options.dtype)?;
    }
    let prefix = format!("bisect-{}-", experiment.name);
    let claimed = || create_directory(options.out.as_deref(), &prefix);
    // A directory that cannot be used is refused at once, and nothing of it is left after an interruption.
    drop(claimed()?);
    let progress = options.progress;
    let backends = options.backends.len();
    let steps = 3 + DRAWS as usize + backends;
    let stop = options.interrupted.clone();
    let bisector = Bisector::with(experiment, options.dtype, stop, options.monitor, &|done| {
        progress("the reference in f64", done, steps);
    })?;
    let mut examined = Vec::with_capacity(backends);
    for (index, backend) in options.backends.iter().enumerate() {
        let name = format!("{backend}:{}", options.dtype);
        progress(&name, 2 + DRAWS as usize + index, steps);
        let perturbation = options
            .perturbations
            .get(index)
            .cloned()
            .unwrap_or_default();
        let examine = || bisector.examine(*backend, perturbation);
        examined.push(with_panics_as_errors(&name, examine)?);
    }
    let mut bisection = bisector.findings(&examined);
    let case = match &bisection.culprit {
        Some(first) => {
            progress("the smallest case", steps - 1, steps);
            let index = labels(&examined).iter().position(|n| *n == first.backend);
            let index = index.unwrap_or_default();
            bisector.smallest_case(&examined[index], &examined)?
        }
        None => None,
    };
    // Files are written only when every result is known.
    let claim = claimed()?;
    let directory = claim.path.clone();
    if let (Some(culprit), Some(case)) = (&mut bisection.culprit, case) {
        case.write(&directory, culprit)?;
        let same = |other: &&mut Culprit| other.backend == culprit.backend;
        if let Some(same) = bisection.culprits.iter_mut().find(same) {
            *same = culprit.clone();
        }
    }
    bisection.directory = Some(directory.clone());
    let json = serde_json::to_vec_pretty(&bisection)?;
    write_atomically(&directory.join(Bisection::FILE), &json)?;
    Ok(bisection)
}

/// Runs `work` and turns a panic into an error, because Burn panics when a device fails.
fn with_panics_as_errors<T>(
    name: &str,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    caught(|| Ok::<_, Infallible>(work()))
        .unwrap_or_else(|reason| Err(Error::Training(format!("{name} failed: {reason}"))))
}
