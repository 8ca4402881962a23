//! Race between the training steps of foretoken and PyTorch, which alternate on one machine. The result is the ratio of
//! their speeds with its spread.
//!
//! Each competitor is a process that lives as long as the race: it is warmed up, then idle while the other one runs. If
//! the machine is slow for a while, both are, and ratios are computed within a round. Both start from the same weights
//! and read the same windows ([`Inputs`]), so their losses must agree. If they do not, or if one does not learn, there
//! is no result.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use clap::Args;
use foretoken::backend::Backend;
use foretoken::record::environment::Environment;
use foretoken::{errln, outln};
use foretoken_benches::Shape;

use crate::error::RaceError;
use crate::inputs::Inputs;
use crate::outcome::{Measurements, Report};
use crate::peer::Peer;
use crate::process::{Process, check_interrupt};
use crate::protocol::{Ready, Steps};
use foretoken::show::statistics::median;

/// Number of steps before the first round, in which kernels are compiled, memory is allocated and losses are compared.
const WARM_UP: usize = 5;
/// Minimum duration of a round of the slower competitor, unless `--steps` is given.
const ROUND: Duration = Duration::from_secs(5);
/// Minimum and maximum number of steps in a round.
const STEPS: [usize; 2] = [2, 50];
/// Pause before each run of a competitor. After it, threads of the other one that wait for work in a loop, such as
/// those of OpenMP, are asleep.
const PAUSE: Duration = Duration::from_millis(500);
/// Maximum difference of the first losses in nats. Rounding is far below it, and any mistake far above.
const FIRST_LOSS: f64 = 1e-3;
/// Maximum relative difference of the losses of the warm-up. Rounding errors grow with each update.
const WARM_UP_LOSS: f64 = 1e-2;
/// Backends on the CPU, which the peer uses. The first two are the default.
const ON_CPU: [Backend; 3] = [Backend::Flex, Backend::LibTorch, Backend::NdArray];
const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results");

/// Race training steps of foretoken against those of PyTorch, on the CPU of this machine
///
/// Each competitor is a process. Both are warmed up, then alternate for a number of rounds. Prints the ratio of tokens
/// per second, its spread over the rounds, and the memory of both. Every result is written to benches/results/, with a
/// description of the machine. PyTorch must be installed for the first python3 in PATH: `source .ci/env.sh` provides
/// it.
#[derive(Args, Debug)]
pub(crate) struct RaceArgs {
    /// Models to train: char, baby, vocab
    #[arg(long, value_delimiter = ',', value_parser = shape, default_value = "char,baby,vocab")]
    config: Vec<Shape>,
    /// Backends of foretoken: flex, libtorch, ndarray [default: flex and libtorch, if compiled in]
    #[arg(long, value_delimiter = ',', value_parser = backend)]
    backend: Vec<Backend>,
    /// Mode in which PyTorch runs
    #[arg(long, value_delimiter = ',', default_value = "eager")]
    peer: Vec<Peer>,
    /// Number of rounds
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// Steps of each competitor in a round [default: as many as take the slower one 5 seconds]
    #[arg(long)]
    steps: Option<NonZeroUsize>,
    /// Threads of each competitor [default: the cores available]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Print only a JSON list
    #[arg(long)]
    json: bool,
    /// Write all results to this file, as one list, instead of benches/results/
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Let stand-ins race, which take no steps and invent their numbers. This tests everything except models and
    /// Python, and writes no file
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
}

/// Parses the name of a shape for clap.
pub(crate) fn shape(name: &str) -> Result<Shape, String> {
    let found = Shape::ALL.into_iter().find(|shape| shape.name == name);
    found.ok_or_else(|| {
        let names = Shape::ALL.map(|shape| shape.name).join(", ");
        format!("the models are {names}")
    })
}

/// Parses the name of a backend on the CPU for clap.
pub(crate) fn backend(name: &str) -> Result<Backend, String> {
    let backend: Backend = name.parse().map_err(|error| format!("{error}"))?;
    match ON_CPU.contains(&backend) {
        true => Ok(backend),
        false => Err(format!(
            "{backend} has no peer: races run on the CPU, with {}",
            ON_CPU.map(Backend::name).join(", ")
        )),
    }
}

