//! A file to read and its format. How files are found is in `find`, how they are read in `reader`.

mod format;
mod pipe;

use std::path::{Path, PathBuf};

pub use format::Format;
pub(crate) use format::{DATA_EXTENSIONS, ExtensionKind, extension};
pub(crate) use pipe::copy_pipe;

/// File to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path as the inputs name it. Messages and manifests use this path.
    pub path: PathBuf,
    /// Format of its documents.
    pub format: Format,
    /// Size on disk; 0 for a pipe.
    pub bytes: u64,
    /// Whether it is a pipe, which can be read only once.
    pub is_pipe: bool,
    /// Copy of a pipe's bytes in a regular file, once it has been made.
    pub copy: Option<PathBuf>,
}

impl SourceFile {
    /// Describes a regular file.
    pub fn new(path: impl Into<PathBuf>, format: Format, bytes: u64) -> Self {
        Self {
            path: path.into(),
            format,
            bytes,
            is_pipe: false,
            copy: None,
        }
    }

    /// Returns the path of the file that holds the bytes: the copy of a pipe, or the file itself.
    pub fn location(&self) -> &Path {
        self.copy.as_deref().unwrap_or(&self.path)
    }
}
