//! JSON: objects in sequence, in any layout of lines, or one array of objects. Only one object at a time is in memory.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{
    compression,
    document::{BoxedDocuments, Document},
    json_lines,
    message::wrong,
    options::{InvalidUtf8, MAX_RECORD_BYTES, ReadOptions},
};
use crate::DataError;

pub(super) fn documents(
    path: &Path,
    reader: compression::Reader,
    options: &ReadOptions,
) -> BoxedDocuments {
    Box::new(Objects {
        path: path.into(),
        bytes: Bytes {
            reader: BufReader::with_capacity(1 << 16, reader),
            line: 1,
        },
        field: options.text_field.clone(),
        invalid: options.invalid_utf8,
        object: Vec::new(),
        position: Position::Start,
    })
}

struct Objects<R> {
    path: PathBuf,
    bytes: Bytes<R>,
    field: String,
    invalid: InvalidUtf8,
    object: Vec<u8>,
    position: Position,
}

/// Position in the file, which determines what may follow.
#[derive(Clone, Copy, PartialEq)]
enum Position {
    /// Start of the file: an object, an array, or the end.
    Start,
    /// Between objects that are not in an array: an object or the end.
    Outside,
    /// After the bracket that opens the array: an object, or the bracket that closes it.
    ArrayStart,
    /// After a comma: an object.
    Element,
    /// After an object of the array: a comma or the closing bracket.
    AfterElement,
    /// After the array: the end.
    AfterArray,
}

impl<R: BufRead> Objects<R> {
    /// Reads the next object into `object`, and returns the line in which it begins; `None` at the end.
    fn next_object(&mut self) -> Result<Option<u64>, DataError> {
        loop {
            let byte = self
                .bytes
                .skip_white_space()
                .map_err(|reason| self.read_error(reason))?;
            let line = self.bytes.line;
            let expected = match (self.position, byte) {
                // A byte-order mark, which is not part of a document.
                (Position::Start, Some(0xef)) if self.bytes.take_mark() => continue,
                (Position::Start, Some(b'[')) => {
                    self.step(Position::ArrayStart);
                    continue;
                }
                (Position::ArrayStart | Position::AfterElement, Some(b']')) => {
                    self.step(Position::AfterArray);
                    continue;
                }
                (Position::AfterElement, Some(b',')) => {
                    self.step(Position::Element);
                    continue;
                }
                (Position::Start | Position::Outside, Some(b'{')) => {
                    self.position = Position::Outside;
                    return self.read_object().map(|()| Some(line));
                }
                (Position::ArrayStart | Position::Element, Some(b'{')) => {
                    self.position = Position::AfterElement;
                    return self.read_object().map(|()| Some(line));
                }
                (Position::Start | Position::Outside | Position::AfterArray, None) => {
                    return Ok(None);
                }
                (Position::Start, _) => "an object, or an array of objects",
                (Position::Outside | Position::Element, _) => "an object",
                (Position::ArrayStart, _) => "an object, or the end of the array",
                (Position::AfterElement, _) => "a comma, or the end of the array",
                (Position::AfterArray, _) => "nothing more after the array",
            };
            let found = match byte {
                Some(byte) if byte.is_ascii_graphic() => format!("{:?}", char::from(byte)),
                Some(byte) => format!("byte {byte:#04x}"),
                None => "the end of the file".into(),
            };
            let reason = format!(
                "expected {expected}, found {found}: each text must be a field of an object, and the objects must be in \
                 sequence or in one array"
            );
            return Err(self.wrong(line, reason));
        }
    }

    fn step(&mut self, position: Position) {
        self.bytes.reader.consume(1);
        self.position = position;
    }

    /// Reads the bytes of an object into `object`, from its opening brace to its closing one.
    fn read_object(&mut self) -> Result<(), DataError> {
        let begin = self.bytes.line;
        self.object.clear();
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        loop {
            let block = match self.bytes.reader.fill_buf() {
                Ok(block) => block,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(reason) => return Err(self.read_error(reason)),
            };
            if block.is_empty() {
                let reason = "the file ends within this object: get the whole file, or add the missing brace";
                return Err(self.wrong(begin, reason.into()));
            }
            let mut used = 0;
            let mut closed = false;
            for &byte in block {
                used += 1;
                if byte == b'\n' {
                    self.bytes.line += 1;
                }
                if in_string {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => in_string = false,
                        _ => {}
                    }
                    continue;
                }
                match byte {
                    b'"' => in_string = true,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    closed = true;
                    break;
                }
            }
            self.object.extend_from_slice(&block[..used]);
            self.bytes.reader.consume(used);
            if closed {
                return Ok(());
            }
            if self.object.len() > MAX_RECORD_BYTES {
                let reason = format!(
                    "this object is longer than {} MiB: split the text, or add the missing brace",
                    MAX_RECORD_BYTES >> 20
                );
                return Err(self.wrong(begin, reason));
            }
        }
    }

    fn read_error(&self, reason: std::io::Error) -> DataError {
        DataError::Read {
            path: self.path.clone(),
            reason,
        }
    }

    fn wrong(&self, line: u64, reason: String) -> DataError {
        wrong(&self.path, format!("line {line}"), reason)
    }
}

impl<R: BufRead> Iterator for Objects<R> {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.next_object() {
            Ok(line) => line?,
            Err(error) => return Some(Err(error)),
        };
        let document = json_lines::document(&self.object, &self.field, self.invalid);
        Some(document.map_err(|reason| self.wrong(line, reason)))
    }
}

