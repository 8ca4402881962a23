//! Cuts documents into pieces that are encoded independently: the ids of all pieces, concatenated, are the ids of the
//! document. Only one piece is in memory, however long the document is.

use std::{mem, slice};

use super::{
    error::dataset,
    monitor::Monitor,
    scan::{LongDocument, SplitRule},
};
use crate::{
    DataError, ReadOptions, SourceFile,
    reader::{Part, Parts, parts},
};

/// Maximum number of bytes of a document without a place to cut it. Few tokenizers need long pieces: those whose word
/// rules this crate does not know, which must encode a whole document at once, and GPT-2's, whose words have no maximum
/// length. To encode a text at once, Hugging Face `tokenizers` needs about a hundred times the memory of the text.
pub const MAX_UNCUT_BYTES: usize = 16 << 20;

/// Part of a document that is encoded by itself.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Bytes of the text that are for training; the rest is for validation.
    pub(super) train: usize,
    /// Number of U+FFFD that replace invalid bytes, counted since the previous piece.
    pub(super) replaced: usize,
    /// Whether the document ends here.
    pub(super) last: bool,
}

/// Function that returns the last offset at which a text can be cut, or 0 if there is none.
pub(super) type StablePrefix<'a> = Box<dyn Fn(&str) -> usize + Send + 'a>;

/// Iterator over the pieces of all documents of some files.
pub(super) struct Pieces<'a> {
    files: slice::Iter<'a, SourceFile>,
    options: &'a ReadOptions,
    split_rule: SplitRule,
    /// Remaining documents of more than one part.
    long: slice::Iter<'a, LongDocument>,
    stable_prefix: StablePrefix<'a>,
    monitor: Monitor<'a>,
    file: Option<(&'a SourceFile, Parts)>,
    document: Option<Document<'a>>,
    failed: bool,
}

/// Document that is being read.
#[derive(Default)]
struct Document<'a> {
    /// Facts from the first pass; `None` for a document of one part.
    long: Option<&'a LongDocument>,
    /// Text that was read and not returned yet.
    held: String,
    replaced: usize,
    /// Bytes of `held` that have no place to cut.
    uncut: usize,
    /// Characters returned so far.
    characters: u64,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(
        files: &'a [SourceFile],
        options: &'a ReadOptions,
        split_rule: SplitRule,
        long: &'a [LongDocument],
        stable_prefix: StablePrefix<'a>,
        monitor: Monitor<'a>,
    ) -> Self {
        Self {
            files: files.iter(),
            options,
            split_rule,
            long: long.iter(),
            stable_prefix,
            monitor,
            file: None,
            document: None,
            failed: false,
        }
    }

    /// Returns the next part and its file.
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
                false => document.cut(&self.stable_prefix, file)?,
            };
            if end > 0 || part.last {
                let piece = document.take(end, part.last, self.split_rule);
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
    fn cut(
        &mut self,
        stable_prefix: &StablePrefix<'_>,
        file: &SourceFile,
    ) -> Result<usize, DataError> {
        let too_long = self.held.len() > MAX_UNCUT_BYTES;
        // After an unsuccessful search, the next one waits until the text has doubled, so that the cost stays linear.
        if self.held.len() < 2 * self.uncut && !too_long {
            return Ok(0);
        }
        let end = stable_prefix(&self.held);
        self.uncut = if end == 0 { self.held.len() } else { 0 };
        if end == 0 && too_long {
            return Err(dataset(
                &file.path,
                format!(
                    "a document has more than {} MiB without a place where the tokenizer allows a cut: split the text \
                     into documents, with --separator or as JSON lines, or use bpe:VOCAB, char or byte",
                    MAX_UNCUT_BYTES >> 20
                ),
            ));
        }
        Ok(end)
    }

    fn take(&mut self, end: usize, last: bool, split_rule: SplitRule) -> Piece {
        let rest = self.held.split_off(end);
        let text = mem::replace(&mut self.held, rest);
        let train = match self.long {
            None => split_rule.train_bytes(&text),
            Some(long) => {
                let characters = text.chars().count() as u64;
                let train = split_rule.train_characters(long);
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

/// Creates the error for a file that differs from what the first pass has read.
pub(super) fn has_changed(file: &SourceFile) -> DataError {
    dataset(
        &file.path,
        "has changed since the build started: build again".into(),
    )
}
