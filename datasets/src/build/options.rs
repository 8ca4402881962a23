//! Options of a build.

use std::{fs, path::PathBuf};

use crate::{
    CanaryOptions, DataError, InvalidUtf8, ReadOptions, TokenizerSpec,
    files::sha256,
    manifest::{Recipe, SplitBy},
};

/// Options of a build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Files, folders, globs and pipes.
    pub inputs: Vec<PathBuf>,
    /// Tokenizer to load or to train.
    pub tokenizer: TokenizerSpec,
    /// How documents are read from files.
    pub read: ReadOptions,
    /// Share of validation, from 0 to below 1.
    pub valid: f64,
    /// Tokens per token file.
    pub shard_tokens: u64,
    /// Whether names of special tokens in the text are encoded as these tokens instead of as text.
    pub special_tokens: bool,
    /// Canaries that are planted in the training text, if any.
    pub canaries: Option<CanaryOptions>,
}

impl BuildOptions {
    /// Default number of tokens per token file: 200 MB of 16-bit ids.
    pub const DEFAULT_SHARD_TOKENS: u64 = 100_000_000;

    /// Returns the entry of these options in the manifest.
    pub(super) fn recipe(&self, split_by: SplitBy) -> Result<Recipe, DataError> {
        let tokenizer_file = match &self.tokenizer {
            TokenizerSpec::File(path) => {
                crate::mapped::check_regular(path)?;
                let bytes = fs::read(path).map_err(|reason| DataError::Read {
                    path: path.clone(),
                    reason,
                })?;
                Some(sha256(&bytes))
            }
            _ => None,
        };
        Ok(Recipe {
            tokenizer: self.tokenizer.to_string(),
            tokenizer_file,
            special_tokens: self.special_tokens,
            valid: self.valid,
            split_by,
            shard_tokens: self.shard_tokens,
            format: self.read.format,
            text_field: self.read.text_field.clone(),
            separator: self.read.separator.clone(),
            replace_invalid_utf8: self.read.invalid_utf8 == InvalidUtf8::Replace,
            canaries: self.canaries.clone(),
        })
    }
}
