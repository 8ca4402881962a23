//! Observations from run directories and from directories of a sweep.

use std::collections::HashMap;
use std::path::Path;

use foretoken_model::Part;

use super::run::{Floor, Run, refused};
use crate::Error;
use crate::record::identity::{Identity, Origin};
use crate::record::result::RunResult;
use crate::record::run::{Record, RunDirectory, read_metrics, runs_of};

/// Reads a run directory, or every run under `runs/` of a sweep directory, or in a directory of runs. Runs that are not
/// finished are listed in `skipped`.
pub(super) fn read(
    directory: &Path,
    runs: &mut Vec<Run>,
    skipped: &mut Vec<String>,
) -> Result<(), Error> {
    for path in runs_of(directory)? {
        read_run(&path, runs, skipped)?;
    }
    Ok(())
}

fn read_run(path: &Path, runs: &mut Vec<Run>, skipped: &mut Vec<String>) -> Result<(), Error> {
    let run = RunDirectory::open(path)?;
    let name = path.display().to_string();
    let Some(result) = RunResult::read(&run)? else {
        skipped.push(format!("{name}: is not finished"));
        return Ok(());
    };
    let summary = result.summary;
    if !(summary.valid_loss.is_finite() && summary.valid_loss > 0.0) {
        skipped.push(format!("{name}: its loss is {}", summary.valid_loss));
        return Ok(());
    }
    let experiment = run.experiment()?;
    let mut section = experiment.model.clone();
    // The resolved file has every key, and the weights of an initial model are not needed.
    section.init_from = None;
    let config = section.config(1, None)?;
    let part = |part: Part| config.parameters_of(part);
    let total = config.parameters();
    let inside = total - part(Part::Embeddings) - part(Part::Head);
    let head = config.vocab_size * config.width;
    // A floor in bits per byte is one in nats per token by the ratio of the two losses, which have the same targets.
    let nats = |floor: Option<f64>| {
        floor
            .map(|floor| floor * summary.valid_loss / summary.bits_per_byte)
            .filter(|entropy| entropy.is_finite() && *entropy > 0.0)
    };
    let floors = [
        (Floor::Window, nats(summary.window_floor_bits_per_byte)),
        (Floor::Text, nats(summary.floor_bits_per_byte)),
    ];
    let curve = read_metrics(&run)?
        .into_iter()
        .filter_map(|record| match record {
            Record::Evaluation { tokens, loss, .. }
                if tokens > 0 && loss.is_finite() && loss > 0.0 =>
            {
                Some((tokens as f64, loss))
            }
            _ => None,
        });
    let tokens = summary.tokens as f64;
    runs.push(Run {
        name,
        parameters: [
            Some(total as f64),
            Some(inside as f64),
            Some((inside + head) as f64),
        ],
        tokens: Some(tokens),
        flops: Some(config.flops_per_token() * tokens),
        loss: summary.valid_loss,
        floors: floors
            .into_iter()
            .filter_map(|(floor, entropy)| Some((floor, entropy?)))
            .collect(),
        origin: Some(Box::new(Origin {
            identity: Identity::of_run(&run)?,
            experiment,
        })),
        curve: curve.collect(),
    });
    Ok(())
}

/// Keys in which runs of the same N, D and C may differ and still count as seeds of one another.
const OF_SEEDS: [&str; 12] = [
    "model.width",
    "model.layers",
    "model.heads",
    "model.kv_heads",
    "model.hidden",
    "train.steps",
    "train.seed",
    "train.batch",
    "train.accumulation",
    "optimizer.learning_rate",
    "optimizer.min_learning_rate",
    "optimizer.warmup",
];

/// Refuses runs that no single law describes: those on different data or with different windows, and those of the same
/// N, D and C that differ in another key than [`OF_SEEDS`].
///
/// # Errors
///
/// Returns an error that names two of the runs, and what they differ in.
pub(super) fn check_comparable(runs: &[Run]) -> Result<(), Error> {
    let known = || {
        runs.iter()
            .filter_map(|run| Some((run, run.origin.as_deref()?)))
    };
    let Some((first, data)) = known().next() else {
        return Ok(());
    };
    let mut sizes = HashMap::new();
    for (run, origin) in known() {
        let mut differing = origin
            .experiment
            .differences_under(&data.experiment, "data.windows");
        if origin.identity.data != data.identity.data {
            differing = origin
                .experiment
                .differences_under(&data.experiment, "data.");
            if differing.is_empty() {
                let (ours, theirs) = (&origin.identity.data, &data.identity.data);
                differing.push(format!(
                    "the hash of the data ({ours:.8}… here, {theirs:.8}… there)"
                ));
            }
        }
        if !differing.is_empty() {
            let message = format!(
                "has other data than {}, so that no single law describes both: {}; fit them one by one",
                first.name,
                differing.join(", ")
            );
            return Err(refused(run.name.as_str(), message));
        }
        let size = [run.parameters[0], run.tokens, run.flops].map(|value| value.map(f64::to_bits));
        let (other, seed) = *sizes.entry(size).or_insert((run, origin));
        let mut differing = origin.experiment.decisive_differences(&seed.experiment);
        differing.retain(|difference| {
            let key = difference.split(' ').next().unwrap_or_default();
            !OF_SEEDS.contains(&key)
        });
        if !differing.is_empty() {
            let message = format!(
                "has the size, tokens and FLOPs of {}, but is not another seed of it: {}; fit them one by one",
                other.name,
                differing.join(", ")
            );
            return Err(refused(run.name.as_str(), message));
        }
    }
    Ok(())
}
