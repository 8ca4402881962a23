//! The type of fuzz targets, and functions for their bodies.

use std::fmt::Display;
use std::fs;
use std::path::PathBuf;

/// A parser under test.
pub(crate) struct Target {
    /// Name of the fuzz target.
    pub(crate) name: &'static str,
    /// Valid inputs, from which mutations start.
    #[allow(dead_code, reason = "a fuzzer reads seeds from its corpus")]
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input as the program does, and returns whether it was accepted. Panics if a promise is broken.
    pub(crate) accepts: fn(&[u8]) -> bool,
}

impl Target {
    pub(crate) const fn new(
        name: &'static str,
        seeds: fn() -> Vec<Vec<u8>>,
        accepts: fn(&[u8]) -> bool,
    ) -> Self {
        Self {
            name,
            seeds,
            accepts,
        }
    }
}

thread_local! {
    static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
}

/// Writes a file, and returns its path. Each thread has one file of a name.
pub(crate) fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.with(|folder| folder.path().join(name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// Asserts that an error is one line, as all errors for users are.
pub(crate) fn assert_line(error: &dyn Display) {
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message:?}");
}

/// Returns the value, or `None` for an error, which must be one line.
pub(crate) fn accepted<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| assert_line(error)).ok()
}
