//! CSV and TSV: one document per row, from one column. The first row names the columns.
//!
//! A cell may be quoted; then it may contain separators and line ends, and quotes in it are doubled. The crate `csv`
//! divides rows into cells and accepts anything, so violations of these rules are detected before it.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use super::{
    compression,
    document::{BoxedDocuments, Document},
    message::{NOT_UTF8_ADVICE, name_list, wrong},
    options::{InvalidUtf8, MAX_RECORD_BYTES, ReadOptions},
};
use crate::DataError;

pub(super) fn documents(
    path: &Path,
    reader: compression::Reader,
    separator: u8,
    options: &ReadOptions,
) -> Result<BoxedDocuments, DataError> {
    let mut reader = ReaderBuilder::new()
        .delimiter(separator)
        .buffer_capacity(1 << 16)
        .from_reader(Checked::new(reader, separator));
    let header = reader
        .byte_headers()
        .map_err(|error| failure(path, error))?;
    let column = match header.is_empty() {
        // An empty file has no documents, like an empty file of JSON lines.
        true => 0,
        false => find_column(header, &options.text_field, separator)
            .map_err(|reason| wrong(path, "line 1", reason))?,
    };
    Ok(Box::new(Rows {
        path: path.into(),
        reader,
        column,
        invalid: options.invalid_utf8,
        row: ByteRecord::new(),
    }))
}

fn find_column(header: &ByteRecord, field: &str, separator: u8) -> Result<usize, String> {
    let mut columns = (0..header.len()).filter(|&column| &header[column] == field.as_bytes());
    let Some(column) = columns.next() else {
        let names: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
        let names = name_list(names.iter().map(|name| &**name));
        let separated = match header.len() {
            1 => format!(
                ", a single column, because the row does not contain {:?}",
                char::from(separator)
            ),
            _ => String::new(),
        };
        return Err(format!(
            "the first row names no column {field:?}: it has {names}{separated}; name the column of the text with \
             --text-field (data.text_field in an experiment)"
        ));
    };
    match columns.next() {
        None => Ok(column),
        Some(other) => Err(format!(
            "columns {} and {} are both named {field:?}: rename one",
            column + 1,
            other + 1
        )),
    }
}

struct Rows {
    path: PathBuf,
    reader: csv::Reader<Checked<compression::Reader>>,
    column: usize,
    invalid: InvalidUtf8,
    row: ByteRecord,
}

impl Iterator for Rows {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.read_byte_record(&mut self.row) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Err(failure(&self.path, error))),
        }
        let line = self.row.position().map_or(0, csv::Position::line);
        let cell = self.row.get(self.column).unwrap_or_default();
        let document = Document::new(cell.to_vec(), self.invalid);
        Some(document.map_err(|valid| {
            let reason = format!(
                "byte {} of the text is not UTF-8: {NOT_UTF8_ADVICE}",
                valid + 1
            );
            wrong(&self.path, format!("line {line}"), reason)
        }))
    }
}

fn failure(path: &Path, error: csv::Error) -> DataError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        ErrorKind::Io(error) => {
            let fault = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<Fault>());
            match fault {
                Some(Fault { line, reason }) => wrong(path, format!("line {line}"), *reason),
                None => DataError::Read {
                    path: path.into(),
                    reason: error,
                },
            }
        }
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            let reason = format!(
                "the row has {len} cells, but the first row has {expected_len}: quote cells that contain the separator or \
                 a line end"
            );
            wrong(path, format!("line {line}"), reason)
        }
        kind => DataError::Read {
            path: path.into(),
            reason: io::Error::other(format!("{kind:?}")),
        },
    }
}

/// Violation of the rules of quotes.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("line {line}: {reason}")]
struct Fault {
    line: u64,
    reason: &'static str,
}

const AFTER_QUOTE: &str = "there is more text after the quote that ends a cell: double the quotes within cells; if \
                           quotes are plain characters in this file, convert it to JSON lines";
