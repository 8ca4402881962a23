//! Arguments of `foretoken data build` that plant canaries.

use clap::Args;
use foretoken_datasets::CanaryOptions;

#[derive(Args)]
#[command(next_help_heading = "Canaries")]
pub(super) struct CanaryArgs {
    /// Plant this many canaries in the training split, documents with a random secret that `foretoken memory canaries`
    /// looks for; as many that are not planted are the controls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    canaries: Option<u32>,
    /// Copies of a canary; canaries take these numbers in turn
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,4,16",
        requires = "canaries"
    )]
    canary_copies: Vec<u64>,
    /// Seed of secrets and places
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "canaries")]
    canary_seed: u64,
    /// Text before a secret, in which {} is the name of the canary
    #[arg(long, value_name = "TEXT", default_value = CanaryOptions::PREFIX, requires = "canaries")]
    canary_prefix: String,
    /// Symbols of secrets [default: the letters from a to z that the tokenizer has]
    #[arg(long, value_name = "SYMBOLS", requires = "canaries")]
    canary_alphabet: Option<String>,
    /// Symbols of a secret
    #[arg(long, value_name = "N", default_value_t = CanaryOptions::SYMBOLS as u32, requires = "canaries", value_parser = clap::value_parser!(u32).range(1..=1000))]
    canary_symbols: u32,
}

impl CanaryArgs {
    /// Returns the options of canaries; `None` if none are planted.
    pub(super) fn options(self) -> Option<CanaryOptions> {
        Some(CanaryOptions {
            count: self.canaries? as usize,
            copies: self.canary_copies,
            seed: self.canary_seed,
            prefix: self.canary_prefix,
            alphabet: self.canary_alphabet,
            symbols: self.canary_symbols as usize,
        })
    }
}
