//! Comparison that writes a directory:
//!
//! ```text
//! runs/compare-<experiment>-<n>/
//!   report.html         the page to open
//!   report.md, plots/   the report as Markdown, and its figures as SVG
//!   comparison.json     everything that the report is made of
//!   <backend>-<dtype>/  run directory of each backend under test, with envelope.json and without checkpoints
//! ```

use std::path::{Path, PathBuf};

use super::live::measure;
use super::page::write_report;
use super::plan::{CompareOptions, plan};
use super::training::Training;
use super::{Comparison, Recorded, Watcher};
use crate::engine::setup::Setup;
use crate::record::run::{RunDirectory, create_directory, write_atomically};
use crate::record::start;
use crate::show::progress::BuildReporter;
use crate::show::signals::Unsaved;
use crate::{Error, Experiment};

/// End of a comparison.
#[derive(Debug)]
pub enum Compared {
    /// All backends are judged.
    Complete {
        /// The results.
        comparison: Box<Comparison>,
        /// Its directory.
        directory: PathBuf,
        /// The page to open.
        report: PathBuf,
    },
    /// The comparison was stopped before every backend was judged.
    Interrupted {
        /// Directory with the files written until then.
        directory: PathBuf,
    },
}

/// Compares backends, and writes a directory with the runs, `comparison.json` and the report.
///
/// # Errors
///
/// Returns an error if the experiment cannot start, no backend under test can run, or the reference fails.
pub fn compare(
    experiment: Experiment,
    options: &CompareOptions,
    watcher: &mut dyn Watcher,
) -> Result<Compared, Error> {
    // The directory is claimed before anything is read, so that a second process is refused at once.
    let prefix = format!("compare-{}-", experiment.name);
    let claim = create_directory(options.out.as_deref(), &prefix)?;
    let setup = prepare(experiment, options)?;
    compare_in(&claim.path, &setup, options, watcher)
}

/// Compares backends on any training, and writes a directory.
pub(super) fn compare_training<T: Training>(
    training: &T,
    options: &CompareOptions,
    watcher: &mut dyn Watcher,
) -> Result<Compared, Error> {
    let prefix = format!("compare-{}-", training.outline().name);
    let claim = create_directory(options.out.as_deref(), &prefix)?;
    compare_in(&claim.path, training, options, watcher)
}

fn compare_in<T: Training>(
    directory: &Path,
    training: &T,
    options: &CompareOptions,
    watcher: &mut dyn Watcher,
) -> Result<Compared, Error> {
    let plan = plan(&training.outline(), options)?;
    let directory = directory.to_owned();
    match measure(training, options, plan, Some(&directory), watcher)? {
        None => Ok(Compared::Interrupted { directory }),
        Some(comparison) => {
            let _unsaved = Unsaved::begin();
            let runs = comparison.backends.iter().filter_map(|e| e.run.as_ref());
            let runs: Vec<PathBuf> = runs.map(|run| directory.join(run)).collect();
            if !runs.is_empty() {
                let recorded = serde_json::to_vec(&Recorded::of(&comparison)?)?;
                for run in runs {
                    RunDirectory::open(&run)?.write(Recorded::FILE, &recorded)?;
                }
            }
            let report = write_in(&comparison, &directory)?;
            Ok(Compared::Complete {
                comparison: Box::new(comparison),
                directory,
                report,
            })
        }
    }
}

/// Writes `comparison.json` and the report into a new or empty directory; returns the page to open.
///
/// # Errors
///
/// Returns an error if the directory is not empty, cannot be written, or is being written by another process.
pub fn write(comparison: &Comparison, directory: &Path) -> Result<PathBuf, Error> {
    let _claim = create_directory(Some(directory), "")?;
    write_in(comparison, directory)
}

fn write_in(comparison: &Comparison, directory: &Path) -> Result<PathBuf, Error> {
    let json = serde_json::to_vec(comparison)?;
    write_atomically(&directory.join(Comparison::FILE), &json)?;
    write_report(comparison, directory)
}

/// Compares backends without writing anything.
#[doc(hidden)]
pub fn compare_unwritten(
    experiment: Experiment,
    options: &CompareOptions,
    watcher: &mut dyn Watcher,
) -> Result<Option<Comparison>, Error> {
    let setup = prepare(experiment, options)?;
    let plan = plan(&setup.outline(), options)?;
    measure(&setup, options, plan, None, watcher)
}

fn prepare(experiment: Experiment, options: &CompareOptions) -> Result<Setup, Error> {
    let progress = BuildReporter::new(options.dashboard);
    start::prepare(experiment, None, progress.monitor(&options.interrupted))
}