/// Runs all races in sequence.
pub(crate) fn run(args: &RaceArgs) -> Result<(), RaceError> {
    let backends = match args.backend.is_empty() {
        true => default_backends()?,
        false => args.backend.clone(),
    };
    // Backends are checked before the first race, because races can take hours.
    for backend in &backends {
        backend.device().map_err(foretoken::Error::from)?;
    }
    let threads = args.threads.or(thread::available_parallelism().ok());
    let threads = threads.map_or(1, NonZeroUsize::get);
    let mut reports = Vec::new();
    for shape in &args.config {
        for &backend in &backends {
            for &peer in &args.peer {
                let race = Race {
                    args,
                    shape,
                    backend,
                    peer,
                    threads,
                };
                let report = race.run()?;
                if !args.json {
                    outln!("{report}\n");
                }
                reports.push(report);
                write_results(args, &reports)?;
            }
        }
    }
    if args.json {
        let outcomes: Vec<_> = reports.iter().map(|report| &report.outcome).collect();
        outln!("{}", json(&outcomes)?);
    }
    Ok(())
}

fn default_backends() -> Result<Vec<Backend>, RaceError> {
    let compiled_in = |backends: &[Backend]| -> Vec<Backend> {
        let backends = backends.iter().copied();
        backends.filter(|backend| backend.compiled_in()).collect()
    };
    let mut backends = compiled_in(&ON_CPU[..2]);
    if backends.is_empty() {
        backends = compiled_in(&ON_CPU);
    }
    match backends.is_empty() {
        true => Err(RaceError::Usage(
            "no backend of this build runs on the CPU: rebuild with --features flex or libtorch"
                .into(),
        )),
        false => Ok(backends),
    }
}

/// Writes the results so far, so that an interrupted race keeps the results of earlier ones.
fn write_results(args: &RaceArgs, reports: &[Report]) -> Result<(), RaceError> {
    let write = |path: &Path, text: String| {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(path, text + "\n"))
            .map_err(RaceError::cannot(format!("write {}", path.display())))
    };
    match (&args.out, reports.last()) {
        _ if args.dry_run => Ok(()),
        (Some(path), _) => write(path, json(&reports)?),
        (None, Some(report)) => {
            let outcome = &report.outcome;
            let (config, backend, peer) = (outcome.config, outcome.backend, outcome.peer);
            let name = format!("{config}-{backend}-{peer}.json");
            write(&Path::new(RESULTS).join(name), json(report)?)
        }
        (None, None) => Ok(()),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, RaceError> {
    serde_json::to_string_pretty(value).map_err(RaceError::cannot("write JSON".into()))
}

/// Race of one shape on one backend against one peer.
struct Race<'a> {
    args: &'a RaceArgs,
    shape: &'a Shape,
    backend: Backend,
    peer: Peer,
    threads: usize,
}

impl Race<'_> {
    fn run(&self) -> Result<Report, RaceError> {
        self.report("starting");
        let max = self.args.steps.map_or(STEPS[1], NonZeroUsize::get);
        let steps = WARM_UP + self.args.rounds.get() * max;
        let inputs = match self.args.dry_run {
            true => None,
            false => {
                let device = self.backend.device().map_err(foretoken::Error::from)?;
                Some(Inputs::create(self.shape, steps, &device)?)
            }
        };
        // PyTorch is started first, because it may be missing.
        let (peer, peer_ready) = Process::start("PyTorch", self.peer_command(inputs.as_ref())?)?;
        let (ours, our_ready) = Process::start("foretoken", self.our_command(inputs.as_ref())?)?;
        let parameters = self.shape.model().parameters();
        check_ready("PyTorch", &peer_ready, parameters, self.threads)?;
        check_ready("foretoken", &our_ready, parameters, self.threads)?;
        let mut competitors = [ours, peer];

        self.report("warming up");
        let mut warm_up = Vec::new();
        for competitor in &mut competitors {
            self.pause();
            warm_up.push(competitor.run(WARM_UP)?);
        }
        let warm_up = pair(warm_up)?;
        check_same(&warm_up[0].losses, &warm_up[1].losses)?;
        let steps = match self.args.steps {
            Some(steps) => steps.get(),
            None => steps_of_a_round(&warm_up),
        };
        let mut rounds = [Vec::new(), Vec::new()];
        for round in 1..=self.args.rounds.get() {
            self.report(&format!("round {round} of {}", self.args.rounds));
            for (competitor, runs) in competitors.iter_mut().zip(&mut rounds) {
                self.pause();
                runs.push(competitor.run(steps)?);
            }
        }
        let mut peaks = Vec::new();
        for competitor in &mut competitors {
            self.pause();
            peaks.push(competitor.peak()?);
        }
        for (name, first, rounds) in [
            ("foretoken", &warm_up[0], &rounds[0]),
            ("PyTorch", &warm_up[1], &rounds[1]),
        ] {
            check_learned(name, first, rounds)?;
        }
        // An interruption at the end of the race is still an interruption.
        check_interrupt()?;
        let measurements = Measurements {
            shape: *self.shape,
            backend: self.backend,
            peer: self.peer,
            peer_version: peer_ready.version,
            threads: self.threads,
            warm_up,
            rounds,
            peaks: pair(peaks)?,
        };
        Report::new(measurements, Environment::capture(self.backend))
            .ok_or_else(|| RaceError::Failed("there was no round".into()))
    }

    fn report(&self, event: &str) {
        let name = self.shape.name;
        errln!("{name}, {} against {}: {event}", self.backend, self.peer);
    }

    fn pause(&self) {
        if !self.args.dry_run {
            thread::sleep(PAUSE);
        }
    }

    fn our_command(&self, inputs: Option<&Inputs>) -> Result<Command, RaceError> {
        let mut command = self.own_program()?;
        match inputs {
            Some(inputs) => command.arg("--text").arg(inputs.text()),
            None => command.args(["--stand-in", "2"]),
        };
        Ok(command)
    }

    fn peer_command(&self, inputs: Option<&Inputs>) -> Result<Command, RaceError> {
        match inputs {
            Some(inputs) => {
                let command = self.peer.command(self.shape, inputs, self.threads);
                Ok(limited(command, self.threads))
            }
            None => {
                let mut command = self.own_program()?;
                command.args(["--stand-in", "1"]);
                Ok(command)
            }
        }
    }

    /// Returns the command that starts this program as a competitor.
    fn own_program(&self) -> Result<Command, RaceError> {
        let program = std::env::current_exe();
        let program = program.map_err(RaceError::cannot("find this program".into()))?;
        let mut command = Command::new(program);
        command.args(["competitor", "--config", self.shape.name]);
        command.args(["--backend", self.backend.name()]);
        Ok(limited(command, self.threads))
    }
}

