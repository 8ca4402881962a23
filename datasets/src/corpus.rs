//! A tokenizer with the tokens of a training and a validation text, in memory or in a folder.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    DataError, Split, TokenFile, Tokenizer, TokenizerSpec, TrainOptions,
    documents::DocumentIndex,
    files::{LARGEST_TOKENIZER, read_small, sha256},
    manifest::{Manifest, TokensEntry},
    token_folder::{self, TOKENIZER, documents_file},
};

/// Data of a run: a tokenizer and two splits.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// Tokenizer of both splits.
    pub tokenizer: Tokenizer,
    /// Tokens to train on.
    pub train: Split,
    /// Tokens to evaluate on.
    pub valid: Split,
    /// Index of the training documents, if there is one in memory or on disk.
    documents: Option<Documents>,
    /// Token that ends each document, if it is not the end-of-text token.
    border: Option<u32>,
    /// SHA-256 of the canaries in the training split, if there are any.
    canaries: Option<String>,
}

/// Index of the documents of a text.
#[derive(Clone, Debug)]
enum Documents {
    Memory(DocumentIndex),
    File(PathBuf),
}

impl Corpus {
    /// Encodes a training and a validation text in memory. A vocabulary of characters covers both texts, so that no
    /// character of the validation text is without an id. Merges are learned from the training text only.
    ///
    /// # Errors
    ///
    /// A tokenizer that cannot be loaded or trained, or that cannot encode the text.
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
            border: None,
            canaries: None,
        })
    }

    /// Opens a folder that [`build`](crate::build()) has written, or a folder of `.bin` token files of nanoGPT or
    /// llm.c. `.bin` files with the word `train` in their names are for training, those with `val` for evaluation. For
    /// them `tokenizer` names the `tokenizer.json` that produced the ids, unless the folder holds one.
    ///
    /// No token is read: the blocks of a file are checked when they are first used.
    ///
    /// # Errors
    ///
    /// A folder that is neither, a folder that is unfinished, damaged or changed, `.bin` files whose names state no
    /// purpose or several, and `.bin` files whose ids may have 2 bytes as well as 4.
    pub fn open(folder: &Path, tokenizer: Option<&Path>) -> Result<Self, DataError> {
        Self::open_with(folder, tokenizer, None)
    }

    /// Does what [`open`](Self::open) does; `id_bytes` states the bytes per id, 2 or 4, in `.bin` files without a
    /// header.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open), and a value of `id_bytes` that the files contradict or that no file needs.
    pub fn open_with(
        folder: &Path,
        tokenizer: Option<&Path>,
        id_bytes: Option<usize>,
    ) -> Result<Self, DataError> {
        match BinFiles::find(folder)? {
            Some(bins) => bins.open(folder, tokenizer, id_bytes),
            None if id_bytes.is_some() => Err(DataError::Dataset {
                path: folder.into(),
                reason: "is not a folder of .bin files, so data.id_bytes has no meaning: remove the key (--id-bytes)"
                    .into(),
            }),
            None => Self::open_built(folder).map(|(corpus, _)| corpus),
        }
    }

    /// Whether a path is a token folder that [`open`](Self::open) reads, as opposed to text that has to be built first.
    ///
    /// # Errors
    ///
    /// A folder that cannot be listed.
    pub fn is_tokens(path: &Path) -> Result<bool, DataError> {
        Ok(path.is_dir()
            && (path.join(Manifest::FILE).exists()
                || token_folder::is_unfinished(path)
                || BinFiles::find(path)?.is_some()))
    }

    /// Opens a folder that [`build`](crate::build()) has written, and returns its manifest too.
    ///
    /// # Errors
    ///
    /// A folder without a manifest, and files that differ from the manifest.
    pub fn open_built(folder: &Path) -> Result<(Self, Manifest), DataError> {
        let manifest = Manifest::read(folder)?;
        let path = folder.join(TOKENIZER);
        let json = read_small(&path, LARGEST_TOKENIZER).map_err(|reason| DataError::Read {
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
            documents: Some(Documents::File(folder.join(documents_file("train")))),
            border: None,
            canaries: manifest
                .canaries
                .as_ref()
                .map(|canaries| canaries.sha256.clone()),
        };
        Ok((corpus, manifest))
    }

    /// Returns the index of the training documents: from its file, or by looking for end-of-text tokens.
    ///
    /// # Errors
    ///
    /// A damaged index, tokens that cannot be read, and a tokenizer without an end-of-text token.
    pub fn training_documents(&self) -> Result<DocumentIndex, DataError> {
        match &self.documents {
            Some(Documents::Memory(index)) => Ok(index.clone()),
            Some(Documents::File(path)) => DocumentIndex::open(path),
            None => DocumentIndex::scan(&self.train, self.border()?),
        }
    }

    /// Returns the index of the validation documents, by looking for the tokens that end them.
    ///
    /// # Errors
    ///
    /// Tokens that cannot be read, and a tokenizer without an end-of-text token.
    pub(crate) fn validation_documents(&self) -> Result<DocumentIndex, DataError> {
        DocumentIndex::scan(&self.valid, self.border()?)
    }

    /// Sets the token that ends each document, in place of the end-of-text token.
    pub(crate) fn with_border(self, border: u32) -> Self {
        Self {
            border: Some(border),
            ..self
        }
    }

    /// Returns the corpus with another training text of these documents.
    pub(crate) fn with_training(&self, train: Split, documents: DocumentIndex) -> Self {
        Self {
            train,
            documents: Some(Documents::Memory(documents)),
            ..self.clone()
        }
    }

    /// Returns whether a token ends each document.
    pub(crate) fn has_borders(&self) -> bool {
        self.border().is_ok()
    }

    /// Returns the token that ends each document.
    fn border(&self) -> Result<u32, DataError> {
        let border = self.border.or_else(|| self.tokenizer.end_of_text());
        border.ok_or_else(|| DataError::Dataset {
            path: "data.windows".into(),
            reason: "this tokenizer has no end-of-text token, so the documents have no borders: use \
                     windows = \"epoch\", or build the tokens from several documents with foretoken data build"
                .into(),
        })
    }

    /// Returns the SHA-256, in hexadecimal, of the tokenizer and the tokens of both splits. A run can be resumed on a
    /// corpus with an equal fingerprint. For token files, their checksums are hashed instead of their tokens.
    ///
    /// # Errors
    ///
    /// Tokens that cannot be read.
    pub fn fingerprint(&self) -> Result<String, DataError> {
        let mut hasher = Sha256::new();
        hasher.update(self.tokenizer.to_json());
        for split in [&self.train, &self.valid] {
            // With the length, a token that moves from one split to the other changes the hash.
            hasher.update((split.tokens() as u64).to_le_bytes());
            hasher.update(split.fingerprint()?);
        }
        // Those that are not planted leave no token.
        hasher.update(self.canaries.as_deref().unwrap_or_default());
        Ok(format!("{:x}", hasher.finalize()))
    }
}

