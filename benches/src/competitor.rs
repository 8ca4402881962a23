//! Foretoken as a competitor of a race: a process that takes training steps on request. A stand-in, which takes no
//! steps, can replace either competitor.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use burn::data::dataloader::{DataLoader, DataLoaderIterator};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::tensor::Device;
use clap::Args;
use foretoken::Error;
use foretoken::backend::{Backend, matmul_gflops};
use foretoken::engine::language_model::LanguageModel;
use foretoken::engine::learner::Learner;
use foretoken::engine::memory::{keep_freed_memory, peak_resident_bytes};
use foretoken::engine::optimizer::optimizer;
use foretoken::engine::step::take_step;
use foretoken::experiment::OptimizerConfig;
use foretoken_benches::Shape;
use foretoken_datasets::{TokenBatch, TrainLoaderConfig, TrainSource, WindowLoader};

use crate::error::RaceError;
use crate::inputs::{LEARNING_RATE, SEED, open_text};
use crate::protocol::{Answer, Peak, Ready, Request, Steps};
use crate::race::{backend, shape};

/// Take training steps on requests from stdin; started by `race`
#[derive(Args, Debug)]
pub(crate) struct CompetitorArgs {
    /// Model to train
    #[arg(long, value_parser = shape)]
    config: Shape,
    /// Backend that trains it
    #[arg(long, value_parser = backend)]
    backend: Backend,
    /// File of token ids, u16 each
    #[arg(long, required_unless_present = "stand_in")]
    text: Option<PathBuf>,
    /// Take no steps, and answer with invented numbers, as if a step took this many milliseconds
    #[arg(long, value_name = "MS")]
    stand_in: Option<u32>,
}

/// Answers requests until the input ends.
pub(crate) fn run(args: &CompetitorArgs) -> Result<(), RaceError> {
    keep_freed_memory();
    if let Some(milliseconds) = args.stand_in {
        return answer(StandIn {
            parameters: args.config.model().parameters(),
            seconds: f64::from(milliseconds) / 1e3,
            taken: 0,
        });
    }
    let loader = match loader(args) {
        Ok(loader) => loader,
        // The race reports the error to the user.
        Err(error) => return send(&Answer::Error(error.to_string())),
    };
    match Training::new(args, &loader) {
        Ok(training) => answer(training),
        Err(error) => send(&Answer::Error(error.to_string())),
    }
}

fn answer(mut competitor: impl Competitor) -> Result<(), RaceError> {
    let requests = requests();
    send(&Answer::Ready(competitor.ready()))?;
    // The sender is never dropped: the process exits first.
    while let Ok(line) = requests.recv() {
        let answer = match line.parse() {
            Ok(Request::Run(steps)) => competitor.run(steps).map(Answer::Steps),
            Ok(Request::Peak) => competitor.peak().map(Answer::Peak),
            Err(reason) => Ok(Answer::Error(reason)),
        };
        send(&answer.unwrap_or_else(|error| Answer::Error(error.to_string())))?;
    }
    Ok(())
}

fn send(answer: &Answer) -> Result<(), RaceError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", answer.to_line())
        .and_then(|()| stdout.flush())
        .map_err(RaceError::cannot("answer".into()))
}

/// Returns the lines of stdin. A separate thread reads them, so that the process exits at the end of its input even in
/// the middle of a step.
fn requests() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    receiver
}

/// Source of answers.
trait Competitor {
    fn ready(&self) -> Ready;
    fn run(&mut self, steps: usize) -> Result<Steps, Error>;
    fn peak(&mut self) -> Result<Peak, Error>;
}

/// Creates the loader of all windows of the race.
fn loader(args: &CompetitorArgs) -> Result<WindowLoader, Error> {
    let shape = &args.config;
    let config = TrainLoaderConfig {
        context: shape.context,
        batch: shape.batch,
        accumulation: 1,
        // More steps than any race has.
        steps: 1 << 40,
        seed: SEED,
    };
    let split = open_text(args.text.as_deref().unwrap_or(Path::new("")), shape)?;
    let device = args.backend.device()?.autodiff();
    Ok(config.init(&[TrainSource::new("text", split)], &device)?)
}

/// Training of a model as in `foretoken train`.
struct Training<'a> {
    parameters: usize,
    backend: Backend,
    device: Device,
    learner: Learner,
    /// Iterator for the whole race, which reads ahead.
    batches: Box<dyn DataLoaderIterator<TokenBatch> + 'a>,
    clip: f64,
    taken: usize,
}

impl<'a> Training<'a> {
    fn new(args: &CompetitorArgs, loader: &'a WindowLoader) -> Result<Self, Error> {
        let device = args.backend.device()?;
        let model = args.config.model();
        let transformer = model.init(SEED, &device.clone().autodiff())?;
        // Betas, epsilon, decay and clip are the defaults of training.
        let config = OptimizerConfig::default();
        let learner = Learner::new(
            LanguageModel::new(transformer, SEED),
            optimizer(&config, true),
            ModuleLrScheduler::new(LEARNING_RATE),
        );
        Ok(Self {
            parameters: model.parameters(),
            backend: args.backend,
            device,
            learner,
            batches: loader.iter(),
            clip: config.clip,
            taken: 0,
        })
    }

    /// Takes a step, and returns the loss before its update.
    fn step(&mut self) -> Result<f64, Error> {
        let batches = self.batches.by_ref().take(1);
        let (totals, _) = take_step(
            &mut self.learner,
            batches,
            self.taken,
            self.clip,
            &self.device,
        )?;
        self.taken += 1;
        Ok(totals.loss())
    }
}

impl Competitor for Training<'_> {
    fn ready(&self) -> Ready {
        // The threads of libtorch are limited by the environment. Burn cannot report their number.
        let uses_rayon = self.backend != Backend::LibTorch;
        Ready {
            version: format!("foretoken {}", env!("CARGO_PKG_VERSION")),
            parameters: self.parameters,
            threads: uses_rayon.then(rayon::current_num_threads),
        }
    }

    fn run(&mut self, steps: usize) -> Result<Steps, Error> {
        let mut seconds = Vec::with_capacity(steps);
        let mut losses = Vec::with_capacity(steps);
        for _ in 0..steps {
            let started = Instant::now();
            losses.push(self.step()?);
            seconds.push(started.elapsed().as_secs_f64());
        }
        Ok(Steps {
            seconds,
            losses,
            peak_memory_bytes: peak_resident_bytes(),
        })
    }

    fn peak(&mut self) -> Result<Peak, Error> {
        Ok(Peak {
            matmul_gflops: matmul_gflops(&self.device)?,
        })
    }
}

/// Stand-in that answers with numbers of a plausible size.
struct StandIn {
    parameters: usize,
    seconds: f64,
    taken: usize,
}

impl Competitor for StandIn {
    fn ready(&self) -> Ready {
        Ready {
            version: "a stand-in".into(),
            parameters: self.parameters,
            threads: None,
        }
    }

    fn run(&mut self, steps: usize) -> Result<Steps, Error> {
        let first = self.taken;
        self.taken += steps;
        Ok(Steps {
            seconds: vec![self.seconds; steps],
            losses: (first..self.taken).map(|i| 4.0 / (i + 1) as f64).collect(),
            peak_memory_bytes: peak_resident_bytes(),
        })
    }

    fn peak(&mut self) -> Result<Peak, Error> {
        Ok(Peak {
            matmul_gflops: 100.0,
        })
    }
}
