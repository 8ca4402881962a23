//! Training and validation tokens of a world, with the floor of the loss.

use serde::Serialize;

use super::window::bits_in_windows;
use super::{END, Stream, Text, World};
use crate::windows::EvaluationWindows;
use crate::{Corpus, DataError, DocumentIndex, Subset, TokenizerSpec};

/// Tokens of a world, and what is known about them.
#[derive(Debug, Clone)]
pub struct WorldCorpus {
    /// Tokens of both streams.
    pub corpus: Corpus,
    /// The world.
    pub world: World,
    /// Documents of the validation text.
    pub valid: Text,
    /// Starts of the validation documents; `None` unless windows keep to one document each.
    pub valid_documents: Option<DocumentIndex>,
}

/// The floor of the loss for a model that sees only the windows on which it is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WindowFloor {
    /// Bits per byte of the best predictor of these windows; `None` if it is not known.
    pub bits_per_byte: Option<f64>,
    /// Share of the targets whose document begins before their window. If it is 0, the entropy of the text can be
    /// reached.
    pub cut: f64,
}

impl WorldCorpus {
    /// Draws and encodes the documents of a world. If `by_document`, a newline is put before the first document of each
    /// stream, as the end of the one before it, so that windows of documents read every document in the same way.
    ///
    /// # Errors
    ///
    /// A tokenizer that cannot be loaded or trained, and, if `by_document`, one that joins newlines with other text.
    pub fn new(world: World, spec: &TokenizerSpec, by_document: bool) -> Result<Self, DataError> {
        let [train, valid] = [Stream::Train, Stream::Valid]
            .map(|stream| world.text(stream, world.config().size(stream)));
        if !by_document {
            return Ok(Self {
                corpus: Corpus::from_text(&train.text, &valid.text, spec)?,
                world,
                valid,
                valid_documents: None,
            });
        }
        let after_newline = |text: &Text| format!("{}{}", char::from(END), text.text);
        let corpus = Corpus::from_text(&after_newline(&train), &after_newline(&valid), spec)?;
        let border = match corpus.tokenizer.encode("\n")?[..] {
            [border] => border,
            _ => return Err(joined("data.windows")),
        };
        let corpus = corpus.with_border(border);
        let valid_documents = corpus.validation_documents()?;
        // The first newline is a document too.
        let starts = [corpus.training_documents()?, valid_documents.clone()];
        for (starts, text) in starts.iter().zip([&train, &valid]) {
            if starts.documents() as u64 != text.documents + 1 {
                return Err(joined("data.windows"));
            }
        }
        Ok(Self {
            corpus,
            world,
            valid,
            valid_documents: Some(valid_documents),
        })
    }

    /// Returns the entropy of the validation text in bits per byte: `−log₂ P` over its length.
    pub fn floor(&self) -> f64 {
        self.valid.bits / self.valid.text.len() as f64
    }

    /// Returns the token that ends each document; `None` if the tokenizer joins newlines with other text.
    ///
    /// # Errors
    ///
    /// Tokens that cannot be read.
    pub fn end(&self) -> Result<Option<u32>, DataError> {
        let [end] = self.corpus.tokenizer.encode("\n")?[..] else {
            return Ok(None);
        };
        let split = &self.corpus.valid;
        let ids = split.to_vec(0..split.tokens())?;
        let ends = ids.iter().filter(|id| **id == end).count();
        let before_first = usize::from(self.valid_documents.is_some());
        Ok((ends as u64 == self.valid.documents + before_first as u64).then_some(end))
    }

    /// Returns the index of the training documents, the number of its entries before the first document, and the token that
    /// ends each document; `None` if the tokenizer joins newlines with other text.
    ///
    /// # Errors
    ///
    /// Tokens that cannot be read.
    pub fn training_documents(&self) -> Result<Option<(DocumentIndex, usize, u32)>, DataError> {
        let Some(end) = self.end()? else {
            return Ok(None);
        };
        let index = DocumentIndex::scan(&self.corpus.train, end)?;
        Ok(Some((
            index,
            usize::from(self.valid_documents.is_some()),
            end,
        )))
    }

