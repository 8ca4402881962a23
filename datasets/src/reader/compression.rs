//! Decompression of gzip and zstd, and the count of bytes read from disk.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{message::NUL, options::MAX_DECOMPRESSED_BYTES};
use crate::{DataError, SourceFile};

pub(super) type Reader = Box<dyn Read + Send>;

/// Opened file, after decompression.
pub(super) struct Opened {
    /// Reader of the file from its beginning.
    pub(super) reader: Reader,
    /// First bytes of the file, at most [`HEAD`].
    pub(super) head: Vec<u8>,
    /// Whether the file is compressed.
    pub(super) decompressed: bool,
}

/// Number of bytes that are inspected before a file is read.
pub(super) const HEAD: usize = 4096;

/// Bytes per read from disk.
const BLOCK: usize = 1 << 17;

/// Opens a file, and counts in `position` the bytes read from it.
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
    // A frame, or a skippable frame, which parallel compressors write first.
    let is_zstd = matches!(
        head[..],
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]
    );
    let input = BufReader::with_capacity(BLOCK, io::Cursor::new(head).chain(counted));
    let mut reader: Reader = if is_gzip {
        Box::new(Decoder {
            compression: "gzip",
            left: MAX_DECOMPRESSED_BYTES,
            decoder: flate2::bufread::MultiGzDecoder::new(input),
        })
    } else if is_zstd {
        let mut decoder = zstd::Decoder::with_buffer(input).map_err(failed)?;
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
        Box::new(input)
    };
    let head = self::head(&mut reader, HEAD).map_err(failed)?;
    Ok(Opened {
        reader: Box::new(io::Cursor::new(head.clone()).chain(reader)),
        head,
        decompressed: is_gzip || is_zstd,
    })
}

/// Reads the first `bytes` bytes, or all if there are fewer.
fn head(reader: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(bytes as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// File that counts the bytes read from it.
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

/// Decoder whose errors tell damaged data from a failing disk, and which limits the decompressed size.
struct Decoder<R> {
    compression: &'static str,
    /// Remaining bytes up to the limit.
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
                "its {} data expands to more than {} GiB, the limit: decompress and split the file",
                self.compression,
                MAX_DECOMPRESSED_BYTES >> 30
            );
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        Ok(count)
    }
}

/// Reader that fails at the first NUL byte, which text does not contain. Binary files that begin like text do, and
/// files that a crash has filled with zeros.
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
    fn decompressed_size_is_limited() {
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
