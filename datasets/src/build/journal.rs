//! Journal of an unfinished build, from which the same build continues.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    error::{dataset, write_error},
    monitor::Monitor,
    options::BuildOptions,
    scan::Scan,
};
use crate::{
    DataError, Tokenizer,
    files::{LockFile, sha256, write_atomically},
    manifest::{Manifest, Recipe, SourceEntry, TextEntry, TokensEntry},
    token_folder::{JOURNAL, TOKENIZER},
};

/// Everything that determines the output of a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) recipe: Recipe,
    pub(super) sources: Vec<SourceEntry>,
}

impl Plan {
    pub(super) fn new(options: &BuildOptions, scan: &Scan) -> Result<Self, DataError> {
        let recipe = options.recipe(scan.split_rule.by)?;
        let sources = scan.sources.clone();
        Ok(Self { recipe, sources })
    }

    /// Whether a complete folder is the output of this plan.
    pub(super) fn produces(&self, manifest: &Manifest) -> bool {
        let same = |(ours, theirs): (&SourceEntry, &SourceEntry)| ours.is_same(theirs);
        self.recipe == manifest.recipe
            && self.sources.len() == manifest.sources.len()
            && self.sources.iter().zip(&manifest.sources).all(same)
    }
}

/// Progress of a build at a point where everything it counts is on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Documents read, empty ones included.
    pub(super) documents: u64,
    /// The listed shards are finished; the remaining tokens are in the next shard.
    pub(super) train: TokensEntry,
    pub(super) valid: TokensEntry,
    pub(super) text: TextEntry,
    /// The next document, some of whose pieces may be on disk.
    #[serde(default)]
    pub(super) open: OpenDocument,
}

/// Document whose end has not been written yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenDocument {
    /// Number of pieces on disk.
    pub(super) pieces: u64,
    /// Whether each split has tokens of it.
    pub(super) begun: [bool; 2],
    pub(super) replacements: u64,
    /// Whether its tokens stand for exactly its bytes.
    pub(super) exact: bool,
}

impl Default for OpenDocument {
    fn default() -> Self {
        Self {
            pieces: 0,
            begun: [false; 2],
            replacements: 0,
            exact: true,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    plan: Option<Plan>,
    /// SHA-256 of the folder's `tokenizer.json`.
    tokenizer: Option<String>,
    state: State,
}

/// Contents of `.build.json`.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    contents: Contents,
}

impl Journal {
    pub(super) const FILE: &str = JOURNAL;

    /// Opens the journal of a folder, or starts one. The journal of a `complete` folder is not written.
    pub(super) fn open(folder: &Path, complete: bool) -> Result<Self, DataError> {
        let path = folder.join(Self::FILE);
        // A journal that cannot be read comes from another version: the build starts again.
        let contents = fs::read(&path)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default();
        let journal = Self { path, contents };
        if !complete {
            journal.write()?;
        }
        Ok(journal)
    }

    /// Returns the tokenizer of an interrupted build of this plan, and the SHA-256 of its file.
    pub(super) fn tokenizer(&self, folder: &Path, plan: &Plan) -> Option<(Tokenizer, String)> {
        let path = folder.join(TOKENIZER);
        let sha256 = sha256(&fs::read(&path).ok()?);
        let same = self.contents.plan.as_ref() == Some(plan)
            && self.contents.tokenizer.as_ref() == Some(&sha256);
        same.then(|| Some((Tokenizer::load(path).ok()?, sha256)))?
    }

    /// Starts the journal of a plan from the beginning.
    pub(super) fn start(&mut self, plan: Plan, tokenizer: String) -> Result<(), DataError> {
        self.contents = Contents {
            plan: Some(plan),
            tokenizer: Some(tokenizer),
            state: State::default(),
        };
        self.write()
    }

    pub(super) fn state(&self) -> &State {
        &self.contents.state
    }

    /// Records a state, all of which must be on disk.
    pub(super) fn note(&mut self, state: &State) -> Result<(), DataError> {
        self.contents.state = state.clone();
        self.write()
    }

    pub(super) fn remove(self) -> Result<(), DataError> {
        match fs::remove_file(&self.path) {
            Err(reason) if reason.kind() != std::io::ErrorKind::NotFound => {
                Err(write_error(&self.path)(reason))
            }
            _ => Ok(()),
        }
    }

    fn write(&self) -> Result<(), DataError> {
        let json = serde_json::to_vec_pretty(&self.contents).expect("a journal is always JSON");
        write_atomically(&self.path, &json).map_err(write_error(&self.path))
    }
}

/// Locks a folder against other processes. If another process holds the lock, this waits for it if `wait`, and fails
/// otherwise.
pub(super) fn lock(folder: &Path, wait: bool, monitor: Monitor<'_>) -> Result<LockFile, DataError> {
    loop {
        if let Some(lock) = LockFile::try_take_folder(folder).map_err(write_error(folder))? {
            return Ok(lock);
        }
        if !wait {
            return Err(dataset(
                folder,
                "another foretoken process is writing to this folder: wait for it, or name another --out"
                    .into(),
            ));
        }
        monitor.check()?;
        thread::sleep(Duration::from_millis(100));
    }
}
