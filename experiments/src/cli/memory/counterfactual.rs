//! The command `foretoken memory counterfactual`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use foretoken::record::run::{refuse_duplicates, runs_of};
use foretoken::science::evaluate::Estimate;
use foretoken::science::memory::{
    CounterfactualRecord, CounterfactualSettings, DocumentMemory, SubsetRuns,
};
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::{self, Shown, count, plural, significant};
use foretoken::show::progress::{BuildReporter, targets_bar};
use foretoken::{Error, errln};

use super::super::interrupt::on_ctrl_c;
use super::super::report_args::{ReportArgs, print_and_write};
use super::super::required::BackendName;

/// Documents that are listed.
const LISTED: usize = 8;

/// Characters of a document that are listed.
const BEGINNING: usize = 26;

/// Measure what models save on a document because they were trained on it
///
/// SWEEP is the directory of a sweep, or directories of runs, that were trained on random subsets of the documents of one
/// text: data.subset.share says how many, and data.subset.seed which. Of each document, the bits per byte that models need
/// that were trained on it are compared with those of models that were not (Zhang et al. 2021). The difference is memory of
/// this document: what can be learned from the others, both know.
///
/// Intervals of documents are Welch's, over models, and that of the mean over documents is a bootstrap over models. A
/// document counts as memorised by Welch's one-sided test, with at most 5 % of false discoveries (Benjamini and Hochberg).
/// A document with fewer than two models with it, or without it, is not measured.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken sweep halves.toml --run                      with data.subset.seed = [1, 2, 3, …] as an axis
  foretoken memory counterfactual sweeps/halves
  foretoken memory counterfactual sweeps/halves --documents 500 --json
  foretoken memory counterfactual sweeps/halves --out counterfactual          a report with a figure")]
pub(in crate::cli) struct CounterfactualArgs {
    /// Directory of a sweep, directories of runs, or run directories
    #[arg(value_name = "SWEEP", required = true)]
    runs: Vec<PathBuf>,
    /// Largest number of documents, which are chosen at random
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    documents: u32,
    /// Backend to measure on, with an optional precision, such as flex:f64 [default: the first one compiled in, in f32]
    #[arg(long, value_name = "NAME[:DTYPE]")]
    backend: Option<BackendName>,
    /// Documents that are computed at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Draws of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(39..=100_000))]
    draws: u32,
    /// Seed of the choice of documents, and of the bootstrap
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    report: ReportArgs,
    /// Print everything as one JSON object, every document, too
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: CounterfactualArgs) -> Result<ExitCode, Error> {
    let (backend, precision) = BackendName::or_default(args.backend);
    let settings = CounterfactualSettings {
        backend,
        precision,
        documents: args.documents as usize,
        batch: args.batch as usize,
        seed: args.seed,
        draws: args.draws as usize,
    };
    let mut paths = Vec::new();
    for source in &args.runs {
        paths.extend(runs_of(source)?);
    }
    refuse_duplicates(paths.iter().map(PathBuf::as_path))?;
    let interrupt = on_ctrl_c(|| {});
    let reporter = BuildReporter::new(Dashboard::PlainOnStderr);
    let subsets = SubsetRuns::open(&paths, reporter.monitor(&interrupt))?;
    drop(reporter);
    for path in &subsets.unfinished {
        errln!("note: {} is not finished", path.shown());
    }
    let directory = args.report.claim("counterfactual-")?;
    let bar = targets_bar("scoring");
    bar.set_length(subsets.work(settings.documents)? as u64);
    let began = Instant::now();
    let measured = subsets.measure(&settings, &interrupt, &mut |done| bar.inc(done as u64))?;
    bar.finish_and_clear();
    let record = CounterfactualRecord {
        runs: measured.runs,
        backend: backend.name(),
        precision: precision.name(),
        share: measured.share,
        total: measured.total,
        undecided: measured.undecided,
        seed: settings.seed,
        savings: measured.savings,
        seconds: began.elapsed().as_secs_f64(),
    };
    let write = CounterfactualRecord::write;
    print_and_write(&record, args.json, shown, directory, write)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(record: &CounterfactualRecord) -> String {
    let mut shown = format!(
        "{} on {} in {}, each trained on {} % of {}\n",
        plural(record.runs.len(), "run"),
        record.backend,
        record.precision,
        significant(100.0 * record.share, 3),
        plural(record.total, "document")
    );
    if record.undecided > 0 {
        shown += &format!(
            "{} not measured: fewer than 2 runs with them, or without them\n",
            plural(record.undecided, "document")
        );
    }
    shown += &format!(
        "\nBits per byte saved by training on the document itself\nmean over {}: {}\n\n",
        plural(record.savings.documents.len(), "document"),
        record
            .savings
            .mean
            .map_or(format::NONE.into(), with_interval)
    );
    let quantiles = &record.savings.quantiles;
    let row = |cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:>9}")).collect();
        format!("{:<9}{cells}\n", "")
    };
    shown += &row(quantiles
        .iter()
        .map(|quantile| match quantile.share {
            0.0 => "least".into(),
            1.0 => "most".into(),
            share => format!("{} %", significant(100.0 * share, 2)),
        })
        .collect());
    shown += &row(quantiles
        .iter()
        .map(|quantile| format!("{:.3}", quantile.value))
        .collect());
    shown += &format!(
        "\n{:>9} {:>4} {:>7} {:>7}  {:<17} {}\n",
        "document", "with", "without", "saved", "95 % interval", "begins"
    );
    for document in record.savings.documents.iter().take(LISTED) {
        shown += &listed(document);
    }
    shown
        + &format!(
            "{}\n\n{}\n",
            record.verdict(),
            format::seconds(record.seconds)
        )
}

fn with_interval(estimate: Estimate) -> String {
    let interval = estimate.interval;
    let interval = interval.map_or(String::new(), |[low, high]| {
        format!(" ({low:.3} to {high:.3})")
    });
    format!("{:.3}{interval}", estimate.value)
}

fn listed(document: &DocumentMemory) -> String {
    let interval = document.saved.interval;
    let interval = interval.map_or(String::new(), |[low, high]| {
        format!("{low:.3} to {high:.3}")
    });
    let text: String = document.text.chars().take(BEGINNING).collect();
    let row = format!(
        "{:>9} {:>4} {:>7} {:>7.3}  {interval:<17} {}",
        count(document.document as u64),
        document.with,
        document.without,
        document.saved.value,
        text.trim_end()
    );
    format!("{}\n", row.trim_end())
}
