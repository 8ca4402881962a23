//! Bytes on disk → bytes of the file: gzip and zstd are taken off, and what is read is counted.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::DataError;

pub(super) type Reader = Box<dyn Read + Send>;

/// A file without its compression.
pub(super) enum Opened {
    Plain(Reader),
    Decompressed(Reader),
}

impl Opened {
    pub(super) fn into_reader(self) -> Reader {
        match self {
            Self::Plain(reader) | Self::Decompressed(reader) => reader,
        }
    }
}

/// How much is read from disk at once.
const BLOCK: usize = 1 << 17;

/// Opens a file, and keeps in `position` how many bytes of it are read.
pub(super) fn open(path: &Path, position: &Arc<AtomicU64>) -> Result<Opened, DataError> {
    let failed = |reason| DataError::Read {
        path: path.into(),
        reason,
    };
    let mut file = Counted {
        file: File::open(path).map_err(failed)?,
        position: Arc::clone(position),
    };
    // The first bytes are put back by chaining, not by seeking, so that pipes can be read.
    let mut head = Vec::new();
    Read::by_ref(&mut file)
        .take(4)
        .read_to_end(&mut head)
        .map_err(failed)?;
    let is_gzip = head.starts_with(&[0x1f, 0x8b]);
    // A frame, or a skippable frame, with which parallel compressors begin.
    let is_zstd = matches!(
        head[..],
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]
    );
    let whole = BufReader::with_capacity(BLOCK, io::Cursor::new(head).chain(file));
    Ok(if is_gzip {
        Opened::Decompressed(Box::new(Decoder {
            compression: "gzip",
            decoder: flate2::bufread::MultiGzDecoder::new(whole),
        }))
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
        Opened::Decompressed(Box::new(Decoder {
            compression: "zstd",
            decoder,
        }))
    } else {
        Opened::Plain(Box::new(whole))
    })
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

/// Says of an error which it is that failed: the disk, or what lies on it.
struct Decoder<R> {
    compression: &'static str,
    decoder: R,
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).map_err(|error| {
            if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let compression = self.compression;
            let reason = format!("its {compression} data is damaged or ends too early ({error})");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })
    }
}
