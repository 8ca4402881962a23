//! The command line. Each command is one file that parses arguments, calls the library and prints.

mod backends;
mod bisect;
mod compare;
mod compress;
mod data;
mod evaluate;
mod export;
mod exposure;
mod generate;
mod import;
mod inspect;
mod interrupt;
mod memory;
mod model;
mod predict;
mod probe;
mod read;
mod report;
mod report_args;
mod required;
mod scaling;
mod screen;
mod serve;
mod sweep;
mod train;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use foretoken::show::output;
use foretoken::{Error, errln};
use foretoken_datasets::files::printable;

/// Train decoder-only transformers to predict the next token, on every Burn backend.
///
/// Without a command, trains the embedded experiment: a small GPT on a synthetic world whose entropy
/// is known, so that the loss can be compared with its lower bound.
#[derive(Parser)]
#[command(name = "foretoken", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Compare(compare::CompareArgs),
    Report(report::ReportArgs),
    Sweep(sweep::SweepArgs),
    Bisect(bisect::BisectArgs),
    Generate(generate::GenerateArgs),
    Predict(predict::PredictArgs),
    Evaluate(evaluate::EvaluateArgs),
    Serve(serve::ServeArgs),
    Exposure(exposure::ExposureArgs),
    Probe(probe::ProbeArgs),
    Compress(compress::CompressArgs),
    Decompress(compress::DecompressArgs),
    #[command(subcommand)]
    Memory(memory::MemoryCommand),
    #[command(subcommand)]
    Scaling(scaling::ScalingCommand),
    Inspect(inspect::InspectArgs),
    #[command(subcommand)]
    Data(data::DataCommand),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    Backends(backends::BackendsArgs),
}

/// Runs the command and returns its exit code: 0 for success, 2 for an error that the user can fix, 1 for a failure
/// during the run, 130 if interrupted.
pub(crate) fn run() -> ExitCode {
    let matches = Cli::command().try_get_matches();
    let flags = matches.as_ref().map(flags).unwrap_or_default();
    let parsed = matches.and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches);
        cli.map_err(|usage| usage.format(&mut Cli::command()))
    });
    let result = match parsed {
        Err(usage) if usage.kind() == ErrorKind::InvalidUtf8 => Err(invalid_utf8()),
        Err(usage) => print_usage(&usage),
        Ok(cli) => execute(cli.command),
    };
    // A command whose output did not reach a full disk has failed.
    let result = result.and_then(|code| output::finish().map(|()| code));
    result.unwrap_or_else(|error| {
        let words = error.words(|flag| flags.iter().any(|known| known == flag));
        errln!("error: {}", printable(&words));
        ExitCode::from(error.exit_code())
    })
}

/// Returns the flags of the command that was given, such as `--out`.
fn flags(matches: &ArgMatches) -> Vec<String> {
    let (mut command, mut matches) = (&Cli::command(), matches);
    while let Some((name, of_command)) = matches.subcommand()
        && let Some(subcommand) = command.find_subcommand(name)
    {
        (command, matches) = (subcommand, of_command);
    }
    let flags = command.get_arguments().filter_map(clap::Arg::get_long);
    flags.map(|name| format!("--{name}")).collect()
}

/// Prints help or version to standard output, or an error in the arguments to standard error.
fn print_usage(usage: &clap::Error) -> Result<ExitCode, Error> {
    let text = |colours| match colours {
        true => usage.render().ansi().to_string(),
        false => usage.render().to_string(),
    };
    match usage.use_stderr() {
        true => output::write_styled_error(&text(screen::takes_colours(&std::io::stderr()))),
        false => {
            output::write_styled(&text(screen::has_colours()));
        }
    }
    Ok(ExitCode::from(usage.exit_code() as u8))
}

fn execute(command: Option<Command>) -> Result<ExitCode, Error> {
    match command {
        None => train::run(train::TrainArgs::default()),
        Some(Command::Train(args)) => train::run(args),
        Some(Command::Compare(args)) => compare::run(args),
        Some(Command::Report(args)) => report::run(args),
        Some(Command::Sweep(args)) => sweep::run(args),
        Some(Command::Bisect(args)) => bisect::run(args),
        Some(Command::Generate(args)) => generate::run(args),
        Some(Command::Predict(args)) => predict::run(args),
        Some(Command::Evaluate(args)) => evaluate::run(args),
        Some(Command::Serve(args)) => serve::run(args),
        Some(Command::Exposure(args)) => exposure::run(args),
        Some(Command::Probe(args)) => probe::run(args),
        Some(Command::Compress(args)) => compress::run(args),
        Some(Command::Decompress(args)) => compress::decompress(args),
        Some(Command::Memory(command)) => memory::run(command),
        Some(Command::Scaling(command)) => scaling::run(command),
        Some(Command::Inspect(args)) => inspect::run(args),
        Some(Command::Data(command)) => data::run(command),
        Some(Command::Import(args)) => import::run(args),
        Some(Command::Export(args)) => export::run(args),
        Some(Command::Backends(args)) => backends::run(args),
    }
}

/// Names the argument that must be text and is not, because clap does not name it. Paths of files may be any bytes,
/// unless an experiment or a manifest names them.
fn invalid_utf8() -> Error {
    let mut arguments = std::env::args_os().skip(1);
    let argument = arguments.find(|argument| argument.to_str().is_none());
    Error::Experiment {
        origin: format!("{:?}", argument.unwrap_or_default()),
        message:
            "is not UTF-8, which this argument must be; if it names a file, rename the file, or name its folder instead"
                .into(),
    }
}
