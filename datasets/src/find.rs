//! Finds the files to read, their order and their formats.

#[cfg(test)]
mod tests;
mod walk;

use std::{
    collections::HashSet,
    fs::{self, FileType, Metadata},
    path::{Path, PathBuf},
};

use crate::{
    DataError, Format, SourceFile,
    files::is_device,
    reader,
    source::{DATA_EXTENSIONS, ExtensionKind, extension},
};

/// Result of [`find_sources`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Files in the order in which they are read.
    pub files: Vec<SourceFile>,
    /// Files of folders and globs that are skipped, because their extension is unknown or because they are not
    /// regular files.
    pub skipped: Vec<PathBuf>,
}

/// Finds the files that paths, folders and globs name, in the order given. A folder (with everything below it) and a
/// glob stand for their files in the byte order of the paths, so the order is the same on every machine. A file that
/// is named twice is taken once, where it comes first. Paths may be any bytes.
///
/// An input is tried as a path first, and as a glob only if no such path exists, so that a file whose name holds
/// `*`, `?` or `[` can be named. Folders and globs skip hidden files.
///
/// The extension determines the format: `.txt`, `.text` and `.md` are plain text, `.jsonl` and `.ndjson` are JSON
/// lines, and `.json`, `.csv`, `.tsv` and `.parquet` are the formats of these names; `.gz`, `.zst` or `.zstd` may
/// follow. Files with these extensions are taken from a folder. A file that an input or a glob names is plain text
/// also if it has no extension, or one of markup or source code. `format` overrides all extensions.
///
/// # Errors
///
/// A missing path, a folder without a file of a known extension, a glob that is malformed or matches no file, an
/// unknown extension, a device or socket, a file whose first bytes show that it cannot be read (see
/// [`documents`](crate::documents)), and a path that the operating system does not let us inspect.
pub fn find_sources(inputs: &[PathBuf], format: Option<Format>) -> Result<Sources, DataError> {
    let mut finder = Finder {
        format,
        sources: Sources::default(),
        taken: HashSet::new(),
    };
    for path in inputs {
        // If existence cannot be determined, reading the file reports why.
        if path.try_exists().unwrap_or(true) {
            match path.is_dir() {
                true => finder.add_folder(path)?,
                false => finder.add_file(path.clone())?,
            }
        } else if walk::has_wildcard(path.as_os_str()) {
            finder.add_glob(path)?;
        } else if path == Path::new("-") {
            return Err(refused(
                path,
                "is not a file: name /dev/stdin to read standard input".into(),
            ));
        } else {
            return Err(DataError::Missing { path: path.clone() });
        }
    }
    let Finder {
        mut sources, taken, ..
    } = finder;
    let mut listed = HashSet::new();
    sources.skipped.retain(|path| {
        let path = canonical(path);
        !taken.contains(&path) && listed.insert(path)
    });
    Ok(sources)
}

struct Finder {
    format: Option<Format>,
    sources: Sources,
    /// Canonical paths of the files taken.
    taken: HashSet<PathBuf>,
}

impl Finder {
    fn add_file(&mut self, path: PathBuf) -> Result<(), DataError> {
        let metadata = fs::metadata(&path).map_err(|reason| DataError::Read {
            path: path.clone(),
            reason,
        })?;
        let is_pipe = is_pipe(metadata.file_type());
        if !metadata.is_file() && !is_pipe {
            let kind = kind(metadata.file_type());
            let reason = format!("is {kind}: name a file, a folder, a glob or a pipe");
            return Err(refused(&path, reason));
        }
        let identity = match is_pipe {
            true => pipe_identity(&path, &metadata),
            false => canonical(&path),
        };
        if !self.taken.insert(identity) {
            return Ok(());
        }
        let format = match (self.format, ExtensionKind::from_path(&path)) {
            (Some(format), _) | (None, ExtensionKind::Data(format)) => format,
            (None, ExtensionKind::Writing) => Format::Text,
            (None, ExtensionKind::Unknown) => {
                if path.extension().is_some_and(|extension| extension == "bin") {
                    let reason = "has the extension of token files or other binary files: for token files, name \
                                  the folder";
                    return Err(refused(&path, reason.into()));
                }
                // If the content could not be read anyway, that is the more useful reason.
                if !is_pipe {
                    let file = SourceFile::new(&path, Format::Text, metadata.len());
                    reader::check_head(&file, self.format)?;
                }
                let reason = format!(
                    "the extension {} does not determine a format: rename the file to end in {DATA_EXTENSIONS}, \
                     or state its format with --format (data.format in an experiment)",
                    extension(&path)
                );
                return Err(refused(&path, reason));
            }
        };
        let file = SourceFile {
            is_pipe,
            ..SourceFile::new(path, format, metadata.len())
        };
        if !is_pipe {
            reader::check_head(&file, self.format)?;
        }
        self.sources.files.push(file);
        Ok(())
    }

    fn add_folder(&mut self, folder: &Path) -> Result<(), DataError> {
        let walk::Found { files, mut others } = walk::folder(folder)?;
        let known = |path: &PathBuf| {
            self.format.is_some()
                || matches!(ExtensionKind::from_path(path), ExtensionKind::Data(_))
        };
        let (known, mut unknown): (Vec<_>, Vec<_>) = files.into_iter().partition(known);
        if known.is_empty() {
            let reason = format!(
                "the folder holds no {DATA_EXTENSIONS} file: name files or a glob, or state the format of all its \
                 files with --format (data.format in an experiment)"
            );
            return Err(refused(folder, reason));
        }
        self.sources.skipped.append(&mut unknown);
        self.sources.skipped.append(&mut others);
        known.into_iter().try_for_each(|path| self.add_file(path))
    }

    fn add_glob(&mut self, pattern: &Path) -> Result<(), DataError> {
        let walk::Found { files, mut others } = walk::glob(pattern)?;
        if files.is_empty() {
            return Err(DataError::NoMatch {
                pattern: pattern.display().to_string(),
            });
        }
        self.sources.skipped.append(&mut others);
        files.into_iter().try_for_each(|path| self.add_file(path))
    }
}

fn refused(path: &Path, reason: String) -> DataError {
    DataError::Dataset {
        path: path.into(),
        reason,
    }
}

/// Returns the path that identifies a file, whichever of its names is used.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}

/// Returns the identity of a pipe by device and inode: `/dev/stdin` and `/dev/fd/0` are the same pipe, and pipes have
/// no canonical path.
fn pipe_identity(path: &Path, metadata: &Metadata) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let _ = path;
        format!("pipe {} {}", metadata.dev(), metadata.ino()).into()
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        path.into()
    }
}

fn is_pipe(file_type: FileType) -> bool {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileTypeExt::is_fifo(&file_type)
    }
    #[cfg(not(unix))]
    {
        let _ = file_type;
        false
    }
}

/// Returns the kind, with its article, of a file that is neither regular nor a pipe.
fn kind(file_type: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_socket() {
            return "a socket";
        }
    }
    match is_device(file_type) {
        true => "a device",
        false => "not a regular file",
    }
}
