//! The command `foretoken train`.

use std::io::IsTerminal;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::train::Interrupter;
use clap::{Args, ValueEnum};
use foretoken::experiment::WindowKind;
use foretoken::record::result::Summary;
use foretoken::record::run::RunDirectory;
use foretoken::science::probes::in_training;
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::{Shown, plural};
use foretoken::show::terminal;
use foretoken::train::{Finished, TrainOptions, train};
use foretoken::{Error, Experiment, errln, outln};

use super::interrupt::on_ctrl_c;
use super::screen::{WIDTH, wrapped};

/// Train an experiment and write a run directory
///
/// At the end, prints validation loss in nats per token, bits per byte and perplexity, beside the
/// entropy of the text if it is known.
#[derive(Args, Default)]
#[command(after_help = "\
Examples:
  foretoken train                                   the embedded experiment
  foretoken train --backend wgpu                    the same on a GPU
  foretoken train my.toml --set train.steps=500     a file, with one key changed
  foretoken train --set probes.every=log            with probes of what the model can, on the dashboard
  foretoken train --resume                          continue the run that wrote last
  foretoken train --resume --set train.steps=5000   extend it, on the schedule of a run of 5000 steps

Ctrl-C finishes the step, writes a checkpoint and prints the command that resumes. A second Ctrl-C,
at least a second later, quits at once. SIGTERM and a closed terminal act like the first Ctrl-C,
however often they come.")]
pub(super) struct TrainArgs {
    /// Experiment file (TOML) [default: the embedded experiment; with --resume, the experiment of the
    /// run]
    experiment: Option<PathBuf>,
    /// Backend to run on; overrides backend.name. `foretoken backends` lists them
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Change a key of the experiment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Continue the run in --out; without --out, the latest run of the experiment file on its backend;
    /// without a file, the run that wrote last. --set may change train.steps, eval_every, eval_windows,
    /// final_eval_windows, early_stop, keep and sample_tokens, [probes], and the path of the same data;
    /// other keys are refused
    #[arg(long)]
    resume: bool,
    /// Run directory [default: runs/<experiment>-<backend>-<n>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    display: DisplayArgs,
}

/// Arguments that choose the display of a command that trains.
#[derive(Clone, Copy, Default, Args)]
pub(super) struct DisplayArgs {
    /// Display meanwhile; auto is tui on a terminal and plain elsewhere
    #[arg(long, value_enum, default_value_t)]
    dashboard: DashboardArg,
    /// Print one JSON object at the end and nothing else on standard output
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Default, PartialEq, ValueEnum)]
enum DashboardArg {
    /// tui on a terminal, plain elsewhere
    #[default]
    Auto,
    /// Full-screen dashboard
    Tui,
    /// One line per evaluation
    Plain,
    /// No display
    None,
}

impl TrainArgs {
    /// Returns the run directory if it is known: the value of --out, or the run that wrote last if no experiment is
    /// named with --resume.
    fn directory(&self) -> Result<Option<PathBuf>, Error> {
        if self.out.is_some() || !self.resume || self.experiment.is_some() {
            return Ok(self.out.clone());
        }
        let backend = self.backend.as_deref().map(str::parse).transpose()?;
        Ok(Some(RunDirectory::last(backend)?.path().into()))
    }

    fn experiment(&self, out: Option<&Path>) -> Result<Experiment, Error> {
        let mut overrides = self.overrides.clone();
        if let Some(name) = &self.backend {
            overrides.push(format!("backend.name=\"{name}\""));
        }
        let of_run = out
            .filter(|_| self.resume)
            .map(|out| out.join("experiment.toml"))
            .filter(|file| file.is_file());
        match self.experiment.as_deref().or(of_run.as_deref()) {
            Some(path) => Experiment::load(path, &overrides),
            None => Experiment::embedded(&overrides),
        }
    }
}

impl DisplayArgs {
    /// Chooses the display from the arguments and from whether input and output are terminals.
    pub(super) fn dashboard(self) -> Result<Dashboard, Error> {
        let terminal = terminal::has_screen(&std::io::stdout()) && std::io::stdin().is_terminal();
        Ok(match self.dashboard {
            DashboardArg::None => Dashboard::None,
            DashboardArg::Tui if !terminal || self.json => {
                return Err(Error::Experiment {
                    origin: "--dashboard tui".into(),
                    message:
                        "needs a terminal for input and output that is not TERM=dumb, and no --json; \
                         use --dashboard plain"
                            .into(),
                });
            }
            DashboardArg::Auto | DashboardArg::Plain if self.json => Dashboard::PlainOnStderr,
            DashboardArg::Auto if !terminal => Dashboard::Plain,
            DashboardArg::Auto | DashboardArg::Tui => Dashboard::Tui,
            DashboardArg::Plain => Dashboard::Plain,
        })
    }
}

