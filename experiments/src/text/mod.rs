//! Text from a trained model: continuations of a prompt, the distribution of the next token, and surprisals.

pub mod generation;
pub mod predict;
