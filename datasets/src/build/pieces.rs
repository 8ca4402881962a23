//! Documents in pieces that can be encoded one by one: the ids of all pieces, one after the other, are
//! those of the document. Only a piece is in memory, however long the document is.

use std::{mem, slice};

use super::{Monitor, dataset, scan::Long, scan::Share};
use crate::{
    DataError, ReadOptions, SourceFile,
    reader::{Part, Parts, parts},
};

/// Bytes that a document may have without a place to cut it. Few tokenizers need as much: those whose words
/// this crate does not know, which get a document whole, and GPT-2's, whose words have no limit. What
/// Hugging Face `tokenizers` takes to encode a text at once is about a hundred times the text.
pub const MAX_UNCUT_BYTES: usize = 16 << 20;

/// A stretch of a document that is encoded by itself.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Bytes of the text that are for training; the rest is for validation.
    pub(super) train: usize,
    /// How many U+FFFD were put in for invalid bytes, up to the end of the piece.
    pub(super) replaced: usize,
    /// Whether the document ends here.
    pub(super) last: bool,
}

/// The end of a beginning of a text after which it can be cut, 0 where there is none.
pub(super) type Settled<'a> = Box<dyn Fn(&str) -> usize + Send + 'a>;

/// The pieces of all documents of some files, one after the other.
pub(super) struct Pieces<'a> {
    files: slice::Iter<'a, SourceFile>,
    options: &'a ReadOptions,
    share: Share,
    /// The documents of more than one part that follow.
    long: slice::Iter<'a, Long>,
    settled: Settled<'a>,
    monitor: Monitor<'a>,
    file: Option<(&'a SourceFile, Parts)>,
    document: Option<Document<'a>>,
    failed: bool,
}

/// A document that has begun.
#[derive(Default)]
struct Document<'a> {
    /// Findings of the first pass; `None` for a document of one part.
    long: Option<&'a Long>,
    /// Text that was read and not handed out yet.
    held: String,
    replaced: usize,
    /// Bytes of `held` in which no place to cut was found.
    uncut: usize,
    /// Characters that have been handed out.
    characters: u64,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(
        files: &'a [SourceFile],
        options: &'a ReadOptions,
        share: Share,
        long: &'a [Long],
        settled: Settled<'a>,
        monitor: Monitor<'a>,
    ) -> Self {
        Self {
            files: files.iter(),
            options,
            share,
            long: long.iter(),
            settled,
            monitor,
            file: None,
            document: None,
            failed: false,
        }
    }

    /// The next part, and the file that it is of.
    fn part(&mut self) -> Result<Option<(&'a SourceFile, Part)>, DataError> {
        self.monitor.check()?;
        loop {
            if let Some((file, parts)) = &mut self.file
                && let Some(part) = parts.next()
            {
                return Ok(Some((*file, part?)));
            }
            match self.files.next() {
                Some(file) => self.file = Some((file, parts(file, self.options)?)),
                None => return Ok(None),
            }
        }
    }

    fn piece(&mut self) -> Result<Option<Piece>, DataError> {
        while let Some((file, part)) = self.part()? {
            let mut document = match self.document.take() {
                Some(document) => document,
                None if part.last => Document::default(),
                None => Document {
                    long: Some(self.long.next().ok_or_else(|| has_changed(file))?),
                    ..Document::default()
                },
            };
            document.replaced += part.replaced;
            match document.held.is_empty() {
                true => document.held = part.text,
                false => document.held += &part.text,
            }
            let end = match part.last {
                true => document.held.len(),
                false => document.cut(&self.settled, file)?,
            };
            if end > 0 || part.last {
                let piece = document.take(end, part.last, self.share);
                if !part.last {
                    self.document = Some(document);
                }
                return Ok(Some(piece));
            }
            self.document = Some(document);
        }
        Ok(None)
    }
}

impl Document<'_> {
    /// Returns how many bytes of the held text to cut off, or 0 if none can be cut yet.
    fn cut(&mut self, settled: &Settled<'_>, file: &SourceFile) -> Result<usize, DataError> {
        let too_long = self.held.len() > MAX_UNCUT_BYTES;
        // What has been looked at in vain is looked at again when it has doubled.
        if self.held.len() < 2 * self.uncut && !too_long {
            return Ok(0);
        }
        let end = settled(&self.held);
        self.uncut = if end == 0 { self.held.len() } else { 0 };
        if end == 0 && too_long {
            return Err(dataset(
                &file.path,
                format!(
                    "a document has more than {} MiB without a place where its tokenizer lets it be cut: split \
                     the text into documents, with --separator or as JSON lines, or take bpe:VOCAB, char or byte",
                    MAX_UNCUT_BYTES >> 20
                ),
            ));
        }
        Ok(end)
    }

    fn take(&mut self, end: usize, last: bool, share: Share) -> Piece {
        let rest = self.held.split_off(end);
        let text = mem::replace(&mut self.held, rest);
        let train = match self.long {
            None => share.train_bytes(&text),
            Some(long) => {
                let characters = text.chars().count() as u64;
                let train = share.train_characters(long);
                let here = train.saturating_sub(self.characters);
                self.characters += characters;
                match here >= characters {
                    true => text.len(),
                    false => text
                        .char_indices()
                        .nth(here as usize)
                        .map_or(text.len(), |(offset, _)| offset),
                }
            }
        };
        Piece {
            text,
            train,
            replaced: mem::take(&mut self.replaced),
            last,
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let piece = self.piece().transpose();
        self.failed = matches!(piece, Some(Err(_)));
        piece
    }
}

/// A file is not what the first pass has read.
pub(super) fn has_changed(file: &SourceFile) -> DataError {
    dataset(
        &file.path,
        "has changed since the build began: build again".into(),
    )
}
