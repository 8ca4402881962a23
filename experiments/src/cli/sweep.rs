//! The command `foretoken sweep`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::train::Interrupter;
use clap::{Args, Subcommand};
use foretoken::backend;
use foretoken::science::sweep::view::Curves;
use foretoken::science::sweep::{
    self, BUSY, Entry, ExecuteOptions, Executed, Plan, Run, Shard, Shared, Speeds, State, Status,
    SweepDirectory, Worked, WorkerArgs, slurm, view,
};
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::{Shown, plural};
use foretoken::show::output;
use foretoken::show::progress::BuildReporter;
use foretoken::{Error, errln, outln};

use super::interrupt::on_ctrl_c;
use super::model::refused;
use super::train::DisplayArgs;

/// Train many variations of an experiment, and list beforehand what they cost
///
/// A plan is a TOML file: a base experiment, axes with the values of its keys, and formulas for keys that follow from
/// others. Without --run, the runs are listed with parameters, tokens, floating-point operations, memory, and the time
/// that a measured step predicts. With --run, they are trained into sweeps/NAME/runs, each an ordinary run directory. The
/// same command again goes on where any process was stopped, and any number of processes, also on several machines that
/// share a file system, can run one sweep together.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  foretoken sweep plan.toml                     list the runs and what they cost
  foretoken sweep plan.toml --run --jobs 2      run them, two side by side; again: go on
  foretoken sweep status sweeps/plan            their states, and the time that is left
  foretoken sweep sweeps/plan --run             go on with a sweep, from its directory
  foretoken sweep script slurm plan.toml        a job array for a cluster
  foretoken report sweeps/plan/runs/*           the curves of all runs on one page

A plan (docs/src/sweep.md has every key):
  experiment = \"world.toml\"                     # the base, beside the plan; or \"embedded\"

  [set]                                         # the same in all runs
  schedule.name = \"wsd\"

  [axes]                                        # one run for each combination
  train.seed = [1, 2]
  tokens_per_parameter = { from = 5, to = 40, points = 4 }

  [[tied]]                                      # one axis of several keys
  model.width = [32, 64]
  model.heads = [2, 4]

  [derive]                                      # formulas
  train.steps = \"tokens_per_parameter * parameters / tokens_per_step\"
  optimizer.learning_rate = \"0.01 * (64 / model.width) ^ 0.5\"

Runs that differ only in train.steps share their first steps if schedule.name is \"wsd\" or
\"constant\": the longest one keeps checkpoints from which the others branch. Ctrl-C stops each run
with a checkpoint."
)]
pub(super) struct SweepArgs {
    #[command(subcommand)]
    command: Option<SweepCommand>,
    /// The plan (TOML), or the directory of a sweep
    #[arg(value_name = "PLAN.toml|DIR", required = true)]
    plan: Option<PathBuf>,
    /// Train the runs that have no result yet
    #[arg(long)]
    run: bool,
    /// Part of the sweep that this process runs: i of n, counted from 1 [default: whatever no other process runs]
    #[arg(long, value_name = "I/N", requires = "run")]
    shard: Option<Shard>,
    /// Runs side by side, which divide the threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
    /// Directory of the sweep [default: sweeps/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    display: DisplayArgs,
}

#[derive(Subcommand)]
enum SweepCommand {
    Status(StatusArgs),
    #[command(subcommand)]
    Script(ScriptCommand),
    Work(WorkArgs),
}

/// Show the states of the runs, their results, and the time that is left
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken sweep status sweeps/plan
  foretoken sweep status sweeps/plan --json     also for runs under way")]
struct StatusArgs {
    /// Directory of a sweep
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Runs side by side, for the time that is left
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Print a script that runs a sweep on a cluster
#[derive(Subcommand)]
enum ScriptCommand {
    Slurm(SlurmArgs),
}

/// Print a job-array script for Slurm, of which each task runs a part of the sweep
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken sweep script slurm plan.toml > plan.sh && sbatch plan.sh
  foretoken sweep script slurm plan.toml --tasks 16")]
struct SlurmArgs {
    /// The plan (TOML), or the directory of a sweep
    #[arg(value_name = "PLAN.toml|DIR")]
    plan: PathBuf,
    /// Tasks of the array [default: 8, or fewer if there is less to divide]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    tasks: Option<u16>,
    /// Directory of the sweep [default: sweeps/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Train one run; started by `foretoken sweep --run`
#[derive(Args)]
#[command(hide = true)]
struct WorkArgs {
    directory: PathBuf,
    name: String,
    #[arg(long)]
    claim: usize,
    #[arg(long)]
    parent: u32,
    #[arg(long, requires = "step")]
    trunk: Option<String>,
    #[arg(long, requires = "trunk")]
    step: Option<usize>,
}

pub(super) fn run(args: SweepArgs) -> Result<ExitCode, Error> {
    match args.command {
        Some(SweepCommand::Status(args)) => status(&args),
        Some(SweepCommand::Script(ScriptCommand::Slurm(args))) => script(&args),
        Some(SweepCommand::Work(args)) => work(args),
        None => list_or_run(&args),
    }
}

/// A plan with its runs and the directory for them.
struct Planned {
    plan: Plan,
    runs: Vec<Run>,
    out: PathBuf,
}

/// Reads a plan, or the plan in the directory of a sweep.
fn planned(
    file: &Path,
    out: Option<&Path>,
    interrupted: &Arc<AtomicBool>,
) -> Result<Planned, Error> {
    let (plan, default) = match file.is_dir() {
        true => (SweepDirectory::open(file)?.plan()?, file.to_path_buf()),
        false => {
            let plan = Plan::read(file)?;
            let default = SweepDirectory::default_path(&plan);
            (plan, default)
        }
    };
    if file.is_dir() && out.is_some() {
        let message = "is for a plan; the directory of a sweep is named already";
        return Err(refused("--out", message));
    }
    let reporter = BuildReporter::new(Dashboard::PlainOnStderr);
    Ok(Planned {
        runs: sweep::expand(&plan, reporter.monitor(interrupted))?,
        plan,
        out: out.map_or(default, Path::to_path_buf),
    })
}

impl Planned {
    /// Trains the runs that have no result yet, `jobs` of them side by side with `threads` each, and shows how far they are.
    fn execute(
        &self,
        directory: &SweepDirectory,
        speeds: &Speeds,
        (jobs, threads): (usize, usize),
        shard: Option<Shard>,
        display: Dashboard,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Executed, Error> {
        measure_peaks(&self.runs);
        let options = ExecuteOptions {
            program: std::env::current_exe().map_err(|source| Error::Io {
                action: "find",
                path: "foretoken".into(),
                source,
            })?,
            jobs,
            threads,
            shard,
            interrupted,
        };
        let headline = format!(
            "{}: {}, {} of {}; writing {}",
            self.plan.name,
            plural(self.runs.len(), "run"),
            plural(jobs, "job"),
            plural(threads, "thread"),
            directory.path().shown()
        );
        let mut view: Box<dyn view::View> = match display {
            Dashboard::None => Box::new(view::Nothing),
            Dashboard::Tui => {
                let rows = view::Rows::new(options.interrupted.clone());
                Box::new(rows.map_err(|source| {
                    let message =
                        format!("the terminal cannot be used: {source}; use --dashboard plain");
                    refused("--dashboard", message)
                })?)
            }
            display => Box::new(view::Lines::new(
                headline,
                display == Dashboard::PlainOnStderr,
            )),
        };
        sweep::execute(directory, &options, speeds, &mut *view)
    }

    /// Estimates the times of the runs, and measures models for which that is not possible otherwise.
    fn speeds(&self, interrupted: &Arc<AtomicBool>) -> Result<Speeds, Error> {
        let reporter = BuildReporter::new(Dashboard::PlainOnStderr);
        let mut measuring = |models| errln!("measuring a step of {}", plural(models, "model"));
        sweep::estimate(&self.runs, reporter.monitor(interrupted), &mut measuring)
    }
}

fn list_or_run(args: &SweepArgs) -> Result<ExitCode, Error> {
    let Some(file) = &args.plan else {
        return Err(refused("PLAN.toml", "is missing"));
    };
    let jobs = usize::from(args.jobs);
    let display = args.display.dashboard()?;
    let threads = sweep::divide_threads(jobs);
    let interrupted = on_ctrl_c(|| {});
    let planned = planned(file, args.out.as_deref(), &interrupted)?;
    refuse_without_runs(file, &planned.runs)?;
    // The directory is checked before anything takes time.
    let directory = match args.run {
        true => Some(SweepDirectory::prepare(
            &planned.out,
            &planned.plan,
            &planned.runs,
        )?),
        false => None,
    };
    let speeds = planned.speeds(&interrupted)?;
    let status = |entries, curves| Status {
        entries,
        curves,
        speeds: &speeds,
        jobs,
    };
    let mut entries: Vec<Entry> = planned.runs.iter().map(Entry::new).collect();
    let Some(directory) = directory else {
        // The listing is shown also where --run is refused, and then says so.
        let found = SweepDirectory::find(&planned.out, &planned.runs);
        let mut curves = Curves::default();
        if let Ok(Some(begun)) = &found {
            begun.refresh(&mut entries)?;
            curves = Curves::of_sweep(begun, &entries);
        }
        match args.display.json {
            true => outln!("{}", status(&entries, &curves).json()?),
            false => {
                output::write(&status(&entries, &curves).plan_table());
            }
        }
        let begun = found?;
        if !args.display.json {
            let out = planned.out.shown();
            match begun {
                None => outln!("--run trains them in {out}"),
                Some(_) if entries.iter().all(Entry::is_final) => {
                    outln!("every run in {out} has ended; nothing is left for --run")
                }
                Some(_) => outln!("--run goes on with them in {out}"),
            }
        }
        return Ok(ExitCode::SUCCESS);
    };
    let executed = planned.execute(
        &directory,
        &speeds,
        (jobs, threads),
        args.shard,
        display,
        interrupted,
    )?;
    let curves = Curves::of_sweep(&directory, &executed.entries);
    let status = status(&executed.entries, &curves);
    match args.display.json {
        true => outln!("{}", status.json()?),
        false => {
            output::write(&format!("\n{}", status.state_table()));
            outln!("Sweep directory: {}", directory.path().shown());
        }
    }
    if executed.interrupted {
        say_how_to_go_on(&directory);
        return Ok(ExitCode::from(130));
    }
    let has_failed = |entry: &Entry| entry.state == State::Failed;
    Ok(match executed.entries.iter().any(has_failed) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Trains the runs of a plan that have no result yet, `jobs` of them side by side, if `check` has nothing against them.
/// Returns the directory of the sweep; `None` if the user interrupts training.
///
/// # Errors
///
/// Returns an error if the plan is wrong, or the directory cannot be written, and that of `check`. A run that fails is no
/// error: it has no result.
pub(super) fn train(
    file: &Path,
    jobs: usize,
    display: DisplayArgs,
    interrupted: &Arc<AtomicBool>,
    check: &dyn Fn(&[Run]) -> Result<(), Error>,
) -> Result<Option<PathBuf>, Error> {
    let display = display.dashboard()?;
    let threads = sweep::divide_threads(jobs);
    let planned = planned(file, None, interrupted)?;
    refuse_without_runs(file, &planned.runs)?;
    check(&planned.runs)?;
    let directory = SweepDirectory::prepare(&planned.out, &planned.plan, &planned.runs)?;
    let speeds = planned.speeds(interrupted)?;
    let executed = planned.execute(
        &directory,
        &speeds,
        (jobs, threads),
        None,
        display,
        interrupted.clone(),
    )?;
    Ok((!executed.interrupted).then(|| directory.path().into()))
}

fn say_how_to_go_on(directory: &SweepDirectory) {
    let directory = directory.path().shown();
    errln!("interrupted; to go on:\n  foretoken sweep {directory} --run");
}

/// Refuses a plan of which no run can be trained.
fn refuse_without_runs(file: &Path, runs: &[Run]) -> Result<(), Error> {
    if runs.iter().any(|run| run.cost.is_some()) {
        return Ok(());
    }
    let first = runs.first();
    let (name, reason) = first.map_or(("", ""), |run| {
        (
            run.name.as_str(),
            run.refusal.as_deref().unwrap_or_default(),
        )
    });
    let refused = match runs.len() {
        1 => "its only run is".to_owned(),
        count => format!("all of its {count} runs are"),
    };
    Err(Error::Experiment {
        origin: file.shown(),
        message: format!("nothing can be trained, because {refused} refused: {name}: {reason}"),
    })
}

/// Measures the peak of each backend while nothing else runs, for the runs to find it.
fn measure_peaks(runs: &[Run]) {
    let backends = runs.iter().map(|run| run.experiment.backend.name.name());
    for name in backends.collect::<BTreeSet<_>>() {
        if let Ok(backend) = name.parse() {
            // A backend that does not work here refuses its runs.
            let _ = backend::peak(backend);
        }
    }
}

fn status(args: &StatusArgs) -> Result<ExitCode, Error> {
    let directory = SweepDirectory::open(&args.directory)?;
    let entries = directory.entries()?;
    let status = Status {
        entries: &entries,
        curves: &Curves::of_sweep(&directory, &entries),
        speeds: &sweep::kept(&directory, &entries)?,
        jobs: args.jobs.into(),
    };
    match args.json {
        true => outln!("{}", status.json()?),
        false => {
            output::write(&status.state_table());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn script(args: &SlurmArgs) -> Result<ExitCode, Error> {
    let interrupted = on_ctrl_c(|| {});
    let planned = planned(&args.plan, args.out.as_deref(), &interrupted)?;
    refuse_without_runs(&args.plan, &planned.runs)?;
    let entries: Vec<Entry> = planned.runs.iter().map(Entry::new).collect();
    output::write_exactly(&slurm::script(
        &planned.plan,
        &args.plan,
        &planned.out,
        &entries,
        &planned.speeds(&interrupted)?,
        args.tasks.map(usize::from),
    ));
    Ok(ExitCode::SUCCESS)
}

fn work(args: WorkArgs) -> Result<ExitCode, Error> {
    let interrupter = Interrupter::new();
    let stop = interrupter.clone();
    let interrupted = on_ctrl_c(move || stop.stop(Some("interrupted")));
    let args = WorkerArgs {
        directory: args.directory,
        name: args.name,
        claim: args.claim,
        shared: args
            .trunk
            .zip(args.step)
            .map(|(trunk, step)| Shared { trunk, step }),
        parent: args.parent,
    };
    Ok(match sweep::work(&args, &interrupter, &interrupted)? {
        Worked::Done | Worked::Recorded => ExitCode::SUCCESS,
        Worked::Stopped => ExitCode::from(130),
        Worked::Busy => ExitCode::from(BUSY),
    })
}
