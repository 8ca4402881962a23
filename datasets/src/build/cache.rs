//! Token folders in a cache, each of which is built once and found again by its inputs and options.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    error::dataset,
    identity::{Identity, identities},
    monitor::Monitor,
    options::BuildOptions,
    run::build_in,
    scan::hash_file,
};
use crate::{
    DataError, SourceFile,
    files::{sha256, write_atomically},
    find_sources,
    manifest::{Manifest, SplitBy},
};

/// Extension of the folder beside the cache that notes which token folder belongs to which files.
const NOTES: &str = "known";

/// Age from which a file's time of change is trusted. A younger file may change again without a new time, because the
/// clock of the file system is coarse.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Returns the folder under `root` that holds the tokens of `options`, and builds it if it is not complete. Its name
/// consists of the first input, the tokenizer, and a hash of the options and of the contents of every file, so that
/// different text gets a different folder whatever its path, size and time.
///
/// A file is not read again if its inode, size, modification time and change time are those of an earlier call. The
/// change time (`ctime`) cannot be set by a program. On systems without it, files are always read.
///
/// If another process is building the same folder, the call waits for it.
///
/// # Errors
///
/// The errors of [`build`](super::build()), and a pipe among the inputs.
pub fn build_cached(
    options: &BuildOptions,
    root: &Path,
    monitor: Monitor<'_>,
) -> Result<PathBuf, DataError> {
    let sources = find_sources(&options.inputs, options.read.format)?.files;
    if let Some(pipe) = sources.iter().find(|file| file.is_pipe) {
        return Err(dataset(
            &pipe.path,
            "is a pipe, which can be read only once: build its tokens with foretoken data build, and name the token \
             folder instead"
                .into(),
        ));
    }
    let recipe = format!("{:?}\n", options.recipe(SplitBy::Document)?);
    let identities = identities(&sources)?;
    let note = note_name(&recipe, &sources, identities.as_deref())
        .map(|name| root.with_extension(NOTES).join(name));
    if let Some(note) = &note
        && let Ok(name) = fs::read_to_string(note)
        && is_plain(&name)
        && root.join(&name).join(Manifest::FILE).exists()
    {
        return Ok(root.join(name));
    }

    let hashes = sources
        .iter()
        .map(|file| hash_file(file, &|_| monitor.check()).map(|(_, sha256)| sha256))
        .collect::<Result<Vec<_>, _>>()?;
    let mut key = recipe;
    for (file, sha256) in sources.iter().zip(&hashes) {
        key += &format!("{:?} {sha256}\n", file.format);
    }
    let name = name(options, &sources, &key);
    let folder = root.join(&name);
    let matches = |manifest: &Manifest| {
        let of_folder = manifest.sources.iter().map(|source| &source.sha256);
        of_folder.eq(&hashes)
    };
    if !Manifest::read(&folder).is_ok_and(|manifest| matches(&manifest)) {
        let path = folder.join(Manifest::FILE);
        let built = build_in(options, &folder, monitor, true)?;
        if !matches(&built.manifest) {
            let _ = fs::remove_file(path);
            return Err(dataset(
                &sources[0].path,
                "this file, or one beside it, changed while it was read: run the command again"
                    .into(),
            ));
        }
    }
    if let (Some(note), Some(identities)) = (note, identities)
        && is_settled(&identities)
    {
        // Without the note, the next run has to read the files again.
        let _ = fs::create_dir_all(root.with_extension(NOTES))
            .and_then(|()| write_atomically(&note, name.as_bytes()));
    }
    Ok(folder)
}

/// Returns the name of the note about files of these identities.
fn note_name(
    recipe: &str,
    sources: &[SourceFile],
    identities: Option<&[Identity]>,
) -> Option<String> {
    let mut key = recipe.to_owned();
    for (file, identity) in sources.iter().zip(identities?) {
        let path = file.path.canonicalize().ok()?;
        key += &format!("{path:?} {:?} {identity:?}\n", file.format);
    }
    Some(sha256(key.as_bytes()))
}

/// Whether a name is fit for a folder directly below the root.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_settled(identities: &[Identity]) -> bool {
    let before = SystemTime::now().checked_sub(SETTLED_AFTER);
    let before = before.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    before.is_some_and(|before| {
        identities
            .iter()
            .all(|identity| identity.changed_before(before))
    })
}

fn name(options: &BuildOptions, sources: &[SourceFile], key: &str) -> String {
    let stem = sources[0]
        .path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let plain = |text: &str| -> String {
        let kept = text.chars().map(|c| match c.is_ascii_alphanumeric() {
            true => c,
            false => '-',
        });
        kept.take(40).collect()
    };
    let tokenizer = options.tokenizer.to_string();
    let tokenizer = Path::new(&tokenizer).file_stem().unwrap_or_default();
    format!(
        "{}-{}-{}",
        plain(&stem),
        plain(&tokenizer.to_string_lossy()),
        &sha256(key.as_bytes())[..12]
    )
}
