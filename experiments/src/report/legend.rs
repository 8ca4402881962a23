//! Legends: a sample and a name for each entry, in as many rows as they need.

use super::svg::{text, text_width};

/// Height of a row.
pub(super) const ROW: f64 = 20.0;

/// Width of a sample, with the space beside it.
const SAMPLE: f64 = 32.0;

/// A legend while entries are added.
pub(super) struct Legend {
    body: String,
    width: f64,
    x: f64,
    row: f64,
}

impl Legend {
    /// Creates a legend of this width in pixels.
    pub(super) fn new(width: f64) -> Self {
        Self {
            body: String::new(),
            width,
            x: 0.0,
            row: 0.0,
        }
    }

    /// Adds an entry. `sample` draws from the left edge and the middle of its row.
    pub(super) fn add(&mut self, name: &str, sample: impl FnOnce(&mut String, f64, f64)) {
        let needed = SAMPLE + text_width(name) + 16.0;
        if self.x > 0.0 && self.x + needed > self.width {
            (self.x, self.row) = (0.0, self.row + 1.0);
        }
        let middle = self.row * ROW + 8.0;
        sample(&mut self.body, self.x, middle);
        text(&mut self.body, "name", self.x + SAMPLE, middle + 4.0, name);
        self.x += needed;
    }

    /// Opens or closes a group around entries.
    pub(super) fn push(&mut self, tag: &str) {
        self.body.push_str(tag);
    }

    /// Returns the legend and its number of rows.
    pub(super) fn finish(self) -> (String, f64) {
        (self.body, self.row + 1.0)
    }
}
