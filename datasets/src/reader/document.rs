//! Documents of a file, and the parts in which long documents are read.

use std::iter;

use super::options::InvalidUtf8;
use crate::DataError;

/// Minimum number of bytes in a part that does not end its document; most such parts are about this long.
pub(super) const PART: usize = 1 << 20;

pub(super) type BoxedDocuments = Box<dyn Iterator<Item = Result<Document, DataError>> + Send>;
pub(super) type BoxedParts = Box<dyn Iterator<Item = Result<Part, DataError>> + Send>;

/// Text of one document. It may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Text, as it is in the file.
    pub text: String,
    /// Number of U+FFFD that replace invalid bytes.
    pub replaced: usize,
}

impl Document {
    /// Converts bytes to a document. The error is the number of bytes before the first invalid one.
    pub(super) fn new(bytes: Vec<u8>, invalid: InvalidUtf8) -> Result<Self, usize> {
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

/// Part of a document: all of it, or one of several in sequence. Plain text of any size is read in parts of about
/// 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) text: String,
    /// Number of U+FFFD that replace invalid bytes.
    pub(crate) replaced: usize,
    /// Whether the document ends with this part.
    pub(crate) last: bool,
}

impl Part {
    /// Converts bytes to a part. The error is the number of bytes before the first invalid one.
    pub(super) fn new(bytes: Vec<u8>, invalid: InvalidUtf8, last: bool) -> Result<Self, usize> {
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

/// Returns a document in one part, or in several if it is long.
pub(super) fn in_parts(
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
