//! Files that are read as memory.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use memmap2::Mmap;
use sha2::{Digest, Sha256};

use crate::DataError;

/// A file without checksums is told from others by at most `SAMPLES` pieces of `SAMPLE` bytes.
const SAMPLE: usize = 1 << 20;
const SAMPLES: usize = 1024;

/// Refuses a device or a pipe, which may wait for ever when it is opened, and cannot be read more than once.
pub(crate) fn check_regular(path: &Path) -> Result<(), DataError> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Err(DataError::Read {
            path: path.into(),
            reason: io::Error::other("it is a device or a pipe, and not a file"),
        }),
        // Reading says what else may be wrong.
        _ => Ok(()),
    }
}

/// Maps a whole file for reading.
pub(crate) fn map(path: &Path) -> Result<Mmap, DataError> {
    let read_error = |reason: io::Error| match reason.kind() {
        io::ErrorKind::NotFound => DataError::Missing { path: path.into() },
        _ => DataError::Read {
            path: path.into(),
            reason,
        },
    };
    // Asked before opening, which waits for a writer where the path is a pipe.
    let metadata = fs::metadata(path).map_err(read_error)?;
    if metadata.is_dir() {
        return Err(DataError::Directory { path: path.into() });
    }
    check_regular(path)?;
    let file = File::open(path).map_err(read_error)?;
    // SAFETY: the bytes of the map must not change, and the file must not become shorter, for as long as
    // the map lives. No program can enforce that on a file, so it is asked of the user, in the
    // documentation of the types that map one. All bytes are valid as numbers, and what is read as a
    // length or an index is checked when a file is opened: a changed file gives other numbers or an
    // error. A shortened one raises SIGBUS (an exception on Windows, where a mapped file cannot be
    // shortened), which ends the process.
    unsafe { Mmap::map(&file) }.map_err(read_error)
}

/// Hashes up to 1024 pieces of 1 MiB, spread evenly: all bytes of a file of up to 1 GiB.
pub(crate) fn sample(bytes: &[u8], hasher: &mut Sha256) {
    for piece in spread(bytes.len().div_ceil(SAMPLE), SAMPLES) {
        let start = piece * SAMPLE;
        hasher.update(&bytes[start..bytes.len().min(start + SAMPLE)]);
    }
}

/// Up to `most` of the numbers below `count`: the first, the last and others evenly between.
pub(crate) fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let chosen = count.min(most);
    // In u128, for no count is too large to be multiplied there.
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
