//! Records of Parquet, one row at a time. Columns of strings, numbers, and lists of them are read; deeper lists are not.
//! Texts are copied only as far as a record may be long, because a page can name one long text any number of times.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use ::parquet::{
    basic::Repetition,
    column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader},
    data_type::{ByteArray, DataType},
    errors::{ParquetError, Result as ParquetResult},
    file::reader::FileReader,
    schema::types::{ColumnDescPtr, ColumnDescriptor},
};
use serde_json::Value;

use super::{
    super::{
        compression::Opened,
        message::wrong,
        pages::{CheckedPages, guarded, open_table},
    },
    Column, MAX_RECORD_BYTES, Record, missing,
};
use crate::{DataError, SourceFile};

/// Names of the groups that stand between a list and its elements, as different writers call them.
const LISTS: [&str; 3] = ["list", "bag", "array"];

pub(super) fn rows(
    file: &SourceFile,
    opened: Opened,
    columns: &'static [Column],
    advice: &str,
) -> Result<Rows, DataError> {
    let table = open_table(file, opened)?;
    let schema = table.metadata().file_metadata().schema_descr();
    let names: Vec<String> = schema
        .columns()
        .iter()
        .map(|column| name_of(column))
        .collect();
    let mut found = Vec::new();
    for column in columns {
        match names.iter().position(|name| name == column.name) {
            Some(index) => found.push((column.name, index, schema.column(index))),
            None if column.required => {
                let names = names.iter().map(String::as_str);
                let reason = missing(column.name, names, "file", advice);
                return Err(wrong(&file.path, "schema", reason));
            }
            None => {}
        }
    }
    Ok(Rows {
        path: file.path.clone(),
        table,
        found,
        next_group: 0,
        group: None,
        row: 0,
    })
}

/// Returns the name of a column, without the groups that make it a list.
fn name_of(column: &ColumnDescriptor) -> String {
    let parts = column.path().parts();
    let kept = match parts {
        [name @ .., list, _] if column.max_rep_level() == 1 && LISTS.contains(&list.as_str()) => {
            name
        }
        [name @ .., element] if column.max_rep_level() == 1 && element == "array" => name,
        all => all,
    };
    kept.join(".")
}

pub(super) struct Rows {
    path: PathBuf,
    table: Box<dyn FileReader>,
    /// Columns that the file has: name, index and descriptor.
    found: Vec<(&'static str, usize, ColumnDescPtr)>,
    next_group: usize,
    group: Option<Group>,
    row: u64,
}

/// Row group that is being read.
struct Group {
    columns: Vec<(&'static str, Cells)>,
    rows_left: usize,
}

impl Rows {
    fn open_group(&self) -> ParquetResult<Group> {
        let row_group = self.table.get_row_group(self.next_group)?;
        let rows = usize::try_from(row_group.metadata().num_rows())?;
        let mut columns = Vec::new();
        for (name, index, descriptor) in &self.found {
            let pages = row_group.get_column_page_reader(*index)?;
            let pages = Box::new(CheckedPages::new(pages, descriptor, rows));
            let cells = Cells {
                descriptor: Arc::clone(descriptor),
                reader: get_column_reader(Arc::clone(descriptor), pages),
            };
            columns.push((*name, cells));
        }
        Ok(Group {
            columns,
            rows_left: rows,
        })
    }

