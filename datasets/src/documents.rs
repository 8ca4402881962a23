//! Index of the documents of a text: where each one starts, in memory or in a file.
//!
//! One end-of-text token stands between two documents; the one after the last document may be missing. The targets
//! from the start of a document up to the start of the next one are the tokens of the document and the end-of-text
//! token after them.
//!
//! The file format, in which all numbers are little-endian:
//!
//! ```text
//! 0   8  magic "ftk.docs"
//! 8   4  version: 1
//! 12  4  CRC-32 of the starts
//! 16  8  number of documents
//! 24  …  start of each document, u64, each larger than the one before
//! ```

#[cfg(test)]
pub(crate) mod tests;

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;

use crate::{DataError, Split, mapped};

const MAGIC: [u8; 8] = *b"ftk.docs";
const VERSION: u32 = 1;
/// Bytes before the first start.
const HEADER: usize = 24;

/// Positions of the first token of each document of a text, in order. Cloning shares them.
#[derive(Clone, Debug)]
pub struct DocumentIndex(Starts);

#[derive(Clone, Debug)]
enum Starts {
    Memory(Arc<[u64]>),
    File { path: Arc<Path>, map: Arc<Mmap> },
}

impl DocumentIndex {
    /// Builds the index by looking for end-of-text tokens in a text.
    ///
    /// # Errors
    ///
    /// Tokens that cannot be read.
    pub fn scan(split: &Split, end_of_text: u32) -> Result<Self, DataError> {
        let mut starts = vec![0];
        let mut ids = vec![0; 1 << 16];
        for first in (0..split.tokens()).step_by(ids.len()) {
            let here = ids.len().min(split.tokens() - first);
            split.read(first, &mut ids[..here])?;
            let ends = (first..).zip(&ids[..here]);
            starts.extend(
                ends.filter(|&(_, &id)| id == end_of_text)
                    .map(|(end, _)| end as u64 + 1),
            );
        }
        // No document follows an end-of-text token at the end of the text.
        starts.pop_if(|last| *last == split.tokens() as u64);
        Ok(Self(Starts::Memory(starts.into())))
    }

    /// Maps a file into memory and checks all of it.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, that is not a document index, or that is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path: Arc<Path> = path.as_ref().into();
        let map = Arc::new(mapped::map(&path)?);
        check(&map).map_err(|(offset, reason)| DataError::TokenFile {
            path: path.to_path_buf(),
            offset: offset as u64,
            reason,
        })?;
        Ok(Self(Starts::File { path, map }))
    }

    /// Writes the file that [`open`](Self::open) reads.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), DataError> {
        let mut writer = DocumentIndexWriter::create(path)?;
        for document in 0..self.documents() {
            writer.push(self.start(document) as u64)?;
        }
        writer.finish()
    }

    /// Returns the number of documents.
    pub fn documents(&self) -> usize {
        match &self.0 {
            Starts::Memory(starts) => starts.len(),
            Starts::File { map, .. } => (map.len() - HEADER) / 8,
        }
    }

    /// Returns the position of the first token of a document.
    ///
    /// # Panics
    ///
    /// If there is no such document.
    pub fn start(&self, document: usize) -> usize {
        let start = match &self.0 {
            Starts::Memory(starts) => starts[document],
            Starts::File { map, .. } => u64_at(map, HEADER + 8 * document),
        };
        start as usize
    }

    /// Returns the positions of the tokens of a document in a text of `tokens` tokens, with the token that ends it.
    ///
    /// # Panics
    ///
    /// If there is no such document.
    pub fn tokens(&self, document: usize, tokens: usize) -> Range<usize> {
        let next = document + 1;
        let end = match next < self.documents() {
            true => self.start(next),
            false => tokens,
        };
        self.start(document)..end
    }

    /// Creates an index in memory. Each start is larger than the one before.
    pub(crate) fn from_starts(starts: Vec<u64>) -> Self {
        Self(Starts::Memory(starts.into()))
    }

    /// Creates the error for an index that does not belong to a text.
    pub(crate) fn mismatch(&self, reason: String) -> DataError {
        let path = match &self.0 {
            Starts::Memory(_) => PathBuf::from("the document index"),
            Starts::File { path, .. } => path.to_path_buf(),
        };
        DataError::Dataset { path, reason }
    }
}

/// Reads the little-endian number at an offset that is known to lie within the file.
fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let (number, _) = bytes[offset..]
        .split_first_chunk()
        .expect("the offset lies within the file");
    u64::from_le_bytes(*number)
}

