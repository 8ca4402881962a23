//! Parquet files and their pages. A damaged or hostile file is an error: pages that would make the decoders allocate
//! without bound are refused, and panics of the decoders are caught.

use std::{fs::File, io::Read};

use ::parquet::{
    basic::Encoding,
    column::page::{Page, PageMetadata, PageReader},
    errors::{ParquetError, Result as ParquetResult},
    file::reader::{FileReader, SerializedFileReader},
    schema::types::ColumnDescriptor,
};

use super::{compression::Opened, message::wrong, options::MAX_HELD_PARQUET_BYTES};
use crate::{DataError, SourceFile, panics};

/// Maximum number of values of a row group in a column of lists.
const MAX_LISTED: usize = 1 << 22;

/// Opens a table. One that gzip or zstd has compressed is held in memory.
pub(super) fn open_table(
    file: &SourceFile,
    opened: Opened,
) -> Result<Box<dyn FileReader>, DataError> {
    let failed = |reason| DataError::Read {
        path: file.path.clone(),
        reason,
    };
    let damaged = |reason: String| wrong(&file.path, "footer", reason);
    if !opened.decompressed {
        let plain = File::open(file.location()).map_err(failed)?;
        return Ok(Box::new(
            guarded(|| SerializedFileReader::new(plain)).map_err(damaged)?,
        ));
    }
    let mut bytes = Vec::new();
    let mut limited = opened.reader.take(MAX_HELD_PARQUET_BYTES + 1);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_HELD_PARQUET_BYTES {
        let reason = format!(
            "the compressed Parquet file expands to more than {} MiB, the limit, because it is held in memory: \
             decompress it first; Parquet compresses its columns itself",
            MAX_HELD_PARQUET_BYTES >> 20
        );
        return Err(wrong(&file.path, "compression", reason));
    }
    let bytes = bytes::Bytes::from(bytes);
    Ok(Box::new(
        guarded(|| SerializedFileReader::new(bytes)).map_err(damaged)?,
    ))
}

/// Runs the decoder, and turns its errors and panics into a message of one line.
pub(super) fn guarded<T>(decode: impl FnOnce() -> ParquetResult<T>) -> Result<T, String> {
    match panics::catch(decode) {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => {
            let error = error.to_string();
            let error: Vec<&str> = error.split_whitespace().collect();
            let error = error.join(" ");
            Err(format!(
                "the Parquet file is damaged or uses an unsupported feature ({error}): fetch or write it again"
            ))
        }
        None => Err("the Parquet file is damaged: fetch or write it again".into()),
    }
}

/// Reader that refuses pages that claim to hold more values than they can. The decoders allocate memory for the claimed
/// number before they read the values.
pub(super) struct CheckedPages {
    pages: Box<dyn PageReader>,
    /// Number of sections of levels before the values of a page: repetitions and definitions.
    sections: usize,
    /// Number of values that the remaining pages may hold.
    left: usize,
}

impl CheckedPages {
    /// Checks the pages of a column in a row group of `rows` rows.
    pub(super) fn new(pages: Box<dyn PageReader>, column: &ColumnDescriptor, rows: usize) -> Self {
        let is_list = column.max_rep_level() > 0;
        Self {
            pages,
            sections: usize::from(is_list) + usize::from(column.max_def_level() > 0),
            left: if is_list { MAX_LISTED } else { rows },
        }
    }

    fn check(&mut self, page: &Page) -> ParquetResult<()> {
        let claimed = page.num_values() as usize;
        let plausible = match page {
            // Each text is preceded by its length in four bytes, and numbers have at least as many.
            Page::DictionaryPage { buf, .. } => claimed <= buf.len() / 4,
            _ => {
                claimed <= self.left
                    && self
                        .lengths(page)
                        .is_none_or(|count| count <= claimed as u64)
            }
        };
        if !plausible {
            let reason = format!("a page states an impossible number of {claimed} values");
            return Err(ParquetError::General(reason));
        }
        if !matches!(page, Page::DictionaryPage { .. }) {
            self.left -= claimed;
        }
        Ok(())
    }

    /// Returns the stated number of lengths in a page with delta-encoded lengths.
    fn lengths(&self, page: &Page) -> Option<u64> {
        if !matches!(
            page.encoding(),
            Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY
        ) {
            return None;
        }
        let levels = match page {
            Page::DataPageV2 {
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => *def_levels_byte_len as usize + *rep_levels_byte_len as usize,
            _ => {
                let mut levels = 0;
                for _ in 0..self.sections {
                    let length = page.buffer().get(levels..)?.first_chunk::<4>()?;
                    levels += u32::from_le_bytes(*length) as usize + 4;
                }
                levels
            }
        };
        // The header of the lengths: block size, blocks, count.
        let mut header = page.buffer().get(levels..)?.iter();
        let mut number = || {
            let mut value = 0_u64;
            for shift in (0..64).step_by(7) {
                let byte = *header.next()?;
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    return Some(value);
                }
            }
            None
        };
        number()?;
        number()?;
        number()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.iter().try_for_each(|page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.pages.skip_next_page()
    }
}

impl Iterator for CheckedPages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