    fn next_record(&mut self) -> Result<Option<Record>, String> {
        let group = loop {
            if self.group.as_ref().is_some_and(|group| group.rows_left > 0) {
                break self.group.as_mut().ok_or("a row group is missing")?;
            }
            if self.next_group == self.table.num_row_groups() {
                return Ok(None);
            }
            self.group = Some(guarded(|| self.open_group())?);
            self.next_group += 1;
        };
        group.rows_left -= 1;
        self.row += 1;
        let mut values = BTreeMap::new();
        let mut room = MAX_RECORD_BYTES as usize;
        for (name, cells) in &mut group.columns {
            let cell = guarded(|| cells.next())?;
            let value = cell.value(&cells.descriptor, &mut room);
            values.insert(*name, value.map_err(|reason| format!("{name:?} {reason}"))?);
        }
        Ok(Some(Record {
            place: format!("row {}", self.row),
            values,
        }))
    }
}

impl Iterator for Rows {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = format!("row {}", self.row + 1);
        self.next_record()
            .map_err(|reason| wrong(&self.path, place, reason))
            .transpose()
    }
}

/// Cells of a column.
struct Cells {
    descriptor: ColumnDescPtr,
    reader: ColumnReader,
}

impl Cells {
    fn next(&mut self) -> ParquetResult<Cell> {
        match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => cell(reader, Raw::Bool),
            ColumnReader::Int32ColumnReader(reader) => cell(reader, |n| Raw::Number(n.into())),
            ColumnReader::Int64ColumnReader(reader) => cell(reader, Raw::Number),
            ColumnReader::ByteArrayColumnReader(reader) => cell(reader, Raw::Text),
            _ => Err(ParquetError::General(
                "a column is neither text, a whole number nor a truth value".into(),
            )),
        }
    }
}

/// Value before it is copied.
enum Raw {
    Bool(bool),
    Number(i64),
    Text(ByteArray),
}

/// Cell with its levels, which say which values of it are null.
struct Cell {
    definitions: Vec<i16>,
    values: Vec<Raw>,
}

/// Reads the next cell.
fn cell<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    raw: fn(T::T) -> Raw,
) -> ParquetResult<Cell> {
    let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
    let mut values = Vec::new();
    let (rows, ..) = reader.read_records(
        1,
        Some(&mut definitions),
        Some(&mut repetitions),
        &mut values,
    )?;
    match rows {
        1 => Ok(Cell {
            definitions,
            values: values.into_iter().map(raw).collect(),
        }),
        _ => Err(ParquetError::General(
            "a row group does not have the number of rows that it states".into(),
        )),
    }
}

impl Cell {
    /// Converts the cell; `room` is the number of bytes that the record may still have. The error continues the name of
    /// the column.
    fn value(self, column: &ColumnDescriptor, room: &mut usize) -> Result<Value, String> {
        let present = column.max_def_level();
        let mut values = self.values.into_iter();
        let mut next = || values.next().ok_or("has fewer values than it states");
        if column.max_rep_level() == 0 {
            return match self.definitions.first() {
                Some(level) if *level < present => Ok(Value::Null),
                _ => next()?.value(room),
            };
        }
        if column.max_rep_level() > 1 {
            return Err("holds lists of lists".into());
        }
        // The level at which a list has an element, which may be null.
        let repetition = column.self_type().get_basic_info().repetition();
        let element = present - i16::from(repetition == Repetition::OPTIONAL);
        let mut list = Vec::new();
        for level in self.definitions {
            if level == present {
                list.push(next()?.value(room)?);
            } else if level >= element {
                list.push(Raw::null(room)?);
            }
        }
        Ok(Value::Array(list))
    }
}

impl Raw {
    fn value(self, room: &mut usize) -> Result<Value, String> {
        Ok(match self {
            Self::Bool(truth) => {
                take(room, 1)?;
                Value::Bool(truth)
            }
            Self::Number(number) => {
                take(room, 1)?;
                number.into()
            }
            Self::Text(text) => {
                let bytes = text.data();
                take(room, bytes.len() + 1)?;
                let text = str::from_utf8(bytes).map_err(|error| {
                    format!(
                        "is not UTF-8 at byte {}: write the file again",
                        error.valid_up_to() + 1
                    )
                })?;
                text.into()
            }
        })
    }

    fn null(room: &mut usize) -> Result<Value, String> {
        take(room, 1).map(|()| Value::Null)
    }
}

/// Takes bytes of a record; the error continues the name of the column.
fn take(room: &mut usize, bytes: usize) -> Result<(), String> {
    *room = room.checked_sub(bytes).ok_or_else(|| {
        format!(
            "makes the row longer than {} MiB, the limit: no question is as long as that",
            MAX_RECORD_BYTES >> 20
        )
    })?;
    Ok(())
}
