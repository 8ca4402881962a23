//! Plain text: one document, or the documents between separators. It is read in parts, so that documents may be larger
//! than memory.

use std::{
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

use memchr::memmem::Finder;

use super::{
    compression,
    document::{BoxedParts, PART, Part},
    options::{InvalidUtf8, ReadOptions},
};
use crate::DataError;

/// Bytes per read.
const BLOCK: usize = 1 << 16;

pub(super) fn parts(
    path: &Path,
    reader: compression::Reader,
    options: &ReadOptions,
) -> Result<BoxedParts, DataError> {
    if options.separator.as_deref() == Some("") {
        return Err(DataError::Dataset {
            path: path.into(),
            reason: "the separator is empty: omit it, or give one such as <|endoftext|>".into(),
        });
    }
    Ok(Box::new(Parts::new(
        path.into(),
        reader,
        options.separator.as_deref(),
        [BLOCK, PART],
        options.invalid_utf8,
    )))
}

/// Iterator over the parts of the documents between the separators.
pub(super) struct Parts<R> {
    path: PathBuf,
    reader: R,
    separator: Option<Finder<'static>>,
    block: usize,
    part: usize,
    invalid: InvalidUtf8,
    buffer: Vec<u8>,
    /// Offset of the buffer in the file.
    offset: u64,
    /// Start of the next part in the buffer.
    start: usize,
    /// Position in the buffer before which no separator begins.
    searched: usize,
    /// Whether a separator precedes the document.
    separated: bool,
    /// Whether a part of the document has been returned.
    begun: bool,
    /// Whether the reader is at its end.
    ended: bool,
    /// Whether the last part has been returned.
    finished: bool,
}

impl<R: Read> Parts<R> {
    /// Creates the iterator, which reads `block` bytes at a time and returns parts of about `part` bytes.
    pub(super) fn new(
        path: PathBuf,
        reader: R,
        separator: Option<&str>,
        [block, part]: [usize; 2],
        invalid: InvalidUtf8,
    ) -> Self {
        Self {
            path,
            reader,
            separator: separator.map(|separator| Finder::new(separator).into_owned()),
            block,
            part: part.max(2),
            invalid,
            buffer: Vec::new(),
            offset: 0,
            start: 0,
            searched: 0,
            separated: false,
            begun: false,
            ended: false,
            finished: false,
        }
    }

    fn next_part(&mut self) -> Result<Part, DataError> {
        loop {
            if let Some(separator) = &self.separator
                && let Some(found) = separator.find(&self.buffer[self.searched..])
            {
                let end = self.searched + found;
                let after = end + separator.needle().len();
                let part = self.last(self.start..end, true);
                self.start = after;
                self.searched = after;
                self.separated = true;
                return part;
            }
            if self.ended {
                self.finished = true;
                return self.last(self.start..self.buffer.len(), false);
            }
            self.mark_searched();
            // Two more bytes are kept, for the newline that belongs to a separator.
            let end = self.character_start(self.searched.saturating_sub(2));
            if end >= self.start + self.part {
                let part = self.text(self.start..end, false);
                self.start = end;
                self.begun = true;
                return part;
            }
            self.read()?;
        }
    }

    /// Returns the last part of a document.
    fn last(&mut self, range: Range<usize>, before_separator: bool) -> Result<Part, DataError> {
        let Range { start, mut end } = range;
        if before_separator {
            let from = start + self.leading_newline(&self.buffer[start..end]);
            let newline = [&b"\r\n"[..], b"\n"]
                .into_iter()
                .find(|newline| self.buffer[from..end].ends_with(newline));
            end -= newline.map_or(0, |newline| newline.len());
        }
        let part = self.text(start..end, true);
        self.begun = false;
        part
    }

    /// Returns the length of the newline that follows a separator at the start of a document.
    fn leading_newline(&self, bytes: &[u8]) -> usize {
        if !self.separated || self.begun {
            return 0;
        }
        [&b"\n"[..], b"\r\n"]
            .into_iter()
            .find(|newline| bytes.starts_with(newline))
            .map_or(0, |newline| newline.len())
    }

    fn text(&self, range: Range<usize>, last: bool) -> Result<Part, DataError> {
        let start = range.start + self.leading_newline(&self.buffer[range.clone()]);
        let bytes = self.buffer[start..range.end].to_vec();
        Part::new(bytes, self.invalid, last).map_err(|valid| DataError::NotUtf8 {
            path: self.path.clone(),
            offset: self.offset as usize + start + valid,
        })
    }

    /// Marks the buffer as searched, except for its end, where a separator may have begun.
    fn mark_searched(&mut self) {
        let begun = match &self.separator {
            Some(separator) => separator.needle().len() - 1,
            None => 0,
        };
        self.searched = self.start.max(self.buffer.len().saturating_sub(begun));
    }

    /// Returns the last position up to `end` that does not divide a UTF-8 character. Dividing the text there keeps the
    /// errors of invalid bytes the same.
    fn character_start(&self, end: usize) -> usize {
        let continues = |at: &usize| self.buffer.get(*at).is_some_and(|byte| byte >> 6 == 0b10);
        let back = end.saturating_sub(3)..=end;
        back.rev().find(|at| !continues(at)).unwrap_or(end)
    }

    fn read(&mut self) -> Result<(), DataError> {
        self.buffer.drain(..self.start);
        self.offset += self.start as u64;
        self.searched -= self.start;
        self.start = 0;
        let before = self.buffer.len();
        self.reader
            .by_ref()
            .take(self.block as u64)
            .read_to_end(&mut self.buffer)
            .map_err(|reason| DataError::Read {
                path: self.path.clone(),
                reason,
            })?;
        self.ended = self.buffer.len() == before;
        Ok(())
    }
}

impl<R: Read> Iterator for Parts<R> {
    type Item = Result<Part, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.finished).then(|| self.next_part())
    }
}