/// Sets the number of threads of every library that may compute.
fn limited(mut command: Command, threads: usize) -> Command {
    for name in [
        "RAYON_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MATMUL_NUM_THREADS",
    ] {
        command.env(name, threads.to_string());
    }
    command
}

/// Returns the number of steps that take the slower competitor a round.
fn steps_of_a_round(warm_up: &[Steps; 2]) -> usize {
    let typical = |steps: &Steps| median(steps.seconds.iter().copied());
    let slower = warm_up.iter().filter_map(typical).fold(0.0, f64::max);
    let [min, max] = STEPS;
    // A division by 0 gives the maximum, too.
    ((ROUND.as_secs_f64() / slower).ceil() as usize).clamp(min, max)
}

fn check_ready(
    name: &str,
    ready: &Ready,
    parameters: usize,
    threads: usize,
) -> Result<(), RaceError> {
    if ready.parameters != parameters {
        return Err(RaceError::Failed(format!(
            "{name} trains {} parameters instead of {parameters}",
            ready.parameters
        )));
    }
    match ready.threads {
        Some(used) if used != threads => Err(RaceError::Failed(format!(
            "{name} computes with {used} threads instead of {threads}"
        ))),
        _ => Ok(()),
    }
}

/// Checks that the losses of both competitors agree, so that they train the same model.
fn check_same(ours: &[f64], theirs: &[f64]) -> Result<(), RaceError> {
    for (step, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let max = match step {
            0 => FIRST_LOSS,
            _ => WARM_UP_LOSS * theirs,
        };
        if (ours - theirs).abs() > max {
            return Err(RaceError::Failed(format!(
                "the competitors do not train the same model: at step {step} the loss is {ours:.6} in foretoken and \
                 {theirs:.6} in PyTorch"
            )));
        }
    }
    Ok(())
}

/// Checks that the last loss is below the first one.
fn check_learned(name: &str, warm_up: &Steps, rounds: &[Steps]) -> Result<(), RaceError> {
    let first = warm_up.losses.first().copied();
    let last = rounds.last().and_then(|steps| steps.losses.last().copied());
    match (first, last) {
        (Some(first), Some(last)) if last < first => Ok(()),
        _ => Err(RaceError::Failed(format!(
            "{name} does not learn: the loss goes from {first:?} to {last:?}"
        ))),
    }
}

fn pair<T>(two: Vec<T>) -> Result<[T; 2], RaceError> {
    two.try_into()
        .map_err(|_| RaceError::Failed("a race has two competitors".into()))
}

#[cfg(test)]
mod tests;
