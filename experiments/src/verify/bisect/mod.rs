//! Where two backends first part: one batch, every operation forward and backward, and the update.
//!
//! A reference computes in f64. Each operation is then recomputed on every backend from the reference's own
//! numbers, so that its error is its own (*local*) and not what came to it from before (*carried*). The first
//! operation whose local error rounding does not explain is named, and the smallest case that shows it is
//! written down as a program of its own.
//!
//! The operations of a pass are Burn's own: whoever watches one by one sees nothing of the fused ones, which
//! [`compare`](crate::verify::compare) compares as they train. What differs there and not here is theirs.
//!
//! Dropout is left out: it multiplies by factors that the host draws.

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
pub use bisector::{Bisector, Examined};
pub use findings::{Bisection, Culprit, Direction, Row, Shapes, Worst};

use self::bisector::labels;
use self::judge::DRAWS;
use crate::backend::Backend;
use crate::backend::panics::caught;
use crate::backend::precision::Precision;
use crate::engine::perturbation::Perturbation;
use crate::record::run::{create_directory, write_atomically};
use crate::{Error, Experiment};

/// How to bisect.
pub struct BisectOptions<'a> {
    /// The backends; what each does otherwise than it should, in tests.
    pub backends: Vec<Backend>,
    /// The precision they compute in.
    pub dtype: Precision,
    /// The directory to write; by default the next free `runs/bisect-<experiment>-<n>`.
    pub out: Option<PathBuf>,
    /// Stops it; nothing is written then.
    pub interrupted: Arc<AtomicBool>,
    /// Shows how the making of tokens goes.
    pub monitor: Monitor<'a>,
    /// Told what is done next, how much is done and of how much.
    pub progress: &'a dyn Fn(&str, usize, usize),
    /// Deviations of each backend: tests plant mistakes with them.
    pub perturbations: Vec<Perturbation>,
}

/// Finds where backends first part, and writes it down.
///
/// # Errors
///
/// When the experiment cannot start, a backend is missing or fails, or nothing can be written.
pub fn bisect(experiment: Experiment, options: &BisectOptions<'_>) -> Result<Bisection, Error> {
    for backend in &options.backends {
        backend.device_for(options.dtype)?;
    }
    let prefix = format!("bisect-{}-", experiment.name);
    let claim = create_directory(options.out.as_deref(), &prefix)?;
    let directory = claim.path.clone();
    let progress = options.progress;
    let entrants = options.backends.len();
    let steps = 3 + DRAWS as usize + entrants;
    let stop = options.interrupted.clone();
    let bisector = Bisector::with(experiment, options.dtype, stop, options.monitor, &|done| {
        progress("the reference in f64", done, steps);
    })?;
    let mut examined = Vec::with_capacity(entrants);
    for (index, backend) in options.backends.iter().enumerate() {
        let name = format!("{backend}:{}", options.dtype);
        progress(&name, 2 + DRAWS as usize + index, steps);
        let perturbation = options
            .perturbations
            .get(index)
            .cloned()
            .unwrap_or_default();
        let examine = || bisector.examine(*backend, perturbation);
        examined.push(unless_it_panics(&name, examine)?);
    }
    let mut bisection = bisector.findings(&examined);
    let case = match &bisection.culprit {
        Some(first) => {
            progress("the smallest case", steps - 1, steps);
            let party = labels(&examined).iter().position(|n| *n == first.backend);
            let party = party.unwrap_or_default();
            bisector.smallest_case(&examined[party], &examined)?
        }
        None => None,
    };
    // Nothing is written before there is all to write.
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

/// Burn panics where a device fails.
fn unless_it_panics<T>(name: &str, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    caught(|| Ok::<_, Infallible>(work()))
        .unwrap_or_else(|reason| Err(Error::Training(format!("{name} failed: {reason}"))))
}
