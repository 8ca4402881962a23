//! A tokenizer, and the tokens it makes of a training and a validation text: in memory, or in a folder.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    DataError, Split, TokenFile, Tokenizer, TokenizerSpec, TrainOptions,
    build::{documents_file, sha256},
    documents::DocumentIndex,
    files::TOKENIZER,
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
    /// llm.c have: `.bin` files, those with the word `train` in their names to train on, those with `val` to
    /// evaluate on. For the latter `tokenizer` names the `tokenizer.json` that the ids were made with,
    /// unless one lies in the folder.
    ///
    /// No token is read: a file's blocks are checked when they are first used.
    ///
    /// # Errors
    ///
    /// A folder that is neither, or unfinished, damaged or changed since; `.bin` files whose names say both or
    /// neither, or whose ids may have 2 bytes as well as 4.
    pub fn open(folder: &Path, tokenizer: Option<&Path>) -> Result<Self, DataError> {
        Self::open_with(folder, tokenizer, None)
    }

    /// [`open`](Self::open), where `id_bytes` states how many bytes an id has in `.bin` files without a header:
    /// 2 or 4.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open), and a statement that the files contradict, or that no file needs.
    pub fn open_with(
        folder: &Path,
        tokenizer: Option<&Path>,
        id_bytes: Option<usize>,
    ) -> Result<Self, DataError> {
        match Bins::find(folder)? {
            Some(bins) => bins.open(folder, tokenizer, id_bytes),
            None if id_bytes.is_some() => Err(DataError::Dataset {
                path: folder.into(),
                reason: "is no folder of .bin files, so data.id_bytes says nothing here: remove the key (--id-bytes)"
                    .into(),
            }),
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
                reason: "documents have no borders here, for this tokenizer has no end-of-text token: take \
                         windows = \"epoch\", or tokens that foretoken data build has made of several documents"
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
    /// The `.bin` files of a folder without a manifest, in the byte order of their names. Those whose names say
    /// that they are for tests are left out, hidden ones too. Without any for training the folder is another one.
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
            match Use::of(&String::from_utf8_lossy(stem))[..] {
                [Use::Train] => bins.train.push(path),
                [Use::Valid] => bins.valid.push(path),
                [Use::Test] => {}
                [] => unclear = unclear.or(Some((path, "neither train nor val"))),
                _ => {
                    // Text has no such names: this is meant to be a folder of tokens.
                    return Err(unclear_use(path, "more than one of train, val and test"));
                }
            }
        }
        match unclear {
            _ if bins.train.is_empty() => Ok(None),
            Some((path, said)) => Err(unclear_use(path, said)),
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
                .map(|path| TokenFile::open_with(path, lengths.len(), id_bytes))
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

fn unclear_use(path: PathBuf, said: &str) -> DataError {
    DataError::Dataset {
        path,
        reason: format!(
            "the words of this name say {said}: rename the file so that one word says what it is for, as \
             corpus_train_000.bin does, or move it elsewhere"
        ),
    }
}

/// Purpose of a token file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    Train,
    Valid,
    Test,
}

impl Use {
    /// The purposes that the whole words of a name state: `medieval_train_000` is for training.
    fn of(name: &str) -> Vec<Self> {
        let mut uses = Vec::new();
        for word in words(name) {
            let said = match word.as_str() {
                "train" | "training" => Self::Train,
                "val" | "valid" | "validation" | "dev" | "eval" | "evaluation" => Self::Valid,
                "test" | "testing" => Self::Test,
                _ => continue,
            };
            if !uses.contains(&said) {
                uses.push(said);
            }
        }
        uses
    }
}

/// The words of a name in lower case: letters between other characters, or from one capital to the next.
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
    fn names_say_the_split_by_whole_words() {
        for (name, uses) in [
            ("train", &[Use::Train][..]),
            ("val", &[Use::Valid]),
            ("medieval_train", &[Use::Train]),
            ("retrieval_train_0", &[Use::Train]),
            ("constrained_val", &[Use::Valid]),
            ("fineweb_train_000001", &[Use::Train]),
            ("fineweb-val-000000", &[Use::Valid]),
            ("TinyStoriesTrain01", &[Use::Train]),
            ("TRAIN", &[Use::Train]),
            ("train2", &[Use::Train]),
            ("tiny.validation", &[Use::Valid]),
            ("train_train", &[Use::Train]),
            ("fineweb_test_000000", &[Use::Test]),
            ("train_val", &[Use::Train, Use::Valid]),
            ("medieval", &[]),
            ("trainer", &[]),
            ("restrained", &[]),
            ("trainval", &[]),
            ("中世train文", &[]),
            ("", &[]),
        ] {
            assert_eq!(Use::of(name), uses, "{name}");
        }
    }

    #[test]
    fn folders_of_bin_files_are_told_by_their_names() {
        let find = |names: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                fs::write(folder.path().join(name), "tokens").unwrap();
            }
            let named = |paths: Vec<PathBuf>| -> Vec<String> {
                let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
                paths.iter().map(name).collect()
            };
            let found = Bins::find(folder.path());
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
