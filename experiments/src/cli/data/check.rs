//! The command `foretoken data check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foretoken::show::progress::bytes_bar;
use foretoken::{Error, outln};
use foretoken_datasets::check;

use super::grouped;

/// Read everything in a folder of tokens and check it
///
/// Checks every block against its checksum, every id against the vocabulary, and tokens, documents, borders and
/// bytes against the manifest. Names the first error with its offset; the exit code is then 2.
#[derive(Args)]
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
}

pub(super) fn run(args: CheckArgs) -> Result<ExitCode, Error> {
    let bar = bytes_bar("checking");
    let checked = check(
        &args.folder,
        args.tokenizer.as_deref(),
        args.id_bytes,
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
        args.folder.display(),
        grouped(checked.tokens),
        grouped(checked.bytes)
    );
    Ok(ExitCode::SUCCESS)
}
