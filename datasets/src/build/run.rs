//! Runs a build from the files to the manifest.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::{
    canaries::Canaries,
    copies::{Copies, is_copy},
    encode::{self, Texts, encode},
    error::{dataset, write_error},
    identity,
    journal::{self, Journal, Plan},
    monitor::{BuildProgress, Monitor},
    options::BuildOptions,
    pieces::{self, Pieces},
    planting::Planting,
    scan::Scan,
};
use crate::{
    DataError, Sources, Tokenizer, TokenizerSpec, TrainOptions,
    files::{LockFile, is_file_or_part, remove_partial_files, sha256, write_atomically},
    find_sources,
    manifest::{CanariesEntry, Manifest, TokenizerEntry},
    token_folder::{SPLITS, TOKENIZER, documents_file},
};

/// Result of a build.
#[derive(Clone, Debug)]
pub struct Built {
    /// Manifest of the folder.
    pub manifest: Manifest,
    /// Whether the folder was already complete, from the same inputs and options.
    pub already: bool,
    /// Bytes of text that interrupted builds had encoded before.
    pub resumed_bytes: u64,
    /// Files in the input folders that were skipped because of their extension.
    pub skipped: Vec<PathBuf>,
}

/// Builds the token folder `out`, or continues an interrupted build of the same inputs and options. Interruptions do
/// not change a byte of the result.
///
/// # Errors
///
/// The errors of [`find_sources`] and [`documents`](crate::documents), options out of range, a folder that holds other
/// files, and errors of the disk. The folder of an interrupted or failed build is not taken for a dataset.
pub fn build(options: &BuildOptions, out: &Path, monitor: Monitor<'_>) -> Result<Built, DataError> {
    build_in(options, out, monitor, false)
}

/// Does what [`build`] does. If another build is running in the folder, this waits for it if `wait`, and fails
/// otherwise.
pub(super) fn build_in(
    options: &BuildOptions,
    out: &Path,
    monitor: Monitor<'_>,
    wait: bool,
) -> Result<Built, DataError> {
    check(options, out)?;
    let Sources { mut files, skipped } = find_sources(&options.inputs, options.read.format)?;
    if out.is_file() || holds_something_else(out) {
        return Err(dataset(
            out,
            "holds files that no build has written: name another --out, or empty it first".into(),
        ));
    }
    fs::create_dir_all(out).map_err(write_error(out))?;
    let _lock = journal::lock(out, wait, monitor)?;
    remove_partial_files(out);
    let complete = out.join(Manifest::FILE).exists();
    let mut journal = Journal::open(out, complete)?;

    // Dropping the copies removes them when the build ends or fails.
    let _copies = Copies::make(&mut files, out, monitor)?;
    let identities = identity::identities(&files)?;
    let scan = Scan::new(&files, &options.read, options.valid, monitor)?;
    let plan = Plan::new(options, &scan)?;
    if complete {
        let manifest = Manifest::read(out)?;
        if !plan.produces(&manifest) {
            return Err(dataset(
                out,
                "holds a dataset of other inputs or options: name another --out, or remove it"
                    .into(),
            ));
        }
        journal.remove()?;
        return Ok(Built {
            manifest,
            already: true,
            resumed_bytes: 0,
            skipped,
        });
    }

    let (tokenizer, tokenizer_sha256) = match journal.tokenizer(out, &plan) {
        Some(from_interrupted) => from_interrupted,
        None => {
            let training = TrainOptions {
                end_of_text: scan.filled() > 1 || options.canaries.is_some(),
                progress: monitor.bars,
            };
            // A vocabulary of characters covers both splits, so that no character of the validation text is without an
            // id. Merges are learned from the training text only.
            let train_only = matches!(options.tokenizer, TokenizerSpec::Bpe { .. });
            (monitor.report)(BuildProgress::Training);
            let stable_prefix =
                |text: &str| Tokenizer::stable_prefix_for_training(&options.tokenizer, text);
            let texts = Pieces::new(
                &files,
                &options.read,
                scan.split_rule,
                &scan.long,
                Box::new(stable_prefix),
                monitor,
            )
            .map(|piece| {
                let mut piece = piece?;
                if train_only {
                    piece.text.truncate(piece.train);
                }
                Ok(piece.text)
            });
            let tokenizer = Tokenizer::train(&options.tokenizer, texts, training)?;
            encode::sweep(out, &[])?;
            let path = out.join(TOKENIZER);
            let json = tokenizer.to_json();
            write_atomically(&path, json.as_bytes()).map_err(write_error(&path))?;
            let sha256 = sha256(json.as_bytes());
            journal.start(plan.clone(), sha256.clone())?;
            (tokenizer, sha256)
        }
    };
    let resumed_bytes = journal.state().train.bytes + journal.state().valid.bytes;
    let planting = options.canaries.as_ref();
    let planting = planting
        .map(|canaries| Planting::new(canaries, &tokenizer, scan.documents()))
        .transpose()?;
    let texts = Texts {
        files: &files,
        scan: &scan,
        planting: planting.as_ref(),
        tokenizer: &tokenizer,
    };
    let state = encode(texts, options, &mut journal, out, monitor)?;

    // The hashes in the manifest come from the first pass and the tokens from the second, so the files must not have
    // changed in between.
    let now = identity::identities(&files)?;
    if let (Some(before), Some(now)) = (identities, now)
        && let Some((file, _)) = files
            .iter()
            .zip(before.iter().zip(&now))
            .find(|(_, (a, b))| a != b)
    {
        return Err(pieces::has_changed(file));
    }

    let canaries = planting.map(|planting| write_canaries(&planting, out));
    let canaries = canaries.transpose()?;
    let is_planted = canaries.is_some();
    let manifest = Manifest::new(
        TokenizerEntry {
            sha256: tokenizer_sha256,
            vocab_size: tokenizer.vocab_size(),
            end_of_text: tokenizer.end_of_text(),
        },
        plan.recipe,
        [state.train, state.valid],
        state.text,
        canaries,
        plan.sources,
    );
    let indexes = SPLITS.map(documents_file);
    let kept: Vec<&str> = [&manifest.train, &manifest.valid]
        .into_iter()
        .flat_map(|split| &split.shards)
        .map(|shard| shard.file.as_str())
        .chain(indexes.iter().map(String::as_str))
        .chain([TOKENIZER])
        .chain(is_planted.then_some(Canaries::FILE))
        .collect();
    encode::sweep(out, &kept)?;
    let path = out.join(Manifest::FILE);
    write_atomically(&path, manifest.to_json().as_bytes()).map_err(write_error(&path))?;
    journal.remove()?;
    Ok(Built {
        manifest,
        already: false,
        resumed_bytes,
        skipped,
    })
}

