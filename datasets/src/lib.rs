//! Text in, token windows out. This crate knows no model: between it and the model pass only token
//! ids, targets and weights.
//!
//! ```text
//! read_text → Corpus (Tokenizer, two Splits) → Windows → WindowLoader → TokenBatch
//! ```

mod batch;
mod corpus;
mod error;
mod loader;
mod permutation;
mod source;
mod tokenizer;
mod windows;
pub mod world;

pub use batch::TokenBatch;
pub use corpus::{Corpus, Split};
pub use error::DataError;
pub use loader::{EvalLoaderConfig, TrainLoaderConfig, WindowLoader};
pub use source::read_text;
pub use tokenizer::Tokenizer;
pub use windows::{EvaluationWindows, Window, Windows};
