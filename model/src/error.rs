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

    /// Two sizes of which one must be a multiple of the other.
    #[error("{} {} is not divisible by {} {}", dividend.0, dividend.1, divisor.0, divisor.1)]
    NotDivisible {
        /// The configuration key and its value that would have to be a multiple.
        dividend: (&'static str, usize),
        /// The configuration key and its value that would have to divide.
        divisor: (&'static str, usize),
    },

    /// Rotary positions turn pairs of elements.
    #[error("head_width {head_width} is not divisible by 2, the width of a rotary pair")]
    OddHeadWidth {
        /// Width of one head.
        head_width: usize,
    },

    /// Two numbers in the wrong order.
    #[error("{} {} must be below {} {}", lower.0, lower.1, upper.0, upper.1)]
    NotBelow {
        /// The configuration key and its value that would have to be lower.
        lower: (&'static str, f64),
        /// The configuration key and its value that would have to be higher.
        upper: (&'static str, f64),
    },

    /// Scaling of rotary positions where positions are not rotary.
    #[error("rotary_scaling is set, but positions are not \"rotary\"")]
    ScalingWithoutRotary,

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

    /// Generation would read more tokens than the model attends over.
    #[error(
        "a prompt of {prompt} tokens and {tokens} more do not fit the model's context of {context}"
    )]
    ContextExceeded {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for.
        tokens: usize,
        /// The longest sequence the model attends over.
        context: usize,
    },

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
