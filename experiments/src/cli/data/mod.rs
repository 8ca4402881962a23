//! `foretoken data`: text → tokens, and a look at what came out.

mod build;
mod check;
mod fetch;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use foretoken::Error;

/// Make tokens of text, check them, look at them
#[derive(Subcommand)]
pub(super) enum DataCommand {
    Build(build::BuildArgs),
    Check(check::CheckArgs),
    Show(show::ShowArgs),
    Fetch(fetch::FetchArgs),
}

pub(super) fn run(command: DataCommand) -> Result<ExitCode, Error> {
    match command {
        DataCommand::Build(args) => build::run(args),
        DataCommand::Check(args) => check::run(args),
        DataCommand::Show(args) => show::run(args),
        DataCommand::Fetch(args) => fetch::run(args),
    }
}

/// Bytes of an id, from the command line.
fn id_bytes(text: &str) -> Result<usize, String> {
    match text {
        "2" => Ok(2),
        "4" => Ok(4),
        _ => Err("expected 2 or 4".into()),
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}
