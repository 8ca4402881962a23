//! Probes of the checkpoints of a run, and of the runs of a sweep.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use foretoken_datasets::world::{Family, WorldConfig};
use foretoken_datasets::{Monitor, WindowLoader};

use super::emergence::Emergence;
use super::measured::Checkpoint as Measured;
use super::questions::Questions;
use super::record::{CheckpointProbes, FamilyScores, ProbeRecord};
use super::score::ItemScore;
use super::signal::{self, LAST, LastScores, Signal};
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::evaluation;
use crate::engine::language_model::LanguageModel;
use crate::engine::setup::{Setup, Start};
use crate::engine::totals::Totals;
use crate::experiment::ProbesSection;
use crate::record::checkpoint::Checkpoints;
use crate::record::data::data_of;
use crate::record::run::{RunDirectory, runs_in};
use crate::record::source::{Checkpoint, Source};
use crate::science::check;
use crate::{Error, Experiment};

/// Choice of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Every checkpoint that the run has.
    All,
    /// One checkpoint.
    One(Checkpoint),
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::One(Checkpoint::Best) => f.write_str("best"),
            Self::One(Checkpoint::Last) => f.write_str("last"),
            Self::One(Checkpoint::Step(step)) => step.fmt(f),
        }
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => text
                .parse()
                .map(Self::One)
                .map_err(|_| "expected all, best, last, or step numbers".into()),
        }
    }
}

/// A run whose checkpoints are probed.
pub struct Study {
    path: PathBuf,
    experiment: Experiment,
    backend: Backend,
    precision: Precision,
    device: Device,
    questions: Questions,
    validation: WindowLoader,
}

impl Study {
    /// Opens a run on a world, draws its data, and makes up to `items` items of each of the families; all that the world
    /// has if none is named.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such run, it was not trained on a world whose facts are known, its world does not
    /// have a family, or no item fits the model.
    pub fn open(
        path: &Path,
        families: &[Family],
        items: usize,
        (backend, precision): (Backend, Precision),
        monitor: Monitor<'_>,
    ) -> Result<Self, Error> {
        let run = RunDirectory::open(path)?;
        let mut experiment = run.experiment()?;
        // Weights come from checkpoints.
        experiment.model.init_from = None;
        let world = world_of(path, &experiment)?.clone();
        let section = ProbesSection {
            families: families.to_vec(),
            items,
            ..ProbesSection::default()
        };
        section
            .validate(Some(world.kind))
            .map_err(|(key, message)| Error::Experiment {
                origin: format!(
                    "--{}",
                    key.trim_start_matches("probes").trim_start_matches('.')
                ),
                message,
            })?;
        let families = section.families_in(world.kind);
        let source = Source::open(path, Checkpoint::Last, None)?;
        let data = data_of(&run, &experiment, monitor)?;
        let tokenizer = source.tokenizer()?;
        let context = source.config().context;
        let questions = match &data.world {
            Some(world) => Questions::new(&world.world, &families, items, tokenizer, context)?,
            None => return Err(no_world(path)),
        };
        let device = backend.device_for(precision)?;
        let setup = Setup::new(experiment.clone(), data, Start::Seed)?;
        let validation = setup.eval_loader(experiment.train.eval_windows, &device)?;
        Ok(Self {
            path: path.into(),
            experiment,
            backend,
            precision,
            device,
            questions,
            validation,
        })
    }

    /// Returns the steps of the chosen checkpoints, ascending.
    ///
    /// # Errors
    ///
    /// Returns an error if the run does not have one of them.
    pub fn steps(&self, selections: &[Selection]) -> Result<Vec<usize>, Error> {
        let mut steps = Vec::new();
        for selection in selections {
            match selection {
                Selection::All => steps.extend(steps_of(&self.path)),
                Selection::One(checkpoint) => {
                    steps.extend(Source::open(&self.path, *checkpoint, None)?.step());
                }
            }
        }
        steps.sort_unstable();
        steps.dedup();
        Ok(steps)
    }

    /// Returns notes about items that are left out.
    pub fn notes(&self) -> Vec<String> {
        self.questions.notes()
    }

    /// Returns the rows that the model reads for a checkpoint.
    pub fn rows(&self) -> usize {
        self.questions.rows()
    }

