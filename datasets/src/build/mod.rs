//! Text files → a folder of tokens.
//!
//! ```text
//! OUT/
//!   manifest.json         what it holds and what it was made of; written last
//!   tokenizer.json        loads in Hugging Face tokenizers
//!   train-00000.tokens …  token files, each of as many tokens as asked for but the last
//!   valid-00000.tokens …
//!   train.documents       where each document starts
//!   valid.documents
//! ```
//!
//! The files are read twice: once to check and count what is in them ([`scan`]), once to make tokens of
//! it ([`encode`]); training a tokenizer reads them once more. While a build is at work its folder holds
//! a journal, `.build.json`, from which the same build goes on after a crash. What comes out depends on
//! the inputs and the options alone: not on the number of threads, nor on how often it was interrupted.

mod cache;
mod copies;
mod encode;
mod identity;
mod journal;
mod pieces;
mod scan;

use std::{
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use sha2::{Digest, Sha256};

use crate::{
    DataError, InvalidUtf8, ReadOptions, Sources, Tokenizer, TokenizerSpec, TrainOptions,
    files::{LockFile, TOKENIZER, is_file_or_part, write_atomically},
    find_sources,
    manifest::{Manifest, Recipe, SplitBy, TokenizerEntry},
};

pub use cache::build_cached;
use copies::{Copies, is_copy};
pub(crate) use encode::documents_file;
use encode::encode;
use journal::{Journal, Plan};
pub use pieces::MAX_UNCUT_BYTES;
use pieces::Pieces;
use scan::Scan;

/// How text files become a folder of tokens.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Files, folders, globs and pipes.
    pub inputs: Vec<PathBuf>,
    /// How text becomes ids.
    pub tokenizer: TokenizerSpec,
    /// How files become documents.
    pub read: ReadOptions,
    /// Share of the documents that is for validation, from 0 to below 1.
    pub valid: f64,
    /// Tokens in a token file.
    pub shard_tokens: u64,
    /// Whether special tokens that are written out in the text are read as tokens; otherwise they are
    /// text like any other.
    pub special_tokens: bool,
}

impl BuildOptions {
    /// Tokens in a token file where nobody says otherwise: 200 MB of 16-bit ids.
    pub const DEFAULT_SHARD_TOKENS: u64 = 100_000_000;

    fn recipe(&self, split_by: SplitBy) -> Result<Recipe, DataError> {
        let tokenizer_file = match &self.tokenizer {
            TokenizerSpec::File(path) => {
                crate::mapped::check_regular(path)?;
                let bytes = fs::read(path).map_err(|reason| DataError::Read {
                    path: path.clone(),
                    reason,
                })?;
                Some(sha256(&bytes))
            }
            _ => None,
        };
        Ok(Recipe {
            tokenizer: self.tokenizer.to_string(),
            tokenizer_file,
            special_tokens: self.special_tokens,
            valid: self.valid,
            split_by,
            shard_tokens: self.shard_tokens,
            format: self.read.format,
            text_field: self.read.text_field.clone(),
            separator: self.read.separator.clone(),
            replace_invalid_utf8: self.read.invalid_utf8 == InvalidUtf8::Replace,
        })
    }
}

/// How far a build is.
#[derive(Clone, Copy, Debug)]
pub enum BuildProgress {
    /// Copying a pipe: bytes so far.
    Copying(u64),
    /// The first pass over the files: bytes on disk.
    Scanning {
        /// Read so far.
        bytes: u64,
        /// In all.
        total: u64,
    },
    /// Training the tokenizer.
    Training,
    /// Making tokens: bytes of text.
    Encoding {
        /// Encoded so far, by this build and the interrupted ones before it.
        bytes: u64,
        /// In all.
        total: u64,
        /// Documents so far.
        documents: u64,
        /// Tokens so far.
        tokens: u64,
    },
}

/// Who watches a build, and may stop it.
#[derive(Clone, Copy)]
pub struct Monitor<'a> {
    /// Is told how far the build is; called from several threads.
    pub report: &'a (dyn Fn(BuildProgress) + Sync),
    /// Stops the build at the next document, once true.
    pub interrupt: &'a AtomicBool,
    /// Whether a tokenizer that is trained may draw its own progress bars on a terminal.
    pub bars: bool,
}

