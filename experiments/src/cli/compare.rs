//! The command `foretoken compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foretoken::backend::Backend;
use foretoken::backend::precision::Precision;
use foretoken::show::format::Shown;
use foretoken::show::output;
use foretoken::verify::compare::dashboard::watcher;
use foretoken::verify::compare::{
    CompareOptions, Compared, Comparison, Entrant, Entry, Invariance, Judge, Outcome, Verdict,
    compare, of_runs,
};
use foretoken::{Error, Experiment, errln, json, outln};
use serde::Serialize;

use super::interrupt::on_ctrl_c;
use super::model::{refuse_repeated, refused};
use super::required::{BackendName, Required, required};
use super::screen::wrapped;
use super::train::DisplayArgs;

/// Run one experiment on several backends and judge each; or judge finished runs
///
/// Every backend starts from the same bits, reads the same windows, and is compared with a reference in f64. There are
/// three criteria, each used if it is conclusive. Checks: at five steps, including the first and the last, the
/// backend takes the step from the reference's weights and optimizer state; its loss, logits, gradients and update must
/// be as exact as those of the reference's backend in the same precision. Envelope: its loss curve must differ no more
/// than curves of runs whose initial weights were moved by one unit in the last place, as long as those differ less
/// than seeds do. Outcome: it must end where other seeds end. Besides, each backend must agree with itself: its logits
/// must be the same by steps with a cache as by a full pass, and in a batch as for one window.
#[derive(Args)]
#[command(after_help = after_help())]
pub(super) struct CompareArgs {
    /// Experiment file (TOML), or run directories [default: the embedded experiment]
    #[arg(value_name = "EXPERIMENT|RUN")]
    inputs: Vec<PathBuf>,
    /// Backends under test, each with an optional precision, such as flex,wgpu:f32; `foretoken backends` lists them
    /// [default: all that are compiled in]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    backends: Vec<BackendName>,
    /// Backends that must be judged, or `all`, which needs at least one other than the reference's own; an unavailable
    /// backend that is not required does not change the exit code
    #[arg(long, value_delimiter = ',', value_name = "NAMES|all")]
    require: Vec<Required>,
    /// Precisions for every backend without its own: f64, f32, bf16 or f16 [default: f32]
    #[arg(long, value_delimiter = ',', value_name = "DTYPES")]
    dtypes: Vec<Precision>,
    #[arg(long, value_name = "N", help = format!(
        "Number of steps, from the start of the experiment's schedule [default: {}]",
        CompareOptions::STEPS
    ))]
    steps: Option<usize>,
    #[arg(long, value_name = "K", help = format!(
        "Number of seeds to run on the reference's backend, to measure differences that matter; 1 runs no other seed \
         [default: {}]",
        CompareOptions::SEEDS
    ))]
    seeds: Option<usize>,
    #[arg(long, value_name = "M", help = format!(
        "Number of runs with weights moved by one unit in the last place, to measure rounding, beside one with \
         unchanged weights [default: {}]",
        CompareOptions::ROUNDING_RUNS
    ))]
    rounding_runs: Option<usize>,
    /// Reference of the comparison, such as flex:f64 [default: the first backend compiled in, in f64 if it can and
    /// otherwise in f32]
    #[arg(long, value_name = "NAME:DTYPE")]
    reference: Option<BackendName>,
    /// Take each step on all backends together, and measure the distance between their weights
    #[arg(long)]
    lockstep: bool,
    /// Comparison directory, or envelope.json, to judge finished runs by
    #[arg(long, value_name = "PATH")]
    envelope: Option<PathBuf>,
    /// Change a key of the experiment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Directory to write [default: runs/compare-<experiment>-<n>; none for finished runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    display: DisplayArgs,
}

const EXAMPLES: &str = "\
Examples:
  foretoken compare                         the embedded experiment, on every backend that works here
  foretoken compare my.toml --backends flex,wgpu --steps 200
  foretoken compare --backends flex,libtorch --dtypes f32,bf16
  foretoken compare --lockstep              step by step, with the distance between weights
  foretoken compare --set backend.fused=false
                                            with Burn's own operations instead of fused ones
  foretoken compare runs/a runs/b --envelope runs/compare-world-1
                                            finished runs, from any machine";

const EXIT_CODES: &str = "\
Exit codes: 0 if all agree; 3 if a backend differs or failed, or was not judged although --require
names it; 2 for an error that you can fix, such as a required backend that cannot run here; 1 if
the comparison itself failed; 130 if interrupted.";

/// Columns of the help in which a verdict is explained.
const MEANING_WIDTH: usize = 82;

