//! Windows of a text and their order: pure functions, without state and without a list of windows in memory.
//!
//! A window is `context + 1` consecutive tokens: the first `context` are inputs, the last `context` are targets.
//!
//! Not here: where documents start ([`DocumentIndex`]), and which text a row is read from
//! ([`Mixture`](crate::Mixture)).

mod documents;
#[cfg(test)]
mod tests;
mod window;

use documents::DocumentWindows;
pub use window::Window;

use crate::{
    DataError, DocumentIndex,
    permutation::{Permutation, below, random_of},
};

/// Order in which training reads the windows of a text.
#[derive(Clone, Debug, Default)]
pub enum WindowOrder {
    /// Epochs of windows that do not overlap, see [`Windows`].
    #[default]
    Epoch,
    /// Independent windows, each of which starts anywhere.
    Random,
    /// Epochs of windows that start at the start of a document, or a multiple of `context` tokens after it, and that
    /// count no target of another document.
    Documents(DocumentIndex),
}

impl WindowOrder {
    /// Returns the share of the positions of an epoch whose targets count, from 0 to 1. It is 1 unless windows keep to
    /// documents.
    ///
    /// # Errors
    ///
    /// A text shorter than one window, and a document index of another text.
    pub fn counted_share(&self, tokens: usize, context: usize) -> Result<f64, DataError> {
        let Self::Documents(index) = self else {
            return Ok(1.0);
        };
        check_length("training", tokens, context)?;
        let windows = DocumentWindows::new(index, tokens, context)?;
        Ok(windows.targets_of_all() as f64 / (windows.count() as f64 * context as f64))
    }
}

/// Training windows: a function from step and row to a window.
///
/// Training is a sequence of rows, with `rows` rows per step. A row depends on (seed, step, row) only: resuming, or
/// distributing rows over devices or micro-batches, cannot change what is read.
///
/// - [`Epoch`](WindowOrder::Epoch): the sequence is divided into epochs. Within an epoch the windows start `context`
///   tokens apart, so no target is read twice, and a permutation keyed by (seed, epoch) decides their order. The start
///   of the first window is drawn for each epoch from `0..context`, so that over many epochs every token occurs at
///   every position of a window. In return, an epoch leaves out up to `2 · context` tokens at the ends of the text;
///   they differ from epoch to epoch.
/// - [`Random`](WindowOrder::Random): each window starts at a position drawn uniformly.
/// - [`Documents`](WindowOrder::Documents): epochs of windows that count each target of each document once. The first
///   input of a document is the end-of-text token before it, so that its first token is a target. Its last target is
///   the end-of-text token after it.
#[derive(Clone, Debug)]
pub struct Windows {
    order: Order,
    context: usize,
    rows: usize,
    seed: u64,
}

#[derive(Clone, Debug)]
enum Order {
    Epoch {
        /// Windows in an epoch.
        windows: usize,
        /// Number of positions at which the first window of an epoch may start.
        phases: usize,
    },
    Random {
        /// Number of positions at which a window may start.
        places: usize,
    },
    Documents(DocumentWindows),
}

impl Windows {
    /// Creates the windows of a text of `tokens` tokens, for steps of `rows` rows (all micro-batches together).
    ///
    /// # Errors
    ///
    /// A text shorter than one window, and a document index of another text.
    ///
    /// # Panics
    ///
    /// If `context` is 0.
    pub fn new(
        order: &WindowOrder,
        tokens: usize,
        context: usize,
        rows: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        check_length("training", tokens, context)?;
        let order = match order {
            WindowOrder::Epoch => {
                // As many windows as fit wherever the first one starts, but at least one.
                let windows = ((tokens - context) / context).max(1);
                Order::Epoch {
                    windows,
                    phases: (tokens - windows * context).min(context),
                }
            }
            WindowOrder::Random => Order::Random {
                places: tokens - context,
            },
            WindowOrder::Documents(index) => {
                Order::Documents(DocumentWindows::new(index, tokens, context)?)
            }
        };
        Ok(Self {
            order,
            context,
            rows,
            seed,
        })
    }

    /// Returns the number of windows in an epoch. A random order has no epochs: there it is the number of windows that
    /// have as many targets as the text.
    pub fn per_epoch(&self) -> usize {
        match &self.order {
            Order::Epoch { windows, .. } => *windows,
            Order::Random { places } => (places + self.context - 1).div_ceil(self.context),
            Order::Documents(documents) => documents.count(),
        }
    }

