//! Walks a folder for all files, or for those that a glob matches. Names may be any bytes. Hidden files and folders
//! are skipped, unless the glob spells out their dot. The JSON files of token folders are skipped, because they are
//! not text.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use glob::{MatchOptions, Pattern};
use walkdir::WalkDir;

use crate::{DataError, token_folder};

/// Result of a walk, sorted by the bytes of the paths.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Regular files.
    pub(super) files: Vec<PathBuf>,
    /// Pipes, sockets, devices, and links to nothing.
    pub(super) others: Vec<PathBuf>,
}

/// Finds all files below a folder.
pub(super) fn folder(root: &Path) -> Result<Found, DataError> {
    walk(root, root, None)
}

/// Finds the files that a glob matches.
pub(super) fn glob(pattern: &Path) -> Result<Found, DataError> {
    let bad = |error: glob::PatternError| DataError::BadPattern {
        pattern: pattern.display().to_string(),
        reason: error.to_string(),
    };
    let mut components = pattern.components().peekable();
    let mut root = PathBuf::new();
    while let Some(literal) = components.next_if(|part| !has_wildcard(part.as_os_str())) {
        root.push(literal);
    }
    let names: Vec<String> = components.map(|part| spelled(part.as_os_str())).collect();
    let parts = names.iter().map(|name| Pattern::new(name));
    let glob = Glob {
        whole: Pattern::new(&names.join("/")).map_err(bad)?,
        parts: parts.collect::<Result<_, _>>().map_err(bad)?,
        hidden: names.iter().any(|name| name.starts_with('.')),
        fixed: names.iter().take_while(|name| *name != "**").count(),
    };
    let start = match root.as_os_str().is_empty() {
        true => Path::new("."),
        false => &root,
    };
    walk(start, &root, Some(&glob))
}

/// Whether a path has a character with a meaning in a glob.
pub(super) fn has_wildcard(path: &OsStr) -> bool {
    let bytes = path.as_encoded_bytes();
    bytes.iter().any(|byte| b"*?[".contains(byte))
}

/// Part of a glob from its first wildcard on.
struct Glob {
    whole: Pattern,
    /// One pattern per component.
    parts: Vec<Pattern>,
    /// Whether a component begins with a dot.
    hidden: bool,
    /// Number of components before the first `**`. Each of them matches the name at its own depth.
    fixed: usize,
}

impl Glob {
    const OPTIONS: MatchOptions = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };

    /// Returns the greatest depth at which a file can match.
    fn depth(&self) -> usize {
        match self.fixed == self.parts.len() {
            true => self.fixed,
            false => usize::MAX,
        }
    }

    /// Whether a file or folder of this name at this depth, or a file below it, can match.
    fn admits(&self, depth: usize, name: &OsStr) -> bool {
        match depth {
            0 => true,
            _ if depth <= self.fixed => {
                self.parts[depth - 1].matches_with(&spelled(name), Self::OPTIONS)
            }
            _ => self.hidden || !is_hidden(name),
        }
    }

    fn matches(&self, relative: &Path) -> bool {
        let names: Vec<String> = relative
            .components()
            .map(|part| spelled(part.as_os_str()))
            .collect();
        self.whole.matches_with(&names.join("/"), Self::OPTIONS)
    }
}

/// Converts a name to text: each byte that is not part of a UTF-8 character becomes a private-use character of its
/// own, so that different names give different texts.
fn spelled(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        let private = |byte: &u8| char::from_u32(0xf_0000 + u32::from(*byte));
        text.extend(chunk.invalid().iter().filter_map(private));
    }
    text
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Walks from `start` and reports paths below `root`. The two differ when the glob is relative: then `start` is `.` and
/// `root` is empty.
fn walk(start: &Path, root: &Path, glob: Option<&Glob>) -> Result<Found, DataError> {
    let admitted = |depth: usize, path: &Path| {
        let name = path.file_name().unwrap_or_default();
        match glob {
            Some(glob) => glob.admits(depth, name),
            None => depth == 0 || !is_hidden(name),
        }
    };
    let named = |path: &Path| root.join(path.strip_prefix(start).unwrap_or(path));
    let wanted = |path: &Path| {
        let relative = path.strip_prefix(start).unwrap_or(path);
        glob.is_none_or(|glob| glob.matches(relative))
    };
    let entries = WalkDir::new(start)
        .follow_links(true)
        .max_depth(glob.map_or(usize::MAX, Glob::depth))
        .into_iter()
        .filter_entry(|entry| admitted(entry.depth(), entry.path()));
    let mut found = Found::default();
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_dir() || !wanted(entry.path()) => {}
            Ok(entry) if belongs_to_tokens(entry.path()) => {}
            Ok(entry) if entry.file_type().is_file() => found.files.push(named(entry.path())),
            Ok(entry) => found.others.push(named(entry.path())),
            // A link to a folder that contains it: the files of that folder are found without it.
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let path = error.path().unwrap_or(start).to_path_buf();
                let depth = error.depth();
                let reason = io::Error::from(error);
                match reason.kind() {
                    // A dangling link. Editors leave hidden ones behind.
                    io::ErrorKind::NotFound if path != start => {
                        if admitted(depth, &path) && wanted(&path) {
                            found.others.push(named(&path));
                        }
                    }
                    // The start of the glob does not exist, so nothing matches it.
                    io::ErrorKind::NotFound if glob.is_some() => {}
                    _ => {
                        return Err(DataError::Read {
                            path: named(&path),
                            reason,
                        });
                    }
                }
            }
        }
    }
    sort_by_bytes(&mut found.files);
    sort_by_bytes(&mut found.others);
    Ok(found)
}

/// Whether a file is the manifest or the tokenizer of a token folder, complete or unfinished. This is decided for each
/// file instead of once per folder, because another process may be building there.
fn belongs_to_tokens(path: &Path) -> bool {
    let is = |name: &str| path.file_name().is_some_and(|found| found == name);
    let beside = |name: &str| path.with_file_name(name).exists();
    is(token_folder::MANIFEST) && beside(token_folder::TOKENIZER)
        || is(token_folder::TOKENIZER)
            && (beside(token_folder::MANIFEST) || beside(token_folder::JOURNAL))
}

/// Sorts by bytes, as other tools do. `PathBuf` would compare component by component.
fn sort_by_bytes(paths: &mut [PathBuf]) {
    paths.sort_by(|a, b| {
        let (a, b) = (a.as_os_str(), b.as_os_str());
        a.as_encoded_bytes().cmp(b.as_encoded_bytes())
    });
}
