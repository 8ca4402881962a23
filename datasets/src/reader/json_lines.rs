//! JSON lines: an object per line, of which one string is the document.

use std::{
    fmt,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use super::{BoxedDocuments, Document, InvalidUtf8, ReadOptions, compression, name_list, wrong};
use crate::DataError;

pub(super) fn documents(
    path: &Path,
    reader: compression::Reader,
    options: &ReadOptions,
) -> BoxedDocuments {
    Box::new(Lines {
        path: path.into(),
        reader: BufReader::with_capacity(1 << 16, reader),
        field: options.text_field.clone(),
        invalid: options.invalid_utf8,
        line: Vec::new(),
        number: 0,
    })
}

struct Lines {
    path: PathBuf,
    reader: BufReader<compression::Reader>,
    field: String,
    invalid: InvalidUtf8,
    line: Vec<u8>,
    number: u64,
}

impl Iterator for Lines {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.line.clear();
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) => return None,
                Ok(_) => self.number += 1,
                Err(reason) => {
                    let path = self.path.clone();
                    return Some(Err(DataError::Read { path, reason }));
                }
            }
            let mut line = &self.line[..];
            if self.number == 1 {
                // A byte-order mark is no part of a document here.
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                let document = document(line, &self.field, self.invalid);
                let place = || format!("line {}", self.number);
                return Some(document.map_err(|reason| wrong(&self.path, place(), reason)));
            }
        }
    }
}

/// The document in one object, or what is wrong with it.
pub(super) fn document(line: &[u8], field: &str, invalid: InvalidUtf8) -> Result<Document, String> {
    if invalid == InvalidUtf8::Refuse
        && let Err(error) = str::from_utf8(line)
    {
        return Err(format!(
            "byte {} of the line is not UTF-8: convert the file first, for example with iconv -t UTF-8",
            error.valid_up_to() + 1
        ));
    }
    let error = match object::<Field>(line, field) {
        Ok(Some(Field::Text(text))) => return Ok(Document { text, replaced: 0 }),
        Ok(Some(Field::Null)) => return Ok(Document::default()),
        Ok(Some(Field::Other(kind))) => return Err(format!("{field:?} is {kind}, not a string")),
        Ok(None) => {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(line).unwrap_or_default();
            let names = name_list(object.keys().map(String::as_str));
            return Err(format!(
                "there is no field {field:?}: the object has {names}; say which of them is the text"
            ));
        }
        Err(error) => error,
    };
    // What is wrong may be the text's Unicode alone, be it bytes or escapes such as \ud800.
    if invalid == InvalidUtf8::Replace
        && let Ok(Some(RawText(mut bytes))) = object(line, field)
    {
        let surrogates = replace_surrogates(&mut bytes);
        let mut document = Document::new(bytes, invalid).unwrap_or_default();
        document.replaced += surrogates;
        if document.replaced > 0 {
            return Ok(document);
        }
    }
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    Err(format!(
        "no JSON object: {message} at column {}",
        error.column()
    ))
}

/// The value of one field of an object; the other fields are passed over without being built.
fn object<'de, T: Deserialize<'de>>(
    line: &'de [u8],
    field: &str,
) -> Result<Option<T>, serde_json::Error> {
    struct Object<'a, T>(&'a str, Option<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<'_, T> {
        type Value = Option<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Option<T>, A::Error> {
            while let Some(is_field) = map.next_key_seed(KeyIs(self.0))? {
                if is_field {
                    self.1 = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(self.1)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let value = deserializer.deserialize_map(Object(field, None))?;
    deserializer.end()?;
    Ok(value)
}

/// Whether a key is the one looked for.
struct KeyIs<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

enum Field {
    Text(String),
    Null,
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Field;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Text(text.into()))
            }

            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field::Other("true or false"))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
                Ok(Field::Other("a number"))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
                Ok(Field::Other("a number"))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
                Ok(Field::Other("a number"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Field, A::Error> {
                while array.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other("an array"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Other("an object"))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

/// A string whose Unicode nobody has looked at: `serde_json` hands out a lone surrogate as the three
/// bytes that it would have in UTF-8 if it were a character.
struct RawText(Vec<u8>);

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = RawText;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<RawText, E> {
                Ok(RawText(bytes.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<RawText, A::Error> {
                Err(A::Error::custom("an array, not a string"))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// Puts U+FFFD, which has as many bytes, in the place of every surrogate. Returns how many there were.
fn replace_surrogates(bytes: &mut [u8]) -> usize {
    let mut count = 0;
    let mut at = 0;
    while let Some(three) = bytes.get_mut(at..at + 3) {
        if matches!(three, [0xed, 0xa0..=0xbf, 0x80..=0xbf]) {
            three.copy_from_slice("\u{fffd}".as_bytes());
            count += 1;
        }
        at += 1;
    }
    count
}
