//! The command `foretoken data world`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;
use foretoken::engine::memory::refuse_world;
use foretoken::show::format::{Shown, plural};
use foretoken::{Error, outln};
use foretoken_datasets::world::{
    LengthLaw, Parameters, Stream, TextDescription, World, WorldConfig, WorldDescription, WorldKind,
};

use super::grouped;

/// Documents that are displayed.
const SHOWN: u64 = 5;

/// Show a synthetic world, or write its text
///
/// The entropy of a world is known exactly. Prints it, with the first documents. With --out, also writes the training
/// text and the validation text, which are the same as those of an experiment with these values in [data.world], and
/// world.json with the entropy of each.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken data world grammar
  foretoken data world facts --facts 100000 --exponent 0.5
  foretoken data world markov --symbols 8 --order 3 --documents 10000 --out texts/chain")]
pub(in crate::cli) struct WorldArgs {
    /// Kind of the world: sentences of a grammar, facts of Zipf frequencies, or random Markov chains
    #[arg(value_parser = PossibleValuesParser::new(WorldKind::ALL.map(WorldKind::name)))]
    kind: String,
    /// Seed of the world and of all documents
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of training documents [default: as many as have 2000000 bytes]
    #[arg(long, value_name = "N")]
    documents: Option<u64>,
    /// Number of validation documents [default: as many as have 32768 bytes]
    #[arg(long, value_name = "N")]
    valid_documents: Option<u64>,
    /// Grammar: how many times as many names and words each class has [default: 1]
    #[arg(long, value_name = "FACTOR")]
    scale: Option<usize>,
    /// Facts: their number [default: 1000]
    #[arg(long, value_name = "N")]
    facts: Option<usize>,
    /// Facts: a in the frequencies i^-(1+a), from -1 (all equal) to 8 [default: 0.5]
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    exponent: Option<f64>,
    /// Facts: letters of an answer [default: 4]
    #[arg(long, value_name = "N")]
    answer: Option<usize>,
    /// Chains: number of symbols [default: 16]
    #[arg(long, value_name = "N")]
    symbols: Option<usize>,
    /// Chains: number of symbols on which the next one depends [default: 2]
    #[arg(long, value_name = "N")]
    order: Option<usize>,
    /// Chains: number of symbols that are possible next [default: 4]
    #[arg(long, value_name = "N")]
    branches: Option<usize>,
    /// Chains: symbols of a document, or their mean [default: 64]
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Chains: documents may end after any symbol
    #[arg(long)]
    geometric: bool,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

impl WorldArgs {
    fn config(&self) -> WorldConfig {
        let kind = WorldKind::ALL
            .into_iter()
            .find(|kind| kind.name() == self.kind);
        WorldConfig {
            kind: kind.unwrap_or_default(),
            seed: self.seed,
            train_documents: self.documents,
            valid_documents: self.valid_documents,
            scale: self.scale,
            facts: self.facts,
            exponent: self.exponent,
            answer: self.answer,
            symbols: self.symbols,
            order: self.order,
            branches: self.branches,
            length: self.length,
            lengths: self.geometric.then_some(LengthLaw::Geometric),
            ..WorldConfig::default()
        }
    }
}

pub(super) fn run(args: WorldArgs) -> Result<ExitCode, Error> {
    let world = World::new(&args.config())?;
    let Some(folder) = &args.out else {
        let description = world.describe();
        if args.json {
            let json = serde_json::to_string_pretty(&description)?;
            outln!("{json}");
        } else {
            print(&world, &description);
        }
        return Ok(ExitCode::SUCCESS);
    };
    for (stream, flag) in [
        (Stream::Train, "--documents"),
        (Stream::Valid, "--valid-documents"),
    ] {
        let size = world.config().size(stream);
        refuse_world(flag, world.mean_bytes(size))?;
    }
    let written = world.write(folder)?;
    if args.json {
        let json = serde_json::to_string_pretty(&written)?;
        outln!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    print(&world, &written.world);
    outln!(
        "\n{:<6} {:>13} {:>15} {:>10}",
        "",
        "documents",
        "bytes",
        "bits/byte"
    );
    for (name, text) in [("train", &written.train), ("valid", &written.valid)] {
        let TextDescription {
            documents,
            bytes,
            bits_per_byte,
            ..
        } = text;
        outln!(
            "{name:<6} {:>13} {:>15} {bits_per_byte:>10.4}",
            grouped(*documents),
            grouped(*bytes as u64)
        );
    }
    outln!("Text: {}", folder.shown());
    Ok(ExitCode::SUCCESS)
}

fn print(world: &World, description: &WorldDescription) {
    let WorldDescription {
        kind,
        seed,
        parameters,
        bits_per_document,
        bytes_per_document,
        bits_per_byte,
        ..
    } = description;
    outln!("{}, seed {seed}: {}", kind.name(), words(parameters));
    outln!(
        "entropy    {bits_per_document:.4} bits per document of {bytes_per_document:.2} bytes: {bits_per_byte:.4} \
         bits per byte"
    );
    if let Some(bits) = description.chain_bits_per_symbol {
        outln!("chain      {bits:.4} bits per symbol of an endless chain, without newlines");
    }
    if let Parameters::Markov(chain) = parameters {
        let end = match chain.lengths {
            LengthLaw::Fixed => "0 bits",
            LengthLaw::Geometric => "the choice to end",
        };
        if chain.order > 0 {
            outln!(
                "           (documents begin with {} of {:.4} bits each,",
                plural(chain.order, "symbol"),
                (chain.symbols as f64).log2()
            );
            outln!("           and their newline is a byte more, of {end})");
        } else {
            outln!("           (the newline of a document is a byte more, of {end})");
        }
    }
    if let (Some(data), Some(parameters)) =
        (description.data_exponent, description.parameter_exponent)
    {
        outln!(
            "predicted  excess loss falls as D^-{data:.4} in tokens, N^-{parameters:.4} in parameters"
        );
        outln!("           while there are many more facts than the model or the text can hold");
    } else if let Parameters::Facts(_) = parameters {
        outln!("predicted  no power law, because the exponent is not above 0");
    }
    outln!("");
    for index in 0..SHOWN {
        outln!("  {}", world.document(Stream::Train, index).text.trim_end());
    }
}

fn words(parameters: &Parameters) -> String {
    match parameters {
        Parameters::Grammar { scale } => format!("lexicon × {scale}"),
        Parameters::Facts(facts) => {
            let count = grouped(facts.facts as u64);
            let facts_of = match 1.0 + facts.exponent {
                0.0 => format!("{count} equally frequent facts"),
                power => format!("{count} facts with frequencies i^-{power}"),
            };
            format!("{facts_of}, answers of {} letters", facts.answer)
        }
        Parameters::Markov(chain) => format!(
            "{} symbols, order {}, {} branches, {} {}",
            chain.symbols,
            chain.order,
            chain.branches,
            match chain.lengths {
                LengthLaw::Fixed => "length",
                LengthLaw::Geometric => "mean length",
            },
            chain.length
        ),
    }
}
