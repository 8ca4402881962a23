//! The command `foretoken memory capacity`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Args;
use foretoken::experiment::{DataSection, ModelSection};
use foretoken::record::run::{refuse_duplicates, runs_of};
use foretoken::record::source::Checkpoint;
use foretoken::science::evaluate::Estimate;
use foretoken::science::memory::{
    Capacities, CapacityRecord, CapacitySettings, Memorised, refuse_immeasurable,
};
use foretoken::science::sweep::Run;
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::{self, Shown, count, plural, significant};
use foretoken::show::progress::BuildReporter;
use foretoken::{Error, errln};
use foretoken_datasets::DataError;

use super::super::interrupt::on_ctrl_c;
use super::super::model::refused;
use super::super::report_args::{ReportArgs, print_and_write};
use super::super::required::BackendName;
use super::super::screen::{WIDTH, wrapped};
use super::super::sweep;
use super::super::train::DisplayArgs;

/// Measure how many bits of random text models can hold, and how many bits that is per parameter
///
/// RUN is a run directory, a directory of runs, or the directory of a sweep. The runs were trained on documents by themselves
/// (data.windows = "documents") of a world, so that the information of each document, −log₂ P, is known. What a model saves
/// on its training text beyond that it has memorised. Models of one size hold more of a larger text until their capacity is
/// reached. The most that they hold counts as their capacity if it is less than nine tenths of its text, and if at most
/// 5 % of the bits came late, in the second half of training; otherwise it is a lower bound. A world of Markov chains of
/// order 0 has nothing to learn but its letters, so that all else is memorised; experiments/configs/capacity.toml trains on
/// it.
///
/// Intervals of bits are over documents. That of the bits per parameter is over the sizes of the models whose capacity is
/// reached, and so is that of the slope, of the line of least squares through parameters and capacities.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken memory capacity --plan experiments/configs/capacity.toml    train the runs of a plan, and measure them
  foretoken memory capacity sweeps/capacity --out capacity              measure them again, with a report
  foretoken memory capacity runs/small runs/large --json")]
pub(in crate::cli) struct CapacityArgs {
    /// Run directories, directories of runs, or directories of sweeps
    #[arg(
        value_name = "RUN",
        required_unless_present = "plan",
        conflicts_with = "plan"
    )]
    runs: Vec<PathBuf>,
    /// Plan of a sweep whose runs are trained first, as far as they are not: see `foretoken sweep --help`
    #[arg(long, value_name = "PLAN.toml|DIR")]
    plan: Option<PathBuf>,
    /// Runs of the plan that are trained side by side
    #[arg(long, value_name = "N", default_value_t = 1, requires = "plan", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
    /// Checkpoint of each run: best, last, or a step number
    #[arg(long, value_name = "WHICH", default_value = "last")]
    checkpoint: Checkpoint,
    /// Backend to measure on, with an optional precision, such as flex:f64 [default: the first one compiled in, in f32]
    #[arg(long, value_name = "NAME[:DTYPE]")]
    backend: Option<BackendName>,
    /// Documents that are computed at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    display: DisplayArgs,
}

