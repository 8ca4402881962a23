//! The command `foretoken data fetch`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foretoken::show::format::Shown;
use foretoken::show::progress::bytes_bar;
use foretoken::{Error, errln, outln};
use foretoken_datasets::{CorpusEntry, DataError, FetchOptions, corpora, fetch};
use indicatif::HumanBytes;

use crate::cli::interrupt::on_ctrl_c;

/// Download a well-known corpus; without a name, list them
///
/// Continues an interrupted download, and checks size and SHA-256. Without a network, prints which files to put
/// where.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken data fetch
  foretoken data fetch tinyshakespeare
  foretoken data fetch tinystories --out texts/tinystories --mirror http://mirror.lab/corpora")]
pub(in crate::cli) struct FetchArgs {
    /// Name of the corpus
    name: Option<String>,
    /// Folder to download to [default: texts/<NAME>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Download the files from URL/<NAME>/<FILE> instead
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

pub(super) fn run(args: FetchArgs) -> Result<ExitCode, Error> {
    let Some(name) = args.name else {
        list();
        return Ok(ExitCode::SUCCESS);
    };
    let entry = find(&name)?;
    let folder = args
        .out
        .unwrap_or_else(|| PathBuf::from("texts").join(&entry.name));
    let interrupted = on_ctrl_c(|| {});
    let bar = bytes_bar("fetching");
    let options = FetchOptions {
        mirror: args.mirror,
    };
    let mut progress = |file: &str, done: u64, total: Option<u64>| {
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        bar.set_message(file.to_string());
    };
    let fetched = match fetch(entry, &folder, &options, &interrupted, &mut progress) {
        Err(DataError::Interrupted) => {
            bar.finish_and_clear();
            errln!("interrupted; the same command continues where it stopped");
            return Ok(ExitCode::from(130));
        }
        fetched => fetched?,
    };
    bar.finish_and_clear();
    outln!("{}: {}; {}", entry.name, entry.what, entry.licence);
    for file in &fetched {
        let held_out = if file.validation {
            "  held out for validation"
        } else {
            ""
        };
        let unchecked = if file.verified {
            ""
        } else {
            "  not checked: its SHA-256 is not known"
        };
        outln!("{}{held_out}{unchecked}", file.path.shown());
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str) -> Result<&'static CorpusEntry, Error> {
    let names = || corpora().iter().map(|entry| entry.name.as_str());
    corpora()
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::Experiment {
            origin: format!("data fetch {name}"),
            message: format!(
                "there is no corpus with this name; the corpora are {}",
                names().collect::<Vec<_>>().join(", ")
            ),
        })
}

fn list() {
    for entry in corpora() {
        outln!(
            "{:<16} {:>12}  {}\n{:31}{}; {}",
            entry.name,
            match entry.bytes() {
                0 => "size unknown".into(),
                bytes => HumanBytes(bytes).to_string(),
            },
            entry.what,
            "",
            entry.licence,
            entry.homepage
        );
    }
}