fn after_help() -> String {
    let width = Verdict::ALL.map(|verdict| verdict.name().len());
    let width = width.into_iter().max().unwrap_or(0);
    let mut help = format!("{EXAMPLES}\n\nVerdicts:\n");
    for verdict in Verdict::ALL {
        let mut name = verdict.name();
        for line in wrapped(verdict.meaning(), MEANING_WIDTH) {
            help += &format!("  {name:width$}  {line}\n");
            name = "";
        }
    }
    help + "\n" + EXIT_CODES
}

/// Largest number of runs of one kind in a comparison.
const MOST_RUNS: usize = 1000;

impl CompareArgs {
    /// Returns the backends under test.
    fn backends(&self) -> Vec<Entrant> {
        let all = Backend::ALL.into_iter().filter(|b| b.compiled_in());
        let all: Vec<BackendName> = all.map(|name| BackendName { name, dtype: None }).collect();
        let named = match self.backends.is_empty() {
            true => &all,
            false => &self.backends,
        };
        let dtypes = match self.dtypes.is_empty() {
            true => &[Precision::F32][..],
            false => &self.dtypes,
        };
        let with = |named: &BackendName, dtype| Entrant {
            name: named.name,
            dtype,
        };
        named
            .iter()
            .flat_map(|named| match named.dtype {
                Some(dtype) => vec![with(named, dtype)],
                None => dtypes.iter().map(|d| with(named, *d)).collect(),
            })
            .collect()
    }

    fn reference(&self) -> Entrant {
        let name = self
            .reference
            .map_or(Backend::default_backend(), |named| named.name);
        let dtype = match self.reference.and_then(|named| named.dtype) {
            Some(dtype) => dtype,
            None if name.device_for(Precision::F64).is_ok() => Precision::F64,
            None => Precision::F32,
        };
        Entrant { name, dtype }
    }

    /// Returns the finished runs to compare; `None` for a live comparison.
    fn runs(&self) -> Result<Option<&[PathBuf]>, Error> {
        match (
            &self.inputs[..],
            self.inputs.iter().any(|path| path.is_dir()),
        ) {
            ([], _) | ([_], false) => Ok(None),
            ([_], true) => Err(refused(
                "compare",
                "a single run directory has nothing to be compared with; name two or more, or an experiment file",
            )),
            (runs, true) => Ok(Some(runs)),
            ([_, second, ..], false) => Err(refused(
                &second.shown(),
                "is a second input; name one experiment file, or run directories that exist",
            )),
        }
    }
}

pub(super) fn run(args: CompareArgs) -> Result<ExitCode, Error> {
    if let Some(runs) = args.runs()? {
        let live = [
            ("--steps", args.steps.is_some()),
            ("--seeds", args.seeds.is_some()),
            ("--rounding-runs", args.rounding_runs.is_some()),
            ("--backends", !args.backends.is_empty()),
            ("--dtypes", !args.dtypes.is_empty()),
            ("--reference", args.reference.is_some()),
            ("--lockstep", args.lockstep),
            ("--set", !args.overrides.is_empty()),
        ];
        if let Some((flag, _)) = live.into_iter().find(|(_, given)| *given) {
            let message = "is only for a live comparison; finished runs are compared as they are";
            return Err(refused(flag, message));
        }
        let comparison = of_runs(runs, args.envelope.as_deref())?;
        let report = match &args.out {
            Some(out) => Some(foretoken::verify::compare::write(&comparison, out)?),
            None => None,
        };
        return finish(&args, &comparison, report);
    }
    if args.envelope.is_some() {
        return Err(refused(
            "--envelope",
            "is only for finished runs; a live comparison measures its own envelope",
        ));
    }
    let steps = args.steps.unwrap_or(CompareOptions::STEPS);
    let seeds = args.seeds.unwrap_or(CompareOptions::SEEDS);
    let rounding_runs = args.rounding_runs.unwrap_or(CompareOptions::ROUNDING_RUNS);
    for (flag, value) in [("--steps", steps), ("--seeds", seeds)] {
        if value == 0 {
            return Err(refused(flag, "must be at least 1"));
        }
    }
    for (flag, value) in [("--seeds", seeds), ("--rounding-runs", rounding_runs)] {
        if value > MOST_RUNS {
            let message = format!("is {value}; it must be at most {MOST_RUNS}");
            return Err(refused(flag, message));
        }
    }
    if rounding_runs == 0 {
        return Err(refused(
            "--rounding-runs",
            "must be at least 1: without such a run, rounding cannot be told from other differences",
        ));
    }
    refuse_repeated("--backends", &args.backends(), |entrant| {
        format!("{}:{}", entrant.name, entrant.dtype)
    })?;
    let experiment = match args.inputs.first() {
        Some(path) => Experiment::load(path, &args.overrides)?,
        None => Experiment::embedded(&args.overrides)?,
    };
    for backend in required(&args.require, &args.backends())? {
        if let Err(error) = backend.name.device_for(backend.dtype) {
            return Err(refused("--require", error));
        }
    }
    let interrupted = on_ctrl_c(|| {});
    let shown = args.display.dashboard()?;
    let options = CompareOptions {
        steps,
        seeds,
        rounding_runs,
        lockstep: args.lockstep,
        out: args.out.clone(),
        dashboard: shown,
        interrupted: interrupted.clone(),
        ..CompareOptions::new(args.backends(), args.reference())
    };
    let mut watcher = watcher(shown, interrupted);
    let compared = compare(experiment, &options, &mut *watcher);
    // Closes the dashboard, so that the result is printed on the user's own screen.
    drop(watcher);
    match compared? {
        Compared::Interrupted { directory } => {
            match directory.exists() {
                true => errln!(
                    "interrupted; the runs so far are in {}, and nothing was judged",
                    directory.shown()
                ),
                false => errln!("interrupted; nothing was judged"),
            }
            Ok(ExitCode::from(130))
        }
        Compared::Complete {
            comparison, report, ..
        } => finish(&args, &comparison, Some(report)),
    }
}