/// Writes the secrets of the canaries. Returns their entry in the manifest.
fn write_canaries(planting: &Planting, out: &Path) -> Result<CanariesEntry, DataError> {
    let (path, json) = (out.join(Canaries::FILE), planting.canaries.to_json());
    write_atomically(&path, json.as_bytes()).map_err(write_error(&path))?;
    Ok(CanariesEntry {
        sha256: sha256(json.as_bytes()),
        documents: planting.documents(),
    })
}

/// Whether a folder has files although no build was ever started in it.
fn holds_something_else(folder: &Path) -> bool {
    let begun = folder.join(Manifest::FILE).exists() || folder.join(Journal::FILE).exists();
    let Ok(mut entries) = fs::read_dir(folder) else {
        return false;
    };
    // A build starts with its lock, its journal, which may exist only in part, and copies of pipes.
    let own = |name: &OsStr| {
        name == LockFile::NAME || is_file_or_part(name, Journal::FILE) || is_copy(name)
    };
    !begun && entries.any(|entry| entry.is_ok_and(|entry| !own(&entry.file_name())))
}

fn check(options: &BuildOptions, out: &Path) -> Result<(), DataError> {
    if !(0.0..1.0).contains(&options.valid) {
        return Err(dataset(
            out,
            format!(
                "the share of validation is {}: give a number from 0 to below 1, such as 0.01",
                options.valid
            ),
        ));
    }
    if let TokenizerSpec::File(path) = &options.tokenizer {
        crate::mapped::check_regular(path)?;
    }
    if let Some(canaries) = &options.canaries {
        canaries.check()?;
    }
    if options.shard_tokens == 0 {
        return Err(dataset(
            out,
            "a shard of 0 tokens holds nothing: give a number of at least 1".into(),
        ));
    }
    Ok(())
}
