//! The first pass over the files: what is in them, whether all of it can be read, and which documents are
//! for validation.

use std::{
    fs::File,
    io::{self, Read},
    sync::atomic::{AtomicU64, Ordering},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{BuildProgress, Monitor};
use crate::{
    DataError, Document, ReadOptions, SourceFile, documents,
    manifest::{SourceEntry, SplitBy},
};

/// What the files hold.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) sources: Vec<SourceEntry>,
    /// Which part of each document is for which split.
    pub(super) share: Share,
    sums: Sums,
}

/// Sums over documents.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// All documents.
    documents: u64,
    /// Those with text.
    filled: u64,
    /// Bytes of text.
    bytes: u64,
    /// Documents with text whose hash puts them on the validation side.
    valid: u64,
}

impl Sums {
    fn add(self, other: Self) -> Self {
        Self {
            documents: self.documents + other.documents,
            filled: self.filled + other.filled,
            bytes: self.bytes + other.bytes,
            valid: self.valid + other.valid,
        }
    }
}

impl Scan {
    /// Reads every document of `files` once, in parallel over the files.
    pub(super) fn new(
        files: &[SourceFile],
        options: &ReadOptions,
        valid: f64,
        monitor: Monitor<'_>,
    ) -> Result<Self, DataError> {
        // Each file is read once for its hash, once for its documents.
        let total = 2 * files.iter().map(|file| file.bytes).sum::<u64>();
        let done = AtomicU64::new(0);
        let advance = |bytes: u64| {
            let bytes = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            (monitor.report)(BuildProgress::Scanning { bytes, total });
            monitor.check()
        };
        let scanned: Vec<(SourceEntry, Sums)> = files
            .par_iter()
            .map(|file| scan_file(file, options, valid, &advance))
            .collect::<Result<_, _>>()?;
        let sums = scanned
            .iter()
            .fold(Sums::default(), |sums, (_, one)| sums.add(*one));
        if sums.filled == 0 {
            let named = files.first().map(|file| file.path.display().to_string());
            return Err(DataError::Empty {
                pattern: match files.len() {
                    1 => named.unwrap_or_default(),
                    n => format!("the text of all {n} files"),
                },
            });
        }
        let one_sided = sums.valid == 0 || sums.valid == sums.filled;
        let by = match valid > 0.0 && one_sided {
            true => SplitBy::Position,
            false => SplitBy::Document,
        };
        Ok(Self {
            sources: scanned.into_iter().map(|(source, _)| source).collect(),
            share: Share { by, valid },
            sums,
        })
    }

    /// Documents with text in them.
    pub(super) fn filled(&self) -> u64 {
        self.sums.filled
    }

    /// Bytes of text.
    pub(super) fn bytes(&self) -> u64 {
        self.sums.bytes
    }
}

fn scan_file(
    file: &SourceFile,
    options: &ReadOptions,
    valid: f64,
    advance: &(impl Fn(u64) -> Result<(), DataError> + Sync),
) -> Result<(SourceEntry, Sums), DataError> {
    let (bytes, sha256) = hash_file(file, advance)?;
    let mut sums = Sums::default();
    let mut reader = documents(file, options)?;
    let mut before = 0;
    while let Some(document) = reader.next() {
        let text = document?.text;
        sums.documents += 1;
        sums.bytes += text.len() as u64;
        sums.filled += u64::from(!text.is_empty());
        sums.valid += u64::from(!text.is_empty() && is_valid(&text, valid));
        let read = reader.bytes_read();
        advance(read.saturating_sub(before))?;
        before = before.max(read);
    }
    Ok((SourceEntry::new(file, bytes, sha256, sums.documents), sums))
}

fn hash_file(
    file: &SourceFile,
    advance: &impl Fn(u64) -> Result<(), DataError>,
) -> Result<(u64, String), DataError> {
    let failed = |reason: io::Error| DataError::Read {
        path: file.path.clone(),
        reason,
    };
    let mut file = File::open(file.location()).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok((bytes, format!("{:x}", hasher.finalize())));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        advance(read as u64)?;
    }
}

/// Whether the hash of a text puts it on the validation side: the first 8 bytes of its SHA-256, as a
/// fraction of 1, lie below `share`.
fn is_valid(text: &str, share: f64) -> bool {
    let hash = Sha256::digest(text.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    // 2^64 as a float; the 53 bits that a float keeps of the hash are plenty.
    (u64::from_be_bytes(first) as f64) < share * 18_446_744_073_709_551_616.0
}

/// Which part of a document is for which split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) by: SplitBy,
    pub(super) valid: f64,
}

impl Share {
    /// How many bytes of a document, from its start, are for training; the rest is for validation.
    pub(super) fn train_bytes(self, text: &str) -> usize {
        match self.by {
            SplitBy::Document if is_valid(text, self.valid) => 0,
            SplitBy::Document => text.len(),
            SplitBy::Position => {
                let train = (text.chars().count() as f64 * (1.0 - self.valid)) as usize;
                let cut = text.char_indices().nth(train);
                cut.map_or(text.len(), |(offset, _)| offset)
            }
        }
    }
}

/// The documents of all files, one after the other.
pub(super) fn all_documents<'a>(
    files: &'a [SourceFile],
    options: &'a ReadOptions,
    monitor: Monitor<'a>,
) -> impl Iterator<Item = Result<Document, DataError>> + 'a {
    files
        .iter()
        .flat_map(move |file| {
            let (documents, error) = match documents(file, options) {
                Ok(documents) => (Some(documents), None),
                Err(error) => (None, Some(Err(error))),
            };
            error.into_iter().chain(documents.into_iter().flatten())
        })
        .map(move |document| monitor.check().and(document))
}

/// All documents, or the parts of them that are for training.
pub(super) fn texts<'a>(
    files: &'a [SourceFile],
    options: &'a ReadOptions,
    share: Share,
    train_only: bool,
    monitor: Monitor<'a>,
) -> impl Iterator<Item = Result<String, DataError>> + 'a {
    all_documents(files, options, monitor).map(move |document| {
        let mut text = document?.text;
        if train_only {
            text.truncate(share.train_bytes(&text));
        }
        Ok(text)
    })
}
