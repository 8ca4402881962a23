//! What a fuzz target is, and what its body may use.

use std::fmt::Display;
use std::fs;
use std::path::PathBuf;

/// A parser under test.
pub(crate) struct Target {
    /// Name of the fuzz target.
    pub(crate) name: &'static str,
    /// Valid inputs, to begin with.
    #[allow(dead_code, reason = "a fuzzer reads seeds from its corpus")]
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input as the program does, and returns whether it was accepted. Panics where a promise is broken.
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

/// A file with these bytes, the only one of this name on this thread.
pub(crate) fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.with(|folder| folder.path().join(name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// Asserts that an error is one line, as all are that a user sees.
pub(crate) fn assert_line(error: &dyn Display) {
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message:?}");
}

/// Returns what was read; `None` for an error, which has to be one line.
pub(crate) fn accepted<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| assert_line(error)).ok()
}
