//! Copies of pipes in the folder of a build, which reads its inputs more than once.

use std::{ffi::OsStr, fs, path::Path, path::PathBuf};

use super::monitor::{BuildProgress, Monitor};
use crate::{DataError, SourceFile, source::copy_pipe};

const PREFIX: &str = "build.pipe-";

/// Whether a file in the folder of a build is a copy of a pipe.
pub(super) fn is_copy(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Copies of a build. Dropping this removes them.
#[derive(Debug, Default)]
pub(super) struct Copies(Vec<PathBuf>);

impl Copies {
    /// Copies the pipes among the files into the folder, one after the other. First it removes copies that a killed
    /// build has left there.
    pub(super) fn make(
        files: &mut [SourceFile],
        folder: &Path,
        monitor: Monitor<'_>,
    ) -> Result<Self, DataError> {
        let left = fs::read_dir(folder).into_iter().flatten().flatten();
        for copy in left.filter(|entry| is_copy(&entry.file_name())) {
            // A copy that cannot be removed is overwritten or never read.
            let _ = fs::remove_file(copy.path());
        }
        let mut copies = Self::default();
        for file in files.iter_mut().filter(|file| file.is_pipe) {
            let copy = folder.join(format!("{PREFIX}{}", copies.0.len()));
            copies.0.push(copy.clone());
            let mut advance = |bytes| {
                (monitor.report)(BuildProgress::Copying(bytes));
                monitor.check()
            };
            file.bytes = copy_pipe(&file.path, &copy, &mut advance)?;
            file.copy = Some(copy);
        }
        Ok(copies)
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        for copy in &self.0 {
            let _ = fs::remove_file(copy);
        }
    }
}