pub(super) fn run(args: CapacityArgs) -> Result<ExitCode, Error> {
    let (backend, precision) = BackendName::or_default(args.backend);
    // Everything that can be wrong is found before the first run is trained.
    backend.device_for(precision)?;
    let directory = args.report.claim("capacity-")?;
    let interrupt = on_ctrl_c(|| {});
    let sources = match &args.plan {
        Some(plan) => match trained(plan, &args, &interrupt)? {
            Some(directory) => vec![directory],
            None => return Ok(ExitCode::from(130)),
        },
        None => args.runs,
    };
    let settings = CapacitySettings {
        backend,
        precision,
        batch: args.batch as usize,
        checkpoint: args.checkpoint,
    };
    let mut paths = Vec::new();
    for source in &sources {
        paths.extend(runs_of(source)?);
    }
    refuse_duplicates(paths.iter().map(PathBuf::as_path))?;
    let reporter = BuildReporter::new(Dashboard::PlainOnStderr);
    let began = Instant::now();
    let mut runs = Vec::new();
    for path in &paths {
        match settings.measure(path, reporter.monitor(&interrupt), &interrupt)? {
            Some(memorised) => runs.push(memorised),
            None => errln!("note: {} is not finished", path.shown()),
        }
    }
    if runs.is_empty() {
        let sources: Vec<String> = sources.iter().map(|path| path.shown()).collect();
        let message =
            "no run is finished, and only finished ones are measured; train one to its end";
        return Err(refused(&format::listed(&sources), message));
    }
    runs.sort_by(|a, b| {
        let key = |run: &Memorised| (run.parameters, run.documents);
        key(a).cmp(&key(b))
    });
    let record = CapacityRecord {
        backend: settings.backend.name(),
        precision: settings.precision.name(),
        capacities: Capacities::of(&runs),
        runs,
        seconds: began.elapsed().as_secs_f64(),
    };
    print_and_write(
        &record,
        args.display.json,
        shown,
        directory,
        CapacityRecord::write,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Trains the runs of a plan, whose capacity can be measured. Returns the directory of the sweep; `None` if the user
/// interrupts training, which is said.
fn trained(
    plan: &Path,
    args: &CapacityArgs,
    interrupt: &Arc<AtomicBool>,
) -> Result<Option<PathBuf>, Error> {
    let reporter = BuildReporter::new(Dashboard::PlainOnStderr);
    let check = |runs: &[Run]| -> Result<(), Error> {
        let mut checked: Vec<(&DataSection, &ModelSection)> = Vec::new();
        for run in runs.iter().filter(|run| run.refusal.is_none()) {
            let sections = (&run.experiment.data, &run.experiment.model);
            if checked.contains(&sections) {
                continue;
            }
            checked.push(sections);
            let refused = |message: &str| {
                let origin = plan.display().to_string();
                refused(&origin, format!("{} {message}", run.name))
            };
            let monitor = reporter.monitor(interrupt);
            refuse_immeasurable(&run.experiment, &refused, monitor, interrupt)?;
        }
        Ok(())
    };
    let jobs = usize::from(args.jobs);
    let directory = match sweep::train(plan, jobs, args.display, interrupt, &check) {
        Err(Error::Data(DataError::Interrupted)) => None,
        result => result?,
    };
    if directory.is_none() {
        let jobs = match jobs {
            1 => String::new(),
            jobs => format!(" --jobs {jobs}"),
        };
        errln!(
            "interrupted; the same command goes on: foretoken memory capacity --plan {}{jobs}",
            plan.shown()
        );
    }
    Ok(directory)
}

fn shown(record: &CapacityRecord) -> String {
    let mut shown = format!(
        "{} on {} in {}\n\n",
        plural(record.runs.len(), "run"),
        record.backend,
        record.precision
    );
    shown += &format!(
        "{:>10} {:>9} {:>11} {:>7} {:>11} {:>6}   {}\n",
        "parameters", "documents", "text, bits", "epochs", "memorised", "late", "per parameter"
    );
    for run in &record.runs {
        let bits = run.bits.map_or(f64::NAN, |bits| bits.value);
        let late = run.late_share();
        let row = format!(
            "{:>10} {:>9} {:>11} {:>7} {:>11} {:>6}   {}",
            count(run.parameters as u64),
            count(run.documents as u64),
            format!("{:.0}", run.text_bits),
            significant(run.epochs, 3),
            format!("{bits:.0}"),
            late.map_or(format::NONE.into(), |share| format!(
                "{} %",
                significant(100.0 * share, 2)
            )),
            significant(bits / run.parameters as f64, 3),
        );
        shown += &format!("{}\n", row.trim_end());
    }
    shown += &format!(
        "\nThe most that models of a size hold\n{:>10}   bits per parameter\n",
        "parameters"
    );
    for model in &record.capacities.models {
        let row = format!(
            "{:>10}   {:<22}   {}",
            count(model.parameters as u64),
            with_interval(model.per_parameter),
            model.note()
        );
        shown += &format!("{}\n", row.trim_end());
    }
    let slope = record.capacities.slope;
    let slope = slope.filter(|slope| slope.interval.is_some());
    let slope = slope.map(|slope| {
        format!(
            "The slope over the sizes is {} bits per parameter.",
            with_interval(slope)
        )
    });
    shown.push('\n');
    for sentence in [Some(record.verdict()), record.late(), slope]
        .into_iter()
        .flatten()
    {
        shown += &format!("{}\n", wrapped(&sentence, WIDTH).join("\n"));
    }
    shown + &format!("\n{}\n", format::seconds(record.seconds))
}

fn with_interval(estimate: Estimate) -> String {
    let value = significant(estimate.value, 3);
    estimate.interval.map_or(value.clone(), |[low, high]| {
        format!(
            "{value} ({} to {})",
            significant(low, 3),
            significant(high, 3)
        )
    })
}
