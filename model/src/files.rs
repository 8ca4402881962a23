//! Files that are read: regular ones only, and whole only up to a limit.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::error::ModelError;

/// Maximum size of a file of JSON, such as `config.json` or the index of the files of weights.
const LARGEST_JSON: u64 = 64 << 20;

/// Opens a regular file. A pipe is refused before it is opened, which would wait for a writer.
pub(crate) fn open(path: &Path) -> Result<File, ModelError> {
    let metadata = fs::metadata(path).map_err(ModelError::read(path))?;
    if !metadata.is_file() {
        let reason = io::Error::other("it is not a file");
        return Err(ModelError::read(path)(reason));
    }
    File::open(path).map_err(ModelError::read(path))
}

/// Reads a file of JSON.
pub(crate) fn read_json(path: &Path) -> Result<String, ModelError> {
    let mut text = String::new();
    let read = open(path)?
        .take(LARGEST_JSON + 1)
        .read_to_string(&mut text)
        .map_err(ModelError::read(path))?;
    match read as u64 > LARGEST_JSON {
        false => Ok(text),
        true => {
            let reason = format!(
                "it has more than {} MiB, the limit for a file of this kind",
                LARGEST_JSON >> 20
            );
            Err(ModelError::read(path)(io::Error::other(reason)))
        }
    }
}
