//! Models that are trained on subsets of one text, and what each of them needs for each document.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use foretoken_datasets::{Monitor, Subset};

use super::counterfactual::{MIN_MODELS, Measured, Savings};
use super::documents::nats;
use super::sample::places;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::data::Data;
use crate::engine::documents::TrainingDocuments;
use crate::record::identity::Identity;
use crate::record::result::RunResult;
use crate::record::run::RunDirectory;
use crate::record::source::{Checkpoint, Source};
use crate::science::bootstrap::Bootstrap;
use crate::science::evaluate::{Document, Segment, Text, TextSize};
use crate::science::random::Random;
use crate::show::format::plural;
use crate::{Error, Experiment};

/// Keys in which the runs may differ: which documents they read, and in which order.
const MAY_DIFFER: [&str; 2] = ["data.subset.seed", "train.seed"];

/// Lengths of documents are padded to a multiple of this, so that more of them are computed together.
const GRAIN: usize = 8;

/// Characters of the beginning of a document that are kept.
const BEGINNING: usize = 60;

/// How documents are measured.
#[derive(Debug, Clone, Copy)]
pub struct CounterfactualSettings {
    /// Backend that computes.
    pub backend: Backend,
    /// Precision of the weights.
    pub precision: Precision,
    /// Largest number of documents.
    pub documents: usize,
    /// Number of documents that are computed at once. It does not change the result.
    pub batch: usize,
    /// Seed of the choice of documents, and of the bootstrap.
    pub seed: u64,
    /// Draws of the bootstrap.
    pub draws: usize,
}

/// A finished run on a subset.
struct SubsetRun {
    path: PathBuf,
    experiment: Experiment,
    subset: Subset,
}

/// Finished runs on subsets of one text.
pub struct SubsetRuns {
    runs: Vec<SubsetRun>,
    /// Runs that are not finished, which are left out.
    pub unfinished: Vec<PathBuf>,
    documents: TrainingDocuments,
}

/// A measurement of the documents.
pub struct CounterfactualMeasurement {
    /// Paths of the runs.
    pub runs: Vec<String>,
    /// Share of the documents that each run was trained on.
    pub share: f64,
    /// Number of documents of the training text.
    pub total: usize,
    /// Documents that too few models were trained on, or all but too few, so that they are not measured.
    pub undecided: usize,
    /// Results.
    pub savings: Savings,
}

impl SubsetRuns {
    /// Opens runs, which differ only in their subsets.
    ///
    /// # Errors
    ///
    /// Returns an error if a directory is not a run, a run was not trained on a subset, two runs differ in more than that,
    /// or their data have changed since.
    pub fn open(paths: &[PathBuf], monitor: Monitor<'_>) -> Result<Self, Error> {
        let (mut runs, mut unfinished) = (Vec::<SubsetRun>::new(), Vec::new());
        for path in paths {
            let run = RunDirectory::open(path)?;
            let experiment = run.experiment()?;
            let Some(section) = experiment.data.subset else {
                return Err(Error::run_directory(
                    path,
                    "was not trained on a subset of its documents; set data.subset",
                ));
            };
            if let Some(first) = runs.first() {
                check_equal(path, &experiment, first)?;
            }
            if RunResult::read(&run)?.is_none() {
                unfinished.push(path.clone());
                continue;
            }
            let data = Data::load(&experiment.data, monitor)?;
            if Identity::of_run(&run)?.data != data.fingerprint {
                return Err(Error::run_directory(
                    path,
                    "was trained on other data: the text that [data] names has changed since; restore it",
                ));
            }
            runs.push(SubsetRun {
                path: path.clone(),
                subset: section.subset(),
                experiment,
            });
        }
        let Some(first) = runs.first() else {
            return Err(Error::Experiment {
                origin: "SWEEP".into(),
                message: "names no run that is finished".into(),
            });
        };
        let documents = TrainingDocuments::load(&first.experiment.data, monitor)?;
        Ok(Self {
            runs,
            unfinished,
            documents,
        })
    }

    /// Returns the number of runs.
    pub fn count(&self) -> usize {
        self.runs.len()
    }

    /// Returns whether each run was trained on a document.
    fn is_with(&self, document: usize) -> Vec<bool> {
        let runs = self.runs.iter();
        runs.map(|run| run.subset.contains(document as u64))
            .collect()
    }

    /// Returns the documents with enough models of both kinds.
    fn decided(&self) -> Vec<usize> {
        let all = 0..self.documents.count();
        all.filter(|document| {
            let with = self.is_with(*document).iter().filter(|is| **is).count();
            with.min(self.runs.len() - with) >= MIN_MODELS
        })
        .collect()
    }

