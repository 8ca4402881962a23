//! One window of a text.

use std::ops::Range;

/// A window of a text: `context + 1` consecutive tokens. Those past the end of the text are padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Index of its first token.
    pub offset: usize,
    /// The targets that count in the loss, by their position in the window. The others belong to another window
    /// or another document.
    pub counted: Range<usize>,
}