pub(super) fn run(args: TrainArgs) -> Result<ExitCode, Error> {
    let out = args.directory()?;
    let experiment = args.experiment(out.as_deref())?;
    let interrupter = Interrupter::new();
    let stop = interrupter.clone();
    let interrupted = on_ctrl_c(move || stop.stop(Some("interrupted")));
    let options = TrainOptions {
        resume: args.resume,
        out,
        dashboard: args.display.dashboard()?,
        interrupter,
        interrupted,
        probes: in_training,
    };
    // Burn panics when a device fails, and burn-train when the user kills a run from the dashboard. Both have
    // printed the reason by then.
    let finished = std::panic::catch_unwind(AssertUnwindSafe(|| train(experiment, options)))
        .unwrap_or_else(|_| {
            Err(Error::Training(
                "the run stopped early; --resume continues from its last checkpoint".into(),
            ))
        })?;
    match finished {
        Finished::Complete { summary, .. } if args.display.json => {
            let json = serde_json::to_string(&summary)?;
            outln!("{json}");
            Ok(ExitCode::SUCCESS)
        }
        Finished::Complete {
            summary,
            sample,
            early,
        } => {
            print_summary(&summary, &sample, early);
            Ok(ExitCode::SUCCESS)
        }
        Finished::Interrupted { run, step } => {
            errln!(
                "interrupted after {step} steps; a checkpoint was written. To continue:\n  foretoken train --resume --out {}",
                run.shown()
            );
            Ok(ExitCode::from(130))
        }
    }
}

/// Says why the floor of the windows of a run is not known.
fn why_unknown(summary: &Summary) -> &'static str {
    let run = RunDirectory::open(&summary.run);
    let data = run.and_then(|run| Ok(run.experiment()?.data));
    let by_symbol = |spec: &str| ["byte", "char"].contains(&spec);
    match data {
        Ok(data) if data.windows == WindowKind::Documents => {
            "documents are longer than a window; raise model.context"
        }
        Ok(data) if !data.tokenizer.as_deref().is_none_or(by_symbol) => {
            "tokens have several symbols; data.tokenizer = \"byte\" has one each"
        }
        _ => "the sum over all states of the world takes too long",
    }
}

/// Columns before the numbers of a summary.
const LABEL: usize = 19;

fn print_summary(summary: &Summary, sample: &str, early: bool) {
    let floor = match summary.floor_bits_per_byte {
        Some(floor) => format!(
            "   (floor {floor:.4}: the entropy of the text; {:+.4})",
            summary.bits_per_byte - floor
        ),
        None => String::new(),
    };
    let stopped = if early { ", stopped early" } else { "" };
    outln!(
        "\n{}, {} tokens on {}{stopped}",
        plural(summary.steps, "step"),
        summary.tokens,
        summary.backend
    );
    outln!("  train loss       {:.4} nats/token", summary.train_loss);
    outln!("  validation loss  {:.4} nats/token", summary.valid_loss);
    outln!("  bits per byte    {:.4}{floor}", summary.bits_per_byte);
    if let Some(cut) = summary.cut_targets.filter(|cut| *cut > 0.0) {
        outln!(
            "  windows          {:.1} % of targets lack the start of their document;",
            100.0 * cut
        );
        match summary.window_floor_bits_per_byte {
            Some(floor) => outln!("{:LABEL$}their floor is {floor:.4}", ""),
            None => {
                outln!(
                    "{:LABEL$}their floor is above the entropy and not known:",
                    ""
                );
                for line in wrapped(why_unknown(summary), WIDTH - LABEL) {
                    outln!("{:LABEL$}{line}", "");
                }
            }
        }
    }
    outln!("  perplexity       {:.3}", summary.perplexity);
    if let Some(best) = summary.best.filter(|best| best.step != summary.steps) {
        outln!(
            "  best weights     {:.4} nats/token, {:.4} bits per byte, of step {};",
            best.valid_loss,
            best.bits_per_byte,
            best.step
        );
        outln!("{:LABEL$}generate and export use these", "");
    }
    outln!(
        "  speed            {:.0} tokens/s in {:.0} s, MFU {:.1} % of the measured peak",
        summary.tokens_per_second,
        summary.seconds,
        100.0 * summary.mfu
    );
    if let Some(probes) = summary.probes {
        outln!(
            "  probes           {}, {:.1} s, {:.1} % of the time of the steps",
            match probes.count {
                1 => "once".into(),
                count => format!("{count} times"),
            },
            probes.seconds,
            100.0 * probes.seconds / summary.seconds
        );
    }
    if !sample.is_empty() {
        outln!("\nSample:");
        for line in sample.lines() {
            outln!("  {line}");
        }
    }
    outln!("\nRun directory: {}", summary.run.shown());
}
