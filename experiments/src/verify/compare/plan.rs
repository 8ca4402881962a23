//! What to compare, and which runs it takes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Entrant, Plan, PlannedRun, Role};
use crate::Error;
use crate::engine::perturbation::Perturbation;
use crate::engine::setup::Setup;
use crate::show::dashboard::Dashboard;

/// What to compare, and how.
pub struct CompareOptions {
    /// What is compared.
    pub entrants: Vec<Entrant>,
    /// What it is compared with.
    pub reference: Entrant,
    /// Steps from the start of the experiment's schedule, at most all.
    pub steps: usize,
    /// Seeds to run, the experiment's own included: the scale of what matters in practice.
    pub seeds: usize,
    /// Runs with initial weights moved by one unit in the last place: how far rounding reaches.
    pub rounding_runs: usize,
    /// All entrants take a step before any takes the next.
    pub lockstep: bool,
    /// Where to write; by default the next free directory under `runs/`.
    pub out: Option<PathBuf>,
    /// How the making of tokens is shown.
    pub dashboard: Dashboard,
    /// Stops the making of tokens.
    pub interrupted: Arc<AtomicBool>,
    /// Deviations of backends under test, by their place in [`entrants`](Self::entrants): tests plant mistakes with them.
    pub perturbations: BTreeMap<usize, Perturbation>,
}

impl CompareOptions {
    /// How many runs show rounding, unless it is said.
    pub const ROUNDING_RUNS: usize = 4;
    /// How many seeds are run, unless it is said.
    pub const SEEDS: usize = 3;
    /// How many steps are compared, unless it is said.
    pub const STEPS: usize = 100;

    /// A comparison of these, with the defaults of the command line.
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

/// Which runs it takes: what the others are judged by comes first.
pub(super) fn plan(setup: &Setup, options: &CompareOptions) -> Result<Plan, Error> {
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
    let mut own = Vec::new();
    for entrant in &available {
        let same = Entrant {
            name: reference.name,
            dtype: entrant.dtype,
        };
        if !own.contains(&same) && same.name.device_for(same.dtype).is_ok() {
            own.push(same);
            // As it is, where the reference is not that already; then moved.
            let count = options.rounding_runs + usize::from(same != reference);
            runs.extend((0..count).map(|_| run(Role::Rounding, same)));
        }
    }
    let of_seeds = own.first().copied().unwrap_or(reference);
    let first = setup.experiment.train.seed;
    for k in 1..options.seeds {
        runs.push(run(Role::Seed(first.wrapping_add(k as u64)), of_seeds));
    }
    runs.extend(available.iter().map(|entrant| run(Role::Entrant, *entrant)));
    let settings = &setup.experiment.train;
    Ok(Plan {
        name: setup.experiment.name.clone(),
        steps: options.steps.min(settings.steps),
        tokens_per_step: settings.batch * settings.accumulation * setup.model.context,
        lockstep: options.lockstep,
        reference,
        runs,
        unavailable: unavailable
            .into_iter()
            .map(|(entrant, error)| (entrant, error.to_string()))
            .collect(),
    })
}
