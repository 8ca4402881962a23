//! Plain text: a file is a document, or documents with a separator between them.

use std::{
    io::Read,
    iter,
    ops::Range,
    path::{Path, PathBuf},
};

use memchr::memmem::Finder;

use super::{BoxedDocuments, Document, InvalidUtf8, ReadOptions, compression};
use crate::DataError;

/// How much is read at once, searched, and what is complete handed out.
const BLOCK: usize = 1 << 16;

pub(super) fn documents(
    path: &Path,
    reader: compression::Reader,
    options: &ReadOptions,
) -> Result<BoxedDocuments, DataError> {
    if options.separator.as_deref() == Some("") {
        return Err(DataError::Dataset {
            path: path.into(),
            reason: "an empty separator separates nothing: leave it away, or give one such as <|endoftext|>"
                .into(),
        });
    }
    let path = path.to_path_buf();
    let invalid = options.invalid_utf8;
    Ok(match &options.separator {
        None => Box::new(iter::once_with(move || whole(path, reader, invalid))),
        Some(separator) => Box::new(Pieces::new(path, reader, separator, BLOCK, invalid)),
    })
}

fn whole(
    path: PathBuf,
    mut reader: compression::Reader,
    invalid: InvalidUtf8,
) -> Result<Document, DataError> {
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => {
            Document::new(bytes, invalid).map_err(|offset| DataError::NotUtf8 { path, offset })
        }
        Err(reason) => Err(DataError::Read { path, reason }),
    }
}

/// The documents between the separators. Only the one at hand is in memory.
pub(super) struct Pieces<R> {
    path: PathBuf,
    reader: R,
    separator: Finder<'static>,
    block: usize,
    invalid: InvalidUtf8,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    offset: u64,
    /// Where in the buffer the document begins, and from where on no separator was looked for.
    start: usize,
    searched: usize,
    /// There is a separator before the document.
    separated: bool,
    ended: bool,
    finished: bool,
}

impl<R: Read> Pieces<R> {
    pub(super) fn new(
        path: PathBuf,
        reader: R,
        separator: &str,
        block: usize,
        invalid: InvalidUtf8,
    ) -> Self {
        Self {
            path,
            reader,
            separator: Finder::new(separator).into_owned(),
            block,
            invalid,
            buffer: Vec::new(),
            offset: 0,
            start: 0,
            searched: 0,
            separated: false,
            ended: false,
            finished: false,
        }
    }

    fn next_document(&mut self) -> Result<Document, DataError> {
        loop {
            if let Some(found) = self.separator.find(&self.buffer[self.searched..]) {
                let end = self.searched + found;
                let document = self.document(self.start..end, true);
                self.start = end + self.separator.needle().len();
                self.searched = self.start;
                self.separated = true;
                return document;
            }
            if self.ended {
                self.finished = true;
                return self.document(self.start..self.buffer.len(), false);
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), DataError> {
        // A separator may have begun in what is there.
        let begun = self.separator.needle().len() - 1;
        self.searched = self.start.max(self.buffer.len().saturating_sub(begun));
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

    fn document(&self, range: Range<usize>, before_separator: bool) -> Result<Document, DataError> {
        let Range { mut start, mut end } = range;
        let bytes = &self.buffer[..end];
        if self.separated {
            let newline = [&b"\n"[..], b"\r\n"]
                .into_iter()
                .find(|newline| bytes[start..].starts_with(newline));
            start += newline.map_or(0, |newline| newline.len());
        }
        if before_separator {
            let newline = [&b"\r\n"[..], b"\n"]
                .into_iter()
                .find(|newline| bytes[start..].ends_with(newline));
            end -= newline.map_or(0, |newline| newline.len());
        }
        Document::new(bytes[start..end].to_vec(), self.invalid).map_err(|valid| {
            DataError::NotUtf8 {
                path: self.path.clone(),
                offset: self.offset as usize + start + valid,
            }
        })
    }
}

impl<R: Read> Iterator for Pieces<R> {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.finished).then(|| self.next_document())
    }
}
