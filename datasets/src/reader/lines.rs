//! Lines of a file, of limited length and with their numbers.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{compression, message::wrong};
use crate::DataError;

/// Reader of the lines of a file that are not blank.
pub(super) struct NumberedLines {
    path: PathBuf,
    reader: BufReader<compression::Reader>,
    limit: u64,
    /// Advice in the message about a line that is too long.
    advice: &'static str,
    line: Vec<u8>,
    number: u64,
}

impl NumberedLines {
    /// Creates a reader that refuses lines of more than `limit` bytes, with advice.
    pub(super) fn new(
        path: &Path,
        reader: compression::Reader,
        limit: u64,
        advice: &'static str,
    ) -> Self {
        Self {
            path: path.into(),
            reader: BufReader::with_capacity(1 << 16, reader),
            limit,
            advice,
            line: Vec::new(),
            number: 0,
        }
    }

    /// Returns the next line that is not blank, without white space around it; `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> Result<Option<&[u8]>, DataError> {
        loop {
            self.line.clear();
            let mut limited = self.reader.by_ref().take(self.limit + 1);
            match limited.read_until(b'\n', &mut self.line) {
                Ok(0) => return Ok(None),
                Ok(bytes) if bytes as u64 > self.limit => {
                    self.number += 1;
                    return Err(self.wrong(format!(
                        "the line has more than {} MiB, the limit: {}",
                        self.limit >> 20,
                        self.advice
                    )));
                }
                Ok(_) => self.number += 1,
                Err(reason) => {
                    let path = self.path.clone();
                    return Err(DataError::Read { path, reason });
                }
            }
            if !self.trimmed().is_empty() {
                return Ok(Some(self.trimmed()));
            }
        }
    }

    fn trimmed(&self) -> &[u8] {
        let mut line = &self.line[..];
        if self.number == 1 {
            // A byte-order mark is not part of the document.
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        line.trim_ascii()
    }

    /// Returns the place of the last line, for messages.
    pub(super) fn place(&self) -> String {
        format!("line {}", self.number)
    }

    /// Creates the error for a fault in the last line.
    pub(super) fn wrong(&self, reason: String) -> DataError {
        wrong(&self.path, self.place(), reason)
    }
}
