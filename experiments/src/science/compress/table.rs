//! A model beside the usual compressors, as a table.

use std::io::{self, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use liblzma::stream::Stream;
use liblzma::write::XzEncoder;
use serde::Serialize;

use super::Sizes;
use crate::json;

/// Dictionary of a whole file, as far as memory allows: the setting of `xz -9e`.
const XZ_EXTREME: u32 = 9 | (1 << 31);

/// Compressed sizes of files with a model and with the usual compressors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparisonTable {
    /// Path of the model, and the checkpoint of a run.
    pub model: String,
    /// Backend and precision.
    pub backend: String,
    /// Bytes of the model's weights, as they are in memory: what adjusted sizes add.
    pub model_bytes: u64,
    /// Each file.
    pub files: Vec<TableRow>,
    /// All files together.
    pub total: TableRow,
}

/// Sizes of one file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TableRow {
    /// Its path; empty for the total.
    #[serde(serialize_with = "json::path")]
    pub file: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes as compressed by gzip, level 9.
    pub gzip_bytes: u64,
    /// Bytes as compressed by xz, level 9 with its extreme setting.
    pub xz_bytes: u64,
    /// Bytes as compressed by zstd, level 19.
    pub zstd_bytes: u64,
    /// Bytes as compressed with the model.
    pub compressed_bytes: u64,
    /// Those, and the model's weights: what a receiver without the model needs (Delétang et al. 2023,
    /// <https://arxiv.org/abs/2309.10668>).
    pub adjusted_bytes: u64,
}

impl TableRow {
    /// Compresses a file with the usual compressors. `sizes` are those of the model.
    ///
    /// # Errors
    ///
    /// Returns an error if a compressor fails, which none does for bytes in memory.
    pub fn new(file: PathBuf, content: &[u8], sizes: &Sizes, model_bytes: u64) -> io::Result<Self> {
        Ok(Self {
            file,
            bytes: sizes.bytes,
            gzip_bytes: gzip(content)?,
            xz_bytes: xz(content)?,
            zstd_bytes: zstd::bulk::compress(content, 19)?.len() as u64,
            compressed_bytes: sizes.compressed_bytes,
            adjusted_bytes: sizes.compressed_bytes + model_bytes,
        })
    }

    /// Returns bits per byte of each compressor, in the order of [`ComparisonTable::COLUMNS`]; NaN for an empty file.
    fn bits_per_byte(&self) -> [f64; 5] {
        let sizes = [
            self.gzip_bytes,
            self.xz_bytes,
            self.zstd_bytes,
            self.compressed_bytes,
            self.adjusted_bytes,
        ];
        sizes.map(|size| 8.0 * size as f64 / self.bytes as f64)
    }
}

impl ComparisonTable {
    /// Compressors, as the table names them.
    const COLUMNS: [&str; 5] = ["gzip -9", "xz -9e", "zstd -19", "model", "adjusted"];

    /// Adds up the rows of files.
    pub fn new(model: String, backend: String, model_bytes: u64, files: Vec<TableRow>) -> Self {
        let mut total = TableRow::default();
        for row in &files {
            total.bytes += row.bytes;
            total.gzip_bytes += row.gzip_bytes;
            total.xz_bytes += row.xz_bytes;
            total.zstd_bytes += row.zstd_bytes;
            total.compressed_bytes += row.compressed_bytes;
        }
        total.adjusted_bytes = total.compressed_bytes + model_bytes;
        Self {
            model,
            backend,
            model_bytes,
            files,
            total,
        }
    }

    /// Returns the table in Markdown: bits per byte.
    pub fn to_markdown(&self) -> String {
        let mut lines = vec![
            format!("| bits per byte | bytes | {} |", Self::COLUMNS.join(" | ")),
            format!("|---|{}", "---:|".repeat(1 + Self::COLUMNS.len())),
        ];
        let mut add = |name: &str, row: &TableRow| {
            let numbers = row.bits_per_byte().map(|bits| match bits.is_finite() {
                true => format!("{bits:.4}"),
                false => "–".into(),
            });
            // A bar ends a cell.
            let name = name.replace('|', "\\|");
            lines.push(format!(
                "| {name} | {} | {} |",
                row.bytes,
                numbers.join(" | ")
            ));
        };
        for row in &self.files {
            add(&row.file.display().to_string(), row);
        }
        if self.files.len() > 1 {
            add("total", &self.total);
        }
        lines.join("\n") + "\n"
    }
}

fn gzip(content: &[u8]) -> io::Result<u64> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(9));
    encoder.write_all(content)?;
    Ok(encoder.finish()?.len() as u64)
}

fn xz(content: &[u8]) -> io::Result<u64> {
    let stream = Stream::new_easy_encoder(XZ_EXTREME, liblzma::stream::Check::Crc64)?;
    let mut encoder = XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(content)?;
    Ok(encoder.finish()?.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, bytes: u64) -> TableRow {
        TableRow {
            file: name.into(),
            bytes,
            gzip_bytes: bytes / 2,
            xz_bytes: bytes / 4,
            zstd_bytes: bytes / 4,
            compressed_bytes: bytes / 8,
            adjusted_bytes: bytes / 8 + 1000,
        }
    }

    #[test]
    fn the_total_counts_the_model_once() {
        let files = vec![row("a|b", 800), row("empty", 0)];
        let table = ComparisonTable::new("m".into(), "flex:f32".into(), 1000, files);
        assert_eq!(table.total.adjusted_bytes, 1100);
        let expected = "\
| bits per byte | bytes | gzip -9 | xz -9e | zstd -19 | model | adjusted |
|---|---:|---:|---:|---:|---:|---:|
| a\\|b | 800 | 4.0000 | 2.0000 | 2.0000 | 1.0000 | 11.0000 |
| empty | 0 | – | – | – | – | – |
| total | 800 | 4.0000 | 2.0000 | 2.0000 | 1.0000 | 11.0000 |
";
        assert_eq!(table.to_markdown(), expected);
    }

    /// Sizes of the programs themselves for this text: `gzip -9` 49, `xz -9e` 96, `zstd -19` 31 bytes, but for a name, a
    /// time or a checksum that they store.
    #[test]
    fn sizes_are_near_those_of_the_programs() {
        let text = "next token ".repeat(200);
        let sizes = Sizes {
            bytes: text.len() as u64,
            compressed_bytes: 10,
            ..Sizes::default()
        };
        let row = TableRow::new("text".into(), text.as_bytes(), &sizes, 7).unwrap();
        assert!(row.gzip_bytes.abs_diff(49) <= 12, "{row:?}");
        assert!(row.xz_bytes.abs_diff(96) <= 12, "{row:?}");
        assert!(row.zstd_bytes.abs_diff(31) <= 12, "{row:?}");
        assert_eq!(row.adjusted_bytes, 17);
    }
}
