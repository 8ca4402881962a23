//! A file → its documents, one after the other. Each format has a file of its own below this one,
//! and so has compression; what they have in common is here.

mod compression;
mod json;
mod json_lines;
mod parquet;
mod sniff;
mod table;
mod text;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use compression::{Reader, WithoutNul};

use crate::{DataError, Format, SourceFile};

/// What to do with bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvalidUtf8 {
    /// Stop with an error that says where they are.
    #[default]
    Refuse,
    /// Put U+FFFD in their place.
    Replace,
}

/// How to take documents out of a file.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The format of all files, whatever they are called; by default that which their names say.
    pub format: Option<Format>,
    /// The key in JSON, or the column of CSV, TSV and Parquet, that holds the text.
    pub text_field: String,
    /// What stands between the documents of a plain text, such as `<|endoftext|>`. Without it
    /// a file is one document.
    pub separator: Option<String>,
    /// What to do with bytes that are not UTF-8.
    pub invalid_utf8: InvalidUtf8,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: None,
            text_field: "text".into(),
            separator: None,
            invalid_utf8: InvalidUtf8::Refuse,
        }
    }
}

/// One text, to be learned as a whole. It may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The text, as it is in the file.
    pub text: String,
    /// How many U+FFFD were put in for invalid bytes.
    pub replaced: usize,
}

impl Document {
    /// On failure, how many bytes are valid.
    fn new(bytes: Vec<u8>, invalid: InvalidUtf8) -> Result<Self, usize> {
        let error = match String::from_utf8(bytes) {
            Ok(text) => return Ok(Self { text, replaced: 0 }),
            Err(error) => error,
        };
        if invalid == InvalidUtf8::Refuse {
            return Err(error.utf8_error().valid_up_to());
        }
        let mut document = Self::default();
        for chunk in error.as_bytes().utf8_chunks() {
            document.text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                document.text.push(char::REPLACEMENT_CHARACTER);
                document.replaced += 1;
            }
        }
        Ok(document)
    }
}

/// Bytes of the longest JSON object and the longest row of CSV or TSV that is read.
const LONGEST_RECORD: usize = 64 << 20;

type BoxedDocuments = Box<dyn Iterator<Item = Result<Document, DataError>> + Send>;

/// The documents of one file, in their order. After an error nothing follows.
pub struct Documents {
    documents: BoxedDocuments,
    failed: bool,
    position: Arc<AtomicU64>,
}

impl Documents {
    /// How far the file is read, in bytes on disk. Of a Parquet file, in which only one column is
    /// read, the share of its rows.
    pub fn bytes_read(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }
}

impl Iterator for Documents {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let document = self.documents.next();
        self.failed = matches!(document, Some(Err(_)));
        document
    }
}

/// Opens a file. A plain text is one document, or with a separator as many as stand between the
/// separators; a newline directly before and one directly after a separator belong to it. JSON, CSV, TSV
/// and Parquet hold a document per object, line or row; one that is null is an empty document.
///
/// gzip and zstd are recognised by their first bytes, whatever the name says. A compressed Parquet
/// file is held in memory.
///
/// # Errors
///
/// A file that cannot be opened; one that begins like a binary file, like an archive, or like text in UTF-16; a
/// plain text that begins like JSON, unless `options` state its format; a table that is damaged or lacks the
/// column. Whatever else is wrong with the file is an error of the iterator, where it is met.
pub fn documents(file: &SourceFile, options: &ReadOptions) -> Result<Documents, DataError> {
    let position = Arc::new(AtomicU64::new(0));
    let opened = compression::open(file, &position)?;
    sniff::check(&file.path, file.format, options.format, &opened.head)?;
    let documents: BoxedDocuments = if file.format == Format::Parquet {
        parquet::documents(file, opened, options, &position)?
    } else {
        let path = &file.path;
        let reader: Reader = Box::new(WithoutNul::new(opened.reader));
        match file.format {
            Format::Text => text::documents(path, reader, options)?,
            Format::JsonLines => json_lines::documents(path, reader, options),
            Format::Json => json::documents(path, reader, options),
            Format::Csv => table::documents(path, reader, b',', options)?,
            Format::Tsv | Format::Parquet => table::documents(path, reader, b'\t', options)?,
        }
    };
    Ok(Documents {
        documents,
        failed: false,
        position,
    })
}

/// Refuses a file for what it begins with, as [`documents`] does; `stated` is [`ReadOptions::format`].
pub(crate) fn check_head(file: &SourceFile, stated: Option<Format>) -> Result<(), DataError> {
    let opened = compression::open(file, &Arc::default())?;
    sniff::check(&file.path, file.format, stated, &opened.head)
}

fn wrong(path: &Path, place: impl Into<String>, reason: impl Into<String>) -> DataError {
    DataError::Document {
        path: path.into(),
        place: place.into(),
        reason: reason.into(),
    }
}

/// `"id", "url" and 3 more`, in one line whatever the names hold.
fn name_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    match names.len() {
        0 => "none".into(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

#[cfg(test)]
mod tests;
