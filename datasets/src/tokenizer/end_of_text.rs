//! Names of the special token that ends a text.

/// Name of the end-of-text token that this crate adds.
pub(super) const END_OF_TEXT: &str = "<|endoftext|>";

/// Names by which the end-of-text token of a file is recognised, in order of preference.
pub(super) const END_OF_TEXT_NAMES: [&str; 7] = [
    END_OF_TEXT,
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "<|eot_id|>",
    "<|im_end|>",
];
