//! A tokenizer, and the tokens it makes of a training and a validation text: in memory, or in a folder.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    DataError, Split, TokenFile, Tokenizer, TokenizerSpec, TrainOptions,
    build::{TOKENIZER, documents_file, sha256},
    documents::DocumentIndex,
    manifest::{Manifest, TokensEntry},
};

/// What a run trains on and is judged by.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The tokenizer of both splits.
    pub tokenizer: Tokenizer,
    /// The tokens to train on.
    pub train: Split,
    /// The tokens to evaluate on.
    pub valid: Split,
    /// Where the index of training documents lies, if there is one on disk.
    documents: Option<PathBuf>,
}

impl Corpus {
    /// Takes a training and a validation text as they are. A vocabulary of characters has those of both,
    /// so that validation cannot meet one that has no id; merges are learned from the training text.
    ///
    /// # Errors
    ///
    /// A tokenizer that cannot be had, or that cannot encode the text.
    pub fn from_text(train: &str, valid: &str, spec: &TokenizerSpec) -> Result<Self, DataError> {
        let texts = match spec {
            TokenizerSpec::Bpe { .. } => vec![train],
            _ => vec![train, valid],
        };
        let tokenizer = Tokenizer::train(spec, texts.into_iter().map(Ok), TrainOptions::default())?;
        let lengths: Arc<[usize]> = tokenizer.token_lengths().into();
        Ok(Self {
            train: Split::from_ids(tokenizer.encode(train)?, lengths.clone()),
            valid: Split::from_ids(tokenizer.encode(valid)?, lengths),
            tokenizer,
            documents: None,
        })
    }

    /// Opens a folder that [`build`](crate::build()) has written, or one of token files that nanoGPT or
    /// llm.c have: `.bin` files, those with `train` in their names to train on, those with `val` to
    /// evaluate on. For the latter `tokenizer` names the `tokenizer.json` that the ids were made with,
    /// unless one lies in the folder.
    ///
    /// No token is read: a file's blocks are checked when they are first used.
    ///
    /// # Errors
    ///
    /// A folder that is neither, or unfinished, damaged or changed since.
    pub fn open(folder: &Path, tokenizer: Option<&Path>) -> Result<Self, DataError> {
        match Bins::find(folder)? {
            Some(bins) => bins.open(folder, tokenizer),
            None => Self::open_built(folder).map(|(corpus, _)| corpus),
        }
    }

    /// Whether [`open`](Self::open) is the way to read a path, as opposed to building it first.
    ///
    /// # Errors
    ///
    /// A folder that cannot be listed.
    pub fn is_tokens(path: &Path) -> Result<bool, DataError> {
        Ok(path.is_dir()
            && (path.join(Manifest::FILE).exists()
                || crate::build::is_unfinished(path)
                || Bins::find(path)?.is_some()))
    }

    /// Opens a folder that [`build`](crate::build()) has written, with its manifest.
    ///
    /// # Errors
    ///
    /// A folder without a manifest, and files that are not what the manifest says.
    pub fn open_built(folder: &Path) -> Result<(Self, Manifest), DataError> {
        let manifest = Manifest::read(folder)?;
        let path = folder.join(TOKENIZER);
        let json = fs::read(&path).map_err(|reason| DataError::Read {
            path: path.clone(),
            reason,
        })?;
        if sha256(&json) != manifest.tokenizer.sha256 {
            return Err(changed(&path));
        }
        let tokenizer = Tokenizer::load(&path)?;
        let lengths: Arc<[usize]> = tokenizer.token_lengths().into();
        let split = |entry: &TokensEntry| -> Result<Split, DataError> {
            let files = entry
                .shards
                .iter()
                .map(|shard| -> Result<TokenFile, DataError> {
                    let path = folder.join(&shard.file);
                    let file = TokenFile::open(&path)?;
                    match file.tokens() as u64 == shard.tokens {
                        true => Ok(file),
                        false => Err(changed(&path)),
                    }
                });
            Split::from_files(files.collect::<Result<_, _>>()?, lengths.clone())
        };
        let corpus = Self {
            train: split(&manifest.train)?,
            valid: split(&manifest.valid)?,
            tokenizer,
            documents: Some(folder.join(documents_file("train"))),
        };
        Ok((corpus, manifest))
    }

