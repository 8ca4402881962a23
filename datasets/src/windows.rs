//! Which windows of a text are read, and in which order: pure functions, no state, no list of
//! windows in memory.
//!
//! A window is `context + 1` consecutive tokens: the first `context` are inputs, the last `context`
//! targets.
//!
//! Not here: where documents start ([`DocumentIndex`]), and which text a row is read from
//! ([`Mixture`](crate::Mixture)).

#[cfg(test)]
mod tests;
pub(crate) mod window;

use crate::{
    DataError, DocumentIndex,
    documents::DocumentWindows,
    permutation::{Permutation, below, random_of},
};

pub use window::Window;

/// How training goes through a text.
#[derive(Clone, Debug, Default)]
pub enum WindowOrder {
    /// In epochs of windows that do not overlap, see [`Windows`].
    #[default]
    Epoch,
    /// Each window starts anywhere, independently of the others.
    Random,
    /// In epochs of windows that start where a document does, or `context` tokens further on, and
    /// count no target of another document.
    Documents(DocumentIndex),
}

/// The training windows: which one is read at row `row` of step `step`.
///
/// Training is a sequence of rows, `rows` of them per step. A row depends on nothing but (seed,
/// step, row): resuming, or dealing rows to several devices or to micro-batches, cannot change what
/// is read.
///
/// - [`Epoch`](WindowOrder::Epoch): the sequence is cut into epochs. Within an epoch the windows
///   start `context` tokens apart, so no target is read twice, and a permutation keyed by (seed,
///   epoch) puts them in order: each window once. Where the first window starts, from 0 up to
///   `context`, is drawn for each epoch, so that over the epochs every token is met at every place
///   of a window. The price is at most `2 · context` tokens at the ends of the text, other ones each
///   time, that an epoch leaves out.
/// - [`Random`](WindowOrder::Random): each window starts at a place drawn uniformly from all.
/// - [`Documents`](WindowOrder::Documents): epochs too, of windows that count each target of each
///   document once. A document's first input is the end-of-text token before it, so that its first
///   token is a target; its last target is the end-of-text token after it.
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
        /// How many places the first window of an epoch may start at.
        phases: usize,
    },
    Random {
        /// How many places a window may start at.
        places: usize,
    },
    Documents(DocumentWindows),
}

impl Windows {
    /// The windows of a text of `tokens` tokens, for steps of `rows` rows (all micro-batches
    /// together).
    ///
    /// # Errors
    ///
    /// A text shorter than one window; documents of another text.
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
                // The most windows that fit wherever the first one starts, and one where the text
                // is too short for that.
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

    /// Windows in an epoch. A random order has none: there it is how many windows it takes to read
    /// as many targets as the text has.
    pub fn per_epoch(&self) -> usize {
        match &self.order {
            Order::Epoch { windows, .. } => *windows,
            Order::Random { places } => (places + self.context - 1).div_ceil(self.context),
            Order::Documents(documents) => documents.count(),
        }
    }

    /// Rows in a step.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The window at row `row` of step `step`, both counted from 0.
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

    /// The window at `index` of the sequence.
    pub(crate) fn nth(&self, index: u64) -> Window {
        let whole = |offset| Window {
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
                whole(phase + window as usize * self.context)
            }
            Order::Random { places } => {
                let mut random = random_of(b"foretoken/windows/random", self.seed, index);
                whole(below(*places as u64, &mut random) as usize)
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

/// The evaluation windows: fixed ones that count each target of a text (each token but the first)
/// exactly once.
///
/// They start `context` tokens apart, from 0. Where the last one would run over the end it starts
/// earlier, and does not count the targets that the one before it has counted.
#[derive(Clone, Debug)]
pub struct EvaluationWindows {
    targets: usize,
    context: usize,
}

impl EvaluationWindows {
    /// The windows of a text of `tokens` tokens.
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
        Ok(Self {
            targets: tokens - 1,
            context,
        })
    }

    /// How many windows cover the text.
    pub fn count(&self) -> usize {
        self.targets.div_ceil(self.context)
    }

    /// The window at `index`, below [`count`](Self::count), in the order of the text.
    pub fn window(&self, index: usize) -> Window {
        let first_target = index * self.context;
        let offset = first_target.min(self.targets - self.context);
        Window {
            offset,
            counted: first_target - offset..self.context,
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
