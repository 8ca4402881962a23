//! Turns text into batches of token windows. This crate does not know the model: only token ids, targets and weights
//! pass between the two.
//!
//! ```text
//! files ─find_sources, documents→ text ─Tokenizer→ ids ─build→ token folder
//!       ─Corpus→ two Splits ─Windows, Mixture→ WindowLoader → TokenBatch
//! ```

mod batch;
mod build;
mod check;
mod corpus;
mod documents;
mod error;
mod fetch;
pub mod files;
mod find;
mod loader;
mod manifest;
mod mapped;
mod mixture;
mod occurrences;
mod overlap;
mod panics;
mod permutation;
mod prefetch;
mod reader;
mod source;
mod split;
mod subset;
mod token_file;
mod token_folder;
mod tokenizer;
mod weights;
mod windows;
pub mod world;

pub use batch::TokenBatch;
pub use build::{
    BuildOptions, BuildProgress, Built, Canaries, Canary, CanaryOptions, MAX_UNCUT_BYTES, Monitor,
    build, build_cached,
};
pub use check::{CheckReport, check};
pub use corpus::Corpus;
pub use documents::{DocumentIndex, DocumentIndexWriter};
pub use error::DataError;
pub use fetch::{CorpusEntry, CorpusFile, CorpusMember, FetchOptions, Fetched, corpora, fetch};
pub use find::{Sources, find_sources};
pub use loader::{Batches, EvalLoaderConfig, TrainLoaderConfig, TrainSource, WindowLoader};
pub use manifest::{
    CanariesEntry, Manifest, Recipe, ShardEntry, SourceEntry, SplitBy, TextEntry, TokenizerEntry,
    TokensEntry,
};
pub use mixture::Mixture;
pub use occurrences::occurrences;
pub use overlap::{DocumentOverlap, Overlap, overlap};
pub use reader::{
    Column, Document, Documents, InvalidUtf8, MAX_DECOMPRESSED_BYTES, MAX_HELD_PARQUET_BYTES,
    MAX_LINE_BYTES, MAX_RECORD_BYTES, ReadOptions, Record, Records, documents, records,
};
pub use source::{Format, SourceFile};
pub use split::Split;
pub use subset::Subset;
pub use token_file::{TokenFile, TokenFileWriter};
pub use tokenizer::{TextStream, Tokenizer, TokenizerSpec, TrainOptions};
pub use weights::{LossWeights, TokenWeights};
pub use windows::{EvaluationWindows, Window, WindowOrder, Windows};