/// Checks the bytes of a file; the error is the offset and a description of the fault.
fn check(bytes: &[u8]) -> Result<(), (usize, String)> {
    let length = bytes.len();
    if length < HEADER {
        let reason = format!("the file ends within its header of {HEADER} bytes: build it again");
        return Err((length, reason));
    }
    if bytes[..8] != MAGIC {
        let reason = "this is not a document index, or it was not finished: give another file, or build it again";
        return Err((0, reason.into()));
    }
    let (version, checksum) = (u64_at(bytes, 8) as u32, (u64_at(bytes, 8) >> 32) as u32);
    if version != VERSION {
        let reason = format!(
            "the document index has version {version}, but this program reads version {VERSION}: build it again"
        );
        return Err((8, reason));
    }
    let (documents, starts) = (u64_at(bytes, 16), &bytes[HEADER..]);
    if documents.checked_mul(8) != Some(starts.len() as u64) {
        let reason = format!(
            "{documents} documents need 8 bytes each, but {} bytes follow the header: copy or build the file again",
            starts.len()
        );
        return Err((16, reason));
    }
    if crc32fast::hash(starts) != checksum {
        let reason = "the document starts do not match their checksum, the file is damaged: copy or build it again";
        return Err((12, reason.into()));
    }
    for place in (HEADER..length).step_by(8).skip(1) {
        let (before, start) = (u64_at(bytes, place - 8), u64_at(bytes, place));
        if start <= before {
            let reason = format!(
                "a document starts at token {start}, but the one before it at {before}: build the file again"
            );
            return Err((place, reason));
        }
    }
    Ok(())
}

/// Writer of a document index, one document at a time. The file cannot be opened until it is
/// [finished](DocumentIndexWriter::finish).
#[derive(Debug)]
pub struct DocumentIndexWriter {
    path: PathBuf,
    file: BufWriter<File>,
    checksum: crc32fast::Hasher,
    documents: u64,
    last: Option<u64>,
}

impl DocumentIndexWriter {
    /// Creates a file, replacing one that exists.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let create = || {
            let mut file = BufWriter::new(File::create(path)?);
            // The header is written last, in `finish`.
            file.write_all(&[0; HEADER])?;
            Ok(file)
        };
        Ok(Self {
            path: path.into(),
            file: create().map_err(|reason| write_error(path, reason))?,
            checksum: crc32fast::Hasher::new(),
            documents: 0,
            last: None,
        })
    }

    /// Continues a file after its first `documents` documents and drops the rest. The result is the same file as one
    /// that was written without interruption.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written, or that holds fewer documents.
    pub fn reopen(path: impl AsRef<Path>, documents: usize) -> Result<Self, DataError> {
        let path = path.as_ref();
        let read_error = |reason| DataError::Read {
            path: path.into(),
            reason,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(read_error)?;
        let mut header = [0; HEADER];
        let mut starts = vec![0; documents * 8];
        file.read_exact(&mut header).map_err(read_error)?;
        file.read_exact(&mut starts).map_err(read_error)?;
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&starts);
        // This makes a finished file unfinished.
        let reopen = |file: &mut File| {
            file.set_len((HEADER + starts.len()) as u64)?;
            file.rewind()?;
            file.write_all(&[0; HEADER])?;
            file.seek(SeekFrom::End(0))
        };
        reopen(&mut file).map_err(|reason| write_error(path, reason))?;
        let (starts, _) = starts.as_chunks::<8>();
        Ok(Self {
            path: path.into(),
            file: BufWriter::new(file),
            checksum,
            documents: documents as u64,
            last: starts.last().map(|bytes| u64::from_le_bytes(*bytes)),
        })
    }

    /// Waits until every document added so far is on disk.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn sync(&mut self) -> Result<(), DataError> {
        let synced = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|reason| write_error(&self.path, reason))
    }

    /// Adds a document whose first token is at `start`.
    ///
    /// # Errors
    ///
    /// A start that is not larger than the one before; a file that cannot be written.
    pub fn push(&mut self, start: u64) -> Result<(), DataError> {
        if let Some(last) = self.last
            && start <= last
        {
            return Err(DataError::Dataset {
                path: self.path.clone(),
                reason: format!(
                    "a document starts at token {start}, but the one before it at {last}: add documents in the order \
                     of the text"
                ),
            });
        }
        let bytes = start.to_le_bytes();
        self.checksum.update(&bytes);
        self.documents += 1;
        self.last = Some(start);
        self.file
            .write_all(&bytes)
            .map_err(|reason| write_error(&self.path, reason))
    }

    /// Writes the header and waits until the file is on disk.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn finish(self) -> Result<(), DataError> {
        let Self {
            path,
            mut file,
            checksum,
            documents,
            ..
        } = self;
        let finish = || {
            file.rewind()?;
            file.write_all(&MAGIC)?;
            file.write_all(&VERSION.to_le_bytes())?;
            file.write_all(&checksum.finalize().to_le_bytes())?;
            file.write_all(&documents.to_le_bytes())?;
            file.flush()?;
            file.get_ref().sync_all()
        };
        finish().map_err(|reason| write_error(&path, reason))
    }
}

fn write_error(path: &Path, reason: io::Error) -> DataError {
    DataError::Write {
        path: path.into(),
        reason,
    }
}
