//! Writes a token file, and continues one that is not finished.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::format::{self, BLOCK, Fault, HEADER, Header};
use crate::DataError;

/// Writer of a token file. Until it is [finished](Self::finish), the file cannot be opened but only
/// [reopened](Self::reopen) for writing.
#[derive(Debug)]
pub struct TokenFileWriter {
    path: PathBuf,
    file: File,
    vocab_size: usize,
    width: usize,
    /// Checksums of the blocks before the last.
    table: Vec<u8>,
    /// Bytes of the last block so far.
    block: Vec<u8>,
    /// Number of bytes of the last block that are in the file.
    written: usize,
}

impl TokenFileWriter {
    /// Creates a file for ids below `vocab_size`, replacing one that exists. The existing file must not be open as a
    /// [`TokenFile`](super::TokenFile).
    ///
    /// # Errors
    ///
    /// A file that cannot be written, or a vocabulary of more tokens than there are ids.
    pub fn create(path: impl AsRef<Path>, vocab_size: usize) -> Result<Self, DataError> {
        let path = path.as_ref();
        let file = File::create(path).map_err(write_error(path))?;
        let mut writer = Self::new(path, file, vocab_size)?;
        writer.put(0, &[0; HEADER])?;
        Ok(writer)
    }

    /// Continues a file after its first `tokens` tokens and drops the rest. The result is the same file as one that was
    /// written without interruption.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written, that has another vocabulary, or that has fewer tokens.
    pub fn reopen(
        path: impl AsRef<Path>,
        vocab_size: usize,
        tokens: usize,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|reason| match reason.kind() {
                ErrorKind::NotFound => DataError::Missing { path: path.into() },
                _ => write_error(path)(reason),
            })?;
        let mut writer = Self::new(path, file, vocab_size)?;
        let end = writer.check_kept(tokens)?;
        writer.file.set_len(end).map_err(write_error(path))?;
        // This makes a finished file unfinished.
        writer.put(0, &[0; HEADER])?;
        writer.read_back(tokens)?;
        Ok(writer)
    }

    fn new(path: &Path, file: File, vocab_size: usize) -> Result<Self, DataError> {
        if !format::is_vocab_size(vocab_size) {
            let reason = format!(
                "a vocabulary of {vocab_size} tokens has more tokens than 2^32 ids: use a smaller one"
            );
            return Err(Fault::new(0, reason).into_error(path));
        }
        Ok(Self {
            path: path.into(),
            file,
            vocab_size,
            width: format::width_of(vocab_size),
            table: Vec::new(),
            block: Vec::with_capacity(BLOCK),
            written: 0,
        })
    }

    /// Adds tokens at the end.
    ///
    /// # Errors
    ///
    /// An id outside the vocabulary, in which case no token is added; a file that cannot be written, such as on a full
    /// disk, in which case [`tokens`](Self::tokens) is the number of tokens added.
    pub fn append(&mut self, ids: &[u32]) -> Result<(), DataError> {
        if let Some(index) = ids.iter().position(|&id| id as usize >= self.vocab_size) {
            let offset = HEADER + (self.tokens() + index) * self.width;
            let fault = format::outside_vocabulary(offset, ids[index], self.vocab_size);
            return Err(fault.into_error(&self.path));
        }
        let mut rest = ids;
        while !rest.is_empty() {
            if self.block.len() == BLOCK {
                self.close_block()?;
            }
            let capacity = (BLOCK - self.block.len()) / self.width;
            let (now, later) = rest.split_at(capacity.min(rest.len()));
            format::encode(now, self.width, &mut self.block);
            rest = later;
        }
        Ok(())
    }

    /// Returns the number of tokens added so far.
    pub fn tokens(&self) -> usize {
        (self.table.len() / 4 * BLOCK + self.block.len()) / self.width
    }

    /// Waits until every token added so far is on disk, where [`reopen`](Self::reopen) can continue.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn sync(&mut self) -> Result<(), DataError> {
        self.flush()?;
        self.sync_file()
    }

    /// Completes the file and waits until it is on disk.
    ///
    /// # Errors
    ///
    /// A file that cannot be written. It can still be reopened.
    pub fn finish(mut self) -> Result<(), DataError> {
        let tokens = self.tokens();
        if !self.block.is_empty() {
            self.close_block()?;
        }
        let crc = crc32fast::hash(&self.table);
        self.table.extend(crc.to_le_bytes());
        let end = HEADER + tokens * self.width;
        let table = std::mem::take(&mut self.table);
        self.put(end, &table)?;
        // The header marks the file as finished, so it is written last.
        self.sync_file()?;
        let header = Header {
            tokens: tokens as u64,
            vocab_size: self.vocab_size,
        };
        self.put(0, &header.to_bytes())?;
        self.sync_file()
    }

    /// Writes the bytes of the last block so far.
    fn flush(&mut self) -> Result<(), DataError> {
        let start = HEADER + self.table.len() / 4 * BLOCK;
        put(
            &mut self.file,
            start + self.written,
            &self.block[self.written..],
        )
        .map_err(write_error(&self.path))?;
        self.written = self.block.len();
        Ok(())
    }

    fn close_block(&mut self) -> Result<(), DataError> {
        self.flush()?;
        self.table
            .extend(crc32fast::hash(&self.block).to_le_bytes());
        self.block.clear();
        self.written = 0;
        Ok(())
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) -> Result<(), DataError> {
        put(&mut self.file, offset, bytes).map_err(write_error(&self.path))
    }

    fn sync_file(&self) -> Result<(), DataError> {
        self.file.sync_all().map_err(write_error(&self.path))
    }

    /// Returns the offset at which the first `tokens` tokens end. It checks, before the file is changed, that it is a
    /// token file of this vocabulary and has these tokens.
    fn check_kept(&mut self, tokens: usize) -> Result<u64, DataError> {
        let read_error = |reason| DataError::Read {
            path: self.path.clone(),
            reason,
        };
        let length = self.file.metadata().map_err(read_error)?.len();
        let mut header = Vec::with_capacity(HEADER);
        (&self.file)
            .take(HEADER as u64)
            .read_to_end(&mut header)
            .map_err(read_error)?;
        let mut stored = length.saturating_sub(HEADER as u64) / self.width as u64;
        if !format::unfinished(&header) {
            let header = Header::read(&header).map_err(|fault| fault.into_error(&self.path))?;
            if header.vocab_size != self.vocab_size {
                return Err(DataError::Dataset {
                    path: self.path.clone(),
                    reason: format!(
                        "its tokens are of a vocabulary of {} tokens, not of {}: delete it to write it again",
                        header.vocab_size, self.vocab_size
                    ),
                });
            }
            // The tokens of a finished file are followed by their checksums.
            stored = stored.min(header.tokens);
        }
        if stored < tokens as u64 {
            let reason = format!(
                "the file ends after {stored} of {tokens} tokens that were written: delete it to write it again"
            );
            return Err(Fault::new(length as usize, reason).into_error(&self.path));
        }
        Ok((HEADER + tokens * self.width) as u64)
    }

    /// Reads the first `tokens` tokens of the file to compute their checksums.
    fn read_back(&mut self, tokens: usize) -> Result<(), DataError> {
        let path = self.path.clone();
        let read_error = |reason| DataError::Read {
            path: path.clone(),
            reason,
        };
        let mut left = tokens * self.width;
        let mut offset = HEADER;
        self.file
            .seek(SeekFrom::Start(HEADER as u64))
            .map_err(read_error)?;
        while left > 0 {
            if self.block.len() == BLOCK {
                self.close_block()?;
            }
            self.block.resize(left.min(BLOCK), 0);
            self.file.read_exact(&mut self.block).map_err(read_error)?;
            self.written = self.block.len();
            format::check_ids(&self.block, self.width, self.vocab_size)
                .map_err(|fault| fault.shifted(offset).into_error(&path))?;
            offset += self.block.len();
            left -= self.block.len();
        }
        Ok(())
    }
}

/// Writes at an offset, because a write that failed may have left the position anywhere.
fn put(file: &mut File, offset: usize, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset as u64))?;
    file.write_all(bytes)
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> DataError {
    move |reason| DataError::Write {
        path: path.into(),
        reason,
    }
}
