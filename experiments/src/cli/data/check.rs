//! The command `foretoken data check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use clap::Args;
use foretoken::show::format::{Shown, plural};
use foretoken::show::progress::{bytes_bar, targets_bar};
use foretoken::{Error, outln};
use foretoken_datasets::{Corpus, Overlap, check, overlap};

use super::super::interrupt::on_ctrl_c;
use super::super::screen::{WIDTH, wrapped};
use super::grouped;

/// Tokens of the sequences that are looked for by default, as for removing duplicates in Lee et al. 2022.
const LENGTH: &str = "50";

/// Validation documents that are listed.
const LISTED: usize = 10;

/// Read everything in a folder of tokens and check it
///
/// Checks every block against its checksum, every id against the vocabulary, and tokens, documents, borders and
/// bytes against the manifest. Names the first error with its offset; the exit code is then 2.
///
/// With --overlap, looks for validation text in the training text, too: for every sequence of N tokens of a validation
/// document. Validation text that was trained on makes a model look better than it is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken data check data/books
  foretoken data check data/books --overlap            is validation text in the training text?
  foretoken data check data/books --overlap=13         by shorter sequences")]
pub(in crate::cli) struct CheckArgs {
    /// Folder written by `foretoken data build`, or one of nanoGPT's or llm.c's .bin files
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Tokenizer.json that .bin files were made with [default: the one in the folder]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Bytes of an id in .bin files without a header, 2 or 4 [default: detected, if the ids leave no doubt]
    #[arg(long, value_name = "BYTES", value_parser = super::id_bytes)]
    id_bytes: Option<usize>,
    /// Look for sequences of N tokens of the validation text in the training text [N is 50 unless it is given]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = LENGTH, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    overlap: Option<u32>,
}

pub(super) fn run(args: CheckArgs) -> Result<ExitCode, Error> {
    let interrupt = on_ctrl_c(|| {});
    let bar = bytes_bar("checking");
    let checked = check(
        &args.folder,
        args.tokenizer.as_deref(),
        args.id_bytes,
        &interrupt,
        &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
    )?;
    bar.finish_and_clear();
    let what = match checked.manifest {
        true => "every checksum, count and border is right",
        false => "every id is in the vocabulary; these files have no checksums",
    };
    outln!(
        "{}: {} tokens for {} bytes of text; {what}",
        args.folder.shown(),
        grouped(checked.tokens),
        grouped(checked.bytes)
    );
    if let Some(length) = args.overlap {
        let found = find(&args, length as usize, &interrupt)?;
        outln!("{}", words(&found));
    }
    Ok(ExitCode::SUCCESS)
}

fn find(args: &CheckArgs, length: usize, interrupt: &AtomicBool) -> Result<Overlap, Error> {
    let tokenizer: Option<&Path> = args.tokenizer.as_deref();
    let corpus = Corpus::open_with(&args.folder, tokenizer, args.id_bytes)?;
    let bar = targets_bar("comparing");
    bar.set_length(corpus.train.tokens() as u64);
    let found = overlap(
        &corpus.train,
        &corpus.valid,
        corpus.tokenizer.end_of_text(),
        length,
        interrupt,
        &mut |done| bar.inc(done as u64),
    )?;
    bar.finish_and_clear();
    Ok(found)
}

fn words(found: &Overlap) -> String {
    if found.documents.is_empty() {
        let documents = match found.short {
            1 => "the only validation document is".into(),
            short => format!("all {} validation documents are", grouped(short as u64)),
        };
        let sentence = format!(
            "overlap: nothing was compared, because {documents} shorter than {} tokens; a smaller --overlap=N compares \
             shorter sequences",
            grouped(found.length as u64)
        );
        return wrapped(&sentence, WIDTH).join("\n");
    }
    let (tokens, shared) = found.tokens();
    let percent = |part: usize, all: usize| 100.0 * part as f64 / all.max(1) as f64;
    let of_tokens = format!(
        "overlap: {:.1} % of {} validation tokens are in sequences of {} that the training text has",
        percent(shared, tokens),
        grouped(tokens as u64),
        plural(found.length, "token")
    );
    let mut of_documents = format!(
        "{} of {} are at least half in the training text",
        grouped(found.copies() as u64),
        plural(found.documents.len(), "validation document")
    );
    if found.short > 0 {
        of_documents += &format!(
            "; {} shorter than {} are not compared",
            grouped(found.short as u64),
            plural(found.length, "token")
        );
    }
    let sentences = [of_tokens, of_documents];
    let mut words = sentences
        .map(|sentence| wrapped(&sentence, WIDTH).join("\n"))
        .join("\n");
    let mut copies: Vec<_> = found
        .documents
        .iter()
        .filter(|document| document.is_copy())
        .collect();
    copies.sort_by_key(|document| std::cmp::Reverse(document.shared));
    for document in copies.iter().take(LISTED) {
        words += &format!(
            "\n  document {}: {} of {} tokens",
            document.document,
            grouped(document.shared as u64),
            grouped(document.tokens as u64)
        );
    }
    if copies.len() > LISTED {
        words += &format!("\n  and {} more", grouped((copies.len() - LISTED) as u64));
    }
    words
}
