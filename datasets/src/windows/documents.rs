//! Windows that keep to one document each.

#[cfg(test)]
mod tests;

use std::{ops::Range, sync::Arc};

use super::window::Window;
use crate::{DataError, DocumentIndex};

/// Documents per entry of the table of [`DocumentWindows`].
const STRIDE: usize = 1024;

/// The windows of all documents, numbered in the order of the text.
#[derive(Clone, Debug)]
pub(super) struct DocumentWindows {
    index: DocumentIndex,
    tokens: usize,
    context: usize,
    /// Whether the last windows reach past the end of the text, instead of starting earlier.
    reach_past_end: bool,
    count: usize,
    /// Number of windows before every `STRIDE`-th document.
    before: Arc<[usize]>,
}

impl DocumentWindows {
    /// Cuts the documents of a text of `tokens` tokens, more than `context`, into windows.
    pub(super) fn new(
        index: &DocumentIndex,
        tokens: usize,
        context: usize,
    ) -> Result<Self, DataError> {
        let documents = index.documents();
        if documents > 0 && index.start(documents - 1) > tokens {
            return Err(index.mismatch(format!(
                "the last document starts at token {}, but the text has {tokens} tokens: build the index of this text",
                index.start(documents - 1)
            )));
        }
        let mut windows = Self {
            index: index.clone(),
            tokens,
            context,
            reach_past_end: false,
            count: 0,
            before: Arc::new([]),
        };
        let mut before = Vec::with_capacity(documents.div_ceil(STRIDE));
        for document in 0..documents {
            if document % STRIDE == 0 {
                before.push(windows.count);
            }
            windows.count += windows.targets(document).len().div_ceil(context);
        }
        if windows.count == 0 {
            return Err(index.mismatch(
                "no document has a token to predict: give documents, or read the text in another order"
                    .into(),
            ));
        }
        windows.before = before.into();
        Ok(windows)
    }

    /// Lets the last windows reach past the end of the text, where they are padded. So every window starts at the start
    /// of its document, or a multiple of `context` tokens after it.
    pub(super) fn reaching_past_end(self) -> Self {
        Self {
            reach_past_end: true,
            ..self
        }
    }

    /// Number of windows.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the number of targets of all documents.
    pub(super) fn targets_of_all(&self) -> usize {
        match self.index.documents() {
            0 => 0,
            // The documents follow each other without gaps.
            _ => self.tokens.saturating_sub(self.targets(0).start),
        }
    }

    /// Returns the window at `number`, below [`count`](Self::count).
    pub(super) fn window(&self, number: usize) -> Window {
        let block = self.before.partition_point(|&before| before <= number) - 1;
        let mut document = block * STRIDE;
        let mut part = number - self.before[block];
        let targets = loop {
            let targets = self.targets(document);
            let windows = targets.len().div_ceil(self.context);
            if part < windows {
                break targets;
            }
            part -= windows;
            document += 1;
        };
        let first = targets.start + part * self.context;
        let counted = self.context.min(targets.end - first);
        // A window that would extend past the end of the text starts earlier.
        let offset = match self.reach_past_end {
            true => first - 1,
            false => (first - 1).min(self.tokens - self.context - 1),
        };
        let skip = first - 1 - offset;
        Window {
            offset,
            counted: skip..skip + counted,
        }
    }

    /// Returns the tokens that are targets of a document. The first token of a text is never a target.
    fn targets(&self, document: usize) -> Range<usize> {
        let start = self.index.start(document).max(1);
        let next = document + 1;
        let end = match next < self.index.documents() {
            true => self.index.start(next),
            false => self.tokens,
        };
        start..end
    }
}
