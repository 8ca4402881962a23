//! Bytes on disk → bytes of the file: gzip and zstd are taken off, and what is read is counted.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::MAX_DECOMPRESSED_BYTES;
use crate::{DataError, SourceFile};

pub(super) type Reader = Box<dyn Read + Send>;

/// A file without its compression.
pub(super) struct Opened {
    /// All of it.
    pub(super) reader: Reader,
    /// Up to [`HEAD`] bytes that it begins with.
    pub(super) head: Vec<u8>,
    /// Whether it was compressed.
    pub(super) decompressed: bool,
}

/// How many bytes are looked at before a file is read.
pub(super) const HEAD: usize = 4096;

/// How much is read from disk at once.
const BLOCK: usize = 1 << 17;

/// Opens a file, and keeps in `position` how many bytes of it are read.
pub(super) fn open(file: &SourceFile, position: &Arc<AtomicU64>) -> Result<Opened, DataError> {
    let failed = |reason| DataError::Read {
        path: file.path.clone(),
        reason,
    };
    let mut counted = Counted {
        file: File::open(file.location()).map_err(failed)?,
        position: Arc::clone(position),
    };
    let head = head(&mut counted, 4).map_err(failed)?;
    let is_gzip = head.starts_with(&[0x1f, 0x8b]);
    // A frame, or a skippable frame, with which parallel compressors begin.
    let is_zstd = matches!(
        head[..],
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]
    );
    let whole = BufReader::with_capacity(BLOCK, io::Cursor::new(head).chain(counted));
    let mut reader: Reader = if is_gzip {
        Box::new(Decoder {
            compression: "gzip",
            left: MAX_DECOMPRESSED_BYTES,
            decoder: flate2::bufread::MultiGzDecoder::new(whole),
        })
    } else if is_zstd {
        let mut decoder = zstd::Decoder::with_buffer(whole).map_err(failed)?;
        // Dumps made with `zstd --long=31` exist.
        decoder
            .window_log_max(if cfg!(target_pointer_width = "64") {
                31
            } else {
                30
            })
            .map_err(failed)?;
        Box::new(Decoder {
            compression: "zstd",
            left: MAX_DECOMPRESSED_BYTES,
            decoder,
        })
    } else {
        Box::new(whole)
    };
    let head = self::head(&mut reader, HEAD).map_err(failed)?;
    Ok(Opened {
        reader: Box::new(io::Cursor::new(head.clone()).chain(reader)),
        head,
        decompressed: is_gzip || is_zstd,
    })
}

/// The first bytes, as many as asked for where there are so many.
fn head(reader: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(bytes as u64).read_to_end(&mut head)?;
    Ok(head)
}

struct Counted {
    file: File,
    position: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.position.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Says of an error which it is that failed, the disk or what lies on it, and ends what has no end.
struct Decoder<R> {
    compression: &'static str,
    /// How many bytes may still come.
    left: u64,
    decoder: R,
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer).map_err(|error| {
            if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let compression = self.compression;
            let reason = format!("its {compression} data is damaged or ends too early ({error})");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let reason = format!(
                "its {} data expands to more than {} GiB, the most that is read: decompress and split the file",
                self.compression,
                MAX_DECOMPRESSED_BYTES >> 30
            );
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        Ok(count)
    }
}

/// The reason to refuse a NUL byte, and what to do.
pub(super) const NUL: &str = "this is no text, or text in UTF-16 (iconv -f UTF-16 -t UTF-8 converts that); name a file of text";

/// Passes bytes on up to the first NUL, which no text has: a binary file whose beginning looks like text, or
/// one that a crash has filled with zeros.
pub(super) struct WithoutNul<R> {
    reader: R,
    offset: u64,
}

impl<R> WithoutNul<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, offset: 0 }
    }
}

impl<R: Read> Read for WithoutNul<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if let Some(at) = memchr::memchr(0, &buffer[..count]) {
            let offset = self.offset + at as u64;
            let reason = format!("byte {offset} is NUL: {NUL}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expands_without_end_is_ended() {
        let mut decoder = Decoder {
            compression: "gzip",
            left: 1000,
            decoder: io::repeat(b'a'),
        };
        let mut bytes = vec![0; 600];
        assert_eq!(decoder.read(&mut bytes).unwrap(), 600);
        let error = decoder.read(&mut bytes).unwrap_err().to_string();
        assert!(
            error.contains("gzip") && error.contains("1024 GiB"),
            "{error}"
        );
    }
}
