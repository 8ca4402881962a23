//! Options and limits of reading.

use crate::Format;

/// Maximum number of bytes in a line of JSON lines. A line is held in memory.
pub const MAX_LINE_BYTES: u64 = 32 << 20;

/// Maximum number of bytes to which gzip or zstd may expand a file. A hostile file can expand without end.
pub const MAX_DECOMPRESSED_BYTES: u64 = 1 << 40;

/// Maximum number of bytes in a Parquet file that gzip or zstd has compressed. Such a file is held in memory.
pub const MAX_HELD_PARQUET_BYTES: u64 = 128 << 20;

/// Maximum number of bytes in a JSON object or in a row of CSV or TSV.
pub(super) const MAX_RECORD_BYTES: usize = MAX_LINE_BYTES as usize;

/// Treatment of bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvalidUtf8 {
    /// Stop with an error that states their position.
    #[default]
    Refuse,
    /// Replace them by U+FFFD.
    Replace,
}

/// Options for reading documents from files.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Format of all files; `None` uses the extension of each file.
    pub format: Option<Format>,
    /// Key in JSON, or column of CSV, TSV and Parquet, that holds the text.
    pub text_field: String,
    /// Separator between the documents of a plain text, such as `<|endoftext|>`. Without one, each file is one
    /// document.
    pub separator: Option<String>,
    /// Treatment of bytes that are not UTF-8.
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
