//! Folders of tokens that are built once, where nobody has to name them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    BuildOptions, Monitor, build_in, dataset,
    identity::{Identity, identities},
    scan::hash_file,
    sha256,
};
use crate::{
    DataError, SourceFile,
    files::write_atomically,
    find_sources,
    manifest::{Manifest, SplitBy},
};

/// The extension of the folder beside the root that remembers which files were found to make which tokens.
const KNOWN: &str = "known";

/// A file that has changed so lately may change again without its time telling: clocks tick.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The folder under `root` that holds the tokens of `options`, built there unless it is complete. It is
/// named after the first input, the tokenizer, and a hash of the options and of what every file holds:
/// other text gets another folder, whatever its path, size and time say.
///
/// Files whose inode, size, and times of writing and of change are those of an earlier call are not read
/// again. The time of change (`ctime`) cannot be set by a program, and where there is none files are
/// always read.
///
/// Where another process is building the same folder, waits for it.
///
/// # Errors
///
/// Fails as [`build`](super::build()) does.
pub fn build_cached(
    options: &BuildOptions,
    root: &Path,
    monitor: Monitor<'_>,
) -> Result<PathBuf, DataError> {
    let sources = find_sources(&options.inputs, options.read.format)?.files;
    if let Some(pipe) = sources.iter().find(|file| file.is_pipe) {
        return Err(dataset(
            &pipe.path,
            "is a pipe, which can be read only once: make tokens of it with foretoken data build, and name their \
             folder"
                .into(),
        ));
    }
    let recipe = format!("{:?}\n", options.recipe(SplitBy::Document)?);
    let identities = identities(&sources)?;
    let note = known(&recipe, &sources, identities.as_deref())
        .map(|name| root.with_extension(KNOWN).join(name));
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
    let is_of_these = |manifest: &Manifest| {
        let of_folder = manifest.sources.iter().map(|source| &source.sha256);
        of_folder.eq(&hashes)
    };
    if !Manifest::read(&folder).is_ok_and(|manifest| is_of_these(&manifest)) {
        let path = folder.join(Manifest::FILE);
        let built = build_in(options, &folder, monitor, true)?;
        if !is_of_these(&built.manifest) {
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
        // A note that cannot be written costs the next run some reading.
        let _ = fs::create_dir_all(root.with_extension(KNOWN))
            .and_then(|()| write_atomically(&note, name.as_bytes()));
    }
    Ok(folder)
}

/// The name of the note on files of these identities.
fn known(recipe: &str, sources: &[SourceFile], identities: Option<&[Identity]>) -> Option<String> {
    let mut key = recipe.to_owned();
    for (file, identity) in sources.iter().zip(identities?) {
        let path = file.path.canonicalize().ok()?;
        key += &format!("{path:?} {:?} {identity:?}\n", file.format);
    }
    Some(sha256(key.as_bytes()))
}

/// Whether a name is that of a folder right below the root.
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