/// Reader that counts lines from 1.
struct Bytes<R> {
    reader: R,
    line: u64,
}

impl<R: BufRead> Bytes<R> {
    /// Consumes white space, and returns the byte after it without consuming it.
    fn skip_white_space(&mut self) -> std::io::Result<Option<u8>> {
        loop {
            let block = match self.reader.fill_buf() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                block => block?,
            };
            if block.is_empty() {
                return Ok(None);
            }
            let white = block
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            self.line += memchr::memchr_iter(b'\n', &block[..white]).count() as u64;
            let next = block.get(white).copied();
            self.reader.consume(white);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Consumes a byte-order mark and returns whether there was one. At the start of a file, the buffer holds all of
    /// it.
    fn take_mark(&mut self) -> bool {
        let mark = b"\xef\xbb\xbf";
        let begins = self
            .reader
            .fill_buf()
            .is_ok_and(|block| block.starts_with(mark));
        if begins {
            self.reader.consume(mark.len());
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// Reads the texts with a buffer of `block` bytes.
    fn read(json: &[u8], block: usize) -> Result<Vec<String>, String> {
        let objects = Objects {
            path: "a.json".into(),
            bytes: Bytes {
                reader: BufReader::with_capacity(block, Cursor::new(json.to_vec())),
                line: 1,
            },
            field: "text".into(),
            invalid: InvalidUtf8::Refuse,
            object: Vec::new(),
            position: Position::Start,
        };
        objects
            .map(|document| document.map(|document| document.text))
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn objects_may_have_any_layout() {
        let texts = ["a", "\"]}\\", "c"];
        for json in [
            r#"[{"text": "a"}, {"text": "\"]}\\"}, {"text": "c"}]"#,
            "{\"text\": \"a\"}\n{\"text\": \"\\\"]}\\\\\"}\n{\"text\": \"c\"}\n",
            "\u{feff}\n{\n  \"text\":\n\"a\"\n}{\"text\": \"\\\"]}\\\\\"} \t{\"n\": {}, \"text\": \"c\"}",
            "\u{feff} [ {\"text\": \"a\"}\n,{\"text\": \"\\\"]}\\\\\"},\n{\"text\": \"c\"}\n] \n",
        ] {
            assert_eq!(read(json.as_bytes(), 64).unwrap(), texts, "{json}");
        }
        for json in ["", " \n", "[]", "\u{feff}[ ]\n"] {
            assert!(read(json.as_bytes(), 64).unwrap().is_empty(), "{json}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        for (json, line, expected) in [
            ("[1, 2]", 1, "an object, or the end of the array, found '1'"),
            (
                "[{\"text\": \"a\"},\n\"b\"]",
                2,
                "expected an object, found '\"'",
            ),
            (
                "[{\"text\": \"a\"}\n\n{\"text\": \"b\"}]",
                3,
                "a comma, or the end of the array",
            ),
            ("[{\"text\": \"a\"}\n", 2, "found the end of the file"),
            ("[{\"text\": \"a\"},]", 1, "expected an object, found ']'"),
            ("[{\"text\": \"a\"}]\n[]", 2, "nothing more after the array"),
            (
                "{\"text\": \"a\"}\n\n{\"text\": \"b\"",
                3,
                "the file ends within this object",
            ),
            (
                "{\"text\": \"a\"}\n{\"txt\": \"b\"}",
                2,
                "there is no field \"text\"",
            ),
            (
                "{\"text\": \"a\"}\n{\"text\" \"b\"}",
                2,
                "not a JSON object",
            ),
            (
                "{\"version\": 1, \"data\": [{\"text\": \"a\"}]}",
                1,
                "\"version\", \"data\"",
            ),
            (
                "plain text",
                1,
                "an object, or an array of objects, found 'p'",
            ),
        ] {
            let error = read(json.as_bytes(), 16).unwrap_err();
            let named = format!("a.json, line {line}: ");
            assert!(
                error.contains(&named) && error.contains(expected),
                "{error}"
            );
        }
    }

    proptest! {
        /// The texts are those that `serde_json` reads from the whole file, whatever the size of the buffer.
        #[test]
        fn arrays_are_read_as_serde_reads_them(
            texts in prop::collection::vec("[ -~é\n\t\"\\\\{}\\[\\]]{0,20}", 0..8),
            pretty in any::<bool>(),
            block in 3_usize..40,
        ) {
            let objects: Vec<_> = texts
                .iter()
                .map(|text| serde_json::json!({"n": [text, {}], "text": text}))
                .collect();
            let json = match pretty {
                true => serde_json::to_vec_pretty(&objects).unwrap(),
                false => serde_json::to_vec(&objects).unwrap(),
            };
            prop_assert_eq!(read(&json, block), Ok(texts));
        }

        #[test]
        fn any_bytes_give_documents_or_an_error(json in "[\\[\\]{},\"a: \n\\\\]{0,40}", block in 1_usize..9) {
            let found = read(json.as_bytes(), block);
            let value: Result<Vec<serde_json::Value>, _> = serde_json::from_str(&json);
            // A key may be missing, but malformed JSON is always an error.
            if json.trim_start().starts_with('[') && value.is_err() {
                prop_assert!(found.is_err());
            }
        }
    }
}
