//! Records: several columns of a table, such as the questions of a benchmark. JSON lines and Parquet give the same
//! values. Texts stay as they are in the file.

mod parquet;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{
    compression::{self, Reader, WithoutNul},
    lines::NumberedLines,
    message::{name_list, twice, wrong},
    sniff,
};
use crate::{DataError, Format, SourceFile};

/// Maximum number of bytes in a line of records, and of text in a row. A record is held in memory.
pub const MAX_RECORD_BYTES: u64 = 1 << 20;

/// Column that a reader of records takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name. A dot leads into an object of JSON or a group of Parquet.
    pub name: &'static str,
    /// Whether a file without the column is refused.
    pub required: bool,
}

/// Row of a table, or line of JSON lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Place in the file: `line 7` or `row 7`, from 1.
    pub place: String,
    /// Values of the columns, by their names. A column that the file does not have is absent.
    pub values: BTreeMap<&'static str, Value>,
}

/// Iterator over the records of a file. It ends after an error.
pub struct Records(Box<dyn Iterator<Item = Result<Record, DataError>>>, bool);

impl Iterator for Records {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.1 {
            return None;
        }
        let record = self.0.next();
        self.1 = matches!(record, Some(Err(_)));
        record
    }
}

/// Opens a file of JSON lines or Parquet, also compressed, to read some of its columns. Values of Parquet are those that
/// the same table has in JSON: strings, whole numbers, `true` and `false`, `null`, and lists of them.
///
/// # Errors
///
/// A file that cannot be opened, has another format, is damaged, or lacks a required column. `advice` says what to do
/// about a missing column. The iterator returns errors of single records.
pub fn records(
    file: &SourceFile,
    columns: &'static [Column],
    advice: &str,
) -> Result<Records, DataError> {
    let opened = compression::open(file, &Arc::new(AtomicU64::new(0)))?;
    sniff::check(&file.path, file.format, Some(file.format), &opened.head)?;
    let records: Box<dyn Iterator<Item = _>> = match file.format {
        Format::JsonLines => {
            let reader: Reader = Box::new(WithoutNul::new(opened.reader));
            let too_long = "no question is as long as that";
            Box::new(Lines {
                lines: NumberedLines::new(&file.path, reader, MAX_RECORD_BYTES, too_long),
                columns,
                advice: advice.into(),
            })
        }
        Format::Parquet => Box::new(parquet::rows(file, opened, columns, advice)?),
        other => {
            let reason = format!("records are read from JSON lines and Parquet, not from {other}");
            return Err(wrong(&file.path, "format", reason));
        }
    };
    Ok(Records(records, false))
}

struct Lines {
    lines: NumberedLines,
    columns: &'static [Column],
    advice: String,
}

impl Iterator for Lines {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.lines.next_line() {
            Ok(line) => line?,
            Err(error) => return Some(Err(error)),
        };
        let values = values(line, self.columns, &self.advice);
        Some(match values {
            Ok(values) => Ok(Record {
                place: self.lines.place(),
                values,
            }),
            Err(reason) => Err(self.lines.wrong(reason)),
        })
    }
}

/// Reads the columns of an object; the error is a message.
fn values(
    line: &[u8],
    columns: &[Column],
    advice: &str,
) -> Result<BTreeMap<&'static str, Value>, String> {
    let read = serde_json::from_slice(line);
    let object = read.and_then(|Unique(value)| serde_json::from_value::<Map<String, Value>>(value));
    let object = object.map_err(|error| {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&place).unwrap_or(&message);
        format!(
            "this is not a JSON object: {message} at column {}; write one object per line",
            error.column()
        )
    })?;
    let mut values = BTreeMap::new();
    for column in columns {
        let mut names = column.name.split('.');
        let first = names.next().and_then(|name| object.get(name));
        let value = names.fold(first, |value, name| value?.get(name));
        match value {
            Some(value) => drop(values.insert(column.name, value.clone())),
            None if column.required => {
                let names = object.keys().map(String::as_str);
                return Err(missing(column.name, names, "object", advice));
            }
            None => {}
        }
    }
    Ok(values)
}

/// A value of JSON in which no object has a key twice. One of the two values would be ignored.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let Unique(value) = map.next_value()?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(twice(&key)));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// Describes a missing column.
fn missing<'a>(
    name: &str,
    names: impl IntoIterator<Item = &'a str>,
    whole: &str,
    advice: &str,
) -> String {
    let names = name_list(names);
    format!("there is no column {name:?}: the {whole} has {names}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column {
            name: "choices.text",
            required: true,
        },
        Column {
            name: "id",
            required: false,
        },
    ];

    fn read(line: &str) -> Result<BTreeMap<&'static str, Value>, String> {
        values(line.as_bytes(), COLUMNS, "get another file")
    }

    #[test]
    fn a_key_that_is_given_twice_is_refused() {
        for line in [
            r#"{"choices": {"text": 1}, "id": 1, "id": 2}"#,
            r#"{"choices": {"text": 1, "text": 2}}"#,
            r#"{"choices": {"text": 1}, "other": [{"a": 1, "a": 1}]}"#,
        ] {
            let message = read(line).unwrap_err();
            assert!(message.contains("twice"), "{message}");
        }
        let line = r#"{"choices": {"text": [{"id": -1}, {"id": 1.5}, null, true]}, "id": "a"}"#;
        let text = &read(line).unwrap()["choices.text"];
        let expected = serde_json::json!([{"id": -1}, {"id": 1.5}, null, true]);
        assert_eq!(text, &expected);
    }

    #[test]
    fn a_dot_leads_into_an_object() {
        let values = read(r#"{"choices": {"text": ["a", 1], "label": 2}, "id": null}"#).unwrap();
        assert_eq!(values["choices.text"], serde_json::json!(["a", 1]));
        assert_eq!(values["id"], Value::Null);
        assert!(
            !read(r#"{"choices": {"text": 1}}"#)
                .unwrap()
                .contains_key("id")
        );
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_are_there() {
        for line in [
            r#"{"choices": ["text"], "a\nb": 1}"#,
            r#"{"a\nb": 1, "choices": {"texts": 1}}"#,
        ] {
            let message = read(line).unwrap_err();
            assert!(
                message.contains(r#""choices.text""#) && message.contains(r#""a\nb""#),
                "{message}"
            );
            assert!(message.ends_with("; get another file") && message.lines().count() == 1);
        }
        assert!(read("[]").unwrap_err().contains("not a JSON object"));
        assert!(
            read(r#"{"choices": "#)
                .unwrap_err()
                .contains("not a JSON object")
        );
    }
}
