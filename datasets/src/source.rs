//! Which files there are to read, and in which order; what is in them is the business of `reader`.
//! Nothing is interpreted: line ends, byte-order marks and white space reach the tokenizer as they
//! are on disk.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use walkdir::WalkDir;

use crate::DataError;

/// How the documents lie in a file, underneath its compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Plain text.
    Text,
    /// One JSON object per line.
    JsonLines,
    /// An Apache Parquet table, one document per row.
    Parquet,
}

impl Format {
    /// What the extension of a file says: `text.jsonl.gz` is JSON lines, `LICENSE` is unknown.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let name = [".gz", ".zst", ".zstd"]
            .iter()
            .find_map(|compression| name.strip_suffix(compression))
            .unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "txt" | "text" | "md" => Some(Self::Text),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// What its name says that it holds.
    pub format: Format,
    /// Its size on disk.
    pub bytes: u64,
}

/// What [`find_sources`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The files, in the order in which they are read.
    pub files: Vec<SourceFile>,
    /// The files in the folders that are passed over, because their extension is unknown or because
    /// they cannot be read as files.
    pub skipped: Vec<PathBuf>,
}

/// Finds the files that paths, folders and globs name, in the order given. A folder (with all that
/// is below it) and a glob stand for their files in the byte order of the paths, so on every machine
/// alike. A file that is named twice is taken once, at its first place.
///
/// An input is taken as a path first: a file whose name holds `*`, `?` or `[` is read as such, and
/// only what does not exist is tried as a glob. From a folder the files that `.txt`, `.text`, `.md`,
/// `.jsonl`, `.ndjson` and `.parquet` end are taken, also with `.gz`, `.zst` or `.zstd` behind;
/// hidden ones are left alone. A file that is named itself, or by a glob, is plain text when
/// its extension is unknown.
///
/// # Errors
///
/// A path that is missing, a folder without a single known file, a glob that is malformed or matches
/// no file, and what the operating system does not let us look at.
pub fn find_sources(inputs: &[String]) -> Result<Sources, DataError> {
    let mut sources = Sources::default();
    let mut taken = HashSet::new();
    for input in inputs {
        let path = Path::new(input);
        // Where even this cannot be told, reading the file says why.
        if path.try_exists().unwrap_or(true) {
            if path.is_dir() {
                add_folder(path, &mut sources, &mut taken)?;
            } else {
                add_file(path.into(), &mut sources, &mut taken)?;
            }
        } else if input.contains(['*', '?', '[']) {
            for file in matching_files(input)? {
                add_file(file, &mut sources, &mut taken)?;
            }
        } else {
            return Err(DataError::Missing { path: path.into() });
        }
    }
    let mut listed = HashSet::new();
    sources.skipped.retain(|path| {
        let path = canonical(path);
        !taken.contains(&path) && listed.insert(path)
    });
    Ok(sources)
}

fn add_file(
    path: PathBuf,
    sources: &mut Sources,
    taken: &mut HashSet<PathBuf>,
) -> Result<(), DataError> {
    let bytes = fs::metadata(&path)
        .map_err(|reason| DataError::Read {
            path: path.clone(),
            reason,
        })?
        .len();
    if taken.insert(canonical(&path)) {
        let format = Format::of(&path).unwrap_or(Format::Text);
        sources.files.push(SourceFile {
            path,
            format,
            bytes,
        });
    }
    Ok(())
}

fn add_folder(
    folder: &Path,
    sources: &mut Sources,
    taken: &mut HashSet<PathBuf>,
) -> Result<(), DataError> {
    let hidden = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let entries = WalkDir::new(folder)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !hidden(entry.path()));
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) if entry.file_type().is_file() && Format::of(entry.path()).is_some() => {
                known.push(entry.into_path());
            }
            Ok(entry) => unknown.push(entry.into_path()),
            // A link to a folder that it lies in: its files are found without it.
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                let reason = io::Error::from(error);
                // A link to nothing. Editors leave hidden ones behind.
                if reason.kind() == io::ErrorKind::NotFound && path != folder {
                    if !hidden(&path) {
                        unknown.push(path);
                    }
                } else {
                    return Err(DataError::Read { path, reason });
                }
            }
        }
    }
    if known.is_empty() {
        return Err(DataError::Dataset {
            path: folder.into(),
            reason: "the folder holds no .txt, .text, .md, .jsonl, .ndjson or .parquet file: name a file \
                     itself, or by a glob, to have it read as plain text"
                .into(),
        });
    }
    sort_by_bytes(&mut known);
    sort_by_bytes(&mut unknown);
    sources.skipped.append(&mut unknown);
    known
        .into_iter()
        .try_for_each(|path| add_file(path, sources, taken))
}

/// The path by which a file is told from others. What has none (a pipe) is told by its name.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}

/// `PathBuf` compares component by component; bytes are what other tools sort by.
fn sort_by_bytes(paths: &mut [PathBuf]) {
    paths.sort_by(|a, b| {
        let (a, b) = (a.as_os_str(), b.as_os_str());
        a.as_encoded_bytes().cmp(b.as_encoded_bytes())
    });
}

