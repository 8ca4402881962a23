//! Observations from run directories and from directories of a sweep.

use std::fs;
use std::path::Path;

use foretoken_model::Part;

use super::observations::{Run, refused};
use crate::Error;
use crate::record::result::RunResult;
use crate::record::run::{EXPERIMENT, Record, RunDirectory, read_metrics};

/// Reads a run directory, or every run under `runs/` of a sweep directory, or in a directory of runs. Runs that are not
/// finished are listed in `skipped`.
pub(super) fn read(
    directory: &Path,
    runs: &mut Vec<Run>,
    skipped: &mut Vec<String>,
) -> Result<(), Error> {
    if directory.join(EXPERIMENT).is_file() {
        return read_run(directory, runs, skipped);
    }
    let below = directory.join("runs");
    let parent = match below.is_dir() {
        true => below,
        false => directory.to_path_buf(),
    };
    let entries = fs::read_dir(&parent).map_err(Error::io("read", &parent))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", &parent))?.path();
        if path.join(EXPERIMENT).is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(refused(
            directory.display().to_string(),
            "is neither a run directory nor a directory with runs in it or in runs/; give a CSV file or directories of runs",
        ));
    }
    for path in paths {
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
    let mut section = run.experiment()?.model;
    // The resolved file has every key, and the weights of an initial model are not needed.
    section.init_from = None;
    let config = section.config(1, None)?;
    let part = |part: Part| config.parameters_of(part);
    let total = config.parameters();
    let inside = total - part(Part::Embeddings) - part(Part::Head);
    let head = config.vocab_size * config.width;
    // A floor in bits per byte is one in nats per token by the ratio of the two losses, which have the same targets.
    let entropy = summary
        .floor_bits_per_byte
        .map(|floor| floor * summary.valid_loss / summary.bits_per_byte)
        .filter(|entropy| entropy.is_finite() && *entropy > 0.0);
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
        entropy,
        curve: curve.collect(),
    });
    Ok(())
}
