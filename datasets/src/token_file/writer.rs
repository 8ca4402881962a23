//! Writing a token file, and going on with one that was not finished.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::format::{self, BLOCK, Fault, HEADER, Header};
use crate::DataError;

/// Writes tokens to a file. Until it is [finished](Self::finish) the file cannot be opened, only
/// [written on](Self::reopen).
#[derive(Debug)]
pub struct TokenFileWriter {
    path: PathBuf,
    file: File,
    vocab_size: usize,
    width: usize,
    /// The checksums of the blocks before the last.
    table: Vec<u8>,
    /// The last block, as far as it has come.
    block: Vec<u8>,
    /// How much of it is in the file.
    written: usize,
}

impl TokenFileWriter {
    /// Begins a file for ids below `vocab_size`, in place of any that is there. That one must not be
    /// open as a [`TokenFile`](super::TokenFile).
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

    /// Goes on behind the first `tokens` tokens of a file; whatever follows them is dropped. The file
    /// comes out as if it had been written without a break.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written, that is not one of this vocabulary, or that holds fewer
    /// tokens.
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
        let end = writer.end_of_trusted(tokens)?;
        writer.file.set_len(end).map_err(write_error(path))?;
        // A file that was finished no longer is.
        writer.put(0, &[0; HEADER])?;
        writer.read_back(tokens)?;
        Ok(writer)
    }

    fn new(path: &Path, file: File, vocab_size: usize) -> Result<Self, DataError> {
        if !format::is_vocab_size(vocab_size) {
            let reason = format!("there are no ids for a vocabulary of {vocab_size} tokens");
            return Err(Fault::new(0, reason).of(path));
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
    /// An id outside the vocabulary: nothing is added then. A file that cannot be written, such as on
    /// a full disk: [`tokens`](Self::tokens) tells how many were taken.
    pub fn append(&mut self, ids: &[u32]) -> Result<(), DataError> {
        if let Some(index) = ids.iter().position(|&id| id as usize >= self.vocab_size) {
            let offset = HEADER + (self.tokens() + index) * self.width;
            let fault = format::outside_vocabulary(offset, ids[index], self.vocab_size);
            return Err(fault.of(&self.path));
        }
        let mut rest = ids;
        while !rest.is_empty() {
            if self.block.len() == BLOCK {
                self.close_block()?;
            }
            let room = (BLOCK - self.block.len()) / self.width;
            let (now, later) = rest.split_at(room.min(rest.len()));
            format::encode(now, self.width, &mut self.block);
            rest = later;
        }
        Ok(())
    }

    /// How many tokens have been added.
    pub fn tokens(&self) -> usize {
        (self.table.len() / 4 * BLOCK + self.block.len()) / self.width
    }

    /// Returns once all tokens are on the disk, from where [`reopen`](Self::reopen) goes on with them.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn sync(&mut self) -> Result<(), DataError> {
        self.flush()?;
        self.sync_file()
    }

    /// Completes the file, and returns once it is on the disk.
    ///
    /// # Errors
    ///
    /// A file that cannot be written. It can be reopened.
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
        // The header says that all else is there, so it comes after all else.
        self.sync_file()?;
        let header = Header {
            tokens: tokens as u64,
            vocab_size: self.vocab_size,
        };
        self.put(0, &header.to_bytes())?;
        self.sync_file()
    }

    /// Brings the last block to the file, as far as it has come.
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

    /// Where the first `tokens` tokens of the file end. That they are there, and that the file is one
    /// of these, is checked before it is changed.
    fn end_of_trusted(&mut self, tokens: usize) -> Result<u64, DataError> {
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
        let mut held = length.saturating_sub(HEADER as u64) / self.width as u64;
        if !format::unfinished(&header) {
            let header = Header::read(&header).map_err(|fault| fault.of(&self.path))?;
            if header.vocab_size != self.vocab_size {
                return Err(DataError::Dataset {
                    path: self.path.clone(),
                    reason: format!(
                        "its tokens are of a vocabulary of {}, not of {}: delete it to write it anew",
                        header.vocab_size, self.vocab_size
                    ),
                });
            }
            // Behind the tokens of a finished file are their checksums.
            held = held.min(header.tokens);
        }
        if held < tokens as u64 {
            let reason = format!(
                "the file ends after {held} of {tokens} tokens that were written: delete it to write it anew"
            );
            return Err(Fault::new(length as usize, reason).of(&self.path));
        }
        Ok((HEADER + tokens * self.width) as u64)
    }

    /// Takes up the tokens that are there, and their checksums.
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
                .map_err(|fault| fault.behind(offset).of(&path))?;
            offset += self.block.len();
            left -= self.block.len();
        }
        Ok(())
    }
}

/// Writes at a place, not where the last write ended: one that failed may have ended anywhere.
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
