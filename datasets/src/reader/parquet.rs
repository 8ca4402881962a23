//! Parquet: one document per row, from one column.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    vec,
};

use ::parquet::{
    basic::Type,
    column::reader::ColumnReaderImpl,
    data_type::{ByteArray, ByteArrayType},
    errors::{ParquetError, Result as ParquetResult},
    file::reader::FileReader,
    schema::types::ColumnDescPtr,
};

use super::{
    compression::Opened,
    document::{BoxedDocuments, Document},
    message::{FIELD_ADVICE, NOT_UTF8_ADVICE, name_list, wrong},
    options::{InvalidUtf8, ReadOptions},
    pages::{CheckedPages, guarded, open_table},
};
use crate::{DataError, SourceFile};

/// Number of rows that are decoded at once.
const BATCH: usize = 1024;

pub(super) fn documents(
    file: &SourceFile,
    opened: Opened,
    options: &ReadOptions,
    position: &Arc<AtomicU64>,
) -> Result<BoxedDocuments, DataError> {
    let table = open_table(file, opened)?;
    let (column, descriptor) = find_column(table.as_ref(), &options.text_field)
        .map_err(|reason| wrong(&file.path, "schema", reason))?;
    // Reading the footer does not count as progress.
    position.store(0, Ordering::Relaxed);
    let rows = u64::try_from(table.metadata().file_metadata().num_rows()).unwrap_or(0);
    Ok(Box::new(Rows {
        path: file.path.clone(),
        table,
        column,
        descriptor,
        next_group: 0,
        group: None,
        batch: Vec::new().into_iter(),
        row: 0,
        rows,
        invalid: options.invalid_utf8,
        bytes: file.bytes,
        position: Arc::clone(position),
    }))
}

fn find_column(table: &dyn FileReader, field: &str) -> Result<(usize, ColumnDescPtr), String> {
    let schema = table.metadata().file_metadata().schema_descr();
    let names: Vec<String> = schema
        .columns()
        .iter()
        .map(|column| column.path().string())
        .collect();
    let Some(index) = names.iter().position(|name| name == field) else {
        let names = name_list(names.iter().map(String::as_str));
        return Err(format!(
            "there is no column {field:?}: the file has {names}; {FIELD_ADVICE}"
        ));
    };
    let column = schema.column(index);
    if column.max_rep_level() > 0 {
        return Err(format!(
            "the column {field:?} holds lists, not strings; {FIELD_ADVICE}"
        ));
    }
    if column.physical_type() != Type::BYTE_ARRAY {
        return Err(format!(
            "the column {field:?} holds {}, not strings; {FIELD_ADVICE}",
            column.physical_type()
        ));
    }
    Ok((index, column))
}

/// Row group that is being read.
struct Group {
    reader: ColumnReaderImpl<ByteArrayType>,
    rows_left: usize,
}

struct Rows {
    path: PathBuf,
    table: Box<dyn FileReader>,
    column: usize,
    descriptor: ColumnDescPtr,
    next_group: usize,
    group: Option<Group>,
    batch: vec::IntoIter<Option<ByteArray>>,
    /// Number of rows that have been returned.
    row: u64,
    /// Number of rows in the file.
    rows: u64,
    invalid: InvalidUtf8,
    bytes: u64,
    position: Arc<AtomicU64>,
}

impl Rows {
    /// Reads the next rows; empty at the end of the file.
    fn read_batch(&mut self) -> ParquetResult<Vec<Option<ByteArray>>> {
        loop {
            let Some(group) = &mut self.group else {
                if self.next_group == self.table.num_row_groups() {
                    return Ok(Vec::new());
                }
                let row_group = self.table.get_row_group(self.next_group)?;
                let rows = usize::try_from(row_group.metadata().num_rows())?;
                let pages = row_group.get_column_page_reader(self.column)?;
                let pages = CheckedPages::new(pages, &self.descriptor, rows);
                self.group = Some(Group {
                    reader: ColumnReaderImpl::new(Arc::clone(&self.descriptor), Box::new(pages)),
                    rows_left: rows,
                });
                self.next_group += 1;
                continue;
            };
            let (mut levels, mut texts) = (Vec::new(), Vec::new());
            let (rows, ..) =
                group
                    .reader
                    .read_records(BATCH, Some(&mut levels), None, &mut texts)?;
            if rows > group.rows_left || rows == 0 && group.rows_left > 0 {
                return Err(ParquetError::General(format!(
                    "row group {} does not have the number of rows that it states",
                    self.next_group - 1
                )));
            }
            group.rows_left -= rows;
            if rows == 0 {
                self.group = None;
                continue;
            }
            let present = self.descriptor.max_def_level();
            if present == 0 {
                return Ok(texts.into_iter().map(Some).collect());
            }
            let mut texts = texts.into_iter();
            return levels
                .into_iter()
                .map(|level| match level == present {
                    true => texts
                        .next()
                        .map(Some)
                        .ok_or_else(|| ParquetError::General("a text is missing".into())),
                    false => Ok(None),
                })
                .collect();
        }
    }

    fn next_document(&mut self) -> Result<Option<Document>, String> {
        if self.batch.as_slice().is_empty() {
            self.batch = guarded(|| self.read_batch())?.into_iter();
        }
        let Some(text) = self.batch.next() else {
            self.position.store(self.bytes, Ordering::Relaxed);
            return Ok(None);
        };
        self.row += 1;
        let share = u128::from(self.row.min(self.rows)) * u128::from(self.bytes);
        let share = share.checked_div(u128::from(self.rows)).unwrap_or(0);
        self.position.store(share as u64, Ordering::Relaxed);
        let Some(text) = text else {
            return Ok(Some(Document::default()));
        };
        let bytes = guarded(|| Ok(text.data().to_vec()))?;
        Document::new(bytes, self.invalid)
            .map(Some)
            .map_err(|valid| {
                format!(
                    "byte {} of the text is not UTF-8: {NOT_UTF8_ADVICE}",
                    valid + 1
                )
            })
    }
}

impl Iterator for Rows {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = format!("row {}", self.row + 1);
        self.next_document()
            .map_err(|reason| wrong(&self.path, place, reason))
            .transpose()
    }
}
