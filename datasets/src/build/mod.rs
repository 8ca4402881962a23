//! Builds a token folder from text files.
//!
//! ```text
//! OUT/
//!   manifest.json         contents and origin; written last
//!   tokenizer.json        loads in Hugging Face tokenizers
//!   train-00000.tokens …  token files, all but the last with the requested number of tokens
//!   valid-00000.tokens …
//!   train.documents       start of each document
//!   valid.documents
//! ```
//!
//! The files are read twice: once to check and count their contents ([`scan`]), and once to encode them ([`encode`]).
//! Training a tokenizer reads them once more. During a build the folder holds a journal, `.build.json`, from which the
//! same build continues after a crash. The output depends only on the inputs and the options, not on the number of
//! threads or interruptions.

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

use crate::{
    DataError, InvalidUtf8, ReadOptions, Sources, Tokenizer, TokenizerSpec, TrainOptions,
    files::{LockFile, is_file_or_part, sha256, write_atomically},
    find_sources,
    manifest::{Manifest, Recipe, SplitBy, TokenizerEntry},
    token_folder::{SPLITS, TOKENIZER, documents_file},
};

pub use cache::build_cached;
use copies::{Copies, is_copy};
use encode::encode;
use journal::{Journal, Plan};
pub use pieces::MAX_UNCUT_BYTES;
use pieces::Pieces;
use scan::Scan;

/// Options of a build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Files, folders, globs and pipes.
    pub inputs: Vec<PathBuf>,
    /// Tokenizer to load or to train.
    pub tokenizer: TokenizerSpec,
    /// How documents are read from files.
    pub read: ReadOptions,
    /// Share of validation, from 0 to below 1.
    pub valid: f64,
    /// Tokens per token file.
    pub shard_tokens: u64,
    /// Whether names of special tokens in the text are encoded as these tokens instead of as text.
    pub special_tokens: bool,
}

impl BuildOptions {
    /// Default number of tokens per token file: 200 MB of 16-bit ids.
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

/// Progress of a build.
#[derive(Clone, Copy, Debug)]
pub enum BuildProgress {
    /// A pipe is being copied: number of bytes so far.
    Copying(u64),
    /// The first pass over the files is running.
    Scanning {
        /// Bytes on disk read so far.
        bytes: u64,
        /// Bytes on disk to read in total.
        total: u64,
    },
    /// The tokenizer is being trained.
    Training,
    /// The documents are being encoded.
    Encoding {
        /// Bytes of text encoded so far, by this build and the interrupted builds before it.
        bytes: u64,
        /// Bytes of text in total.
        total: u64,
        /// Documents so far.
        documents: u64,
        /// Tokens so far.
        tokens: u64,
    },
}

/// Progress callback and interrupt flag of a build.
#[derive(Clone, Copy)]
pub struct Monitor<'a> {
    /// Callback that receives the progress, from several threads.
    pub report: &'a (dyn Fn(BuildProgress) + Sync),
    /// Flag that stops the build at the next document once it is true.
    pub interrupt: &'a AtomicBool,
    /// Whether tokenizer training may draw its own progress bars on a terminal.
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

/// Builds the token folder `out`, or continues an interrupted build of the same inputs and options. Interruptions do not
/// change a byte of the result.
///
/// # Errors
///
/// The errors of [`find_sources`] and [`documents`](crate::documents), options out of range, a folder that holds other
/// files, and errors of the disk. The folder of an interrupted or failed build is not taken for a dataset.
pub fn build(options: &BuildOptions, out: &Path, monitor: Monitor<'_>) -> Result<Built, DataError> {
    build_in(options, out, monitor, false)
}

/// Does what [`build`] does. If another build is running in the folder, this waits for it if `wait`, and fails otherwise.
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
            "holds files that no build has written: name another --out, or empty it first".into(),
        ));
    }
    fs::create_dir_all(out).map_err(write_error(out))?;
    let _lock = journal::lock(out, wait, monitor)?;
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
                end_of_text: scan.filled() > 1,
                progress: monitor.bars,
            };
            // A vocabulary of characters covers both splits, so that no character of the validation text is without an
            // id. Merges are learned from the training text only.
            let train_only = matches!(options.tokenizer, TokenizerSpec::Bpe { .. });
            (monitor.report)(BuildProgress::Training);
            let settled = |text: &str| Tokenizer::settled_for_training(&options.tokenizer, text);
            let texts = Pieces::new(
                &files,
                &options.read,
                scan.split_rule,
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
    let indexes = SPLITS.map(documents_file);
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
    if options.shard_tokens == 0 {
        return Err(dataset(
            out,
            "a shard of 0 tokens holds nothing: give a number of at least 1".into(),
        ));
    }
    Ok(())
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