    /// Probes the checkpoints of these steps. `progress` is called with a number of rows that are done.
    ///
    /// # Errors
    ///
    /// Returns an error if a checkpoint is damaged, the device fails, or `interrupt` is set.
    pub fn run(
        self,
        steps: &[usize],
        sweep: Option<&Path>,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<ProbeRecord, Error> {
        let began = Instant::now();
        let mut checkpoints = Vec::with_capacity(steps.len());
        for step in steps {
            checkpoints.push(self.checkpoint(*step, interrupt, progress)?);
        }
        let signal = sweep.map(|sweep| self.signal(sweep, interrupt, progress));
        let signal = signal.transpose()?;
        let mut record = ProbeRecord {
            run: self.path.display().to_string(),
            backend: self.backend.name(),
            precision: self.precision.name(),
            steps: self.experiment.train.steps,
            families: self.questions.families,
            checkpoints,
            emergence: Vec::new(),
            signal,
            seconds: began.elapsed().as_secs_f64(),
        };
        let emergence = record.families.iter().map(|family| {
            check(interrupt)?;
            let measured: Vec<Measured<'_>> = record
                .of_family(family.family)
                .map(|(checkpoint, scores)| Measured {
                    step: checkpoint.step,
                    scores: &scores.scores,
                })
                .collect();
            Ok(Emergence::of(family.family, &family.items, &measured))
        });
        let emergence: Result<_, Error> = emergence.collect();
        record.emergence = emergence?;
        Ok(record)
    }

    fn checkpoint(
        &self,
        step: usize,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<CheckpointProbes, Error> {
        check(interrupt)?;
        let source = Source::open(&self.path, Checkpoint::Step(step), None)?;
        let transformer = source.load_in(&self.device, self.precision)?;
        let scores = self.questions.score(&transformer, interrupt, progress)?;
        let model = LanguageModel::new(transformer, 0).of(&self.experiment);
        let mut go_on = |_: usize, _: &Totals| {
            check(interrupt)?;
            Ok(ControlFlow::Continue(()))
        };
        let totals = evaluation::evaluate(&model, &self.validation, None, &mut go_on)?;
        let families = self.questions.families.iter().zip(scores);
        Ok(CheckpointProbes {
            step,
            valid_loss: totals.unwrap_or_default().loss(),
            families: families
                .filter_map(|(items, scores)| FamilyScores::of(items, scores))
                .collect(),
        })
    }

    /// Probes the last checkpoints of every run of a sweep with the same items.
    fn signal(
        &self,
        sweep: &Path,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Signal, Error> {
        if !sweep.is_dir() {
            let message = "is not a directory; name that of a sweep, or one with runs in it";
            return Err(Error::run_directory(sweep, message));
        }
        let (mut runs, mut skipped) = (Vec::new(), Vec::new());
        let mut scores: Vec<Vec<Vec<Vec<ItemScore>>>> = Vec::new();
        for path in runs_in(sweep)? {
            let name = path.display().to_string();
            let experiment = RunDirectory::open(&path)?.experiment()?;
            if world_of(&path, &experiment)? != world_of(&self.path, &self.experiment)? {
                return Err(Error::run_directory(
                    &path,
                    format!(
                        "has another world than {}, so that its items are others; name a sweep over one world",
                        self.path.display()
                    ),
                ));
            }
            let steps = steps_of(&path);
            let last = &steps[steps.len().saturating_sub(LAST)..];
            if last.len() < 2 {
                let advice = "train.keep keeps more of them";
                skipped.push(format!("{name}: has fewer than two checkpoints; {advice}"));
                continue;
            }
            let source = Source::open(&path, Checkpoint::Last, None)?;
            if source.config().context < self.questions.context {
                let longer = self.path.display();
                skipped.push(format!(
                    "{name}: its context is shorter than that of {longer}"
                ));
                continue;
            }
            let tokenizer = source.tokenizer()?;
            if let Some(difference) = self.questions.tokenizer.difference(tokenizer) {
                skipped.push(format!("{name}: has another tokenizer ({difference})"));
                continue;
            }
            let mut of_run = Vec::with_capacity(last.len());
            for step in last {
                check(interrupt)?;
                let source = Source::open(&path, Checkpoint::Step(*step), None)?;
                let model = source.load_in(&self.device, self.precision)?;
                of_run.push(self.questions.score(&model, interrupt, progress)?);
            }
            runs.push(name);
            scores.push(of_run);
        }
        if runs.len() < 2 {
            let message = format!(
                "has {} with two checkpoints or more, and signal to noise needs two runs{}",
                crate::show::format::plural(runs.len(), "run"),
                skipped
                    .first()
                    .map_or(String::new(), |first| format!(" ({first})"))
            );
            return Err(Error::run_directory(sweep, message));
        }
        let of_family = |(number, family): (usize, &super::FamilyItems)| {
            check(interrupt)?;
            let scores: LastScores<'_> = scores
                .iter()
                .map(|run| {
                    run.iter()
                        .map(|families| families[number].as_slice())
                        .collect()
                })
                .collect();
            Ok(signal::rows(family.family, &scores))
        };
        let families = self.questions.families.iter().enumerate();
        let rows: Result<Vec<_>, Error> = families.map(of_family).collect();
        Ok(Signal {
            sweep: sweep.into(),
            runs,
            skipped,
            rows: rows?.concat(),
        })
    }
}

/// Returns the steps of a run's checkpoints, ascending.
fn steps_of(run: &Path) -> Vec<usize> {
    Checkpoints::new(run.join("checkpoints")).steps()
}

/// Returns the world of a run.
fn world_of<'e>(run: &Path, experiment: &'e Experiment) -> Result<&'e WorldConfig, Error> {
    experiment.data.world.as_ref().ok_or_else(|| no_world(run))
}

fn no_world(run: &Path) -> Error {
    let message = "was not trained on a world, whose facts are known; name a run on [data.world]";
    Error::run_directory(run, message)
}
