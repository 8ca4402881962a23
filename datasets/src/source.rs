//! Finds the files to read, their order and their formats; how a format is read is the business of
//! `reader`. Nothing is interpreted: line ends, byte-order marks and white space reach the tokenizer as they
//! are on disk.

mod format;
mod pipe;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    collections::HashSet,
    fs::{self, FileType, Metadata},
    path::{Path, PathBuf},
};

pub use format::Format;
use format::{DATA_EXTENSIONS, Named, extension};
pub(crate) use pipe::copy_pipe;

use crate::{DataError, reader};

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path, as the inputs name it. Messages and manifests say this path.
    pub path: PathBuf,
    /// How its documents are read.
    pub format: Format,
    /// Its size on disk; 0 for a pipe.
    pub bytes: u64,
    /// Whether it is a pipe, whose bytes come once only.
    pub is_pipe: bool,
    /// The file that holds the bytes of a pipe.
    pub copy: Option<PathBuf>,
}

impl SourceFile {
    /// A regular file.
    pub fn new(path: impl Into<PathBuf>, format: Format, bytes: u64) -> Self {
        Self {
            path: path.into(),
            format,
            bytes,
            is_pipe: false,
            copy: None,
        }
    }

    /// The path of the file that holds the bytes.
    pub fn location(&self) -> &Path {
        self.copy.as_deref().unwrap_or(&self.path)
    }
}

/// Result of [`find_sources`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The files, in the order in which they are read.
    pub files: Vec<SourceFile>,
    /// The files of folders and globs that are passed over, because their extension is unknown or because
    /// they cannot be read as files.
    pub skipped: Vec<PathBuf>,
}

/// Finds the files that paths, folders and globs name, in the order given. A folder (with all that
/// is below it) and a glob stand for their files in the byte order of the paths, so on every machine
/// alike. A file that is named twice is taken once, at its first place. Paths may be any bytes.
///
/// An input is taken as a path first: a file whose name holds `*`, `?` or `[` is read as such, and
/// only what does not exist is tried as a glob. Folders and globs leave hidden files alone.
///
/// The extension says the format: `.txt`, `.text` and `.md` are plain text, `.jsonl` and `.ndjson` JSON lines,
/// `.json`, `.csv`, `.tsv` and `.parquet` what they are called, also with `.gz`, `.zst` or `.zstd` behind. These
/// are taken from a folder. A file that is named itself, or by a glob, is plain text too if it has no extension,
/// or one of markup or source code. `format` says the format of all files, whatever they are called.
///
/// # Errors
///
/// A path that is missing, a folder without a single known file, a glob that is malformed or matches
/// no file, an unknown extension, a device or socket, a file whose first bytes are of a kind that is not read
/// (see [`documents`](crate::documents)), and what the operating system does not let us look at.
pub fn find_sources(inputs: &[PathBuf], format: Option<Format>) -> Result<Sources, DataError> {
    let mut finder = Finder {
        format,
        sources: Sources::default(),
        taken: HashSet::new(),
    };
    for path in inputs {
        // If even this cannot be found out, reading the file says why.
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
                "is no file: standard input is /dev/stdin".into(),
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
    /// Identities of the files taken.
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
        let format = match (self.format, Named::of(&path)) {
            (Some(format), _) | (None, Named::Data(format)) => format,
            (None, Named::Writing) => Format::Text,
            (None, Named::Unknown) => {
                if path.extension().is_some_and(|extension| extension == "bin") {
                    let reason = "is a file of tokens or otherwise binary, by its extension: of files of tokens, name \
                                  the folder";
                    return Err(refused(&path, reason.into()));
                }
                // Content that could not be read in any case is the better reason.
                if !is_pipe {
                    let file = SourceFile::new(&path, Format::Text, metadata.len());
                    reader::check_head(&file, self.format)?;
                }
                let reason = format!(
                    "the extension {} says no format that is known: rename the file to end in {DATA_EXTENSIONS}, \
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
        let known =
            |path: &PathBuf| self.format.is_some() || matches!(Named::of(path), Named::Data(_));
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

/// The path that tells a file from others, by whatever names both are called.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}

/// The identity of a pipe: `/dev/stdin` and `/dev/fd/0` are the same one, and have no canonical path.
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

/// The kind of a file that is neither regular nor a pipe, with its article.
fn kind(file_type: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_socket() {
            return "a socket";
        }
        if file_type.is_char_device() || file_type.is_block_device() {
            return "a device";
        }
    }
    let _ = file_type;
    "no regular file"
}
