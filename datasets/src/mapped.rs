//! Memory-mapped files.

use std::{fs, io, path::Path};

use memmap2::Mmap;
use sha2::{Digest, Sha256};

use crate::{DataError, files::open_regular};

/// Bytes of a sample. The fingerprint of a file without checksums hashes samples.
const SAMPLE: usize = 1 << 20;
/// Maximum number of samples.
const SAMPLES: usize = 1024;

/// Refuses a device or a pipe: opening one may block for ever, and a pipe can be read only once.
pub(crate) fn check_regular(path: &Path) -> Result<(), DataError> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Err(DataError::Read {
            path: path.into(),
            reason: io::Error::other("it is a device or a pipe, not a regular file"),
        }),
        // Reading the file reports any other error.
        _ => Ok(()),
    }
}

/// Maps a whole file for reading.
pub(crate) fn map(path: &Path) -> Result<Mmap, DataError> {
    let read_error = |reason: io::Error| match reason.kind() {
        io::ErrorKind::NotFound => DataError::Missing { path: path.into() },
        io::ErrorKind::IsADirectory => DataError::Directory { path: path.into() },
        _ => DataError::Read {
            path: path.into(),
            reason,
        },
    };
    let file = open_regular(path).map_err(read_error)?;
    // SAFETY: the bytes of the map must not change, and the file must not be truncated, while the map exists. A program
    // cannot enforce this, so the documentation of the types that map a file requires it of the user. All bytes are
    // valid numbers, and lengths and indices are checked when a file is opened, so a changed file gives other numbers
    // or an error. A truncated file raises SIGBUS, which ends the process (Windows does not allow truncating a mapped
    // file).
    unsafe { Mmap::map(&file) }.map_err(read_error)
}

/// Hashes up to 1024 pieces of 1 MiB, spread evenly: all bytes of a file of up to 1 GiB.
pub(crate) fn sample(bytes: &[u8], hasher: &mut Sha256) {
    for piece in spread(bytes.len().div_ceil(SAMPLE), SAMPLES) {
        let start = piece * SAMPLE;
        hasher.update(&bytes[start..bytes.len().min(start + SAMPLE)]);
    }
}

/// Returns up to `most` of the numbers below `count`: the first, the last and others spread evenly between them.
pub(crate) fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let chosen = count.min(most);
    // The product of two counts always fits into u128.
    (0..chosen).map(move |i| match chosen {
        1 => 0,
        _ => (i as u128 * (count - 1) as u128 / (chosen - 1) as u128) as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_spread_evenly() {
        let pieces = |count| spread(count, 4).collect::<Vec<_>>();
        assert!(pieces(0).is_empty());
        assert_eq!(pieces(1), [0]);
        assert_eq!(pieces(3), [0, 1, 2]);
        assert_eq!(pieces(4), [0, 1, 2, 3]);
        assert_eq!(pieces(100), [0, 33, 66, 99]);
        assert_eq!(pieces(usize::MAX)[3], usize::MAX - 1);
    }
}
