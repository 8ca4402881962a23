//! Folders of tokens that are built once, where nobody has to name them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use super::{BuildOptions, Monitor, build_in, sha256};
use crate::{
    DataError, find_sources,
    manifest::{Manifest, SplitBy},
};

/// The folder under `root` that holds the tokens of `options`, built there unless it is complete. It is
/// named after the first input, the tokenizer, and a hash of the options and of every file's path, size
/// and time of change: files that changed get another folder.
///
/// Where another process is building the same folder, waits for it.
///
/// # Errors
///
/// Those of [`build`].
pub fn build_cached(
    options: &BuildOptions,
    root: &Path,
    monitor: Monitor<'_>,
) -> Result<PathBuf, DataError> {
    let folder = root.join(name(options)?);
    if folder.join(Manifest::FILE).exists() {
        return Ok(folder);
    }
    build_in(options, &folder, monitor, true).map(|_| folder)
}

fn name(options: &BuildOptions) -> Result<String, DataError> {
    let sources = find_sources(&options.inputs, options.read.format)?;
    let mut key = format!("{:?}\n", options.recipe(SplitBy::Document)?);
    for file in &sources.files {
        if file.is_pipe {
            return Err(DataError::Dataset {
                path: file.path.clone(),
                reason: "is a pipe, which can be read only once: make tokens of it with foretoken data build, and \
                         name their folder"
                    .into(),
            });
        }
        let failed = |reason| DataError::Read {
            path: file.path.clone(),
            reason,
        };
        let path = file.path.canonicalize().map_err(failed)?;
        let changed = fs::metadata(&path)
            .and_then(|data| data.modified())
            .map_err(failed)?;
        // Times before 1970 and clocks that tell none are all the same to the key.
        let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
        key += &format!(
            "{}\n{} {}\n",
            path.display(),
            file.bytes,
            changed.as_nanos()
        );
    }
    let first = &sources.files[0].path;
    let stem = first.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |text: &str| -> String {
        let kept = text.chars().map(|c| match c.is_ascii_alphanumeric() {
            true => c,
            false => '-',
        });
        kept.take(40).collect()
    };
    let tokenizer = options.tokenizer.to_string();
    let tokenizer = Path::new(&tokenizer).file_stem().unwrap_or_default();
    Ok(format!(
        "{}-{}-{}",
        plain(&stem),
        plain(&tokenizer.to_string_lossy()),
        &sha256(key.as_bytes())[..12]
    ))
}
