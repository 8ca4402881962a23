//! Options of a comparison, and the runs that it takes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::training::Outline;
use super::{Entrant, Plan, PlannedRun, Role};
use crate::Error;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::perturbation::Perturbation;
use crate::show::dashboard::Dashboard;

/// Options of a comparison.
pub struct CompareOptions {
    /// The backends under test.
    pub entrants: Vec<Entrant>,
    /// The reference that they are compared against.
    pub reference: Entrant,
    /// Steps from the start of the experiment's schedule, at most all.
    pub steps: usize,
    /// Number of seeds to run, including the experiment's own, to measure differences that matter in practice.
    pub seeds: usize,
    /// Number of runs with initial weights moved by one unit in the last place, to measure rounding.
    pub rounding_runs: usize,
    /// Whether all backends take a step before any takes the next.
    pub lockstep: bool,
    /// Output directory; `None` for the next free directory under `runs/`.
    pub out: Option<PathBuf>,
    /// Display of tokenization progress.
    pub dashboard: Dashboard,
    /// Flag that stops tokenization.
    pub interrupted: Arc<AtomicBool>,
    /// Deviations of backends under test by index in [`entrants`](Self::entrants), with which tests plant mistakes.
    pub perturbations: BTreeMap<usize, Perturbation>,
}

impl CompareOptions {
    /// Default number of rounding runs.
    pub const ROUNDING_RUNS: usize = 4;
    /// Default number of seeds.
    pub const SEEDS: usize = 3;
    /// Default number of compared steps.
    pub const STEPS: usize = 100;

    /// Creates options for every backend of this build in f32, compared against the first of them in f64.
    pub fn for_this_build() -> Self {
        let entrant = |name, dtype| Entrant { name, dtype };
        let backends = Backend::ALL.into_iter().filter(|name| name.compiled_in());
        let entrants = backends.map(|name| entrant(name, Precision::F32)).collect();
        Self::new(
            entrants,
            entrant(Backend::default_backend(), Precision::F64),
        )
    }

    /// Creates options with the defaults of the command line.
    pub fn new(entrants: Vec<Entrant>, reference: Entrant) -> Self {
        Self {
            entrants,
            reference,
            steps: Self::STEPS,
            seeds: Self::SEEDS,
            rounding_runs: Self::ROUNDING_RUNS,
            lockstep: false,
            out: None,
            dashboard: Dashboard::None,
            interrupted: Arc::default(),
            perturbations: BTreeMap::new(),
        }
    }
}

/// Plans the runs of a comparison. Runs that others are judged by come first.
pub(super) fn plan(outline: &Outline, options: &CompareOptions) -> Result<Plan, Error> {
    let reference = options.reference;
    reference.name.device_for(reference.dtype)?;
    let mut unavailable = Vec::new();
    let mut available = Vec::new();
    for entrant in &options.entrants {
        match entrant.name.device_for(entrant.dtype) {
            Ok(_) => available.push(*entrant),
            Err(error) => unavailable.push((*entrant, error)),
        }
    }
    if available.is_empty() && !unavailable.is_empty() {
        return Err(unavailable.swap_remove(0).1.into());
    }
    let run = |role, entrant| PlannedRun { role, entrant };
    let mut runs = vec![run(Role::Reference, reference)];
    let mut planned = Vec::new();
    for entrant in &available {
        let same = Entrant {
            name: reference.name,
            dtype: entrant.dtype,
        };
        if !planned.contains(&same) && same.name.device_for(same.dtype).is_ok() {
            planned.push(same);
            // One run has unchanged weights, unless the reference is that run; the others have moved ones.
            let count = options.rounding_runs + usize::from(same != reference);
            runs.extend((0..count).map(|_| run(Role::Rounding, same)));
        }
    }
    let seeded = planned.first().copied().unwrap_or(reference);
    let first = outline.seed;
    for k in 1..options.seeds {
        runs.push(run(Role::Seed(first.wrapping_add(k as u64)), seeded));
    }
    runs.extend(available.iter().map(|entrant| run(Role::Entrant, *entrant)));
    Ok(Plan {
        name: outline.name.clone(),
        steps: options.steps.min(outline.steps),
        unit: outline.unit,
        items_per_step: outline.items_per_step,
        lockstep: options.lockstep,
        reference,
        runs,
        unavailable: unavailable
            .into_iter()
            .map(|(entrant, error)| (entrant, error.to_string()))
            .collect(),
    })
}
