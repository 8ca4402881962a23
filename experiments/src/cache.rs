//! The user's directory for files that can be made again: tokens of text, and measurements of this machine.

use std::fs;
use std::path::PathBuf;

use foretoken_datasets::files;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Returns `$FORETOKEN_CACHE`, or `foretoken` in the user's cache directory.
pub(crate) fn directory() -> PathBuf {
    std::env::var_os("FORETOKEN_CACHE")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| dirs::cache_dir().map(|path| path.join("foretoken")))
        .unwrap_or_else(|| ".foretoken".into())
}

/// Content of the file of a measurement. The key is compared in full, because the name of the file is only its hash.
#[derive(Serialize, Deserialize)]
struct Measurement<T> {
    key: String,
    value: T,
}

/// Returns what [`keep_measurement`] kept under `key`. `None` if there is nothing, or if the file is damaged.
pub(crate) fn kept_measurement<T: DeserializeOwned>(key: &str) -> Option<T> {
    let text = files::read_small(&measurement_file(key), files::LARGEST_DESCRIPTION).ok()?;
    let kept: Measurement<T> = serde_json::from_slice(&text).ok()?;
    (kept.key == key).then_some(kept.value)
}

/// Keeps a measurement for later processes. A failure is ignored, because the next process can measure again.
pub(crate) fn keep_measurement<T: Serialize>(key: &str, value: T) {
    let file = measurement_file(key);
    let measurement = Measurement {
        key: key.to_owned(),
        value,
    };
    if let Some(folder) = file.parent()
        && let Ok(json) = serde_json::to_vec(&measurement)
        && fs::create_dir_all(folder).is_ok()
    {
        let _ = files::write_atomically(&file, &json);
    }
}

fn measurement_file(key: &str) -> PathBuf {
    let hash = format!("{:x}", Sha256::digest(key));
    let name = format!("{}.json", &hash[..16]);
    directory().join("measured").join(name)
}
