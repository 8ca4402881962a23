//! Token files: token ids on disk, read through a memory map. Opening one reads its header and its
//! checksums; a block of tokens is checked when it is first read, so that a damaged file is an error
//! and never a wrong number.
//!
//! The format of foretoken, little-endian, is
//!
//! ```text
//! 64 bytes        "FORETOKN" | version u32 = 1 | bytes per token u32 | tokens u64 | vocab_size u64
//!                 | bytes per block u32 = 65536 | zeros | CRC-32 of the 60 bytes before
//! tokens          u16 each for a vocabulary of up to 65536 tokens, else u32
//! 4 bytes/block   CRC-32 of each block of 64 KiB of tokens, of which the last may be shorter
//! 4 bytes         CRC-32 of these checksums
//! ```
//!
//! Until a file is finished its header is zero. The files of llm.c, modded-nanoGPT and nanoGPT are
//! read as they are; they hold no checksums, and those of nanoGPT no header (see [`width`]).
//!
//! Not here: several files read as one stream, which is a [`Split`](crate::Split).

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

/// An open token file. Clones share the map, and what of it has been checked.
///
/// The file must not be changed while it is open: reading what has been cut off ends the process
/// with a signal, and a change in a block that has been checked goes unnoticed.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: Arc<Path>,
    map: Arc<Mmap>,
    layout: Layout,
    /// One bit per block: set once it has been found good.
    checked: Arc<[AtomicU64]>,
}

impl TokenFile {
    /// Opens a token file of foretoken, llm.c or modded-nanoGPT, by what it begins with, or one of
    /// nanoGPT, which has no header and 2 bytes per id, by its name: `*.bin`. The tokens themselves are not read.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, that is none of these, that was not finished, whose header or
    /// checksums are damaged, or whose length is not the one that its header gives.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        Self::open_by(path.as_ref(), |bytes| match bytes.len() % 2 {
            0 => Ok(2),
            _ => width::width(bytes, 1 << 16, None),
        })
    }

    /// Opens a token file whose ids are below `vocab_size`. A file without a header may have 2 or 4 bytes per id:
    /// which of both is told by its ids and the vocabulary, unless `id_bytes` states it.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open) and [`with_vocab_size`](Self::with_vocab_size); a file without a header that
    /// can be read in both ways, if nothing is stated; and a statement that the file contradicts.
    pub fn open_with(
        path: impl AsRef<Path>,
        vocab_size: usize,
        id_bytes: Option<usize>,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        if let Some(stated) = id_bytes.filter(|stated| ![2, 4].contains(stated)) {
            return Err(DataError::Dataset {
                path: "data.id_bytes".into(),
                reason: format!("{stated} is no width of ids: state 2 or 4"),
            });
        }
        let file = Self::open_by(path, |bytes| width::width(bytes, vocab_size, id_bytes))?;
        match id_bytes {
            Some(stated) if stated != file.layout.width => Err(DataError::Dataset {
                path: path.into(),
                reason: format!(
                    "its header says that ids have {} bytes, and data.id_bytes is {stated}: remove the key (--id-bytes)",
                    file.layout.width
                ),
            }),
            _ => file.with_vocab_size(vocab_size),
        }
    }

    fn open_by(
        path: &Path,
        width: impl FnOnce(&[u8]) -> Result<usize, Fault>,
    ) -> Result<Self, DataError> {
        let map = mapped::map(path)?;
        let layout = Layout::read(&map, path, width).map_err(|fault| fault.of(path))?;
        Ok(Self {
            path: path.into(),
            map: map.into(),
            layout,
            checked: nothing_checked(&layout),
        })
    }

    /// Limits the ids to those below `vocab_size`. A file of foretoken knows its own vocabulary, and
    /// only that is accepted.
    ///
    /// # Errors
    ///
    /// A file of another vocabulary. Ids are compared when they are read.
    pub fn with_vocab_size(mut self, vocab_size: usize) -> Result<Self, DataError> {
        match self.layout.vocab_size {
            Some(own) if own != vocab_size => Err(DataError::Dataset {
                path: self.path.to_path_buf(),
                reason: format!(
                    "its tokens are of a vocabulary of {own}, the tokenizer has {vocab_size}: use the \
                     tokenizer that the file was made with"
                ),
            }),
            Some(_) => Ok(self),
            None => {
                self.layout.vocab_size = Some(vocab_size);
                self.checked = nothing_checked(&self.layout);
                Ok(self)
            }
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.layout.tokens
    }

    /// The number that all ids are below. Of a foreign file it is not known until
    /// [`with_vocab_size`](Self::with_vocab_size) says it.
    pub fn vocab_size(&self) -> Option<usize> {
        self.layout.vocab_size
    }

    /// Bytes that the tokens take in the file.
    pub(crate) fn token_bytes(&self) -> usize {
        self.layout.token_bytes()
    }

    /// Copies the ids from the token at `start` on, as many as `out` holds. Blocks that have not been
    /// read before are checked first.
    ///
    /// # Errors
    ///
    /// A block whose checksum does not match, or an id outside the vocabulary, with its place in the
    /// file.
    ///
    /// # Panics
    ///
    /// If the file has fewer tokens.
    pub fn read(&self, start: usize, out: &mut [u32]) -> Result<(), DataError> {
        let tokens = self.tokens();
        assert!(
            start <= tokens && out.len() <= tokens - start,
            "a file of {tokens} tokens has not {} from {start} on",
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

    /// Checks all blocks, whether or not they have been checked before, and tells `progress` after
    /// each how many bytes of tokens are done.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read), for the first block that is not right.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<(), DataError> {
        for block in 0..self.layout.blocks() {
            self.check(block)?;
            let done = (block + 1) * BLOCK;
            progress(done.min(self.token_bytes()) as u64);
        }
        Ok(())
    }

    /// SHA-256 that tells files of different tokens apart: over the count, the bytes per token and the
    /// checksums; of a foreign file, which has none, over up to 1024 pieces of 1 MiB, spread evenly,
    /// so over all tokens of a file of up to 1 GiB.
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
        // The bit alone is shared, and the bytes never change: no other memory has to be seen with it.
        if word.load(Ordering::Relaxed) & bit == 0 {
            self.check(block)?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    fn check(&self, block: usize) -> Result<(), DataError> {
        let place = self.layout.block(block);
        self.check_bytes(block, place)
            .map_err(|fault| fault.of(&self.path))
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
                        "the {} bytes from here do not match their checksum, the file is damaged: copy or \
                         build it again",
                        bytes.len()
                    ),
                ));
            }
        }
        match layout.vocab_size {
            Some(vocab_size) => format::check_ids(bytes, layout.width, vocab_size)
                .map_err(|fault| fault.behind(place.start)),
            None => Ok(()),
        }
    }
}

fn nothing_checked(layout: &Layout) -> Arc<[AtomicU64]> {
    let words = layout.blocks().div_ceil(64);
    (0..words).map(|_| AtomicU64::new(0)).collect()
}
