//! Our side of a race: the training step of foretoken in a process of its own, which takes steps when it is asked
//! to. And a stand-in for either side, which takes none.

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
use foretoken::engine::memory::{keep_what_is_freed, peak_resident_bytes};
use foretoken::engine::optimizer::optimizer;
use foretoken::engine::step::take_step;
use foretoken::experiment::OptimizerConfig;
use foretoken_benches::Shape;
use foretoken_datasets::{TokenBatch, TrainLoaderConfig, TrainSource, WindowLoader};

use crate::course::{LEARNING_RATE, SEED, open_text};
use crate::error::RaceError;
use crate::protocol::{Answer, Peak, Ready, Request, Steps};
use crate::race::{backend, shape};

/// Take steps when asked to on stdin: what `race` starts
#[derive(Args, Debug)]
pub(crate) struct SideArgs {
    /// The model
    #[arg(long, value_parser = shape)]
    config: Shape,
    /// Where it is trained
    #[arg(long, value_parser = backend)]
    backend: Backend,
    /// Token ids, u16 each
    #[arg(long, required_unless_present = "stand_in")]
    text: Option<PathBuf>,
    /// Take no step: answer with made-up numbers, as if a step took so many milliseconds
    #[arg(long, value_name = "MS")]
    stand_in: Option<u32>,
}

/// Answers until the input ends.
pub(crate) fn run(args: &SideArgs) -> Result<(), RaceError> {
    keep_what_is_freed();
    if let Some(milliseconds) = args.stand_in {
        return answer(StandIn {
            parameters: args.config.model().parameters(),
            seconds: f64::from(milliseconds) / 1e3,
            taken: 0,
        });
    }
    let loader = match loader(args) {
        Ok(loader) => loader,
        // Nothing has gone wrong on its way yet: the race tells the user.
        Err(error) => return say(&Answer::Error(error.to_string())),
    };
    match Training::new(args, &loader) {
        Ok(training) => answer(training),
        Err(error) => say(&Answer::Error(error.to_string())),
    }
}

fn answer(mut side: impl Side) -> Result<(), RaceError> {
    let requests = requests();
    say(&Answer::Ready(side.ready()))?;
    // The sender never leaves: the process ends first.
    while let Ok(line) = requests.recv() {
        let answer = match line.parse() {
            Ok(Request::Run(steps)) => side.run(steps).map(Answer::Steps),
            Ok(Request::Peak) => side.peak().map(Answer::Peak),
            Err(reason) => Ok(Answer::Error(reason)),
        };
        say(&answer.unwrap_or_else(|error| Answer::Error(error.to_string())))?;
    }
    Ok(())
}

fn say(answer: &Answer) -> Result<(), RaceError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", answer.to_line())
        .and_then(|()| stdout.flush())
        .map_err(RaceError::while_trying("answer".into()))
}

/// The lines of stdin. A thread waits for them, so that the process ends with its input in the middle of a step
/// too: whoever asked is gone.
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

/// What answers.
trait Side {
    fn ready(&self) -> Ready;
    fn run(&mut self, steps: usize) -> Result<Steps, Error>;
    fn peak(&mut self) -> Result<Peak, Error>;
}

/// The windows of the whole race.
fn loader(args: &SideArgs) -> Result<WindowLoader, Error> {
    let shape = &args.config;
    let config = TrainLoaderConfig {
        context: shape.context,
        batch: shape.batch,
        accumulation: 1,
        // More than a race takes.
        steps: 1 << 40,
        seed: SEED,
    };
    let split = open_text(args.text.as_deref().unwrap_or(Path::new("")), shape)?;
    let device = args.backend.device()?.autodiff();
    Ok(config.init(&[TrainSource::new("text", split)], &device)?)
}

/// A model in training, as `foretoken train` trains it.
struct Training<'a> {
    parameters: usize,
    backend: Backend,
    device: Device,
    learner: Learner,
    /// One iterator for the whole race, which reads ahead.
    batches: Box<dyn DataLoaderIterator<TokenBatch> + 'a>,
    clip: f64,
    taken: usize,
}

impl<'a> Training<'a> {
    fn new(args: &SideArgs, loader: &'a WindowLoader) -> Result<Self, Error> {
        let device = args.backend.device()?;
        let model = args.config.model();
        let transformer = model.init(SEED, &device.clone().autodiff())?;
        // Betas, epsilon, decay and clip are training's own defaults.
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

    /// The loss before it.
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

impl Side for Training<'_> {
    fn ready(&self) -> Ready {
        // libtorch has its own, which the environment limits; it cannot be asked through Burn.
        let own_threads = self.backend != Backend::LibTorch;
        Ready {
            version: format!("foretoken {}", env!("CARGO_PKG_VERSION")),
            parameters: self.parameters,
            threads: own_threads.then(rayon::current_num_threads),
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

/// Nobody: numbers of a plausible size.
struct StandIn {
    parameters: usize,
    seconds: f64,
    taken: usize,
}

impl Side for StandIn {
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
