//! Fetches the well-known corpora of `corpora.toml` into a folder. Transferring one file and unpacking an archive are
//! in `download`.

mod download;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, atomic::AtomicBool},
};

use serde::Deserialize;

use self::download::Download;
use crate::{DataError, files::LockFile};

/// Corpus that can be fetched by its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusEntry {
    /// Name of the corpus.
    pub name: String,
    /// Description in one line.
    pub what: String,
    /// Licence of the text.
    pub licence: String,
    /// Address of a page about it.
    pub homepage: String,
    /// Files to fetch.
    pub files: Vec<CorpusFile>,
}

impl CorpusEntry {
    /// Returns the number of bytes to fetch, over the files of known size.
    pub fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.bytes).sum()
    }
}

/// File of a corpus: a text, or a zip archive of texts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusFile {
    /// Address to fetch it from.
    pub url: String,
    /// Name in the folder.
    pub name: String,
    /// Size, if known.
    pub bytes: Option<u64>,
    /// SHA-256 in hexadecimal, if known.
    pub sha256: Option<String>,
    /// Whether the publisher of the corpus intends this text for evaluation.
    #[serde(default)]
    pub validation: bool,
    /// Texts to unpack; empty if the file is not an archive.
    #[serde(default)]
    pub unpack: Vec<CorpusMember>,
}

/// Text in a zip archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusMember {
    /// Name in the archive.
    pub member: String,
    /// Name in the folder.
    pub name: String,
    /// Whether the publisher of the corpus intends this text for evaluation.
    #[serde(default)]
    pub validation: bool,
}

/// Returns the corpora that can be fetched.
pub fn corpora() -> &'static [CorpusEntry] {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Registry {
        corpora: Vec<CorpusEntry>,
    }
    static CORPORA: LazyLock<Vec<CorpusEntry>> = LazyLock::new(|| {
        let registry = toml::from_str::<Registry>(include_str!("../corpora.toml"));
        registry
            .expect("corpora.toml is part of the program")
            .corpora
    });
    &CORPORA
}

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

/// Fetches the files of a corpus into a folder. Files that exist are checked and not changed. A transfer that breaks off
/// or is interrupted leaves `FILE.part` behind, from which the next call continues. `progress` is called with the name of
/// the file, the number of bytes so far, and their total if known.
///
/// # Errors
///
/// [`DataError::Fetch`] if a server cannot be reached or does not have the file, if a transfer breaks off, and if a file
/// (new or existing) is not the expected one; [`DataError::Interrupted`] once `interrupt` is set; and errors of reading
/// and writing files.
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