/// The output of `--json`.
#[derive(Serialize)]
struct Json<'a> {
    reference: String,
    experiment_hash: &'a str,
    backends: Vec<JsonEntry<'a>>,
    reference_invariance: &'a [Invariance],
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "json::optional_path"
    )]
    report: Option<PathBuf>,
}

#[derive(Serialize)]
struct JsonEntry<'a> {
    name: Backend,
    dtype: Precision,
    fused: bool,
    verdict: Verdict,
    first_step: Option<usize>,
    max_abs_loss_difference: Option<f64>,
    envelope: Option<f64>,
    final_loss: Option<f64>,
    tokens_per_second: Option<f64>,
    peak_memory_bytes: Option<u64>,
    reason: &'a str,
    judged_by: &'a [Judge],
    comparable_steps: Option<usize>,
    outcomes: &'a [Outcome],
    checks: usize,
    undecided_checks: usize,
    invariance: &'a [Invariance],
}

impl<'a> JsonEntry<'a> {
    fn new(entry: &'a Entry) -> Self {
        Self {
            name: entry.entrant.name,
            dtype: entry.entrant.dtype,
            fused: entry.fused,
            verdict: entry.verdict,
            first_step: entry.first_step,
            max_abs_loss_difference: entry.max_abs_loss_difference,
            envelope: entry.envelope,
            final_loss: entry.final_loss,
            tokens_per_second: entry.tokens_per_second,
            peak_memory_bytes: entry.peak_memory_bytes,
            reason: &entry.reason,
            judged_by: &entry.judged_by,
            comparable_steps: entry.comparable_steps,
            outcomes: &entry.outcomes,
            checks: entry.checks.len(),
            undecided_checks: entry.undecided_checks(),
            invariance: &entry.invariance,
        }
    }
}

fn finish(
    args: &CompareArgs,
    comparison: &Comparison,
    report: Option<PathBuf>,
) -> Result<ExitCode, Error> {
    let backends: Vec<Entrant> = comparison.backends.iter().map(|e| e.entrant).collect();
    let required = required(&args.require, &backends)?;
    let unjudged =
        |entry: &&Entry| entry.verdict == Verdict::Unavailable && required.contains(&entry.entrant);
    let unjudged: Vec<&Entry> = comparison.backends.iter().filter(unjudged).collect();
    for entry in &unjudged {
        errln!(
            "{} is required and was not judged: {}",
            entry.label(),
            entry.reason
        );
    }
    let all_required = args.require.iter().any(|r| matches!(r, Required::All));
    let judged = |entry: &Entry| ![Verdict::Own, Verdict::Unavailable].contains(&entry.verdict);
    let nothing_judged = all_required && !comparison.backends.iter().any(judged);
    if nothing_judged && unjudged.is_empty() {
        errln!(
            "--require all: only the reference's own backend was compared; add another to --backends, or compile it in"
        );
    }
    let code = match comparison.has_failures() || !unjudged.is_empty() || nothing_judged {
        true => ExitCode::from(3),
        false => ExitCode::SUCCESS,
    };
    if args.display.json {
        let json = serde_json::to_string(&Json {
            reference: comparison.reference.entrant.to_string(),
            experiment_hash: &comparison.experiment_hash,
            backends: comparison.backends.iter().map(JsonEntry::new).collect(),
            reference_invariance: &comparison.reference.invariance,
            report,
        })?;
        outln!("{json}");
        return Ok(code);
    }
    output::write(&comparison.to_text());
    if let Some(report) = report {
        outln!("\nReport: {}", report.shown());
    }
    Ok(code)
}