    /// Where the training documents start: read from disk, or found by the tokens between them.
    ///
    /// # Errors
    ///
    /// A damaged index, tokens that cannot be read, and a tokenizer that has no end-of-text token.
    pub fn training_documents(&self) -> Result<DocumentIndex, DataError> {
        if let Some(path) = &self.documents {
            return DocumentIndex::open(path);
        }
        let border = self
            .tokenizer
            .end_of_text()
            .ok_or_else(|| DataError::Dataset {
                path: "data.windows".into(),
                reason: "documents have no borders here: this tokenizer has no end-of-text token"
                    .into(),
            })?;
        DocumentIndex::scan(&self.train, border)
    }

    /// SHA-256, in hexadecimal, of the tokenizer and the tokens of both splits. Equal fingerprints mean
    /// that a run can be resumed on this corpus. Of token files it is their checksums that are hashed.
    ///
    /// # Errors
    ///
    /// Tokens that cannot be read.
    pub fn fingerprint(&self) -> Result<String, DataError> {
        let mut hasher = Sha256::new();
        hasher.update(self.tokenizer.to_json());
        for split in [&self.train, &self.valid] {
            // The length keeps a token that moves from one split to the other from going unnoticed.
            hasher.update((split.tokens() as u64).to_le_bytes());
            hasher.update(split.fingerprint()?);
        }
        Ok(format!("{:x}", hasher.finalize()))
    }
}

fn changed(path: &Path) -> DataError {
    DataError::Dataset {
        path: path.into(),
        reason:
            "is not the file that the manifest names: it has changed since; build the dataset again"
                .into(),
    }
}

/// Token files of other programs.
struct Bins {
    train: Vec<PathBuf>,
    valid: Vec<PathBuf>,
}

impl Bins {
    /// The `.bin` files of a folder without a manifest, in the byte order of their names.
    fn find(folder: &Path) -> Result<Option<Self>, DataError> {
        if !folder.is_dir() || folder.join(Manifest::FILE).exists() {
            return Ok(None);
        }
        let failed = |reason| DataError::Read {
            path: folder.into(),
            reason,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort();
        let with = |part: &str| -> Vec<PathBuf> {
            let named = |name: &&std::ffi::OsString| {
                let name = name.to_string_lossy();
                name.ends_with(".bin") && name.contains(part)
            };
            names
                .iter()
                .filter(named)
                .map(|name| folder.join(name))
                .collect()
        };
        let bins = Self {
            train: with("train"),
            valid: with("val"),
        };
        Ok((!bins.train.is_empty()).then_some(bins))
    }

    fn open(self, folder: &Path, tokenizer: Option<&Path>) -> Result<Corpus, DataError> {
        let beside = folder.join(TOKENIZER);
        let path = match tokenizer {
            Some(path) => path,
            None if beside.exists() => &beside,
            None => {
                return Err(DataError::Dataset {
                    path: folder.into(),
                    reason: "token files without a tokenizer: name the tokenizer.json that the ids were made \
                             with (data.tokenizer), or put it in the folder"
                        .into(),
                });
            }
        };
        let tokenizer = Tokenizer::load(path)?;
        let lengths: Arc<[usize]> = tokenizer.token_lengths().into();
        let split = |paths: Vec<PathBuf>| {
            let files = paths
                .iter()
                .map(TokenFile::open)
                .collect::<Result<_, _>>()?;
            Split::from_files(files, lengths.clone())
        };
        Ok(Corpus {
            train: split(self.train)?,
            valid: split(self.valid)?,
            tokenizer,
            documents: None,
        })
    }
}
