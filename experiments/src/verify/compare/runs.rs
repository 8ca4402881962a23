//! Run directories of backends under test, inside the directory of a comparison.

use std::path::Path;

use super::Entrant;
use crate::Error;
use crate::engine::setup::Setup;
use crate::record::environment::Environment;
use crate::record::identity::Identity;
use crate::record::run::{MetricsLog, RunDirectory};

/// Returns a free name for a run directory: `flex-f32`, or with a number if the same backend runs twice.
pub(super) fn free_name(directory: &Path, entrant: Entrant) -> String {
    let name = format!("{}-{}", entrant.name, entrant.dtype);
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    std::iter::once(name.clone())
        .chain(numbered)
        .find(|name| !directory.join(name).exists())
        .unwrap_or(name)
}

/// Creates the run directory of a backend, and opens its metrics log.
pub(super) fn open_run(
    setup: &Setup,
    entrant: Entrant,
    directory: &Path,
) -> Result<MetricsLog, Error> {
    let mut experiment = setup.experiment.clone();
    experiment.backend.name = entrant.name;
    experiment.backend.dtype = entrant.dtype;
    let run = RunDirectory::create(Some(directory), &experiment)?;
    let log = MetricsLog::open(&run, 0)?;
    let device = entrant.name.device()?.autodiff();
    let transformer = setup.transformer(experiment.train.seed, &device)?;
    let identity = Identity::new(setup, &transformer)?;
    run.write(Identity::FILE, serde_json::to_vec_pretty(&identity)?)?;
    let environment = Environment::capture(entrant.name);
    run.write("environment.json", serde_json::to_vec_pretty(&environment)?)?;
    run.write("experiment.toml", experiment.to_toml())?;
    Ok(log)
}
