//! The race: our training step and PyTorch's take turns on one machine, and the ratio of their speeds is told with
//! its spread.
//!
//! Each side is a process of its own that stays alive: warmed up first, then idle while the other runs a round.
//! Whatever slows the machine down for a while slows both, and a ratio is only taken within a round. Both start
//! from the same weights and read the same windows ([`Course`]), so their losses have to agree; where they do not,
//! or one does not learn, there is no result.

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

use crate::course::Course;
use crate::error::RaceError;
use crate::outcome::{Measured, Report};
use crate::peer::Peer;
use crate::process::{Process, go_on};
use crate::protocol::{Ready, Steps};
use foretoken::show::statistics::median;

/// Steps before the first round, by which kernels are compiled, memory is allocated and losses are compared.
const WARM_UP: usize = 5;
/// The slower side's round takes at least so long, unless `--steps` says otherwise.
const ROUND: Duration = Duration::from_secs(5);
/// Fewest and most steps of a round.
const STEPS: [usize; 2] = [2, 50];
/// Before each turn: threads that wait for work in a loop, as OpenMP's do, have gone to sleep then.
const PAUSE: Duration = Duration::from_millis(500);
/// Largest difference of the first losses, in nats: rounding is far below, and any mistake far above.
const FIRST_LOSS: f64 = 1e-3;
/// Largest relative difference of the losses of the warm-up: roundings grow with each update.
const WARM_UP_LOSS: f64 = 1e-2;
/// Backends on the CPU, where the peer is: those raced by default come first.
const ON_CPU: [Backend; 3] = [Backend::Flex, Backend::LibTorch, Backend::NdArray];
const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results");

/// Race whole training steps against PyTorch's, side by side on this machine's CPU
///
/// Each side is a process: warmed up, then taking turns, round by round. Prints the ratio of tokens per second, its
/// spread over the rounds, and what both sides need. Every result is written to benches/results/, with the machine
/// it was measured on. PyTorch comes from the first python3 in PATH: `source .ci/env.sh` brings one.
#[derive(Args, Debug)]
pub(crate) struct RaceArgs {
    /// Models: char, baby, vocab
    #[arg(long, value_delimiter = ',', value_parser = shape, default_value = "char,baby,vocab")]
    config: Vec<Shape>,
    /// Our backends: flex, libtorch, ndarray [default: flex and libtorch, if compiled in]
    #[arg(long, value_delimiter = ',', value_parser = backend)]
    backend: Vec<Backend>,
    /// How PyTorch runs
    #[arg(long, value_delimiter = ',', default_value = "eager")]
    peer: Vec<Peer>,
    /// Turns of each side
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// Steps of a turn [default: those of 5 seconds]
    #[arg(long)]
    steps: Option<NonZeroUsize>,
    /// Threads of each side [default: the cores available]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Print a JSON list, and nothing else
    #[arg(long)]
    json: bool,
    /// Write the results to this file, as one list, and not to benches/results/
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Have stand-ins race, which take no steps and make up their numbers: tries everything but models and Python,
    /// and writes no file
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
}

/// For clap: a shape by its name.
pub(crate) fn shape(name: &str) -> Result<Shape, String> {
    let found = Shape::ALL.into_iter().find(|shape| shape.name == name);
    found.ok_or_else(|| {
        let names = Shape::ALL.map(|shape| shape.name).join(", ");
        format!("there are {names}")
    })
}

/// For clap: a backend on the CPU by its name.
pub(crate) fn backend(name: &str) -> Result<Backend, String> {
    let backend: Backend = name.parse().map_err(|error| format!("{error}"))?;
    match ON_CPU.contains(&backend) {
        true => Ok(backend),
        false => Err(format!(
            "{backend} has no peer here: races are on the CPU, with {}",
            ON_CPU.map(Backend::name).join(", ")
        )),
    }
}

/// Races all that is asked for, one after the other.
pub(crate) fn run(args: &RaceArgs) -> Result<(), RaceError> {
    let backends = match args.backend.is_empty() {
        true => default_backends()?,
        false => args.backend.clone(),
    };
    // Before hours of racing, not after.
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
                keep(args, &reports)?;
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

/// Writes what is there so far: a race that is interrupted keeps the results of those before it.
fn keep(args: &RaceArgs, reports: &[Report]) -> Result<(), RaceError> {
    let write = |path: &Path, text: String| {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(path, text + "\n"))
            .map_err(RaceError::while_trying(format!("write {}", path.display())))
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
    serde_json::to_string_pretty(value).map_err(RaceError::while_trying("write JSON".into()))
}

/// One shape on one backend beside one peer.
struct Race<'a> {
    args: &'a RaceArgs,
    shape: &'a Shape,
    backend: Backend,
    peer: Peer,
    threads: usize,
}

