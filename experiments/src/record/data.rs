//! The data that a run was trained on: opened again, and refused if they have changed since.

use std::path::PathBuf;

use foretoken_datasets::{Monitor, Tokenizer};

use crate::engine::data::Data;
use crate::record::checkpoint::Checkpoints;
use crate::record::identity::Identity;
use crate::record::run::{EXPERIMENT, RunDirectory};
use crate::{Error, Experiment};

/// Characters of a fingerprint that a message shows.
const SHOWN: usize = 8;

/// Opens the data that the experiment of a run names.
///
/// # Errors
///
/// Returns an error if the data cannot be read, or are not those that the run was trained on.
pub fn data_of(
    run: &RunDirectory,
    experiment: &Experiment,
    monitor: Monitor<'_>,
) -> Result<Data, Error> {
    let data = Data::load(&experiment.data, monitor).map_err(|error| error.of_run(run.path()))?;
    match recorded(run)? {
        Some(fingerprint) if fingerprint != data.fingerprint => {
            Err(other_data(run, experiment, &data, &fingerprint))
        }
        _ => Ok(data),
    }
}

/// Returns the fingerprint of the data that a run was trained on: that of `identity.json`, or else of its last readable
/// checkpoint. Older versions wrote no `identity.json`.
fn recorded(run: &RunDirectory) -> Result<Option<String>, Error> {
    if let Some(identity) = run.read_json::<Identity>(Identity::FILE)? {
        return Ok(Some(identity.data));
    }
    let checkpoints = Checkpoints::new(run.checkpoints());
    let states = checkpoints.steps().into_iter().rev();
    let mut states = states.filter_map(|step| checkpoints.state(step).ok());
    Ok(states.next().map(|state| state.data))
}

/// Returns the error that names the data of a run, and what differs.
fn other_data(run: &RunDirectory, experiment: &Experiment, data: &Data, recorded: &str) -> Error {
    let section = &experiment.data;
    let of_run = run.path().display();
    let file = run.path().join(EXPERIMENT);
    let of_world = section.world.is_some();
    let path = match &section.path {
        Some(path) if !of_world => PathBuf::from(path),
        _ => file,
    };
    let what = match (of_world, section.mixture.is_empty()) {
        (true, _) => "[data.world] gives",
        (false, false) => "the datasets of [data] have",
        (false, true) => "has",
    };
    let tokenizer = Tokenizer::load(run.path().join("tokenizer.json"));
    let tokenizer = tokenizer.ok().and_then(|of_run| {
        let difference = data.tokenizer.difference(&of_run)?;
        Some(format!("another tokenizer ({difference})"))
    });
    let difference = tokenizer.unwrap_or_else(|| {
        format!(
            "other tokens (fingerprint {:.SHOWN$}…, not {:.SHOWN$}…)",
            data.fingerprint, recorded
        )
    });
    let advice = match of_world {
        true => "restore the file, or the version of foretoken that trained the run",
        false => "restore the data that the run was trained on",
    };
    Error::run_directory(
        path,
        format!("{what} {difference} than when {of_run} was trained; {advice}"),
    )
}