fn changed(path: &Path) -> DataError {
    DataError::Dataset {
        path: path.into(),
        reason: "has changed since the manifest was written: build the dataset again".into(),
    }
}

/// Token files of other programs in a folder.
struct BinFiles {
    train: Vec<PathBuf>,
    valid: Vec<PathBuf>,
}

impl BinFiles {
    /// Finds the `.bin` files of a folder without a manifest, in the byte order of their names. Hidden files and files
    /// whose names mark them for tests are skipped. Returns `None` if there is no file for training.
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
        let mut bins = Self {
            train: Vec::new(),
            valid: Vec::new(),
        };
        let mut unclear = None;
        for name in names {
            let name = name.as_os_str();
            let stem = name.as_encoded_bytes().strip_suffix(b".bin");
            let Some(stem) = stem.filter(|stem| !stem.starts_with(b".")) else {
                continue;
            };
            let path = folder.join(name);
            match Purpose::from_name(&String::from_utf8_lossy(stem))[..] {
                [Purpose::Train] => bins.train.push(path),
                [Purpose::Valid] => bins.valid.push(path),
                [Purpose::Test] => {}
                [] => unclear = unclear.or(Some((path, "neither train nor val"))),
                _ => {
                    // Text files do not have such names, so this is meant to be a folder of tokens.
                    return Err(unclear_purpose(
                        path,
                        "more than one of train, val and test",
                    ));
                }
            }
        }
        match unclear {
            _ if bins.train.is_empty() => Ok(None),
            Some((path, found)) => Err(unclear_purpose(path, found)),
            None => Ok(Some(bins)),
        }
    }

    fn open(
        self,
        folder: &Path,
        tokenizer: Option<&Path>,
        id_bytes: Option<usize>,
    ) -> Result<Corpus, DataError> {
        let beside = folder.join(TOKENIZER);
        let path = match tokenizer {
            Some(path) => path,
            None if beside.exists() => &beside,
            None => {
                return Err(DataError::Dataset {
                    path: folder.into(),
                    reason: "holds token files without a tokenizer: name the tokenizer.json that produced the ids \
                             (data.tokenizer), or put it into the folder"
                        .into(),
                });
            }
        };
        let tokenizer = Tokenizer::load(path)?;
        let lengths: Arc<[usize]> = tokenizer.token_lengths().into();
        let split = |paths: Vec<PathBuf>| {
            let files = paths
                .iter()
                .map(|path| TokenFile::open_with(path, lengths.len(), id_bytes))
                .collect::<Result<_, _>>()?;
            Split::from_files(files, lengths.clone())
        };
        Ok(Corpus {
            train: split(self.train)?,
            valid: split(self.valid)?,
            tokenizer,
            documents: None,
            border: None,
            canaries: None,
        })
    }
}

