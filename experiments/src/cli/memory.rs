//! The command `foretoken memory`.

mod canaries;
mod capacity;
mod counterfactual;
mod extract;
mod gap;
mod texts;

use std::process::ExitCode;

use clap::Subcommand;
use foretoken::Error;

/// Measure what a run has memorised: extraction of training text, the gap to text that it has not seen, and capacity
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  foretoken memory extract runs/world-flex-1        which training text comes back?
  foretoken memory gap runs/world-flex-1            how much cheaper is training text?
  foretoken memory capacity sweeps/capacity         how many bits does a parameter hold?
  foretoken memory canaries runs/planted            are planted secrets known?
  foretoken memory counterfactual sweeps/halves     what does a document do to a model?")]
pub(super) enum MemoryCommand {
    Extract(extract::ExtractArgs),
    Gap(gap::GapArgs),
    Capacity(Box<capacity::CapacityArgs>),
    Canaries(canaries::CanariesArgs),
    Counterfactual(counterfactual::CounterfactualArgs),
}

pub(super) fn run(command: MemoryCommand) -> Result<ExitCode, Error> {
    match command {
        MemoryCommand::Extract(args) => extract::run(args),
        MemoryCommand::Gap(args) => gap::run(args),
        MemoryCommand::Capacity(args) => capacity::run(*args),
        MemoryCommand::Canaries(args) => canaries::run(args),
        MemoryCommand::Counterfactual(args) => counterfactual::run(args),
    }
}