const OPEN_QUOTE: &str = "the quote that begins a cell here is never closed: close it; if quotes are plain characters \
                          in this file, convert it to JSON lines";
const WHOLE_ROWS: &str = "the quotes that begin here enclose tabs and line ends, so they may be plain characters in \
                          several rows: convert the file to JSON lines";
const LONG_CELL: &str = "the row is longer than 32 MiB: close its quotes, or split the text";

#[derive(Clone, Copy, PartialEq)]
enum State {
    CellStart,
    Plain,
    Quoted,
    /// After a quote in a quoted cell, which ends the cell or is the first of two.
    QuoteInQuoted,
}

/// Reader that fails where bytes violate the rules of quotes.
struct Checked<R> {
    reader: R,
    separator: u8,
    state: State,
    line: u64,
    /// Line in which the quoted cell begins.
    begin: u64,
    /// Whether the quoted cell contains separators, and whether it contains line ends.
    holds: [bool; 2],
    /// Bytes of the row so far.
    length: usize,
    started: bool,
    done: bool,
}

impl<R> Checked<R> {
    fn new(reader: R, separator: u8) -> Self {
        Self {
            reader,
            separator,
            state: State::CellStart,
            line: 1,
            begin: 1,
            holds: [false; 2],
            length: 0,
            started: false,
            done: false,
        }
    }