fn unclear_purpose(path: PathBuf, found: &str) -> DataError {
    DataError::Dataset {
        path,
        reason: format!(
            "the name contains {found}: rename the file so that exactly one of these words is in it, as in \
             corpus_train_000.bin, or move it elsewhere"
        ),
    }
}

/// Purpose of a token file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Purpose {
    Train,
    Valid,
    Test,
}

impl Purpose {
    /// Returns the purposes that the words of a name state: `medieval_train_000` is for training only.
    fn from_name(name: &str) -> Vec<Self> {
        let mut purposes = Vec::new();
        for word in words(name) {
            let purpose = match word.as_str() {
                "train" | "training" => Self::Train,
                "val" | "valid" | "validation" | "dev" | "eval" | "evaluation" => Self::Valid,
                "test" | "testing" => Self::Test,
                _ => continue,
            };
            if !purposes.contains(&purpose) {
                purposes.push(purpose);
            }
        }
        purposes
    }
}

/// Returns the words of a name in lower case. A word ends at a character that is not a letter, and before a capital
/// letter that follows a small one.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower_case = false;
    for character in name.chars() {
        let begins = !character.is_alphabetic() || (after_lower_case && character.is_uppercase());
        if begins {
            words.push(String::new());
        }
        if let (true, Some(word)) = (character.is_alphabetic(), words.last_mut()) {
            word.extend(character.to_lowercase());
        }
        after_lower_case = character.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_of_a_name_determine_its_purpose() {
        for (name, purposes) in [
            ("train", &[Purpose::Train][..]),
            ("val", &[Purpose::Valid]),
            ("medieval_train", &[Purpose::Train]),
            ("retrieval_train_0", &[Purpose::Train]),
            ("constrained_val", &[Purpose::Valid]),
            ("fineweb_train_000001", &[Purpose::Train]),
            ("fineweb-val-000000", &[Purpose::Valid]),
            ("TinyStoriesTrain01", &[Purpose::Train]),
            ("TRAIN", &[Purpose::Train]),
            ("train2", &[Purpose::Train]),
            ("tiny.validation", &[Purpose::Valid]),
            ("train_train", &[Purpose::Train]),
            ("fineweb_test_000000", &[Purpose::Test]),
            ("train_val", &[Purpose::Train, Purpose::Valid]),
            ("medieval", &[]),
            ("trainer", &[]),
            ("restrained", &[]),
            ("trainval", &[]),
            ("中世train文", &[]),
            ("", &[]),
        ] {
            assert_eq!(Purpose::from_name(name), purposes, "{name}");
        }
    }

    #[test]
    fn bin_files_are_assigned_to_splits_by_name() {
        let find = |names: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                fs::write(folder.path().join(name), "tokens").unwrap();
            }
            let named = |paths: Vec<PathBuf>| -> Vec<String> {
                let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
                paths.iter().map(name).collect()
            };
            let found = BinFiles::find(folder.path());
            found.map(|bins| bins.map(|bins| (named(bins.train), named(bins.valid))))
        };
        let files = [
            "medieval_train_1.bin",
            "medieval_train_0.bin",
            "medieval_val.bin",
            "medieval_test.bin",
            "._medieval_train_0.bin",
            "train.txt",
            "binary",
        ];
        let (train, valid) = find(&files).unwrap().unwrap();
        assert_eq!(train, ["medieval_train_0.bin", "medieval_train_1.bin"]);
        assert_eq!(valid, ["medieval_val.bin"]);
        assert!(
            find(&["model.bin", "val.bin", "text.txt"])
                .unwrap()
                .is_none()
        );
        for (files, named) in [
            (["train.bin", "val.bin", "train_val.bin"], "train_val.bin: "),
            (["train.bin", "val.bin", "medieval.bin"], "medieval.bin: "),
        ] {
            let error = find(&files).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("rename"), "{error}");
        }
    }
}
