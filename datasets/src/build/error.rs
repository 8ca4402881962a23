//! Errors of a build.

use std::path::Path;

use crate::DataError;

pub(super) fn dataset(path: &Path, reason: String) -> DataError {
    DataError::Dataset {
        path: path.into(),
        reason,
    }
}

pub(super) fn write_error(path: &Path) -> impl FnOnce(std::io::Error) -> DataError {
    let path = path.to_path_buf();
    move |reason| DataError::Write { path, reason }
}
