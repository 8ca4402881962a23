//! Files → text. Nothing is interpreted here: line ends, byte-order marks and white space reach the
//! tokenizer as they are on disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::DataError;

/// Reads the text of one file, or of all files that a glob matches.
///
/// `pattern` is taken as a path first: a file whose name holds `*`, `?` or `[` is read as such, and
/// only what does not exist is tried as a glob. Folders that a glob matches are passed over.
/// Several files are joined in the byte order of their paths (so on every machine alike), with
/// nothing between.
///
/// # Errors
///
/// A path that is missing or a folder, a glob that is malformed or matches no file, a file that
/// cannot be read or is not UTF-8, and a text without a single byte.
pub fn read_text(pattern: &str) -> Result<String, DataError> {
    let path = Path::new(pattern);
    // Where even this cannot be told, reading the file says why.
    let text = if path.try_exists().unwrap_or(true) {
        read_file(path)?
    } else if pattern.contains(['*', '?', '[']) {
        let files = matching_files(pattern)?;
        files
            .iter()
            .map(|file| read_file(file))
            .collect::<Result<String, _>>()?
    } else {
        return Err(DataError::Missing { path: path.into() });
    };
    if text.is_empty() {
        return Err(DataError::Empty {
            pattern: pattern.into(),
        });
    }
    Ok(text)
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
    // `PathBuf` compares component by component; bytes are what other tools sort by.
    files.sort_by(|a, b| {
        let (a, b) = (a.as_os_str(), b.as_os_str());
        a.as_encoded_bytes().cmp(b.as_encoded_bytes())
    });
    Ok(files)
}

fn read_file(path: &Path) -> Result<String, DataError> {
    let bytes = fs::read(path).map_err(|reason| match reason.kind() {
        io::ErrorKind::IsADirectory => DataError::Directory { path: path.into() },
        // Windows reports a folder as "permission denied".
        _ if path.is_dir() => DataError::Directory { path: path.into() },
        _ => DataError::Read {
            path: path.into(),
            reason,
        },
    })?;
    String::from_utf8(bytes).map_err(|error| DataError::NotUtf8 {
        path: path.into(),
        offset: error.utf8_error().valid_up_to(),
    })
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

    fn read(folder: &tempfile::TempDir, pattern: &str) -> Result<String, DataError> {
        read_text(folder.path().join(pattern).to_str().unwrap())
    }

    #[test]
    fn a_glob_joins_files_in_byte_order() {
        // Component-wise comparison would put `a/b.txt` before `a.txt`; bytewise `.` < `/`.
        let folder = folder(&[
            ("a/b.txt", b"3"),
            ("a.txt", b"2"),
            ("B.txt", b"1"),
            ("é.txt", b"4"),
            ("a/note.md", b"no"),
        ]);
        assert_eq!(read(&folder, "**/*.txt").unwrap(), "1234");
    }

    #[test]
    fn a_glob_passes_over_folders() {
        let folder = folder(&[("text.txt", b"text"), ("folder/other.txt", b"other")]);
        assert_eq!(read(&folder, "*").unwrap(), "text");
    }

    #[test]
    fn a_literal_path_wins_over_the_glob() {
        let folder = folder(&[("part[1].txt", b"literal"), ("part1.txt", b"matched")]);
        assert_eq!(read(&folder, "part[1].txt").unwrap(), "literal");
        fs::remove_file(folder.path().join("part[1].txt")).unwrap();
        assert_eq!(read(&folder, "part[1].txt").unwrap(), "matched");
    }

    #[test]
    fn text_is_not_interpreted() {
        let text = "\u{feff}line\r\n\tnext\0 ";
        let folder = folder(&[("text", text.as_bytes())]);
        assert_eq!(read(&folder, "text").unwrap(), text);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_text("no/such.txt").unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }));
        assert!(error.to_string().contains("no/such.txt"), "{error}");
    }

    #[test]
    fn a_glob_without_match_is_named() {
        let error = read_text("no/such*.txt").unwrap_err();
        assert!(matches!(error, DataError::NoMatch { .. }));
        assert!(error.to_string().contains("no/such*.txt"), "{error}");
    }

    #[test]
    fn a_malformed_glob_is_named() {
        let error = read_text("data/***.txt").unwrap_err();
        assert!(matches!(error, DataError::BadPattern { .. }));
        assert!(error.to_string().contains("data/***.txt"), "{error}");
    }

    #[test]
    fn a_folder_is_named_with_a_way_out() {
        let folder = folder(&[("text.txt", b"text")]);
        let error = read(&folder, "").unwrap_err();
        assert!(matches!(error, DataError::Directory { .. }));
        assert!(error.to_string().contains("/*.txt"), "{error}");
    }

    #[test]
    fn an_empty_text_is_named() {
        let folder = folder(&[("empty.txt", b""), ("also-empty.txt", b"")]);
        for pattern in ["empty.txt", "*.txt"] {
            let error = read(&folder, pattern).unwrap_err();
            assert!(matches!(error, DataError::Empty { .. }));
            assert!(error.to_string().contains(pattern), "{error}");
        }
    }

    #[test]
    fn invalid_utf8_is_located() {
        let folder = folder(&[("a.txt", b"fine"), ("b.txt", b"caf\xc3\xa9 \xff")]);
        let error = read(&folder, "*.txt").unwrap_err();
        assert!(
            matches!(error, DataError::NotUtf8 { offset: 6, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("b.txt"), "{error}");
    }

    /// Of a name that is too long it cannot be told whether there is such a file.
    #[test]
    fn an_unreadable_file_is_named() {
        let error = read_text(&"x".repeat(5000)).unwrap_err();
        assert!(matches!(error, DataError::Read { .. }));
        assert!(error.to_string().contains("xxxxx"), "{error}");
    }
}