    /// Measures documents with every model. `progress` is called with the number of targets after each batch.
    ///
    /// # Errors
    ///
    /// Returns an error if there are too few models with and without documents, a model cannot be loaded, the device fails,
    /// or `interrupt` is set.
    pub fn measure(
        &self,
        settings: &CounterfactualSettings,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<CounterfactualMeasurement, Error> {
        let decided = self.decided();
        if decided.is_empty() {
            return Err(Error::Experiment {
                origin: "SWEEP".into(),
                message: format!(
                    "has {}, and no document has {MIN_MODELS} that were trained on it and {MIN_MODELS} that \
                     were not; train on more values of data.subset.seed",
                    plural(self.runs.len(), "finished run")
                ),
            });
        }
        let mut random = Random::stream(settings.seed, 0);
        let chosen = places(decided.len(), settings.documents, &mut random);
        let mut measured = Vec::with_capacity(chosen.len());
        let mut segments = Vec::with_capacity(chosen.len());
        let lengths = self.documents.tokenizer.token_lengths();
        for document in chosen.into_iter().map(|place| decided[place]) {
            let ids = self.documents.ids(document)?;
            let bytes = ids.iter().map(|id| lengths[*id as usize]).sum();
            if bytes == 0 {
                continue;
            }
            measured.push(Measured {
                document,
                bytes,
                text: self.beginning(&ids)?,
                bits: Vec::with_capacity(self.runs.len()),
                is_with: self.is_with(document),
            });
            segments.push(segment(document, self.documents.border, ids));
        }
        let text = Text {
            name: "the training text".into(),
            segments,
            not_scored: 0,
        };
        for run in &self.runs {
            let source = Source::open(&run.path, Checkpoint::Last, None)?;
            let device = settings.backend.device_for(settings.precision)?;
            let model = source.load_in(&device, settings.precision)?;
            let nats = nats(&model, &text, (GRAIN, settings.batch), interrupt, progress)?;
            for (measured, nats) in measured.iter_mut().zip(nats) {
                let bits = nats / std::f64::consts::LN_2;
                measured.bits.push(bits / measured.bytes as f64);
            }
        }
        let bootstrap = Bootstrap {
            draws: settings.draws,
            seed: settings.seed,
        };
        let total = self.documents.count();
        Ok(CounterfactualMeasurement {
            runs: self
                .runs
                .iter()
                .map(|run| run.path.display().to_string())
                .collect(),
            share: self.runs[0].subset.share,
            total,
            undecided: total - decided.len(),
            savings: Savings::of(measured, bootstrap),
        })
    }

    /// Returns the number of tokens that a measurement scores, about.
    ///
    /// # Errors
    ///
    /// Returns an error if tokens cannot be read.
    pub fn work(&self, documents: usize) -> Result<usize, Error> {
        let decided = self.decided();
        let sampled = decided.iter().take(100);
        let tokens = sampled.map(|document| Ok(self.documents.ids(*document)?.len()));
        let tokens: usize = tokens.sum::<Result<usize, Error>>()?;
        let mean = tokens as f64 / decided.len().clamp(1, 100) as f64;
        let measured = decided.len().min(documents) * self.runs.len();
        Ok((measured as f64 * mean) as usize)
    }

    /// Returns the beginning of a document in one line.
    fn beginning(&self, ids: &[u32]) -> Result<String, Error> {
        let ends = ids.last() == Some(&self.documents.border);
        let shown = &ids[..ids.len() - usize::from(ends)];
        // A character has at least one token, or a part of one.
        let text = self
            .documents
            .tokenizer
            .decode(&shown[..shown.len().min(8 * BEGINNING)])?;
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        Ok(text.chars().map(plain).take(BEGINNING).collect())
    }
}

/// Refuses a run that differs from the first one in more than its subset.
fn check_equal(path: &Path, experiment: &Experiment, first: &SubsetRun) -> Result<(), Error> {
    let mut differences = experiment.differences_under(&first.experiment, "data.");
    differences.extend(experiment.decisive_differences(&first.experiment));
    let is_other = |difference: &&String| {
        let mut keys = MAY_DIFFER.iter();
        !keys.any(|key| difference.starts_with(&format!("{key} ")))
    };
    match differences.iter().find(is_other) {
        None => Ok(()),
        Some(difference) => Err(Error::run_directory(
            path,
            format!(
                "differs from {} in {difference}; only {} may differ",
                first.path.display(),
                MAY_DIFFER.join(" and ")
            ),
        )),
    }
}

/// Returns a document by itself, after the end of another.
fn segment(number: usize, border: u32, mut ids: Vec<u32>) -> Segment {
    ids.insert(0, border);
    Segment {
        documents: vec![Document {
            number,
            targets: 1..ids.len(),
            size: TextSize::default(),
            skipped_bytes: 0,
        }],
        ids,
    }
}
