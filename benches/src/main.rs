//! `foretoken-benches race` compares the training steps of foretoken and PyTorch.

mod competitor;
mod error;
mod inputs;
mod outcome;
mod peer;
mod process;
mod protocol;
mod race;
mod statistics;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use foretoken::errln;
use foretoken::show::output;

use error::RaceError;

/// Compare the speed of foretoken with that of others
///
/// Criterion benches are started with `cargo bench -p foretoken-benches`.
#[derive(Parser, Debug)]
#[command(name = "foretoken-benches", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Race(race::RaceArgs),
    #[command(hide = true)]
    Competitor(competitor::CompetitorArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Race(args) => process::kill_on_ctrl_c().and_then(|()| race::run(&args)),
        Command::Competitor(args) => competitor::run(&args),
    };
    let printed = || output::finish().map_err(RaceError::from);
    match result.and_then(|()| printed()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
