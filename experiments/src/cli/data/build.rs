//! The command `foretoken data build`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use foretoken::show::dashboard::Dashboard;
use foretoken::show::format::Shown;
use foretoken::show::progress::BuildReporter;
use foretoken::{Error, errln, outln};
use foretoken_datasets::{
    BuildOptions, Built, Canaries, DataError, Format, Manifest, SourceEntry, SplitBy,
    TokenizerSpec, build,
};

use super::canary_args::CanaryArgs;
use super::grouped;
use crate::cli::interrupt::on_ctrl_c;
use crate::cli::read::ReadArgs;

/// Make a folder of tokens from text
///
/// Reads plain text (a document per file), JSON Lines, JSON (objects, or an array of them), CSV, TSV and Parquet (a
/// document per line, object or row), each optionally compressed with gzip or zstd. The extension decides the format:
/// .txt, .text, .md, .jsonl, .ndjson, .json, .csv, .tsv or .parquet. A file that is named itself, or by a glob, is
/// also read as plain text if it has no extension, or one of source code or markup such as .py, .rs or .tex; every
/// other extension needs --format. Folders are read recursively, in the byte order of paths. Folders and globs skip
/// hidden files. A named pipe, <(COMMAND) and /dev/stdin are read once, into a copy in --out.
///
/// Documents are split by a hash of their text, so that copies of one document fall on the same side. If that
/// would leave a side empty, as with a single file of plain text, the end of each document is for validation.
///
/// Plain text of any length is read in parts. Memory limits: 32 MiB for a line of JSON Lines, an object of JSON or a
/// row of CSV and TSV, 128 MiB for a Parquet file inside gzip or zstd, 16 MiB of a document without a place where its
/// tokenizer can cut it. A compressed file may expand to 1 TiB.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken data build corpus.txt --tokenizer bpe:8192 --out data/corpus
  foretoken data build books/ 'web/*.jsonl.zst' --tokenizer gpt2/tokenizer.json --out data/mixed
  foretoken data build table.csv --text-field review --tokenizer bpe:4k --out data/reviews
  zcat dump.gz | foretoken data build /dev/stdin --format jsonl --tokenizer byte --out data/dump
  foretoken data build stories.txt --separator '<|endoftext|>' --tokenizer bpe:4k --out data/stories
  foretoken data build stories/ --tokenizer char --canaries 12 --canary-copies 1,4,16 --out data/planted
  foretoken train my.toml --set data.path=data/corpus

If interrupted or killed, the same command continues where it stopped, and the result is the same, byte
for byte.")]
pub(in crate::cli) struct BuildArgs {
    /// Files, folders, globs and pipes, read in this order
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Tokenizer: byte, char, bpe:VOCAB (trained on the text), or the path of a Hugging Face tokenizer.json
    #[arg(long, value_name = "SPEC")]
    tokenizer: String,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Share of the documents for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    valid: f64,
    /// Tokens per file, with an optional suffix: 500k, 100M, 2G
    #[arg(long, value_name = "TOKENS", default_value = "100M", value_parser = count)]
    shard_tokens: u64,
    #[command(flatten)]
    read: ReadArgs,
    /// Read names of special tokens in the text, such as <|endoftext|>, as those tokens
    #[arg(long)]
    special_tokens: bool,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    canaries: CanaryArgs,
}

/// Parses a count with an optional suffix: k, M or G.
fn count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'M')) => (&text[..at], 1_000_000),
        Some((at, 'G' | 'B')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let number: u64 = digits
        .replace('_', "")
        .parse()
        .map_err(|_| "expected a number such as 500k, 100M or 2G".to_string())?;
    match number.checked_mul(factor) {
        Some(0) | None => Err("expected a number from 1 up".into()),
        Some(count) => Ok(count),
    }
}

