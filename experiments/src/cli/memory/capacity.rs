//! The command `foretoken memory capacity`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use foretoken::record::run::{refuse_duplicates, runs_of};
use foretoken::science::evaluate::Estimate;
use foretoken::science::memory::{
    Capacities, Capacity, CapacityRecord, CapacitySettings, Memorised,
};
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::{self, Shown, count, significant};
use foretoken::show::progress::BuildReporter;
use foretoken::{Error, errln};

use super::super::interrupt::on_ctrl_c;
use super::super::model::refused;
use super::super::report_args::{ReportArgs, print_and_write};
use super::super::required::BackendName;
use super::super::sweep;
use super::super::train::DisplayArgs;

/// Measure how many bits of random text models can hold, and how many bits that is per parameter
///
/// RUN is a run directory, a directory of runs, or the directory of a sweep. The runs were trained on documents by themselves
/// (data.windows = "documents") of a world, so that the information of each document, −log₂ P, is known. What a model saves
/// on its training text beyond that it has memorised. Models of one size hold more of a larger text until their capacity is
/// reached; it counts as reached if they hold less than nine tenths of a text. A world of Markov chains of order 0 has
/// nothing to learn but its letters, so that all else is memorised; experiments/configs/capacity.toml trains on it.
///
/// Intervals of bits are over documents. That of the bits per parameter is over the sizes of the models, and so is that of
/// the slope, of the line of least squares through parameters and capacities. How long a model is trained decides how much
/// it holds: the share of it that came in the second half of training says how far it is from its end.
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
    let sources = match args.plan {
        Some(plan) => {
            vec![sweep::train(&plan, args.jobs.into(), args.display)?]
        }
        None => args.runs,
    };
    let (backend, precision) = BackendName::or_default(args.backend);
    let settings = CapacitySettings {
        backend,
        precision,
        batch: args.batch as usize,
    };
    let mut paths = Vec::new();
    for source in &sources {
        paths.extend(runs_of(source)?);
    }
    refuse_duplicates(paths.iter().map(PathBuf::as_path))?;
    let directory = args.report.claim("capacity-")?;
    let interrupt = on_ctrl_c(|| {});
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

fn shown(record: &CapacityRecord) -> String {
    let mut shown = format!(
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
    shown += "\nCapacity: the most that models of a size hold\n";
    for model in &record.capacities.models {
        shown += &format!("{}\n", of_model(model));
    }
    shown += &format!("\n{}\n", record.verdict());
    if let Some(late) = record.late() {
        shown += &format!("{late}\n");
    }
    if let Some(slope) = record
        .capacities
        .slope
        .filter(|slope| slope.interval.is_some())
    {
        shown += &format!(
            "The slope over the sizes is {} bits per parameter.\n",
            with_interval(slope)
        );
    }
    shown + &format!("\n{}\n", format::seconds(record.seconds))
}

fn of_model(model: &Capacity) -> String {
    let note = match model.is_reached {
        true => "",
        false => "   not reached: no text was too large",
    };
    format!(
        "{:>10} parameters  {} bits each{note}",
        count(model.parameters as u64),
        with_interval(model.per_parameter)
    )
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
