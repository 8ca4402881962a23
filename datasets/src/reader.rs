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
    iter,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use compression::{Reader, WithoutNul};

use crate::{DataError, Format, SourceFile};

/// Bytes of a line of JSON lines: a line is held in memory.
pub const MAX_LINE_BYTES: u64 = 32 << 20;

/// Bytes that gzip or zstd may expand a file to: a file made to do harm expands without end.
pub const MAX_DECOMPRESSED_BYTES: u64 = 1 << 40;

/// Bytes of a Parquet file that is compressed as a whole, and is therefore held in memory.
pub const MAX_HELD_PARQUET_BYTES: u64 = 128 << 20;

/// Bytes of a part of a document that goes on: about as many, at least.
const PART: usize = 1 << 20;

/// How to read a text that is not UTF-8.
const NOT_UTF8_ADVICE: &str = "convert the file first, for example with iconv -t UTF-8, or build it with \
                               foretoken data build --invalid-utf8 replace";

/// How to say which field is the text.
const FIELD_ADVICE: &str =
    "name the one that is the text with --text-field, or in an experiment with data.text_field";

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
const LONGEST_RECORD: usize = MAX_LINE_BYTES as usize;

/// A stretch of a document: all of it, or one of several that are the document one after the other. A
/// plain text of any size comes in parts of about 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) text: String,
    /// How many U+FFFD were put in for invalid bytes.
    pub(crate) replaced: usize,
    /// Whether the document ends here.
    pub(crate) last: bool,
}

impl Part {
    /// On failure, how many bytes are valid.
    fn new(bytes: Vec<u8>, invalid: InvalidUtf8, last: bool) -> Result<Self, usize> {
        let document = Document::new(bytes, invalid)?;
        Ok(Self {
            last,
            ..document.into()
        })
    }
}

impl From<Document> for Part {
    fn from(Document { text, replaced }: Document) -> Self {
        Self {
            text,
            replaced,
            last: true,
        }
    }
}

type BoxedDocuments = Box<dyn Iterator<Item = Result<Document, DataError>> + Send>;
type BoxedParts = Box<dyn Iterator<Item = Result<Part, DataError>> + Send>;

/// The documents of one file in parts, in their order. After an error nothing follows.
pub(crate) struct Parts {
    parts: BoxedParts,
    failed: bool,
    position: Arc<AtomicU64>,
}

impl Parts {
    /// How far the file is read, in bytes on disk. Of a Parquet file, in which only one column is
    /// read, the share of its rows.
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

/// Opens a file, see [`documents`].
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

/// A document in one part, or in several where it is long.
fn in_parts(
    document: Result<Document, DataError>,
) -> impl Iterator<Item = Result<Part, DataError>> {
    let mut rest = Some(document.map(Part::from));
    iter::from_fn(move || {
        let mut part = match rest.take()? {
            Ok(part) => part,
            error => return Some(error),
        };
        if part.text.len() > 2 * PART {
            let end = part.text.floor_char_boundary(PART);
            let text = part.text.drain(..end).collect();
            let first = Part {
                text,
                replaced: std::mem::take(&mut part.replaced),
                last: false,
            };
            rest = Some(Ok(part));
            part = first;
        }
        Some(Ok(part))
    })
}

/// The documents of one file, in their order. After an error nothing follows.
pub struct Documents(Parts);

impl Documents {
    /// How far the file is read, in bytes on disk. Of a Parquet file, in which only one column is
    /// read, the share of its rows.
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

/// Opens a file. A plain text is one document, or with a separator as many as stand between the
/// separators; a newline directly before and one directly after a separator belong to it. JSON, CSV, TSV
/// and Parquet hold a document per object, line or row; one that is null is an empty document.
///
/// gzip and zstd are recognised by their first bytes, whatever the name says. A document is held in
/// memory; [`build`](crate::build()) reads a plain text in parts.
///
/// # Errors
///
/// A file that cannot be opened; one that begins like a binary file, like an archive, or like text in UTF-16; a
/// plain text that begins like JSON, unless `options` state its format; a table that is damaged or lacks the
/// column. Whatever else is wrong with the file is an error of the iterator, where it is met.
pub fn documents(file: &SourceFile, options: &ReadOptions) -> Result<Documents, DataError> {
    parts(file, options).map(Documents)
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