pub(super) fn run(args: BuildArgs) -> Result<ExitCode, Error> {
    let tokenizer: TokenizerSpec = args.tokenizer.parse()?;
    let options = BuildOptions {
        inputs: args.inputs,
        tokenizer,
        read: args.read.options(),
        valid: args.valid,
        shard_tokens: args.shard_tokens,
        special_tokens: args.special_tokens,
        canaries: args.canaries.options(),
    };
    let interrupted = on_ctrl_c(|| {});
    let reporter = BuildReporter::new(Dashboard::Plain);
    let began = Instant::now();
    let built = match build(&options, &args.out, reporter.monitor(&interrupted)) {
        Err(DataError::Interrupted) => {
            drop(reporter);
            errln!(
                "interrupted; {} is unfinished. The same command continues where it stopped.",
                args.out.shown()
            );
            return Ok(ExitCode::from(130));
        }
        built => built?,
    };
    drop(reporter);
    warn(&built);
    if args.json {
        let json = serde_json::to_string_pretty(&built.manifest)?;
        outln!("{json}");
    } else {
        let canaries = Canaries::read(&args.out)?;
        print(&built, &options, &args.out, began.elapsed().as_secs_f64());
        if let Some(canaries) = canaries {
            print_canaries(&canaries, &args.out);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints warnings about input that was skipped or changed.
fn warn(built: &Built) {
    let text = &built.manifest.text;
    let n = built.skipped.len();
    if let Some(first) = built.skipped.first() {
        errln!(
            "skipped {n} {} with another extension, such as {}; to include them, name them as INPUT, or with a glob",
            if n == 1 { "file" } else { "files" },
            first.shown()
        );
    }
    if text.replaced_documents > 0 {
        errln!(
            "{} documents are not UTF-8: invalid bytes were replaced by {} U+FFFD",
            text.replaced_documents,
            text.replacements
        );
    }
    if text.empty_documents > 0 {
        errln!("skipped {} empty documents", text.empty_documents);
    }
    if text.inexact_documents > 0 {
        errln!(
            "the tokenizer changes text: the tokens of {} documents do not encode exactly their bytes, so bits per \
             byte are inexact",
            text.inexact_documents
        );
    }
}

fn print(built: &Built, options: &BuildOptions, out: &std::path::Path, seconds: f64) {
    let Built {
        manifest, already, ..
    } = built;
    if *already {
        outln!("{} is complete already", out.shown());
    }
    outln!(
        "{:<6} {:>13} {:>15} {:>12} {:>6}",
        "",
        "tokens",
        "bytes",
        "documents",
        "files"
    );
    for (name, split) in [("train", &manifest.train), ("valid", &manifest.valid)] {
        outln!(
            "{name:<6} {:>13} {:>15} {:>12} {:>6}",
            grouped(split.tokens),
            grouped(split.bytes),
            grouped(split.documents),
            split.shards.len()
        );
    }
    if manifest.recipe.split_by == SplitBy::Position && options.valid > 0.0 {
        outln!(
            "split by position: the last {} % of each document are for validation",
            100.0 * options.valid
        );
    }
    if let (None, Some(read_as)) = (options.read.format, read_as(manifest)) {
        outln!("{read_as}");
    }
    if manifest.train.tokens > 0 {
        outln!(
            "{} ids, {:.3} bytes per training token",
            grouped(manifest.tokenizer.vocab_size as u64),
            manifest.train.bytes as f64 / manifest.train.tokens as f64
        );
    }
    if !already {
        let bytes = manifest.train.bytes + manifest.valid.bytes - built.resumed_bytes;
        outln!(
            "{seconds:.1} s, {:.2} MB/s of text",
            bytes as f64 / seconds / 1e6
        );
    }
    outln!("Tokens: {}", out.shown());
}

/// Prints how many canaries were planted, and what a secret is.
fn print_canaries(canaries: &Canaries, out: &std::path::Path) {
    let copies = canaries.canaries.iter().map(|canary| canary.copies);
    let planted = copies.clone().filter(|copies| *copies > 0).count();
    outln!(
        "{planted} canaries in {} documents, and {} controls that are not planted",
        grouped(copies.clone().sum()),
        copies.len() - planted
    );
    outln!(
        "secrets: {} of {} symbols, {:.1} bits",
        canaries.symbols,
        canaries.alphabet.chars().count(),
        canaries.entropy_bits
    );
    outln!("Canaries: {}", out.join(Canaries::FILE).shown());
}

/// Returns a line with the number of files read in each format; `None` if the manifest does not record formats.
fn read_as(manifest: &Manifest) -> Option<String> {
    let counted = Format::ALL.into_iter().filter_map(|format| {
        let is_read = |source: &&SourceEntry| source.format == Some(format);
        match manifest.sources.iter().filter(is_read).count() {
            0 => None,
            count => Some(format!("{format} ({})", grouped(count as u64))),
        }
    });
    let counted: Vec<_> = counted.collect();
    let formats = Format::ALL.map(Format::name).join(", ");
    (!counted.is_empty()).then(|| {
        let counted = counted.join(", ");
        format!("read as: {counted}; --format selects another of {formats}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_states_the_limits() {
        use foretoken_datasets as data;
        let help = BuildArgs::augment_args(clap::Command::new("build"))
            .render_long_help()
            .to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for limit in [
            format!("{} MiB for a line", data::MAX_LINE_BYTES >> 20),
            format!(
                "{} MiB for a Parquet file",
                data::MAX_HELD_PARQUET_BYTES >> 20
            ),
            format!("{} MiB of a document", data::MAX_UNCUT_BYTES >> 20),
            format!("expand to {} TiB", data::MAX_DECOMPRESSED_BYTES >> 40),
        ] {
            assert!(help.contains(&limit), "{limit}: {help}");
        }
    }

    #[test]
    fn counts_may_have_suffixes() {
        assert_eq!(count("100M"), Ok(100_000_000));
        assert_eq!(count("4k"), Ok(4_000));
        assert_eq!(count("1_000"), Ok(1_000));
        for wrong in ["", "k", "-1", "0", "1.5M", "99999999999G", "é"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
