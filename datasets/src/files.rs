//! Writing a file so that a reader, or a power cut, finds the old bytes or the new ones; and text of a file in messages.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Writes beside, waits for the disk, renames.
///
/// # Errors
///
/// When the disk refuses; the old file is still there then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let result = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    if result.is_err() {
        let _ = fs::remove_file(&partial);
    }
    result
}

/// Text of a file as it stands in a message of one line: control characters are escaped.
pub fn printable(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}
