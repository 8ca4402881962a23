//! Token files: token ids on disk, read through a memory map. Opening a file checks its header and the list of
//! checksums; each block of tokens is checked when it is first read. So damage is an error and never a wrong id.
//!
//! The format of foretoken, in which all numbers are little-endian:
//!
//! ```text
//! 64 bytes        "FORETOKN" | version u32 = 1 | bytes per token u32 | tokens u64 | vocab_size u64
//!                 | bytes per block u32 = 65536 | zeros | CRC-32 of the 60 bytes before
//! tokens          u16 each if the vocabulary has at most 65536 tokens, else u32
//! 4 bytes/block   CRC-32 of each block of 64 KiB of tokens; the last block may be shorter
//! 4 bytes         CRC-32 of these checksums
//! ```
//!
//! The header is zero until the file is finished. Files of llm.c, modded-nanoGPT and nanoGPT can be read, too; they
//! have no checksums, and those of nanoGPT have no header (see [`width`]). [`Split`](crate::Split) reads several files
//! as one stream.

mod format;
#[cfg(test)]
mod tests;
mod width;
mod writer;

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use memmap2::Mmap;
use sha2::{Digest, Sha256};

use crate::{DataError, mapped};
use format::{BLOCK, Fault, Layout};

pub use writer::TokenFileWriter;

/// Open token file. Clones share the map and the record of checked blocks.
///
/// The file must not change while it is open: reading beyond a new end terminates the process with a signal, and a
/// change in a checked block is not noticed.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: Arc<Path>,
    map: Arc<Mmap>,
    layout: Layout,
    /// One bit per block, set once its check has succeeded.
    checked: Arc<[AtomicU64]>,
}

