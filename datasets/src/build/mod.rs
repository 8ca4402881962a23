//! Builds a token folder from text files.
//!
//! ```text
//! OUT/
//!   manifest.json         contents and origin; written last
//!   tokenizer.json        loads in Hugging Face tokenizers
//!   train-00000.tokens …  token files, all but the last with the requested number of tokens
//!   valid-00000.tokens …
//!   train.documents       start of each document
//!   valid.documents
//!   canaries.json         secrets that were planted, if any were
//! ```
//!
//! The files are read twice: once to check and count their contents ([`scan`]), and once to encode them ([`encode`]).
//! Training a tokenizer reads them once more. During a build the folder holds a journal, `.build.json`, from which the
//! same build continues after a crash. The output depends only on the inputs and the options, not on the number of
//! threads or interruptions.

mod cache;
mod canaries;
mod copies;
mod encode;
mod error;
mod identity;
mod journal;
mod monitor;
mod options;
mod pieces;
mod planting;
mod run;
mod scan;

pub use cache::build_cached;
pub use canaries::{Canaries, Canary, CanaryOptions};
pub use monitor::{BuildProgress, Monitor};
pub use options::BuildOptions;
pub use pieces::MAX_UNCUT_BYTES;
pub use run::{Built, build};
