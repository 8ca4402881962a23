//! Documents of the training text of an experiment, one by one.

use foretoken_datasets::{DocumentIndex, Monitor, Split, Tokenizer};

use crate::Error;
use crate::engine::data::{open, world_corpus};
use crate::experiment::DataSection;

/// The documents of a training text: all of them, even if the experiment is trained on a subset.
pub struct TrainingDocuments {
    /// Tokenizer of the text.
    pub tokenizer: Tokenizer,
    /// Token that ends each document.
    pub border: u32,
    split: Split,
    index: DocumentIndex,
    /// Documents of the index that precede the first one.
    lead: usize,
}

impl TrainingDocuments {
    /// Opens the text of `[data]`, which is one dataset or a world.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no text, or its documents have no borders.
    pub fn load(section: &DataSection, monitor: Monitor<'_>) -> Result<Self, Error> {
        let without_borders = || {
            Error::Experiment {
            origin: "[data]".into(),
            message: "its documents have no borders; build tokens of several documents with foretoken data build".into(),
        }
        };
        if let Some(config) = &section.world {
            let world = world_corpus(section, config)?;
            let documents = world.training_documents()?;
            let (index, lead, border) = documents.ok_or_else(without_borders)?;
            return Ok(Self {
                tokenizer: world.corpus.tokenizer.clone(),
                border,
                split: world.corpus.train,
                index,
                lead,
            });
        }
        let path = section.path.as_ref().ok_or_else(without_borders)?;
        let corpus = open(path, section, monitor)?;
        Ok(Self {
            border: corpus.tokenizer.end_of_text().ok_or_else(without_borders)?,
            index: corpus.training_documents()?,
            tokenizer: corpus.tokenizer,
            split: corpus.train,
            lead: 0,
        })
    }

    /// Returns the number of documents.
    pub fn count(&self) -> usize {
        self.index.documents() - self.lead
    }

    /// Returns the tokens of a document, with the one that ends it, unless it is the last one of a text that ends without.
    ///
    /// # Errors
    ///
    /// Returns an error if tokens cannot be read.
    pub fn ids(&self, document: usize) -> Result<Vec<u32>, Error> {
        let tokens = self.index.tokens(document + self.lead, self.split.tokens());
        Ok(self.split.to_vec(tokens)?)
    }
}
