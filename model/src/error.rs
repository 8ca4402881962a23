//! What can go wrong in this crate. A caller's bug (a tensor of the wrong shape) panics, as everywhere in
//! Burn; what a user can get wrong is one of these.

use thiserror::Error;

/// A configuration, a prompt or a model's output that cannot be worked with.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ModelError {
    /// A size that has to be positive is zero.
    #[error("{name} is 0; it must be at least 1")]
    Zero {
        /// The configuration key.
        name: &'static str,
    },

    /// The heads cannot share the width equally.
    #[error("width {width} is not divisible by heads {heads}")]
    WidthNotDivisible {
        /// Width of the residual stream.
        width: usize,
        /// Attention heads per block.
        heads: usize,
    },

    /// A number lies outside the range in which it means anything.
    #[error("{name} is {value}; it must be {expected}")]
    OutOfRange {
        /// The configuration key.
        name: &'static str,
        /// What it was set to.
        value: f64,
        /// The range it must lie in.
        expected: &'static str,
    },

    /// Generation has nothing to continue.
    #[error("the prompt holds no token; there is nothing to continue")]
    EmptyPrompt,

    /// A token id that the model has no embedding for.
    #[error("token id {token} is outside the model's vocabulary of {vocab_size}")]
    UnknownToken {
        /// The token id.
        token: u32,
        /// Number of ids the model knows, from 0.
        vocab_size: usize,
    },

    /// Logits that describe no probability distribution.
    #[error(
        "the logit of token {token} is {value}: the model has diverged or its weights are damaged"
    )]
    InvalidLogit {
        /// The first token concerned.
        token: usize,
        /// Its logit: NaN, infinity, or minus infinity when every token has it.
        value: f32,
    },

    /// The device could not compute or hand over what was asked of it.
    #[error("reading logits from the device failed: {0}")]
    Read(String),
}
