//! Reads the documents of a file. Each format has a module, and so has compression.

mod compression;
mod document;
mod json;
mod json_lines;
mod lines;
mod message;
mod options;
mod pages;
mod parquet;
mod records;
mod sniff;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

pub(crate) use self::document::Part;
pub use self::{
    document::Document,
    options::{
        InvalidUtf8, MAX_DECOMPRESSED_BYTES, MAX_HELD_PARQUET_BYTES, MAX_LINE_BYTES, ReadOptions,
    },
    records::{Column, MAX_RECORD_BYTES, Record, Records, records},
};

use self::{
    compression::{Reader, WithoutNul},
    document::{BoxedDocuments, BoxedParts, in_parts},
};
use crate::{DataError, Format, SourceFile};

/// Iterator over the documents of a file, in parts. It ends after an error.
pub(crate) struct Parts {
    parts: BoxedParts,
    failed: bool,
    position: Arc<AtomicU64>,
}

impl Parts {
    /// Returns the number of bytes on disk that have been read. For Parquet, of which one column is read, it is the
    /// share of the rows.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }
}

impl Iterator for Parts {
    type Item = Result<Part, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let part = self.parts.next();
        self.failed = matches!(part, Some(Err(_)));
        part
    }
}

/// Opens a file like [`documents`], and reads its documents in parts.
pub(crate) fn parts(file: &SourceFile, options: &ReadOptions) -> Result<Parts, DataError> {
    let position = Arc::new(AtomicU64::new(0));
    let opened = compression::open(file, &position)?;
    sniff::check(&file.path, file.format, options.format, &opened.head)?;
    let documents: BoxedDocuments = if file.format == Format::Parquet {
        parquet::documents(file, opened, options, &position)?
    } else {
        let path = &file.path;
        let reader: Reader = Box::new(WithoutNul::new(opened.reader));
        match file.format {
            Format::Text => {
                return Ok(Parts {
                    parts: text::parts(path, reader, options)?,
                    failed: false,
                    position,
                });
            }
            Format::JsonLines => json_lines::documents(path, reader, options),
            Format::Json => json::documents(path, reader, options),
            Format::Csv => table::documents(path, reader, b',', options)?,
            Format::Tsv | Format::Parquet => table::documents(path, reader, b'\t', options)?,
        }
    };
    let parts: BoxedParts = Box::new(documents.flat_map(in_parts));
    Ok(Parts {
        parts,
        failed: false,
        position,
    })
}

/// Iterator over the documents of a file. It ends after an error.
pub struct Documents(Parts);

impl Documents {
    /// Returns the number of bytes on disk that have been read. For Parquet, of which one column is read, it is the
    /// share of the rows.
    pub fn bytes_read(&self) -> u64 {
        self.0.bytes_read()
    }
}

impl Iterator for Documents {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut document = Document::default();
        for part in &mut self.0 {
            let part = match part {
                Ok(part) => part,
                Err(error) => return Some(Err(error)),
            };
            document.text += &part.text;
            document.replaced += part.replaced;
            if part.last {
                return Some(Ok(document));
            }
        }
        None
    }
}

/// Opens a file to read its documents. Plain text is one document, or with a separator the texts between the
/// separators; one newline directly before and one directly after a separator belong to it. JSON, CSV, TSV and Parquet
/// have one document per object, line or row; a null is an empty document.
///
/// gzip and zstd are recognised by their first bytes, whatever the name of the file. Each document is held in memory;
/// [`build`](crate::build()) reads plain text in parts.
///
/// # Errors
///
/// A file that cannot be opened; one that begins like a binary file, an archive, or text in UTF-16; plain text that
/// begins like JSON, unless `options` state its format; a table that is damaged or lacks the column. The iterator
/// returns every other error when it reads that place.
pub fn documents(file: &SourceFile, options: &ReadOptions) -> Result<Documents, DataError> {
    parts(file, options).map(Documents)
}

/// Refuses a file because of its first bytes, as [`documents`] does. `stated` is [`ReadOptions::format`].
pub(crate) fn check_head(file: &SourceFile, stated: Option<Format>) -> Result<(), DataError> {
    let opened = compression::open(file, &Arc::default())?;
    sniff::check(&file.path, file.format, stated, &opened.head)
}
