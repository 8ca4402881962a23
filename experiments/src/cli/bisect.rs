//! The command `foretoken bisect`.

mod report;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::show::dashboard::Dashboard;
use foretoken::show::output;
use foretoken::show::progress::BuildReporter;
use foretoken::show::terminal;
use foretoken::verify::bisect::{BisectOptions, bisect};
use foretoken::verify::compare::Entrant;
use foretoken::{Error, Experiment, errln};
use indicatif::ProgressBar;

use super::interrupt::on_ctrl_c;
use super::model::refuse_repeated;
use super::required::{Required, required};
use super::screen;

/// Find the first operation at which backends diverge
///
/// Runs one batch, forward and backward, at the initial weights, and compares every backend with a reference in f64.
/// Every operation is recomputed on each backend from the reference's own numbers, so that its local error is its
/// own; the carried error of an ordinary pass includes the errors of earlier operations. Names the first operation
/// whose local error is larger than rounding explains, and writes the smallest case that shows it as a program that
/// needs only Burn.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken bisect --backends flex,wgpu                     the embedded experiment
  foretoken bisect my.toml --backends libtorch,cuda --dtype bf16
  foretoken bisect my.toml --backends flex,wgpu --set train.batch=1 --set model.context=64
                                                            a large model, in less memory and time
  foretoken bisect --backends flex,wgpu --json | jq .culprit.path

The error that rounding explains is measured for every number: the operation is recomputed in f64
with all of its inputs moved by one rounding. If the ratio of an error to its bound is above 1,
rounding does not explain it. The numbers of every operation stay in memory until the end, several
times over, so choose a small batch. Dropout is switched off.

Bisection runs Burn's own operations one by one; training fuses some of them. If `compare` finds a
difference and `bisect` finds none, suspect the fused operations; --set backend.fused=false
switches them off.

Exit codes: 0 if all backends agree, 3 if one does not, 2 for an error that you can fix, 1 for a
failure during the run, 130 if interrupted.")]
pub(super) struct BisectArgs {
    /// Experiment file (TOML); without one, the embedded experiment
    experiment: Option<PathBuf>,
    /// Backends to compare, usually two; `foretoken backends` lists them
    #[arg(long, value_delimiter = ',', value_name = "A,B", required = true)]
    backends: Vec<Backend>,
    /// Backends that must be examined, or `all`; accepted for symmetry with `compare`, because every backend of
    /// --backends must be available here
    #[arg(long, value_delimiter = ',', value_name = "NAMES|all")]
    require: Vec<Required>,
    /// Change a key of the experiment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Precision that the backends compute in: f64, f32, bf16 or f16
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    dtype: Precision,
    /// Directory to write [default: runs/bisect-<experiment>-<n>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Show every operation instead of only those around the culprit or with the largest errors
    #[arg(long)]
    all: bool,
    /// Print one JSON object and nothing else on standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: BisectArgs) -> Result<ExitCode, Error> {
    refuse_repeated("--backends", &args.backends, ToString::to_string)?;
    let dtype = args.dtype;
    let backends = args.backends.iter();
    let backends: Vec<Entrant> = backends.map(|&name| Entrant { name, dtype }).collect();
    required(&args.require, &backends)?;
    let experiment = match &args.experiment {
        Some(path) => Experiment::load(path, &args.overrides)?,
        None => Experiment::embedded(&args.overrides)?,
    };
    let interrupted = on_ctrl_c(|| {});
    let build = BuildReporter::new(Dashboard::PlainOnStderr);
    let progress = ProgressLine::new();
    let found = bisect(
        experiment,
        &BisectOptions {
            backends: args.backends,
            dtype: args.dtype,
            out: args.out,
            interrupted: interrupted.clone(),
            monitor: build.monitor(&interrupted),
            progress: &|what, done, of| progress.show(what, done, of),
            perturbations: Vec::new(),
        },
    );
    progress.bar.finish_and_clear();
    let found = found?;
    let text = match args.json {
        true => serde_json::to_string(&found)? + "\n",
        false => report::report(&found, args.all, screen::has_colours()),
    };
    output::write_styled(&text);
    Ok(match found.culprit {
        Some(_) => ExitCode::from(3),
        None => ExitCode::SUCCESS,
    })
}

/// Progress on standard error: one updated line on a terminal, a line now and then elsewhere.
struct ProgressLine {
    bar: ProgressBar,
    terminal: bool,
    last: Cell<Instant>,
}

impl ProgressLine {
    /// Minimum interval between lines if there is no terminal.
    const LINE_EVERY: Duration = Duration::from_secs(10);

    fn new() -> Self {
        let terminal = terminal::has_screen(&std::io::stderr());
        Self {
            bar: match terminal {
                true => ProgressBar::new_spinner(),
                false => ProgressBar::hidden(),
            },
            terminal,
            last: Cell::new(Instant::now()),
        }
    }

    fn show(&self, what: &str, done: usize, of: usize) {
        let text = format!("{what} ({} of {of})", done + 1);
        if self.terminal {
            self.bar.set_message(text);
            self.bar.enable_steady_tick(Duration::from_millis(200));
        } else if self.last.get().elapsed() >= Self::LINE_EVERY {
            self.last.set(Instant::now());
            errln!("{text}");
        }
    }
}