    fn fault(&self, line: u64, reason: &'static str) -> Fault {
        Fault { line, reason }
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for &byte in bytes {
            let ends_cell = byte == self.separator || byte == b'\n' || byte == b'\r';
            self.length += 1;
            self.state = match self.state {
                State::CellStart if byte == b'"' => {
                    (self.begin, self.holds) = (self.line, [false; 2]);
                    State::Quoted
                }
                State::Quoted if byte == b'"' => State::QuoteInQuoted,
                State::Quoted => {
                    self.holds[0] |= byte == self.separator;
                    self.holds[1] |= byte == b'\n';
                    State::Quoted
                }
                State::QuoteInQuoted if byte == b'"' => State::Quoted,
                State::QuoteInQuoted if !ends_cell => {
                    return Err(self.fault(self.line, AFTER_QUOTE));
                }
                // Programs often write tables with tabs without quoting.
                State::QuoteInQuoted if self.separator == b'\t' && self.holds == [true; 2] => {
                    return Err(self.fault(self.begin, WHOLE_ROWS));
                }
                _ if ends_cell => State::CellStart,
                _ => State::Plain,
            };
            if byte == b'\n' {
                self.line += 1;
                if self.state == State::CellStart {
                    self.length = 0;
                }
            }
            if self.length > MAX_RECORD_BYTES {
                return Err(self.fault(self.line, LONG_CELL));
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Fault> {
        match self.state {
            State::Quoted => Err(self.fault(self.begin, OPEN_QUOTE)),
            State::QuoteInQuoted if self.separator == b'\t' && self.holds == [true; 2] => {
                Err(self.fault(self.begin, WHOLE_ROWS))
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let invalid = |fault| io::Error::new(io::ErrorKind::InvalidData, fault);
        let count = self.reader.read(buffer)?;
        let mut bytes = &buffer[..count];
        if !self.started && count > 0 {
            self.started = true;
            // A byte-order mark is not part of a cell; `csv` skips it, too.
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        self.check(bytes).map_err(invalid)?;
        if count == 0 && !buffer.is_empty() && !self.done {
            self.done = true;
            self.end().map_err(invalid)?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn read(table: &[u8], separator: u8, field: &str) -> Result<Vec<String>, String> {
        let options = ReadOptions {
            text_field: field.into(),
            ..ReadOptions::default()
        };
        let reader = Box::new(Cursor::new(table.to_vec()));
        documents(Path::new("a.csv"), reader, separator, &options)
            .and_then(|rows| rows.map(|row| row.map(|row| row.text)).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn column_of_the_given_name_is_read() {
        let csv = "\u{feff}id,text,more text\r\n1,\"a, \"\"b\"\"\nc\",x\r\n\r\n2,5\" pipe,\n3,,z\n4,\"\",\"\"";
        assert_eq!(
            read(csv.as_bytes(), b',', "text").unwrap(),
            ["a, \"b\"\nc", "5\" pipe", "", ""]
        );
        assert_eq!(
            read(csv.as_bytes(), b',', "more text").unwrap(),
            ["x", "", "z", ""]
        );
        let tsv = "text\tid\na, b\t1\n\"c\td\"\t2\n\"e\nf\"\t3\n";
        assert_eq!(
            read(tsv.as_bytes(), b'\t', "text").unwrap(),
            ["a, b", "c\td", "e\nf"]
        );
        assert!(read(b"", b',', "text").unwrap().is_empty());
        assert!(read(b"text\n", b',', "text").unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_line() {
        for (table, separator, line, expected) in [
            (
                "id,body\n1,a\n",
                b',',
                1,
                "no column \"text\": it has \"id\", \"body\"",
            ),
            ("id;text\n1;a\n", b',', 1, "a single column"),
            (
                "text,text\n1,a\n",
                b',',
                1,
                "columns 1 and 2 are both named \"text\"",
            ),
            (
                "id,text\n1,a\n2,b,c\n",
                b',',
                3,
                "3 cells, but the first row has 2",
            ),
            ("id,text\n1\n", b',', 2, "1 cells, but the first row has 2"),
            ("id,text\n1,\"a\n2,b\n", b',', 2, "never closed"),
            ("id,text\n1,a\n2,\"b\" c\n", b',', 3, "after the quote"),
            // Quotation marks of prose, in two rows.
            (
                "id\ttext\n1\t\"Wait.\n2\tHe left.\"\n",
                b'\t',
                2,
                "in several rows",
            ),
            ("text\n\"\tb\n\"", b'\t', 2, "in several rows"),
            ("text\ncaf\u{e9}\n", b',', 0, ""),
        ] {
            let mut bytes = table.as_bytes().to_vec();
            if line == 0 {
                // Encodes the table as Latin-1.
                bytes = table.chars().map(|character| character as u8).collect();
            }
            let error = read(&bytes, separator, "text").unwrap_err();
            let (line, expected) = match line {
                0 => (2, "byte 4 of the text is not UTF-8"),
                line => (line, expected),
            };
            let named = format!("a.csv, line {line}: ");
            assert!(
                error.contains(&named) && error.contains(expected),
                "{error}"
            );
        }
    }

    proptest! {
        /// Cells of any text that `csv` writes are read back unchanged.
        #[test]
        fn tables_are_read_as_written(
            texts in prop::collection::vec("[ -~é\n\r\t\",]{0,12}", 1..8),
            tabs in any::<bool>(),
        ) {
            let separator = if tabs { b'\t' } else { b',' };
            let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
            writer.write_record(["id", "text"]).unwrap();
            for text in &texts {
                writer.write_record(["1", text]).unwrap();
            }
            let table = writer.into_inner().unwrap();
            match read(&table, separator, "text") {
                Ok(found) => prop_assert_eq!(found, texts),
                Err(error) => prop_assert!(tabs && error.contains("several rows"), "{error}"),
            }
        }

        #[test]
        fn quotes_are_checked_the_same_in_any_pieces(
            table in "[a\",\t\n\r]{0,30}",
            split in any::<prop::sample::Index>(),
        ) {
            let bytes = table.as_bytes();
            let at = split.index(bytes.len() + 1);
            let check = |pieces: &[&[u8]]| {
                let mut checked = Checked::new(io::empty(), b',');
                pieces.iter().try_for_each(|piece| checked.check(piece)).and_then(|()| checked.end())
            };
            prop_assert_eq!(check(&[bytes]), check(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
