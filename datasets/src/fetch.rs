//! Fetches well-known corpora into a folder.

mod download;
mod registry;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

pub use self::registry::{CorpusEntry, CorpusFile, CorpusMember, corpora};

use self::download::Download;
use crate::{DataError, files::LockFile};

/// Options of [`fetch`].
#[derive(Clone, Debug, Default)]
pub struct FetchOptions {
    /// Mirror to use instead of the addresses of the files: each file is fetched from `MIRROR/CORPUS/FILE`.
    pub mirror: Option<String>,
}

/// Text that is in the folder after [`fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Path of the text.
    pub path: PathBuf,
    /// Whether the publisher of the corpus intends this text for evaluation.
    pub validation: bool,
    /// Whether the SHA-256 of the text, or of its archive, is known and was checked.
    pub verified: bool,
}

/// Fetches the files of a corpus into a folder. Files that exist are checked and not changed. A transfer that breaks
/// off or is interrupted leaves `FILE.part` behind, from which the next call continues. `progress` is called with the
/// name of the file, the number of bytes so far, and their total if known.
///
/// # Errors
///
/// [`DataError::Fetch`] if a server cannot be reached or does not have the file, if a transfer breaks off, and if a
/// file (new or existing) is not the expected one; [`DataError::Interrupted`] once `interrupt` is set; and errors of
/// reading and writing files.
pub fn fetch(
    entry: &CorpusEntry,
    folder: &Path,
    options: &FetchOptions,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(&str, u64, Option<u64>),
) -> Result<Vec<Fetched>, DataError> {
    fs::create_dir_all(folder).map_err(|reason| DataError::Write {
        path: folder.into(),
        reason,
    })?;
    let lock = LockFile::try_take_folder(folder).map_err(|reason| DataError::Write {
        path: folder.into(),
        reason,
    })?;
    let Some(_lock) = lock else {
        return Err(DataError::Dataset {
            path: folder.into(),
            reason:
                "another foretoken process is writing to this folder: wait for it, or name another folder"
                    .into(),
        });
    };
    let mut download = Download::new(&entry.name, interrupt, progress);
    let mut fetched = Vec::new();
    for file in &entry.files {
        let url = match &options.mirror {
            Some(mirror) => {
                format!(
                    "{}/{}/{}",
                    mirror.trim_end_matches('/'),
                    entry.name,
                    file.name
                )
            }
            None => file.url.clone(),
        };
        let path = folder.join(&file.name);
        let verified = download.ensure_file(file, &url, &path)?;
        if file.unpack.is_empty() {
            fetched.push(Fetched {
                path,
                validation: file.validation,
                verified,
            });
            continue;
        }
        for member in &file.unpack {
            let target = folder.join(&member.name);
            download.ensure_unpacked(&path, member, &target)?;
            fetched.push(Fetched {
                path: target,
                validation: member.validation,
                verified,
            });
        }
    }
    Ok(fetched)
}

#[cfg(test)]
mod tests;
