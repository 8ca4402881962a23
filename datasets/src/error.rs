//! What can go wrong between a text and a batch: one enum, one sentence per variant, saying what is
//! wrong and what to do about it.

use std::{io, path::PathBuf};

/// An error of this crate. `Display` is a single line that can be shown to a user as it is.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The path does not exist and holds no glob character.
    #[error("there is no file {}: check the path, it is relative to the current directory", .path.display())]
    Missing {
        /// The path as it was given.
        path: PathBuf,
    },

    /// The glob is well formed, and no file matches it.
    #[error(
        "no file matches {pattern}: check the pattern, it is relative to the current directory"
    )]
    NoMatch {
        /// The glob as it was given.
        pattern: String,
    },

    /// The glob itself is malformed.
    #[error("{pattern} is not a glob: {reason}")]
    BadPattern {
        /// The glob as it was given.
        pattern: String,
        /// What the glob parser says.
        reason: String,
    },

    /// A folder where a file is expected.
    #[error("{0} is a directory: give a file, or a glob such as {0}/*.txt", .path.display())]
    Directory {
        /// The path of the folder.
        path: PathBuf,
    },

    /// The file, or all the files together, hold no byte.
    #[error("{pattern} is empty: give a file with text in it")]
    Empty {
        /// The path or glob as it was given.
        pattern: String,
    },

    /// The file is not valid UTF-8.
    #[error(
        "{} is not UTF-8 at byte {offset}: convert it first, for example with iconv -t UTF-8, or build it with \
         foretoken data build --invalid-utf8 replace",
        .path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset, in bytes, of the first byte that is not part of a character.
        offset: usize,
    },

    /// The file exists and cannot be read.
    #[error("cannot read {}: {reason}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },

    /// The file cannot be written.
    #[error("cannot write {}: {reason}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },

    /// A run that reads more tokens than there are numbers for.
    #[error(
        "{steps} steps of {accumulation} times {batch} windows of {context} tokens are more than can be counted: lower one \
         of them"
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

    /// A split holds less than one window.
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

    /// A token id that the tokenizer does not have.
    #[error(
        "token id {id} at position {position} is outside the vocabulary of {vocab_size} tokens: \
         use the tokenizer that these ids were made with"
    )]
    TokenOutOfVocabulary {
        /// The id.
        id: u32,
        /// How many tokens the vocabulary has; ids run from 0 up to it, exclusive.
        vocab_size: usize,
        /// Index of the id in what was to be decoded.
        position: usize,
    },

    /// Splits that are to be one, made with different tokenizers.
    #[error(
        "tokens of different vocabularies ({one} and {other} tokens) do not make one split: build all \
         files with the same tokenizer"
    )]
    MixedVocabularies {
        /// Tokens in the vocabulary of the first.
        one: usize,
        /// Tokens in the vocabulary of one that differs.
        other: usize,
    },

    /// A character that a `char` tokenizer never saw.
    #[error(
        "the character {character:?} at byte {offset} is not among the {vocab_size} characters of \
         the vocabulary: remove it, or train with the byte tokenizer"
    )]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Offset of the character in the text, in bytes.
        offset: usize,
        /// How many characters the vocabulary has.
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

    /// A byte-pair encoding of no possible size.
    #[error(
        "{spec}: VOCAB in bpe:VOCAB is a whole number from {min} (256 bytes and <|endoftext|>) to {max}; \
         8k is 8192"
    )]
    VocabSize {
        /// The specification as it was given.
        spec: String,
        /// The fewest tokens.
        min: usize,
        /// The most tokens.
        max: usize,
    },

    /// The tokenizer of a file fails at its work.
    #[error("the tokenizer cannot {action}: {reason}: use another tokenizer, such as byte")]
    Tokenize {
        /// What it was to do.
        action: &'static str,
        /// What Hugging Face `tokenizers` says.
        reason: String,
    },

    /// The file is not a tokenizer that this crate can use.
    #[error("{} holds no usable tokenizer: {reason}", .path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A document cannot be read out of its file.
    #[error("{}, {place}: {reason}", .path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// Where in it: `line 7`, `row 12`, …
        place: String,
        /// What is wrong there and what to do.
        reason: String,
    },

    /// A token file is truncated, foreign or damaged.
    #[error("{}: byte {offset}: {reason}", .path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there and what to do.
        reason: String,
    },

    /// A folder or a setting does not make a dataset.
    #[error("{}: {reason}", .path.display())]
    Dataset {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },

    /// A well-known corpus cannot be had.
    #[error("{name}: {reason}")]
    Fetch {
        /// The corpus, or its file.
        name: String,
        /// What went wrong and what to do instead.
        reason: String,
    },

    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}