    /// Returns the corpus with a subset of the training documents. Tokenizer and validation text do not change.
    ///
    /// # Errors
    ///
    /// A tokenizer that joins newlines with other text, and a subset without documents.
    pub fn subset(self, subset: Subset) -> Result<Self, DataError> {
        let (index, lead, _) = self
            .training_documents()?
            .ok_or_else(|| joined("data.subset"))?;
        Ok(Self {
            corpus: self.corpus.subset_of(&index, lead, subset)?,
            ..self
        })
    }

    /// Returns the windows of an evaluation.
    ///
    /// # Errors
    ///
    /// A validation text shorter than a window.
    pub fn evaluation_windows(&self, context: usize) -> Result<EvaluationWindows, DataError> {
        let tokens = self.corpus.valid.tokens();
        match &self.valid_documents {
            Some(documents) => EvaluationWindows::of_documents(documents, tokens, context),
            None => EvaluationWindows::new(tokens, context),
        }
    }

    /// Computes the floor for a model that sees only the windows of an evaluation.
    ///
    /// It is the entropy of the text if every window shows the beginning of its documents. Otherwise it is known for cut
    /// windows of single symbols, by [Bayesian prediction](super::Process::visits) from a random place of the text, unless
    /// that would take too long.
    ///
    /// # Errors
    ///
    /// A validation text shorter than a window.
    pub fn window_floor(&self, context: usize) -> Result<WindowFloor, DataError> {
        self.floor_of(&self.evaluation_windows(context)?, context)
    }

    /// Does what [`window_floor`](Self::window_floor) does, for windows that cut the text every `context` tokens.
    ///
    /// # Errors
    ///
    /// A validation text shorter than a window.
    pub fn window_floor_of_stream(&self, context: usize) -> Result<WindowFloor, DataError> {
        let windows = EvaluationWindows::new(self.corpus.valid.tokens(), context)?;
        self.floor_of(&windows, context)
    }

    fn floor_of(
        &self,
        windows: &EvaluationWindows,
        context: usize,
    ) -> Result<WindowFloor, DataError> {
        let split = &self.corpus.valid;
        let ids = split.to_vec(0..split.tokens())?;
        let ends: Vec<bool> = ids
            .iter()
            .map(|id| self.corpus.tokenizer.token_bytes(*id).contains(&END))
            .collect();
        let (mut cut, mut targets) = (0, 0);
        for index in 0..windows.count() {
            let window = windows.window(index);
            let mut inputs = ends[window.offset..].iter().take(context);
            let shown = inputs.position(|ends| *ends).unwrap_or(context);
            cut += shown.clamp(window.counted.start, window.counted.end) - window.counted.start;
            targets += window.counted.len();
        }
        let symbols = ids.iter().map(|id| self.corpus.tokenizer.token_bytes(*id));
        let symbols: Option<Vec<u8>> = symbols
            .map(|bytes| match bytes {
                [symbol] => Some(*symbol),
                _ => None,
            })
            .collect();
        let bits_per_byte = match symbols {
            _ if cut == 0 => Some(self.floor()),
            Some(symbols) if !windows.are_of_documents() => {
                let bits = bits_in_windows(&self.world.process, &symbols, windows);
                bits.map(|bits| bits / targets as f64)
            }
            _ => None,
        };
        Ok(WindowFloor {
            bits_per_byte,
            cut: cut as f64 / targets as f64,
        })
    }
}

fn joined(key: &str) -> DataError {
    DataError::Dataset {
        path: key.into(),
        reason: "this tokenizer joins the newline that ends a document with other text, so the documents have no \
                 borders: remove the key, or use a char or byte tokenizer"
            .into(),
    }
}
