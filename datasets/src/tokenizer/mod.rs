//! Tokenizers convert text to token ids and back: one token per byte or per character, a byte-pair encoding, or any
//! `tokenizer.json`. All are saved as a `tokenizer.json` with which Hugging Face `tokenizers` gives the same ids.

mod characters;
mod compare;
mod convert;
mod end_of_text;
mod gpt2;
mod hugging_face;
mod native;
mod spec;
mod stream;
#[cfg(test)]
mod tests;
mod token_bytes;

pub use convert::{Tokenizer, TrainOptions};
pub use spec::TokenizerSpec;
pub use stream::TextStream;
