//! Text from a trained model: continuations of a prompt, and the distribution of the next token.

pub mod generation;
pub mod predict;