impl Race<'_> {
    fn run(&self) -> Result<Report, RaceError> {
        self.tell("starting");
        let most = self.args.steps.map_or(STEPS[1], NonZeroUsize::get);
        let steps = WARM_UP + self.args.rounds.get() * most;
        let course = match self.args.dry_run {
            true => None,
            false => {
                let device = self.backend.device().map_err(foretoken::Error::from)?;
                Some(Course::lay(self.shape, steps, &device)?)
            }
        };
        // PyTorch first: it is what may be missing.
        let (peer, peer_ready) = Process::start("PyTorch", self.peer_command(course.as_ref())?)?;
        let (ours, our_ready) = Process::start("foretoken", self.our_command(course.as_ref())?)?;
        let parameters = self.shape.model().parameters();
        check_ready("PyTorch", &peer_ready, parameters, self.threads)?;
        check_ready("foretoken", &our_ready, parameters, self.threads)?;
        let mut sides = [ours, peer];

        self.tell("warming up");
        let mut warm_up = Vec::new();
        for side in &mut sides {
            self.pause();
            warm_up.push(side.run(WARM_UP)?);
        }
        let warm_up = pair(warm_up)?;
        check_same(&warm_up[0].losses, &warm_up[1].losses)?;
        let steps = match self.args.steps {
            Some(steps) => steps.get(),
            None => steps_of_a_round(&warm_up),
        };
        let mut rounds = [Vec::new(), Vec::new()];
        for round in 1..=self.args.rounds.get() {
            self.tell(&format!("round {round} of {}", self.args.rounds));
            for (side, taken) in sides.iter_mut().zip(&mut rounds) {
                self.pause();
                taken.push(side.run(steps)?);
            }
        }
        let mut peaks = Vec::new();
        for side in &mut sides {
            self.pause();
            peaks.push(side.peak()?);
        }
        for (name, first, rounds) in [
            ("foretoken", &warm_up[0], &rounds[0]),
            ("PyTorch", &warm_up[1], &rounds[1]),
        ] {
            check_learned(name, first, rounds)?;
        }
        // Numbers of a race that was interrupted at its very end are as good as any, but not what is wanted.
        go_on()?;
        let measured = Measured {
            shape: *self.shape,
            backend: self.backend,
            peer: self.peer,
            peer_version: peer_ready.version,
            threads: self.threads,
            warm_up,
            rounds,
            peaks: pair(peaks)?,
        };
        Report::new(measured, Environment::capture(self.backend))
            .ok_or_else(|| RaceError::Failed("there was no round".into()))
    }

    fn tell(&self, what: &str) {
        let name = self.shape.name;
        errln!("{name}, {} beside {}: {what}", self.backend, self.peer);
    }

    fn pause(&self) {
        if !self.args.dry_run {
            thread::sleep(PAUSE);
        }
    }

    fn our_command(&self, course: Option<&Course>) -> Result<Command, RaceError> {
        let mut command = self.own_program()?;
        match course {
            Some(course) => command.arg("--text").arg(course.text()),
            None => command.args(["--stand-in", "2"]),
        };
        Ok(command)
    }

    fn peer_command(&self, course: Option<&Course>) -> Result<Command, RaceError> {
        match course {
            Some(course) => {
                let command = self.peer.command(self.shape, course, self.threads);
                Ok(limited(command, self.threads))
            }
            None => {
                let mut command = self.own_program()?;
                command.args(["--stand-in", "1"]);
                Ok(command)
            }
        }
    }

    /// This program as a side.
    fn own_program(&self) -> Result<Command, RaceError> {
        let program = std::env::current_exe();
        let program = program.map_err(RaceError::while_trying("find this program".into()))?;
        let mut command = Command::new(program);
        command.args(["side", "--config", self.shape.name]);
        command.args(["--backend", self.backend.name()]);
        Ok(limited(command, self.threads))
    }
}

/// Tells every library that may compute how many threads to use.
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

/// As many steps as take the slower side a round.
fn steps_of_a_round(warm_up: &[Steps; 2]) -> usize {
    let typical = |steps: &Steps| median(steps.seconds.iter().copied());
    let slower = warm_up.iter().filter_map(typical).fold(0.0, f64::max);
    let [fewest, most] = STEPS;
    // A division by 0 gives the most, too.
    ((ROUND.as_secs_f64() / slower).ceil() as usize).clamp(fewest, most)
}

fn check_ready(
    name: &str,
    ready: &Ready,
    parameters: usize,
    threads: usize,
) -> Result<(), RaceError> {
    if ready.parameters != parameters {
        return Err(RaceError::Failed(format!(
            "{name} trains {} parameters, and not {parameters}",
            ready.parameters
        )));
    }
    match ready.threads {
        Some(used) if used != threads => Err(RaceError::Failed(format!(
            "{name} computes with {used} threads, and not with {threads}"
        ))),
        _ => Ok(()),
    }
}

/// Both start from the same weights, read the same windows and update alike.
fn check_same(ours: &[f64], theirs: &[f64]) -> Result<(), RaceError> {
    for (step, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let most = match step {
            0 => FIRST_LOSS,
            _ => WARM_UP_LOSS * theirs,
        };
        if (ours - theirs).abs() > most {
            return Err(RaceError::Failed(format!(
                "the sides do not train the same model: at step {step} the loss is {ours:.6} here and {theirs:.6} in \
                 PyTorch"
            )));
        }
    }
    Ok(())
}

/// The last round's losses are below the first one.
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
        .map_err(|_| RaceError::Failed("a race has two sides".into()))
}

#[cfg(test)]
mod tests;
