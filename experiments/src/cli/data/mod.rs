//! The command `foretoken data`: makes tokens from text, shows and checks them, and writes texts of worlds.

mod build;
mod canary_args;
mod check;
mod fetch;
mod show;
mod world;

use std::process::ExitCode;

use clap::Subcommand;
use foretoken::Error;

/// Make tokens from text, check them, show them; download corpora; write synthetic text of known entropy
#[derive(Subcommand)]
pub(super) enum DataCommand {
    Build(build::BuildArgs),
    Check(check::CheckArgs),
    Show(show::ShowArgs),
    Fetch(fetch::FetchArgs),
    World(world::WorldArgs),
}

pub(super) fn run(command: DataCommand) -> Result<ExitCode, Error> {
    match command {
        DataCommand::Build(args) => build::run(args),
        DataCommand::Check(args) => check::run(args),
        DataCommand::Show(args) => show::run(args),
        DataCommand::Fetch(args) => fetch::run(args),
        DataCommand::World(args) => world::run(args),
    }
}

/// Parses the number of bytes of an id.
fn id_bytes(text: &str) -> Result<usize, String> {
    match text {
        "2" => Ok(2),
        "4" => Ok(4),
        _ => Err("expected 2 or 4".into()),
    }
}

/// Writes a number with its digits in groups of three.
fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}
