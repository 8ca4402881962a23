//! `foretoken bisect`

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
use super::model::refused;
use super::required::{Required, required};
use super::screen;

/// Find the operation at which backends first part
///
/// Runs one batch, forward and backward, at the initial weights. A reference in f64 is what all are measured
/// against. Every operation is recomputed on each backend from the reference's own numbers: its local error is its
/// own, where the carried error of an ordinary pass may come from anywhere before. The first place where a local
/// error is more than rounding explains is named, and the smallest case that shows it is written as a program that
/// needs nothing but Burn.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken bisect --backends flex,wgpu                     the embedded experiment
  foretoken bisect my.toml --backends libtorch,cuda --dtype bf16
  foretoken bisect my.toml --backends flex,wgpu --set train.batch=1 --set model.context=64
                                                            a large model, in less memory and time
  foretoken bisect --backends flex,wgpu --json | jq .culprit.path

What rounding explains is measured for each number by itself: the operation is recomputed in f64
with all that goes into it moved by one rounding. A ratio of error to bound above 1 is more than
that. Numbers of every operation stay in memory until the end, several times over: choose a small
batch. Dropout is left out.

The operations of a pass are Burn's own here, one by one, and fused in training: if `compare` finds
a difference and `bisect` none, suspect the fused ones; --set backend.fused=false switches them off.

Exit codes: 0 where all agree, 3 where one does not; 2 for what you can mend, 1 for what failed on
its way, 130 interrupted.")]
pub(super) struct BisectArgs {
    /// Experiment file (TOML); without one, the embedded experiment
    experiment: Option<PathBuf>,
    /// Backends, usually two, as `foretoken backends` lists them
    #[arg(long, value_delimiter = ',', value_name = "A,B", required = true)]
    backends: Vec<Backend>,
    /// Backends that have to be examined, or `all`, as `compare` takes them: here every backend of --backends has
    /// to, and one that is unavailable is refused
    #[arg(long, value_delimiter = ',', value_name = "NAMES|all")]
    require: Vec<Required>,
    /// Change a key of the experiment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Precision that the backends compute in: f64, f32, bf16, f16
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    dtype: Precision,
    /// Directory to write [default: runs/bisect-<experiment>-<n>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Show every operation, not only those that matter
    #[arg(long)]
    all: bool,
    /// Print one JSON object and nothing else on standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: BisectArgs) -> Result<ExitCode, Error> {
    for (index, backend) in args.backends.iter().enumerate() {
        if args.backends[..index].contains(backend) {
            return Err(refused("--backends", format!("names {backend} twice")));
        }
    }
    let dtype = args.dtype;
    let entrants = args.backends.iter();
    let entrants: Vec<Entrant> = entrants.map(|&name| Entrant { name, dtype }).collect();
    required(&args.require, &entrants)?;
    let experiment = match &args.experiment {
        Some(path) => Experiment::load(path, &args.overrides)?,
        None => Experiment::embedded(&args.overrides)?,
    };
    let interrupted = on_ctrl_c(|| {});
    let build = BuildReporter::new(Dashboard::PlainOnStderr);
    let shown = Shown::new();
    let found = bisect(
        experiment,
        &BisectOptions {
            backends: args.backends,
            dtype: args.dtype,
            out: args.out,
            interrupted: interrupted.clone(),
            monitor: build.monitor(&interrupted),
            progress: &|what, done, of| shown.say(what, done, of),
            perturbations: Vec::new(),
        },
    );
    shown.bar.finish_and_clear();
    let found = found?;
    let text = match args.json {
        true => serde_json::to_string(&found)? + "\n",
        false => report::report(&found, args.all, screen::has_colours()),
    };
    output::write(&text);
    Ok(match found.culprit {
        Some(_) => ExitCode::from(3),
        None => ExitCode::SUCCESS,
    })
}

/// How far it is, on standard error: a line that stays in its place on a terminal, a line now and then elsewhere.
struct Shown {
    bar: ProgressBar,
    terminal: bool,
    last: Cell<Instant>,
}

impl Shown {
    /// How often a line is printed where there is no terminal.
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

    fn say(&self, what: &str, done: usize, of: usize) {
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
