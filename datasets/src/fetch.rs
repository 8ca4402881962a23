//! Well-known corpora: what there is, by `corpora.toml`, and how its files come into a folder. How one
//! file is transferred and how a zip archive is unpacked have files of their own below this one.

mod archive;
mod download;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{LazyLock, atomic::AtomicBool},
};

use serde::Deserialize;

use self::download::Download;
use crate::{DataError, files::LockFile};

/// A corpus that can be fetched by its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusEntry {
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    pub what: String,
    /// The licence that it comes under.
    pub licence: String,
    /// Where to read more about it.
    pub homepage: String,
    /// What is fetched.
    pub files: Vec<CorpusFile>,
}

impl CorpusEntry {
    /// How many bytes are fetched, as far as is known.
    pub fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.bytes).sum()
    }
}

/// A file of a corpus: a text itself, or a zip archive with texts in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusFile {
    /// Where it is fetched from.
    pub url: String,
    /// Its name in the folder.
    pub name: String,
    /// Its size, where known.
    pub bytes: Option<u64>,
    /// Its SHA-256 in hexadecimal, where known.
    pub sha256: Option<String>,
    /// Those who made the corpus held this text out, to evaluate on.
    #[serde(default)]
    pub validation: bool,
    /// The texts in the archive; none when the file is not one.
    #[serde(default)]
    pub unpack: Vec<CorpusMember>,
}

/// A text in a zip archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusMember {
    /// Its name in the archive.
    pub member: String,
    /// Its name in the folder.
    pub name: String,
    /// Those who made the corpus held this text out, to evaluate on.
    #[serde(default)]
    pub validation: bool,
}

/// The corpora that can be fetched.
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

/// Where to fetch from.
#[derive(Clone, Debug, Default)]
pub struct FetchOptions {
    /// Take each file from `MIRROR/CORPUS/FILE` instead of its own address.
    pub mirror: Option<String>,
}

/// A text that is in the folder now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Those who made the corpus held it out, to evaluate on.
    pub validation: bool,
    /// Its SHA-256, or that of the archive it comes from, is the expected one. Where none is known,
    /// this is false.
    pub verified: bool,
}

/// Brings the files of a corpus into a folder; what is there already is checked and left alone.
/// A transfer that breaks off, or is interrupted, leaves `FILE.part` behind, from which the next call
/// goes on. `progress` is told the file, how many bytes of it are there, and how many it has.
///
/// # Errors
///
/// [`DataError::Fetch`] when a server cannot be reached or has not the file, when a transfer breaks
/// off, and when a file (fetched now, or found in the folder) is not the expected one;
/// [`DataError::Interrupted`] once `interrupt` is set; and files that cannot be read or written.
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
                "another foretoken process is writing here: wait for it, or name another folder"
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
        let verified = download.obtain(file, &url, &path)?;
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
            download.unpack(&path, member, &target)?;
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
