//! Where the documents of a text start, in memory or in a file, and which windows they are cut into.
//!
//! Between two documents stands one end-of-text token; that after the last one may be missing. So
//! the targets from one document's start up to the next one's start are those of the first: its
//! tokens, and the end-of-text token after them.
//!
//! The file, all numbers little-endian:
//!
//! ```text
//! 0   8  magic "ftk.docs"
//! 8   4  version: 1
//! 12  4  CRC-32 of the starts
//! 16  8  how many documents there are
//! 24  …  the start of each, u64, each larger than the one before
//! ```

#[cfg(test)]
mod tests;

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;

use crate::{DataError, Split, mapped, windows::window::Window};

const MAGIC: [u8; 8] = *b"ftk.docs";
const VERSION: u32 = 1;
/// Bytes before the first start.
const HEADER: usize = 24;

/// Index of the first token of each document of a text, in order. Cloning shares it.
#[derive(Clone, Debug)]
pub struct DocumentIndex(Starts);

#[derive(Clone, Debug)]
enum Starts {
    Memory(Arc<[u64]>),
    File { path: Arc<Path>, map: Arc<Mmap> },
}

impl DocumentIndex {
    /// Looks for the end-of-text tokens of a text.
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
        // Nothing follows an end-of-text token at the end.
        starts.pop_if(|last| *last == split.tokens() as u64);
        Ok(Self(Starts::Memory(starts.into())))
    }

    /// Maps a file into memory and checks all of it.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is no document index, or is damaged.
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

    /// How many documents there are.
    pub fn documents(&self) -> usize {
        match &self.0 {
            Starts::Memory(starts) => starts.len(),
            Starts::File { map, .. } => (map.len() - HEADER) / 8,
        }
    }

    /// Index of the first token of a document.
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

    /// This index does not belong to a text.
    fn misfit(&self, reason: String) -> DataError {
        let path = match &self.0 {
            Starts::Memory(_) => PathBuf::from("the document index"),
            Starts::File { path, .. } => path.to_path_buf(),
        };
        DataError::Dataset { path, reason }
    }
}

/// The little-endian number at a place that the file is known to have.
fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let (number, _) = bytes[offset..]
        .split_first_chunk()
        .expect("a place within the file");
    u64::from_le_bytes(*number)
}

/// What is wrong with the bytes of a file, and where.
fn check(bytes: &[u8]) -> Result<(), (usize, String)> {
    let length = bytes.len();
    if length < HEADER {
        let reason = format!("the file ends within its header of {HEADER} bytes: build it again");
        return Err((length, reason));
    }
    if bytes[..8] != MAGIC {
        let reason = "this is no document index, or one that was not written to its end: give \
                      another file, or build it again";
        return Err((0, reason.into()));
    }
    let (version, checksum) = (u64_at(bytes, 8) as u32, (u64_at(bytes, 8) >> 32) as u32);
    if version != VERSION {
        let reason = format!(
            "a document index of version {version}, this program reads {VERSION}: build it again"
        );
        return Err((8, reason));
    }
    let (documents, starts) = (u64_at(bytes, 16), &bytes[HEADER..]);
    if documents.checked_mul(8) != Some(starts.len() as u64) {
        let reason = format!(
            "{documents} documents need 8 bytes each, and {} bytes follow the header: copy or build \
             the file again",
            starts.len()
        );
        return Err((16, reason));
    }
    if crc32fast::hash(starts) != checksum {
        let reason = "the checksum does not fit what follows it, the file is damaged: copy or build \
                      it again";
        return Err((12, reason.into()));
    }
    for place in (HEADER..length).step_by(8).skip(1) {
        let (before, start) = (u64_at(bytes, place - 8), u64_at(bytes, place));
        if start <= before {
            let reason = format!(
                "a document starts at token {start}, the one before it at {before}: build the file \
                 again"
            );
            return Err((place, reason));
        }
    }
    Ok(())
}

/// Writes a document index as the documents come. A file that was not
/// [finished](DocumentIndexWriter::finish) cannot be opened.
#[derive(Debug)]
pub struct DocumentIndexWriter {
    path: PathBuf,
    file: BufWriter<File>,
    checksum: crc32fast::Hasher,
    documents: u64,
    last: Option<u64>,
}

impl DocumentIndexWriter {
    /// Starts a file, replacing what is there.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let create = || {
            let mut file = BufWriter::new(File::create(path)?);
            // The header comes last.
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

    /// Goes on behind the first `documents` documents of a file; whatever follows them is dropped. The file
    /// comes out as if it had been written without a break.
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
        // A finished file is unfinished again.
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

    /// Returns once the disk has every document that was added.
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
                    "a document starts at token {start}, the one before it at {last}: add documents \
                     in the order of the text"
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

    /// Writes the header; returns once the disk has the file.
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

/// Documents between two entries of the table of [`DocumentWindows`].
const STRIDE: usize = 1024;

/// The windows of all documents, numbered in the order of the text.
#[derive(Clone, Debug)]
pub(crate) struct DocumentWindows {
    index: DocumentIndex,
    tokens: usize,
    context: usize,
    count: usize,
    /// Windows before every document of which the number is a multiple of `STRIDE`.
    before: Arc<[usize]>,
}

impl DocumentWindows {
    /// The windows of a text of `tokens` tokens, more than `context`.
    pub(crate) fn new(
        index: &DocumentIndex,
        tokens: usize,
        context: usize,
    ) -> Result<Self, DataError> {
        let documents = index.documents();
        if documents > 0 && index.start(documents - 1) > tokens {
            return Err(index.misfit(format!(
                "the last document starts at token {}, and the text has {tokens}: build the index \
                 of this text",
                index.start(documents - 1)
            )));
        }
        let mut windows = Self {
            index: index.clone(),
            tokens,
            context,
            count: 0,
            before: Arc::new([]),
        };
        let mut before = Vec::with_capacity(documents.div_ceil(STRIDE));
        for document in 0..documents {
            if document % STRIDE == 0 {
                before.push(windows.count);
            }
            windows.count += windows.targets(document).len().div_ceil(context);
        }
        if windows.count == 0 {
            return Err(index.misfit(
                "no document has a token to predict: give documents, or read the text in another \
                 order"
                    .into(),
            ));
        }
        windows.before = before.into();
        Ok(windows)
    }

    /// How many windows there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The window at `number`, below [`count`](Self::count).
    pub(crate) fn window(&self, number: usize) -> Window {
        let block = self.before.partition_point(|&before| before <= number) - 1;
        let mut document = block * STRIDE;
        let mut part = number - self.before[block];
        let targets = loop {
            let targets = self.targets(document);
            let windows = targets.len().div_ceil(self.context);
            if part < windows {
                break targets;
            }
            part -= windows;
            document += 1;
        };
        let first = targets.start + part * self.context;
        let counted = self.context.min(targets.end - first);
        // Where the window would run over the end of the text it starts earlier.
        let offset = (first - 1).min(self.tokens - self.context - 1);
        let skip = first - 1 - offset;
        Window {
            offset,
            counted: skip..skip + counted,
        }
    }

    /// The tokens that a document predicts. The first token of a text is no target.
    fn targets(&self, document: usize) -> Range<usize> {
        let start = self.index.start(document).max(1);
        let next = document + 1;
        let end = match next < self.index.documents() {
            true => self.index.start(next),
            false => self.tokens,
        };
        start..end
    }
}