    /// Returns the number of rows in a step.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the window at row `row` of step `step`, both counted from 0.
    ///
    /// # Panics
    ///
    /// If the step has no such row.
    pub fn window(&self, step: usize, row: usize) -> Window {
        assert!(
            row < self.rows,
            "a step of {} rows has no row {row}",
            self.rows
        );
        self.nth(step as u64 * self.rows as u64 + row as u64)
    }

    /// Returns the window at `index` of the sequence of all rows.
    pub(crate) fn nth(&self, index: u64) -> Window {
        let full = |offset| Window {
            offset,
            counted: 0..self.context,
        };
        match &self.order {
            Order::Epoch { windows, phases } => {
                let windows = *windows as u64;
                let purpose = b"foretoken/windows/order.";
                let mut random = random_of(purpose, self.seed, index / windows);
                let phase = below(*phases as u64, &mut random) as usize;
                let window = Permutation::draw(windows, &mut random).apply(index % windows);
                full(phase + window as usize * self.context)
            }
            Order::Random { places } => {
                let mut random = random_of(b"foretoken/windows/random", self.seed, index);
                full(below(*places as u64, &mut random) as usize)
            }
            Order::Documents(documents) => {
                let windows = documents.count() as u64;
                let purpose = b"foretoken/windows/docum.";
                let mut random = random_of(purpose, self.seed, index / windows);
                let window = Permutation::draw(windows, &mut random).apply(index % windows);
                documents.window(window as usize)
            }
        }
    }
}

/// Evaluation windows: a fixed set that counts each target of a text (each token but the first) exactly once.
///
/// They start `context` tokens apart, from 0. If the last one would extend past the end it starts earlier, and does not
/// count the targets of the window before it.
///
/// Windows [of documents](Self::of_documents) are those of [`WindowOrder::Documents`], in the order of the text, except
/// that the last ones reach past the end of the text, where no target counts.
#[derive(Clone, Debug)]
pub struct EvaluationWindows(Evaluation);

#[derive(Clone, Debug)]
enum Evaluation {
    Stream { targets: usize, context: usize },
    Documents(DocumentWindows),
}

impl EvaluationWindows {
    /// Creates the windows of a text of `tokens` tokens.
    ///
    /// # Errors
    ///
    /// A text shorter than one window.
    ///
    /// # Panics
    ///
    /// If `context` is 0.
    pub fn new(tokens: usize, context: usize) -> Result<Self, DataError> {
        check_length("evaluation", tokens, context)?;
        Ok(Self(Evaluation::Stream {
            targets: tokens - 1,
            context,
        }))
    }

    /// Creates the windows of the documents of a text, none of which counts targets of two documents.
    ///
    /// # Errors
    ///
    /// A text shorter than one window, and a document index of another text.
    ///
    /// # Panics
    ///
    /// If `context` is 0.
    pub fn of_documents(
        documents: &DocumentIndex,
        tokens: usize,
        context: usize,
    ) -> Result<Self, DataError> {
        check_length("evaluation", tokens, context)?;
        let windows = DocumentWindows::new(documents, tokens, context)?;
        Ok(Self(Evaluation::Documents(windows.reaching_past_end())))
    }

    /// Returns whether the windows are those of documents.
    pub(crate) fn are_of_documents(&self) -> bool {
        matches!(self.0, Evaluation::Documents(_))
    }

    /// Returns the number of windows that cover the text.
    pub fn count(&self) -> usize {
        match &self.0 {
            Evaluation::Stream { targets, context } => targets.div_ceil(*context),
            Evaluation::Documents(windows) => windows.count(),
        }
    }

    /// Returns the window at `index`, below [`count`](Self::count), in the order of the text.
    pub fn window(&self, index: usize) -> Window {
        match &self.0 {
            Evaluation::Stream { targets, context } => {
                let first_target = index * context;
                let offset = first_target.min(targets - context);
                Window {
                    offset,
                    counted: first_target - offset..*context,
                }
            }
            Evaluation::Documents(windows) => windows.window(index),
        }
    }
}

fn check_length(split: &'static str, tokens: usize, context: usize) -> Result<(), DataError> {
    assert!(context > 0, "a window has at least one target");
    let needed = context + 1;
    if tokens < needed {
        return Err(DataError::TooShort {
            split,
            tokens,
            needed,
        });
    }
    Ok(())
}
