//! `manifest.json`, which describes the contents and the origin of a token folder. A folder without one is not a
//! dataset, because the file is written last.

use std::{
    ffi::OsStr,
    path::{Component, Path},
};

use serde::{Deserialize, Serialize};

use crate::{
    CanaryOptions, DataError, Format, SourceFile,
    files::{LARGEST_DESCRIPTION, printable, read_small_text},
    token_folder::{self, MANIFEST},
};

/// Value of `format` in every manifest.
const FORMAT: &str = "foretoken tokens";

/// Version of the folder's layout that this program writes and reads.
const VERSION: u32 = 1;

/// Contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u32,
    /// Tokenizer of the dataset.
    pub tokenizer: TokenizerEntry,
    /// Options of the build.
    pub recipe: Recipe,
    /// Training split.
    pub train: TokensEntry,
    /// Validation split.
    pub valid: TokensEntry,
    /// Counts of documents that were left out or changed.
    pub text: TextEntry,
    /// Canaries in the training split; absent if none were planted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canaries: Option<CanariesEntry>,
    /// Files that were read, in order.
    pub sources: Vec<SourceEntry>,
}

/// Canaries of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanariesEntry {
    /// SHA-256 of `canaries.json`, in hexadecimal.
    pub sha256: String,
    /// Documents that were planted, which are part of the training split.
    pub documents: u64,
}

/// Tokenizer of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerEntry {
    /// SHA-256 of `tokenizer.json`, in hexadecimal.
    pub sha256: String,
    /// Number of ids.
    pub vocab_size: usize,
    /// Id of the token between documents; absent if there is only one document.
    pub end_of_text: Option<u32>,
}

/// Everything that determines the output of a build, apart from the files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Requested tokenizer: `byte`, `char`, `bpe:8192` or the path of a `tokenizer.json`.
    pub tokenizer: String,
    /// SHA-256 of the file that `tokenizer` names; absent if it names none.
    pub tokenizer_file: Option<String>,
    /// Whether names of special tokens in the text were encoded as these tokens.
    pub special_tokens: bool,
    /// Share of validation, from 0 to below 1.
    pub valid: f64,
    /// Unit in which text was divided between the two splits.
    pub split_by: SplitBy,
    /// Tokens in each token file but the last.
    pub shard_tokens: u64,
    /// Format of all files, if it was stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Field of JSON, or column of CSV, TSV and Parquet, that holds the text.
    pub text_field: String,
    /// Separator between documents in plain text; absent if each file is one document.
    pub separator: Option<String>,
    /// Whether bytes that are not UTF-8 were replaced; otherwise they were an error.
    pub replace_invalid_utf8: bool,
    /// Canaries that were asked for; absent if none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canaries: Option<CanaryOptions>,
}

/// Unit in which text is divided between the two splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// Whole documents, by a hash of their text: the same text is always in the same split.
    Document,
    /// Positions: the end of each document is for validation. This is used for texts of few documents, with which one
    /// of the splits would be empty.
    Position,
}

/// One split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensEntry {
    /// Number of documents, or parts of documents, that are not empty.
    pub documents: u64,
    /// Number of tokens, including those between the documents.
    pub tokens: u64,
    /// Bytes of UTF-8 in the documents.
    pub bytes: u64,
    /// Token files, in order.
    pub shards: Vec<ShardEntry>,
}

/// One token file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Name in the folder.
    pub file: String,
    /// Number of tokens.
    pub tokens: u64,
}

/// Counts of documents that were left out or changed on the way from files to tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEntry {
    /// Empty documents, which are left out.
    pub empty_documents: u64,
    /// Documents in which bytes that are not UTF-8 were replaced.
    pub replaced_documents: u64,
    /// Number of U+FFFD that replace such bytes.
    pub replacements: u64,
    /// Documents whose tokens do not stand for exactly their bytes, because the tokenizer changes text. Bits per byte
    /// are exact if this is 0.
    pub inexact_documents: u64,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// Path as the inputs named it. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub path: String,
    /// Bytes of the path in hexadecimal, if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
    /// Format in which it was read. Absent in manifests of versions without JSON, CSV and TSV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Size on disk.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Number of documents, including empty ones.
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

    /// Whether both are the same file, read in the same way. A manifest without a format was written by a version that
    /// knew only plain text, JSON lines and Parquet.
    pub(crate) fn is_same(&self, in_manifest: &Self) -> bool {
        let old = [Format::Text, Format::JsonLines, Format::Parquet];
        let format = match in_manifest.format {
            None => self.format.filter(|format| old.contains(format)),
            format => format,
        };
        format == self.format
            && *self
                == Self {
                    format,
                    ..in_manifest.clone()
                }
    }
}

impl Manifest {
    /// Name of the file in its folder.
    pub const FILE: &str = MANIFEST;

    pub(crate) fn new(
        tokenizer: TokenizerEntry,
        recipe: Recipe,
        [train, valid]: [TokensEntry; 2],
        text: TextEntry,
        canaries: Option<CanariesEntry>,
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
            canaries,
            sources,
        }
    }

    /// Reads the manifest of a folder.
    ///
    /// # Errors
    ///
    /// A folder without a manifest, and a manifest that is damaged or of another version.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, DataError> {
        let folder = folder.as_ref();
        let path = folder.join(Self::FILE);
        let dataset = |reason: String| DataError::Dataset {
            path: folder.into(),
            reason,
        };
        let json = read_small_text(&path, LARGEST_DESCRIPTION).map_err(|reason| {
            match reason.kind() {
            std::io::ErrorKind::NotFound if token_folder::is_unfinished(folder) => dataset(
                "this dataset is not finished: run the same foretoken data build again to continue"
                    .into(),
            ),
            std::io::ErrorKind::NotFound if folder.is_dir() => dataset(format!(
                "there is no {} in it: name a folder that foretoken data build has written",
                Self::FILE
            )),
            std::io::ErrorKind::NotFound => DataError::Missing {
                path: folder.into(),
            },
            _ => DataError::Read {
                path: path.clone(),
                reason,
            },
        }
        })?;
        let damaged = |reason: String| DataError::Dataset {
            path: path.clone(),
            reason: printable(&reason),
        };
        let value: serde_json::Value = serde_json::from_str(&json)
            .map_err(|error| damaged(format!("is not JSON ({error}): build the dataset again")))?;
        if value["format"] != FORMAT || value["version"] != VERSION {
            return Err(damaged(format!(
                "its format is {} version {}, but this program reads {FORMAT:?} version {VERSION}: build the dataset \
                 again",
                value["format"], value["version"]
            )));
        }
        let manifest: Self = serde_json::from_value(value)
            .map_err(|error| damaged(format!("{error}: build the dataset again")))?;
        let mut shards = manifest.train.shards.iter().chain(&manifest.valid.shards);
        match shards.find(|shard| !is_plain(&shard.file)) {
            None => Ok(manifest),
            Some(shard) => Err(damaged(format!(
                "{:?} is not the name of a file in the same folder: build the dataset again",
                shard.file
            ))),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("a manifest is always JSON");
        json + "\n"
    }
}

/// Whether this is the name of a file in the manifest's own folder, without control characters.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(Component::Normal(_)))
        && components.next().is_none()
        && !name.contains(char::is_control)
}