/// The files that a glob matches, in the byte order of their paths.
fn matching_files(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    let matches = glob::glob(pattern).map_err(|error| DataError::BadPattern {
        pattern: pattern.into(),
        reason: error.to_string(),
    })?;
    let mut files = Vec::new();
    for path in matches {
        let path = path.map_err(|error| DataError::Read {
            path: error.path().into(),
            reason: error.into(),
        })?;
        if !path.is_dir() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(DataError::NoMatch {
            pattern: pattern.into(),
        });
    }
    sort_by_bytes(&mut files);
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// The paths found, relative to the folder, and those skipped.
    fn found(
        folder: &tempfile::TempDir,
        inputs: &[&str],
    ) -> Result<(Vec<String>, Vec<String>), DataError> {
        let inputs: Vec<String> = inputs
            .iter()
            .map(|input| folder.path().join(input).to_str().unwrap().to_owned())
            .collect();
        let sources = find_sources(&inputs)?;
        let relative = |path: &Path| {
            let path = path.strip_prefix(folder.path()).unwrap();
            path.to_str().unwrap().to_owned()
        };
        Ok((
            sources
                .files
                .iter()
                .map(|file| relative(&file.path))
                .collect(),
            sources.skipped.iter().map(|path| relative(path)).collect(),
        ))
    }

    #[test]
    fn mixed_inputs_come_in_their_order_and_once() {
        let folder = folder(&[
            ("a/b.txt", b"1"),
            ("a.txt", b"2"),
            ("z/2.jsonl", b"{}"),
            ("z/1/x.md", b"3"),
            ("z/.hidden.txt", b"no"),
            ("z/.git/config.txt", b"no"),
            ("z/picture.png", b"no"),
            ("z/archive.tar.gz", b"no"),
            ("notes", b"4"),
        ]);
        let (files, skipped) = found(&folder, &["z", "*.txt", "notes", "a", "z/2.jsonl"]).unwrap();
        assert_eq!(
            files,
            ["z/1/x.md", "z/2.jsonl", "a.txt", "notes", "a/b.txt"]
        );
        assert_eq!(skipped, ["z/archive.tar.gz", "z/picture.png"]);
        let (files, skipped) = found(&folder, &["", "z/picture.png"]).unwrap();
        assert_eq!(
            files,
            ["a.txt", "a/b.txt", "z/1/x.md", "z/2.jsonl", "z/picture.png"],
            "byte order within a folder"
        );
        assert_eq!(skipped, ["notes", "z/archive.tar.gz"]);
    }

    #[test]
    fn extensions_say_the_format() {
        let format = |name: &str| Format::of(Path::new(name));
        for name in [
            "a.txt",
            "a.text",
            "a.md",
            "b/a.TXT.zst",
            "a.b.md.gz",
            "a.txt.zstd",
        ] {
            assert_eq!(format(name), Some(Format::Text), "{name}");
        }
        assert_eq!(format("a.jsonl.gz"), Some(Format::JsonLines));
        assert_eq!(format("a.ndjson"), Some(Format::JsonLines));
        assert_eq!(format("a.parquet.zst"), Some(Format::Parquet));
        for name in [
            "a",
            "a.gz",
            "a.json",
            "txt",
            "a.txt.bz2",
            "a.txt.gz.gz",
            "txt/a",
        ] {
            assert_eq!(format(name), None, "{name}");
        }
    }

    #[test]
    fn sizes_are_those_on_disk() {
        let folder = folder(&[("a.txt", b"12345")]);
        let inputs = [folder.path().to_str().unwrap().to_owned()];
        let sources = find_sources(&inputs).unwrap();
        assert_eq!(sources.files[0].bytes, 5);
        assert_eq!(find_sources(&[]).unwrap(), Sources::default());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_without_going_in_circles() {
        use std::os::unix::fs::symlink;
        let folder = folder(&[("a/b/text.txt", b"text"), ("other/far.txt", b"far")]);
        let at = |path: &str| folder.path().join(path);
        symlink(at("a"), at("a/b/round")).unwrap();
        symlink(at("a/b/text.txt"), at("a/again.txt")).unwrap();
        symlink(at("other"), at("a/other")).unwrap();
        symlink(at("nowhere"), at("a/dangling.txt")).unwrap();
        symlink(at("nowhere"), at("a/.#lock")).unwrap();
        let (files, skipped) = found(&folder, &["a"]).unwrap();
        assert_eq!(files, ["a/again.txt", "a/other/far.txt"], "the text once");
        assert_eq!(skipped, ["a/dangling.txt"]);
    }

    #[test]
    fn what_finds_nothing_is_named() {
        let folder = folder(&[("folder/picture.png", b"no"), ("folder/.text.txt", b"no")]);
        let error = found(&folder, &["folder"]).unwrap_err();
        assert!(matches!(error, DataError::Dataset { .. }));
        assert!(
            error
                .to_string()
                .contains("folder: the folder holds no .txt"),
            "{error}"
        );
        let error = found(&folder, &["folder/none.txt"]).unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }));
        let error = found(&folder, &["*.parquet"]).unwrap_err();
        assert!(matches!(error, DataError::NoMatch { .. }));
        let error = found(&folder, &["***"]).unwrap_err();
        assert!(matches!(error, DataError::BadPattern { .. }));
    }
}
