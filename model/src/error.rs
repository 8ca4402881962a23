//! What can go wrong in this crate. A caller's bug (a tensor of the wrong shape) panics, as everywhere in
//! Burn; what a user can get wrong is one of these.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A configuration, a model's files, a prompt or a model's output that cannot be worked with.
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
        /// The value that was given.
        value: f64,
        /// The range it must lie in.
        expected: &'static str,
    },

    /// A size is larger than any model's.
    #[error("{name} is {value}; it must be at most {most}")]
    TooLarge {
        /// The configuration key.
        name: &'static str,
        /// The value that was given.
        value: usize,
        /// The largest size that is accepted.
        most: usize,
    },

    /// Sizes that are each possible and together are not.
    #[error(
        "a model of these sizes has {parameters} parameters, beyond the {} that one may have; lower vocab_size, width, \
         hidden, heads, head_width, layers or context",
        1u64 << 46
    )]
    TooManyParameters {
        /// Their number, or a little more.
        parameters: u128,
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

    /// A path that holds no model.
    #[error(
        "{} is not a model: give a folder with model.json (written by foretoken import) or config.json \
         (Hugging Face), or a .safetensors file in one", path.display()
    )]
    NotAModel {
        /// The path as it was given.
        path: PathBuf,
    },

    /// A file of a model cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },

    /// A model cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    WriteFile {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },

    /// A model would be written over something else.
    #[error("{} already exists: name a folder that does not, or an empty one", path.display())]
    Occupied {
        /// The folder to write.
        path: PathBuf,
    },

    /// A file of a model is damaged, or describes a model that cannot exist or is not known here.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and what is expected.
        message: String,
    },

    /// A tensor that the configuration asks for is not in the weight files.
    #[error("{} lacks the tensor {name} {}", path.display(), dims(shape))]
    MissingTensor {
        /// The weight file, or the folder of several.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// Its shape according to the configuration.
        shape: Vec<usize>,
    },

    /// A tensor that the configuration has no place for.
    #[error(
        "{} holds the tensor {name} {}, which a model of this configuration does not have",
        path.display(),
        dims(shape)
    )]
    ExtraTensor {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },

    /// A tensor of another shape than the configuration asks for.
    #[error(
        "{}: the tensor {name} is {}; the configuration asks for {}",
        path.display(),
        dims(shape),
        dims(expected)
    )]
    TensorShape {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its shape according to the configuration.
        expected: Vec<usize>,
    },

    /// A tensor whose elements are not those of weights.
    #[error("{}: the tensor {name} is {dtype}; weights are {expected}", path.display())]
    TensorType {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// Its element type.
        dtype: String,
        /// The element types that it may have.
        expected: String,
    },

    /// A weight that a narrower type cannot hold.
    #[error("the tensor {name} holds numbers too large for f16: export it as bf16 or f32")]
    TooLargeForF16 {
        /// The tensor's name in the file that was to be written.
        name: String,
    },

    /// An architecture that Hugging Face has no class for.
    #[error("{field} {value} has no counterpart in Hugging Face's {architecture}")]
    NoCounterpart {
        /// The configuration key.
        field: &'static str,
        /// What it is set to.
        value: String,
        /// The class that comes closest.
        architecture: &'static str,
    },
}

impl ModelError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |reason| Self::ReadFile {
            path,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |reason| Self::WriteFile {
            path,
            reason: reason.to_string(),
        }
    }

    /// Escapes the control characters of a message, which may quote the file: it is one line.
    pub(crate) fn malformed(path: &Path, message: impl ToString) -> Self {
        let shown = |c: char| match c.is_control() {
            true => c.escape_default().to_string(),
            false => c.to_string(),
        };
        Self::Malformed {
            path: path.to_path_buf(),
            message: message.to_string().chars().map(shown).collect(),
        }
    }
}

/// `[50257, 768]`
fn dims(shape: &[usize]) -> String {
    format!("{shape:?}")
}
