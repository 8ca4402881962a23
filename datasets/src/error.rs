//! Errors of this crate: one enum, with one sentence per variant that says what is wrong and what to do about it.

use std::{io, path::PathBuf};

/// Error of this crate. Its `Display` is a single line for the user.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The path does not exist and is not a glob.
    #[error("there is no file {}: check the path, it is relative to the current directory", .path.display())]
    Missing {
        /// The path as it was given.
        path: PathBuf,
    },

    /// The glob is well formed, but no file matches it.
    #[error(
        "no file matches {pattern}: check the pattern, it is relative to the current directory"
    )]
    NoMatch {
        /// The glob as it was given.
        pattern: String,
    },

    /// The glob is malformed.
    #[error("{pattern} is not a glob: {reason}")]
    BadPattern {
        /// The glob as it was given.
        pattern: String,
        /// Message of the glob parser.
        reason: String,
    },

    /// The path is a folder, but a file is expected.
    #[error("{0} is a directory: give a file, or a glob such as {0}/*.txt", .path.display())]
    Directory {
        /// The path of the folder.
        path: PathBuf,
    },

    /// The file, or all files together, hold no text.
    #[error("{pattern} is empty: give a file with text in it")]
    Empty {
        /// The path or glob as it was given.
        pattern: String,
    },

    /// The file is not valid UTF-8.
    #[error(
        "{} is not UTF-8 at byte {offset}: convert it first, for example with iconv -t UTF-8, or give \
         --invalid-utf8 replace to `foretoken data build` or `evaluate`",
        .path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset, in bytes, of the first byte that is not part of a character.
        offset: usize,
    },

    /// The file cannot be read.
    #[error("cannot read {}: {reason}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        reason: io::Error,
    },

    /// The file cannot be written.
    #[error("cannot write {}: {reason}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        reason: io::Error,
    },

    /// The number of tokens that a run reads overflows.
    #[error(
        "{steps} steps of {accumulation} times {batch} windows of {context} tokens are too many to count: lower one of \
         these numbers"
    )]
    TooManyRows {
        /// Steps of the run.
        steps: usize,
        /// Windows in a micro-batch.
        batch: usize,
        /// Micro-batches in a step.
        accumulation: usize,
        /// Tokens in a window.
        context: usize,
    },

    /// A split is shorter than one window.
    #[error(
        "the {split} text has {tokens} tokens, fewer than the {needed} of one window (context + 1): \
         give more text, or a smaller context"
    )]
    TooShort {
        /// `training` or `evaluation`.
        split: &'static str,
        /// Tokens in the split.
        tokens: usize,
        /// Tokens in a window: context + 1.
        needed: usize,
    },

    /// A token id is outside the vocabulary of the tokenizer.
    #[error(
        "token id {id} at position {position} is outside the vocabulary of {vocab_size} tokens: \
         use the tokenizer that these ids were made with"
    )]
    TokenOutOfVocabulary {
        /// The id.
        id: u32,
        /// Number of tokens in the vocabulary; all ids are below it.
        vocab_size: usize,
        /// Index of the id among the ids to decode.
        position: usize,
    },

    /// Splits of different vocabularies cannot be joined.
    #[error(
        "tokens of different vocabularies ({one} and {other} tokens) cannot be joined to one split: build all \
         files with the same tokenizer"
    )]
    MixedVocabularies {
        /// Number of tokens in the vocabulary of the first split.
        one: usize,
        /// Number of tokens in the vocabulary of a split that differs.
        other: usize,
    },

    /// A character is not in the vocabulary of a `char` tokenizer.
    #[error(
        "the character {character:?} at byte {offset} is not among the {vocab_size} characters of \
         the vocabulary: remove it, or train with the byte tokenizer"
    )]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Offset of the character in the text, in bytes.
        offset: usize,
        /// Number of characters in the vocabulary.
        vocab_size: usize,
    },

    /// The tokenizer specification names no tokenizer.
    #[error(
        "there is no tokenizer {spec:?}: use \"byte\", \"char\", \"bpe:VOCAB\" such as bpe:8192, or the path \
         of a tokenizer.json"
    )]
    UnknownTokenizer {
        /// The specification as it was given.
        spec: String,
    },

    /// The size of a byte-pair encoding is out of range.
    #[error(
        "{spec} is not a tokenizer: VOCAB in bpe:VOCAB is a whole number from {min} (256 bytes and <|endoftext|>) to \
         {max}; 8k is 8192"
    )]
    VocabSize {
        /// The specification as it was given.
        spec: String,
        /// Minimum number of tokens.
        min: usize,
        /// Maximum number of tokens.
        max: usize,
    },

    /// A tokenizer fails to train, encode or decode.
    #[error("the tokenizer cannot {action}: {reason}: use another tokenizer, such as byte")]
    Tokenize {
        /// Action that failed, such as `encode this text`.
        action: &'static str,
        /// Message of Hugging Face `tokenizers`.
        reason: String,
    },

    /// The file is not a tokenizer that this crate can use.
    #[error("{} holds no usable tokenizer: {reason}", .path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// Reason, with advice.
        reason: String,
    },

    /// A document cannot be read from its file.
    #[error("{}, {place}: {reason}", .path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// Place in the file: `line 7`, `row 12`, …
        place: String,
        /// Fault and advice.
        reason: String,
    },

    /// A token file is truncated, foreign or damaged.
    #[error("{}: byte {offset}: {reason}", .path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Offset in the file, in bytes.
        offset: u64,
        /// Fault and advice.
        reason: String,
    },

    /// A folder, a file or a setting is not valid for a dataset.
    #[error("{}: {reason}", .path.display())]
    Dataset {
        /// The folder, the file, or the name of the setting.
        path: PathBuf,
        /// Fault and advice.
        reason: String,
    },

    /// A well-known corpus cannot be fetched.
    #[error("{name}: {reason}")]
    Fetch {
        /// The corpus, or its file.
        name: String,
        /// Fault and advice.
        reason: String,
    },

    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}
