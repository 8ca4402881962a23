//! Distributions of the next token of growing texts, by a model and by an oracle.

use foretoken_datasets::world::TokenOracle;
use foretoken_model::{BatchReader, Transformer};

use super::divergence::log_softmax;
use crate::Error;

/// Logits of the next token after each text of a batch, which grow by one token between two calls.
pub(super) trait Predictor {
    /// Begins with other texts.
    fn begin(&mut self);

    /// Returns the logits after each text, given that at most `remaining` calls follow, this one included. Those of texts
    /// that are not `running` mean nothing.
    fn next_logits(
        &mut self,
        texts: &[Vec<u32>],
        running: &[bool],
        remaining: usize,
    ) -> Result<Vec<Vec<f32>>, Error>;
}

/// A distribution that a model is compared with.
pub(super) trait Oracle {
    /// Begins with other texts.
    fn begin(&mut self);

    /// Returns the probability of each token after each text; `None` if the text is impossible, or not running.
    fn next(
        &mut self,
        texts: &[Vec<u32>],
        running: &[bool],
        remaining: usize,
    ) -> Result<Vec<Option<Vec<f64>>>, Error>;
}

/// A model with the keys and values of what it has read.
pub(super) struct Model<'m> {
    model: &'m Transformer,
    reader: BatchReader<'m>,
}

impl<'m> Model<'m> {
    pub(super) fn new(model: &'m Transformer) -> Self {
        Self {
            model,
            reader: BatchReader::new(model),
        }
    }
}

impl Predictor for Model<'_> {
    fn begin(&mut self) {
        self.reader = BatchReader::new(self.model);
    }

    fn next_logits(
        &mut self,
        texts: &[Vec<u32>],
        running: &[bool],
        remaining: usize,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let logits = self.reader.next_logits(texts, running, remaining)?;
        for (logits, _) in logits.iter().zip(running).filter(|(_, running)| **running) {
            if logits.iter().any(|logit| !logit.is_finite()) {
                return Err(Error::Evaluation(
                    "a prediction of the model is not finite; its weights may be damaged, or the precision of the backend \
                     too low"
                        .into(),
                ));
            }
        }
        Ok(logits)
    }
}

/// The exact distribution of a world's text. Texts begin at the end of a document.
pub(super) struct Exact {
    start: TokenOracle,
    /// The oracle of each text, and the number of tokens that it has read.
    texts: Vec<(TokenOracle, usize)>,
}

impl Exact {
    /// Takes an oracle at the start of a document.
    pub(super) fn new(start: TokenOracle) -> Self {
        Self {
            start,
            texts: Vec::new(),
        }
    }
}

impl Oracle for Exact {
    fn begin(&mut self) {
        self.texts.clear();
    }

    fn next(
        &mut self,
        texts: &[Vec<u32>],
        running: &[bool],
        _remaining: usize,
    ) -> Result<Vec<Option<Vec<f64>>>, Error> {
        self.texts
            .resize_with(texts.len(), || (self.start.clone(), 0));
        let states = self.texts.iter_mut().zip(texts).zip(running);
        let next = states.map(|(((oracle, read), text), running)| {
            for token in &text[*read..] {
                oracle.advance(*token);
            }
            *read = text.len();
            let is_possible = *running && !oracle.is_impossible();
            is_possible.then(|| oracle.distribution().to_vec())
        });
        Ok(next.collect())
    }
}

/// A model in the place of an oracle, for text whose distribution is not known.
pub(super) struct ModelOracle<P>(pub(super) P);

impl<P: Predictor> Oracle for ModelOracle<P> {
    fn begin(&mut self) {
        self.0.begin();
    }

    fn next(
        &mut self,
        texts: &[Vec<u32>],
        running: &[bool],
        remaining: usize,
    ) -> Result<Vec<Option<Vec<f64>>>, Error> {
        let logits = self.0.next_logits(texts, running, remaining)?;
        let rows = logits.iter().zip(running);
        let probabilities =
            |logits: &[f32]| log_softmax(logits).into_iter().map(f64::exp).collect();
        Ok(rows
            .map(|(logits, running)| running.then(|| probabilities(logits)))
            .collect())
    }
}
