//! JSON lines: one object per line, one string of which is the document.

use std::{fmt, path::Path};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use super::{
    compression,
    document::{BoxedDocuments, Document},
    lines::NumberedLines,
    message::{FIELD_ADVICE, NOT_UTF8_ADVICE, name_list, twice},
    options::{InvalidUtf8, MAX_LINE_BYTES, ReadOptions},
};
use crate::DataError;

pub(super) fn documents(
    path: &Path,
    reader: compression::Reader,
    options: &ReadOptions,
) -> BoxedDocuments {
    let advice = "split its text over several lines, or write it as plain text, which has no limit";
    let lines = NumberedLines::new(path, reader, MAX_LINE_BYTES, advice);
    Box::new(Lines {
        lines,
        field: options.text_field.clone(),
        invalid: options.invalid_utf8,
    })
}

struct Lines {
    lines: NumberedLines,
    field: String,
    invalid: InvalidUtf8,
}

impl Iterator for Lines {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.lines.next_line() {
            Ok(line) => line?,
            Err(error) => return Some(Err(error)),
        };
        let document = document(line, &self.field, self.invalid);
        Some(document.map_err(|reason| self.lines.wrong(reason)))
    }
}

/// Extracts the document from an object; the error is a message. Only the text field must be valid: other fields need
/// not even be UTF-8.
pub(super) fn document(line: &[u8], field: &str, invalid: InvalidUtf8) -> Result<Document, String> {
    let error = match object(line, field) {
        Ok(value) => return text_of(value, line, field),
        Err(error) => error,
    };
    // Python's `json` writes numbers that JSON does not have.
    let numbers = without_python_numbers(line);
    let line = numbers.as_deref().unwrap_or(line);
    if numbers.is_some()
        && let Ok(value) = object(line, field)
    {
        return text_of(value, line, field);
    }
    // The only fault may be invalid Unicode in the text: bytes, or escapes such as \ud800.
    if let Ok(Some(RawText(mut bytes))) = object(line, field) {
        let surrogates = replace_surrogates(&mut bytes);
        match (invalid, str::from_utf8(line)) {
            (InvalidUtf8::Replace, _) => {
                let mut document = Document::new(bytes, invalid).unwrap_or_default();
                document.replaced += surrogates;
                if document.replaced > 0 {
                    return Ok(document);
                }
            }
            (InvalidUtf8::Refuse, Err(error)) if str::from_utf8(&bytes).is_err() => {
                return Err(format!(
                    "byte {} of the line is not UTF-8: {NOT_UTF8_ADVICE}",
                    error.valid_up_to() + 1
                ));
            }
            (InvalidUtf8::Refuse, _) if surrogates > 0 => {
                return Err(format!(
                    "{field:?} has half of a surrogate pair, such as \\ud800, which is not a character: fix the line, \
                     or give --invalid-utf8 replace to `foretoken data build` or `evaluate`"
                ));
            }
            (InvalidUtf8::Refuse, _) => {}
        }
    }
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    Err(format!(
        "this is not a JSON object: {message} at column {}; write an object such as {{\"{field}\": \"…\"}}",
        error.column()
    ))
}

/// Returns the document in the value of the text field, or a message. `line` is the whole object.
fn text_of(value: Option<Field>, line: &[u8], field: &str) -> Result<Document, String> {
    match value {
        Some(Field::Text(text)) => Ok(Document { text, replaced: 0 }),
        Some(Field::Null) => Ok(Document::default()),
        Some(Field::Other(kind)) => {
            Err(format!("{field:?} is {kind}, not a string; {FIELD_ADVICE}"))
        }
        None => {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(line).unwrap_or_default();
            let names = name_list(object.keys().map(String::as_str));
            Err(format!(
                "there is no field {field:?}: the object has {names}; {FIELD_ADVICE}"
            ))
        }
    }
}

/// Replaces each `NaN`, `Infinity` and `-Infinity` outside strings by a zero; `None` if there is none. The zeros are as
/// long as the names, so that columns in messages stay correct.
fn without_python_numbers(line: &[u8]) -> Option<Vec<u8>> {
    let mut changed = None;
    let (mut at, mut in_string) = (0, false);
    while at < line.len() {
        let rest = &line[at..];
        at += match (in_string, rest[0]) {
            (true, b'\\') => 2,
            (_, b'"') => {
                in_string = !in_string;
                1
            }
            (false, b'N' | b'I') => {
                let name = [&b"NaN"[..], b"Infinity"]
                    .into_iter()
                    .find(|name| rest.starts_with(name));
                if let Some(name) = name {
                    let changed: &mut Vec<u8> = changed.get_or_insert_with(|| line.to_vec());
                    changed[at..at + name.len()].fill(b'0');
                    changed[at + 1] = b'.';
                }
                name.map_or(1, <[u8]>::len)
            }
            _ => 1,
        };
    }
    changed
}

/// Reads the value of one field of an object. The values of other fields are skipped and not built.
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
                if is_field && self.1.is_some() {
                    return Err(A::Error::custom(twice(self.0)));
                } else if is_field {
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

/// Comparison of a key with the one wanted.
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

/// Value of the text field.
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

/// String with unchecked Unicode. `serde_json` returns a lone surrogate as the three bytes that it would have in UTF-8
/// if it were a character.
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

/// Replaces every surrogate by U+FFFD, which has as many bytes, and returns the number of surrogates.
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