impl TokenFile {
    /// Opens a token file without reading its tokens. Files of foretoken, llm.c and modded-nanoGPT are recognised by
    /// their first bytes. A file named `*.bin` without a header is one of nanoGPT, with 2 bytes per id.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, that is not a token file, that is not finished, whose header or checksums are
    /// damaged, or whose length differs from that in its header.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        Self::open_as(path.as_ref(), |bytes| match bytes.len() % 2 {
            0 => Ok(2),
            _ => width::width(bytes, 1 << 16, None),
        })
    }

    /// Opens a token file whose ids are below `vocab_size`. A file without a header may have 2 or 4 bytes per id;
    /// `id_bytes` states the number, otherwise the ids and the vocabulary determine it.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open) and [`with_vocab_size`](Self::with_vocab_size); a file without a header that
    /// can be read in both ways, if `id_bytes` is `None`; and an `id_bytes` that the file contradicts.
    pub fn open_with(
        path: impl AsRef<Path>,
        vocab_size: usize,
        id_bytes: Option<usize>,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        if let Some(stated) = id_bytes.filter(|stated| ![2, 4].contains(stated)) {
            return Err(DataError::Dataset {
                path: "data.id_bytes".into(),
                reason: format!("{stated} is not a possible number of bytes per id: state 2 or 4"),
            });
        }
        let file = Self::open_as(path, |bytes| width::width(bytes, vocab_size, id_bytes))?;
        match id_bytes {
            Some(stated) if stated != file.layout.width => Err(DataError::Dataset {
                path: path.into(),
                reason: format!(
                    "its header says that ids have {} bytes, but data.id_bytes (--id-bytes) is {stated}: omit it",
                    file.layout.width
                ),
            }),
            _ => file.with_vocab_size(vocab_size),
        }
    }

    fn open_as(
        path: &Path,
        width: impl FnOnce(&[u8]) -> Result<usize, Fault>,
    ) -> Result<Self, DataError> {
        let map = mapped::map(path)?;
        let layout = Layout::read(&map, path, width).map_err(|fault| fault.into_error(path))?;
        Ok(Self {
            path: path.into(),
            map: map.into(),
            layout,
            checked: none_checked(&layout),
        })
    }

    /// Requires all ids to be below `vocab_size`. For a file of foretoken, it must be the `vocab_size` in the header.
    ///
    /// # Errors
    ///
    /// A file of another vocabulary. Ids are checked when they are read.
    pub fn with_vocab_size(mut self, vocab_size: usize) -> Result<Self, DataError> {
        match self.layout.vocab_size {
            Some(own) if own != vocab_size => Err(DataError::Dataset {
                path: self.path.to_path_buf(),
                reason: format!(
                    "its tokens are of a vocabulary of {own} tokens, but the tokenizer has {vocab_size}: use the \
                     tokenizer that the file was made with"
                ),
            }),
            Some(_) => Ok(self),
            None => {
                self.layout.vocab_size = Some(vocab_size);
                self.checked = none_checked(&self.layout);
                Ok(self)
            }
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.layout.tokens
    }

    /// Returns the number that all ids are below. It is unknown for a foreign file until
    /// [`with_vocab_size`](Self::with_vocab_size) sets it.
    pub fn vocab_size(&self) -> Option<usize> {
        self.layout.vocab_size
    }

    /// Returns the number of bytes of the tokens in the file.
    pub(crate) fn token_bytes(&self) -> usize {
        self.layout.token_bytes()
    }

    /// Fills `out` with the ids from position `start` on. Blocks that are read for the first time are checked.
    ///
    /// # Errors
    ///
    /// A block whose checksum does not match, or an id outside the vocabulary, with its offset in the file.
    ///
    /// # Panics
    ///
    /// If the file has fewer tokens.
    pub fn read(&self, start: usize, out: &mut [u32]) -> Result<(), DataError> {
        let tokens = self.tokens();
        assert!(
            start <= tokens && out.len() <= tokens - start,
            "a file of {tokens} tokens does not have {} from {start} on",
            out.len()
        );
        if out.is_empty() {
            return Ok(());
        }
        let width = self.layout.width;
        let bytes = start * width..(start + out.len()) * width;
        for block in bytes.start / BLOCK..=(bytes.end - 1) / BLOCK {
            self.check_once(block)?;
        }
        format::decode(&self.map[self.layout.start..][bytes], width, out);
        Ok(())
    }

    /// Checks all blocks, including those that have been checked before. After each block, `progress` is called with
    /// the number of bytes of tokens that have been checked.
    ///
    /// # Errors
    ///
    /// The errors of [`read`](Self::read), for the first faulty block, and that of `progress`, which ends the check.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(u64) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        for block in 0..self.layout.blocks() {
            self.check(block)?;
            let done = (block + 1) * BLOCK;
            progress(done.min(self.token_bytes()) as u64)?;
        }
        Ok(())
    }

    /// Returns a SHA-256 that differs between files of different tokens. It covers the count, the bytes per token and
    /// the checksums. For a foreign file, which has no checksums, it covers up to 1024 evenly spread pieces of 1 MiB,
    /// which are all tokens of a file of up to 1 GiB.
    pub fn fingerprint(&self) -> [u8; 32] {
        let layout = &self.layout;
        let mut hasher = Sha256::new();
        hasher.update((layout.tokens as u64).to_le_bytes());
        hasher.update((layout.width as u64).to_le_bytes());
        if layout.checksums {
            hasher.update(&self.map[layout.table()]);
        } else {
            let tokens = &self.map[layout.start..];
            mapped::sample(tokens, &mut hasher);
        }
        hasher.finalize().into()
    }

    fn check_once(&self, block: usize) -> Result<(), DataError> {
        let (word, bit) = (&self.checked[block / 64], 1 << (block % 64));
        // Relaxed suffices: threads share only the bit, and the bytes of the map do not change.
        if word.load(Ordering::Relaxed) & bit == 0 {
            self.check(block)?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    fn check(&self, block: usize) -> Result<(), DataError> {
        let place = self.layout.block(block);
        self.check_bytes(block, place)
            .map_err(|fault| fault.into_error(&self.path))
    }

    fn check_bytes(&self, block: usize, place: Range<usize>) -> Result<(), Fault> {
        let layout = &self.layout;
        let bytes = &self.map[place.clone()];
        if layout.checksums {
            let stored = &self.map[layout.table()][block * 4..][..4];
            if crc32fast::hash(bytes).to_le_bytes() != stored {
                return Err(Fault::new(
                    place.start,
                    format!(
                        "the {} bytes from here do not match their checksum, so the file is damaged: copy or build \
                         it again",
                        bytes.len()
                    ),
                ));
            }
        }
        match layout.vocab_size {
            Some(vocab_size) => format::check_ids(bytes, layout.width, vocab_size)
                .map_err(|fault| fault.shifted(place.start)),
            None => Ok(()),
        }
    }
}

fn none_checked(layout: &Layout) -> Arc<[AtomicU64]> {
    let words = layout.blocks().div_ceil(64);
    (0..words).map(|_| AtomicU64::new(0)).collect()
}
