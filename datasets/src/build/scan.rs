//! The first pass over the files, which counts their contents, checks that everything can be read, and decides which
//! documents are for validation.

use std::{
    fs::File,
    io::{self, Read},
    sync::atomic::{AtomicU64, Ordering},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::monitor::{BuildProgress, Monitor};
use crate::{
    DataError, ReadOptions, SourceFile,
    manifest::{SourceEntry, SplitBy},
    reader::parts,
};

/// Contents of the files.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) sources: Vec<SourceEntry>,
    /// Rule that divides documents between the two splits.
    pub(super) split_rule: SplitRule,
    /// Documents of more than one part, in order.
    pub(super) long: Vec<LongDocument>,
    sums: Sums,
}

/// Facts about a document that are known only when all of it has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct LongDocument {
    characters: u64,
    /// Whether its hash assigns it to the validation split.
    valid: bool,
}

/// Sums over documents.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// All documents.
    documents: u64,
    /// Documents with text.
    filled: u64,
    /// Bytes of text.
    bytes: u64,
    /// Documents with text whose hash assigns them to the validation split.
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
        // Each file is read once for its hash and once for its documents.
        let total = 2 * files.iter().map(|file| file.bytes).sum::<u64>();
        let done = AtomicU64::new(0);
        let advance = |bytes: u64| {
            let bytes = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            (monitor.report)(BuildProgress::Scanning { bytes, total });
            monitor.check()
        };
        let scanned: Vec<(SourceEntry, Sums, Vec<LongDocument>)> = files
            .par_iter()
            .map(|file| scan_file(file, options, valid, &advance))
            .collect::<Result<_, _>>()?;
        let sums = scanned
            .iter()
            .fold(Sums::default(), |sums, (_, one, _)| sums.add(*one));
        if sums.filled == 0 {
            let named = files.first().map(|file| file.path.display().to_string());
            return Err(DataError::Empty {
                pattern: match files.len() {
                    1 => named.unwrap_or_default(),
                    n => format!("the text of all {n} files"),
                },
            });
        }
        let one_is_empty = sums.valid == 0 || sums.valid == sums.filled;
        let by = match valid > 0.0 && one_is_empty {
            true => SplitBy::Position,
            false => SplitBy::Document,
        };
        let mut scan = Self {
            sources: Vec::with_capacity(files.len()),
            split_rule: SplitRule { by, valid },
            long: Vec::new(),
            sums,
        };
        for (source, _, long) in scanned {
            scan.sources.push(source);
            scan.long.extend(long);
        }
        Ok(scan)
    }

    /// Returns the number of documents with text.
    pub(super) fn filled(&self) -> u64 {
        self.sums.filled
    }

    /// Returns the number of documents, empty ones included.
    pub(super) fn documents(&self) -> u64 {
        self.sums.documents
    }

    /// Returns the bytes of text.
    pub(super) fn bytes(&self) -> u64 {
        self.sums.bytes
    }
}

fn scan_file(
    file: &SourceFile,
    options: &ReadOptions,
    valid: f64,
    advance: &(impl Fn(u64) -> Result<(), DataError> + Sync),
) -> Result<(SourceEntry, Sums, Vec<LongDocument>), DataError> {
    let (bytes, sha256) = hash_file(file, advance)?;
    let mut sums = Sums::default();
    let mut long = Vec::new();
    let mut reader = parts(file, options)?;
    let mut before = 0;
    let (mut hasher, mut document_bytes, mut characters) = (Sha256::new(), 0, 0);
    let mut goes_on = false;
    while let Some(part) = reader.next() {
        let part = part?;
        hasher.update(&part.text);
        document_bytes += part.text.len() as u64;
        goes_on |= !part.last;
        if goes_on {
            characters += part.text.chars().count() as u64;
        }
        if part.last {
            let valid = is_below(hasher.finalize_reset().as_slice(), valid);
            let filled = document_bytes > 0;
            if goes_on {
                long.push(LongDocument { characters, valid });
            }
            sums.documents += 1;
            sums.bytes += document_bytes;
            sums.filled += u64::from(filled);
            sums.valid += u64::from(filled && valid);
            (document_bytes, characters, goes_on) = (0, 0, false);
        }
        let read = reader.bytes_read();
        advance(read.saturating_sub(before))?;
        before = before.max(read);
    }
    Ok((
        SourceEntry::new(file, bytes, sha256, sums.documents),
        sums,
        long,
    ))
}

/// Returns the number of bytes of a file and their SHA-256.
pub(super) fn hash_file(
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

/// Whether the hash of a text assigns it to the validation split: the first 8 bytes of its SHA-256, as a fraction of 1,
/// are below `share`.
fn is_valid(text: &str, share: f64) -> bool {
    is_below(Sha256::digest(text.as_bytes()).as_slice(), share)
}

fn is_below(hash: &[u8], share: f64) -> bool {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    // The constant is 2^64. A float keeps 53 bits of the hash, which is precise enough.
    (u64::from_be_bytes(first) as f64) < share * 18_446_744_073_709_551_616.0
}

/// Rule that divides documents between training and validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SplitRule {
    pub(super) by: SplitBy,
    pub(super) valid: f64,
}

impl SplitRule {
    /// Returns how many bytes of a document, from its start, are for training. The rest is for validation.
    pub(super) fn train_bytes(self, text: &str) -> usize {
        match self.by {
            SplitBy::Document if is_valid(text, self.valid) => 0,
            SplitBy::Document => text.len(),
            SplitBy::Position => {
                let train = self.of_characters(text.chars().count() as u64) as usize;
                let cut = text.char_indices().nth(train);
                cut.map_or(text.len(), |(offset, _)| offset)
            }
        }
    }

    /// Returns how many characters of a document, from its start, are for training.
    pub(super) fn train_characters(self, document: &LongDocument) -> u64 {
        match self.by {
            SplitBy::Document if document.valid => 0,
            SplitBy::Document => document.characters,
            SplitBy::Position => self.of_characters(document.characters),
        }
    }

    fn of_characters(self, characters: u64) -> u64 {
        (characters as f64 * (1.0 - self.valid)) as u64
    }
}