impl Monitor<'_> {
    fn check(&self) -> Result<(), DataError> {
        match self.interrupt.load(Ordering::Relaxed) {
            true => Err(DataError::Interrupted),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Monitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

/// What a build found to do.
#[derive(Clone, Debug)]
pub struct Built {
    /// The folder's manifest.
    pub manifest: Manifest,
    /// Whether the folder was complete before, from the same inputs and options.
    pub already: bool,
    /// Bytes of text that an interrupted build had encoded before.
    pub resumed_bytes: u64,
    /// Files in the input folders that were passed over because of their extension.
    pub skipped: Vec<PathBuf>,
}

/// Whether a folder holds a build that was cut short.
pub(crate) fn is_unfinished(folder: &Path) -> bool {
    folder.join(Journal::FILE).exists() && !folder.join(Manifest::FILE).exists()
}

/// Builds the folder `out`, or goes on with it where a build of the same inputs and options was
/// interrupted. The result is the same, byte for byte, as of a build that never was.
///
/// # Errors
///
/// What [`find_sources`] and [`documents`](crate::documents) refuse; options that make no sense; a folder
/// that holds something else; and what the disk refuses. An interrupted or failed build leaves a folder
/// that is not taken for a dataset.
pub fn build(options: &BuildOptions, out: &Path, monitor: Monitor<'_>) -> Result<Built, DataError> {
    build_in(options, out, monitor, false)
}

/// [`build`]; where another build is at work in the folder, waits for it or fails.
fn build_in(
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
            "holds something else: name another --out, or empty it first".into(),
        ));
    }
    fs::create_dir_all(out).map_err(write_error(out))?;
    let _lock = journal::lock(out, wait, monitor)?;
    let complete = out.join(Manifest::FILE).exists();
    let mut journal = Journal::open(out, complete)?;

    // Removed when the build ends, however it does.
    let _copies = Copies::make(&mut files, out, monitor)?;
    let identities = identity::identities(&files)?;
    let scan = Scan::new(&files, &options.read, options.valid, monitor)?;
    let plan = Plan::new(options, &scan)?;
    if complete {
        let manifest = Manifest::read(out)?;
        if !plan.made(&manifest) {
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
        Some(made_before) => made_before,
        None => {
            let training = TrainOptions {
                end_of_text: scan.filled() > 1,
                progress: monitor.bars,
            };
            // A vocabulary of characters has those of both splits, so that validation cannot meet one
            // that has no id; merges are learned from the training text alone.
            let train_only = matches!(options.tokenizer, TokenizerSpec::Bpe { .. });
            (monitor.report)(BuildProgress::Training);
            let settled = |text: &str| Tokenizer::settled_for_training(&options.tokenizer, text);
            let texts = Pieces::new(
                &files,
                &options.read,
                scan.share,
                &scan.long,
                Box::new(settled),
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
    let state = encode(
        &files,
        options,
        &scan,
        &tokenizer,
        &mut journal,
        out,
        monitor,
    )?;

    // The hashes in the manifest are of the first pass, the tokens of the second.
    let now = identity::identities(&files)?;
    if let (Some(before), Some(now)) = (identities, now)
        && let Some((file, _)) = files
            .iter()
            .zip(before.iter().zip(&now))
            .find(|(_, (a, b))| a != b)
    {
        return Err(pieces::has_changed(file));
    }

    let manifest = Manifest::new(
        TokenizerEntry {
            sha256: tokenizer_sha256,
            vocab_size: tokenizer.vocab_size(),
            end_of_text: tokenizer.end_of_text(),
        },
        plan.recipe,
        [state.train, state.valid],
        state.text,
        plan.sources,
    );
    let indexes = encode::SIDES.map(documents_file);
    let kept: Vec<&str> = [&manifest.train, &manifest.valid]
        .into_iter()
        .flat_map(|split| &split.shards)
        .map(|shard| shard.file.as_str())
        .chain(indexes.iter().map(String::as_str))
        .chain([TOKENIZER])
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

/// Whether a folder has files and no build has ever begun in it.
fn holds_something_else(folder: &Path) -> bool {
    let begun = folder.join(Manifest::FILE).exists() || folder.join(Journal::FILE).exists();
    let Ok(mut entries) = fs::read_dir(folder) else {
        return false;
    };
    // A build begins with its lock and its journal, of which there may only be a part yet, and with copies.
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
                "the share of validation is {}: it must be from 0 to below 1, such as 0.01",
                options.valid
            ),
        ));
    }
    if let TokenizerSpec::File(path) = &options.tokenizer {
        crate::mapped::check_regular(path)?;
    }
    if options.shard_tokens == 0 {
        return Err(dataset(out, "a shard of 0 tokens holds nothing".into()));
    }
    Ok(())
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn dataset(path: &Path, reason: String) -> DataError {
    DataError::Dataset {
        path: path.into(),
        reason,
    }
}

fn write_error(path: &Path) -> impl FnOnce(std::io::Error) -> DataError {
    let path = path.to_path_buf();
    move |reason| DataError::Write { path, reason }
}
