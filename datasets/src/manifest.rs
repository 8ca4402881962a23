//! `manifest.json`: what a folder of tokens holds and what it was made of. A folder without one is not
//! a dataset: the file is written last.

use std::{
    ffi::OsStr,
    fs,
    path::{Component, Path},
};

use serde::{Deserialize, Serialize};

use crate::{
    DataError, Format, SourceFile,
    files::{self, printable},
};

/// What `format` says in every manifest of ours.
const FORMAT: &str = "foretoken tokens";

/// The version of the folder's layout that this program writes and reads.
const VERSION: u32 = 1;

/// The contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u32,
    /// How text became ids.
    pub tokenizer: TokenizerEntry,
    /// How it was built.
    pub recipe: Recipe,
    /// What models are trained on.
    pub train: TokensEntry,
    /// What they are evaluated on.
    pub valid: TokensEntry,
    /// What was left out or changed on the way.
    pub text: TextEntry,
    /// The files that were read, in their order.
    pub sources: Vec<SourceEntry>,
}

/// The tokenizer of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerEntry {
    /// SHA-256 of `tokenizer.json`, in hexadecimal.
    pub sha256: String,
    /// How many ids there are.
    pub vocab_size: usize,
    /// The id that stands between documents; absent where there is only one document.
    pub end_of_text: Option<u32>,
}

/// Everything that decides what comes out of a build, apart from the files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The tokenizer as it was asked for: `byte`, `char`, `bpe:8192` or the path of a `tokenizer.json`.
    pub tokenizer: String,
    /// SHA-256 of the file that `tokenizer` names, where it names one.
    pub tokenizer_file: Option<String>,
    /// Whether special tokens written out in the text were read as tokens.
    pub special_tokens: bool,
    /// Share of validation, 0 to 1.
    pub valid: f64,
    /// What was dealt to the two splits.
    pub split_by: SplitBy,
    /// Tokens in each token file but the last.
    pub shard_tokens: u64,
    /// The format of all files, if it was stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The field of JSON, and the column of CSV, TSV and Parquet, that was read.
    pub text_field: String,
    /// What separates documents in plain text, if not the end of the file.
    pub separator: Option<String>,
    /// Whether bytes that are not UTF-8 were replaced; otherwise there are none.
    pub replace_invalid_utf8: bool,
}

/// What is dealt to the two splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// Whole documents, by a hash of their text: the same text always falls on the same side.
    Document,
    /// The end of each document is for validation: for texts of few documents, of which none would fall
    /// on one of the sides.
    Position,
}

/// One split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensEntry {
    /// Documents, or parts of documents, that are not empty.
    pub documents: u64,
    /// Tokens, with those between the documents.
    pub tokens: u64,
    /// Bytes of UTF-8 that the documents have.
    pub bytes: u64,
    /// Its token files, in their order.
    pub shards: Vec<ShardEntry>,
}

/// One token file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Its name in the folder.
    pub file: String,
    /// How many tokens it has.
    pub tokens: u64,
}

/// What was left out or changed on the way from files to tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEntry {
    /// Documents without a byte, which are left out.
    pub empty_documents: u64,
    /// Documents in which bytes that are not UTF-8 were replaced.
    pub replaced_documents: u64,
    /// U+FFFD that stand for such bytes.
    pub replacements: u64,
    /// Documents whose tokens do not stand for exactly their bytes, because the tokenizer changes text;
    /// 0 means that bits per byte are exact.
    pub inexact_documents: u64,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// Its path, as the inputs named it. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub path: String,
    /// The bytes of the path in hexadecimal, if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
    /// How it was read. Versions that did not know JSON, CSV and TSV did not write this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Its size on disk.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Documents in it, empty ones included.
    pub documents: u64,
}

impl SourceEntry {
    pub(crate) fn new(file: &SourceFile, bytes: u64, sha256: String, documents: u64) -> Self {
        let path = file.path.as_os_str();
        let hexadecimal = |path: &OsStr| -> String {
            let bytes = path.as_encoded_bytes().iter();
            bytes.map(|byte| format!("{byte:02x}")).collect()
        };
        Self {
            path: path.to_string_lossy().into_owned(),
            path_bytes: path.to_str().is_none().then(|| hexadecimal(path)),
            format: Some(file.format),
            bytes,
            sha256,
            documents,
        }
    }

    /// Whether both are the same file, read in the same way. A manifest without a format says that the file was
    /// read as the versions did that knew plain text, JSON lines and Parquet only.
    pub(crate) fn is_same(&self, of_manifest: &Self) -> bool {
        let old = [Format::Text, Format::JsonLines, Format::Parquet];
        let format = match of_manifest.format {
            None => self.format.filter(|format| old.contains(format)),
            format => format,
        };
        format == self.format
            && *self
                == Self {
                    format,
                    ..of_manifest.clone()
                }
    }
}

impl Manifest {
    /// The name of the file in its folder.
    pub const FILE: &str = files::MANIFEST;

    pub(crate) fn new(
        tokenizer: TokenizerEntry,
        recipe: Recipe,
        [train, valid]: [TokensEntry; 2],
        text: TextEntry,
        sources: Vec<SourceEntry>,
    ) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            tokenizer,
            recipe,
            train,
            valid,
            text,
            sources,
        }
    }

    /// Reads the manifest of a folder.
    ///
    /// # Errors
    ///
    /// A folder without one, and a file that is damaged or of another version.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, DataError> {
        let folder = folder.as_ref();
        let path = folder.join(Self::FILE);
        let dataset = |reason: String| DataError::Dataset {
            path: folder.into(),
            reason,
        };
        let json = fs::read_to_string(&path).map_err(|reason| match reason.kind() {
            std::io::ErrorKind::NotFound if crate::build::is_unfinished(folder) => dataset(
                "this dataset is not finished: run the same foretoken data build again to go on"
                    .into(),
            ),
            std::io::ErrorKind::NotFound if folder.is_dir() => dataset(format!(
                "there is no {}: not a folder that foretoken data build has written",
                Self::FILE
            )),
            std::io::ErrorKind::NotFound => DataError::Missing {
                path: folder.into(),
            },
            _ => DataError::Read {
                path: path.clone(),
                reason,
            },
        })?;
        let damaged = |reason: String| DataError::Dataset {
            path: path.clone(),
            reason: printable(&reason),
        };
        let value: serde_json::Value = serde_json::from_str(&json)
            .map_err(|error| damaged(format!("not JSON ({error}): build the dataset again")))?;
        if value["format"] != FORMAT || value["version"] != VERSION {
            return Err(damaged(format!(
                "its format is {} version {}, this program reads {FORMAT:?} version {VERSION}",
                value["format"], value["version"]
            )));
        }
        let manifest: Self = serde_json::from_value(value)
            .map_err(|error| damaged(format!("{error}: build the dataset again")))?;
        let mut shards = manifest.train.shards.iter().chain(&manifest.valid.shards);
        match shards.find(|shard| !is_plain(&shard.file)) {
            None => Ok(manifest),
            Some(shard) => Err(damaged(format!(
                "{:?} is not the name of a file beside it: build the dataset again",
                shard.file
            ))),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("a manifest is always JSON");
        json + "\n"
    }
}

/// Whether this is the name of a file in the manifest's own folder, fit to stand in a message of one line.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(Component::Normal(_)))
        && components.next().is_none()
        && !name.contains(char::is_control)
}
