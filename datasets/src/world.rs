//! Synthetic worlds: text of exactly known entropy, with the exact distribution of the next symbol.
//!
//! A world is a [`Process`] that writes documents in ASCII, each of which ends with its only newline. There are three
//! [kinds](WorldKind):
//!
//! - `grammar`: a probabilistic grammar, with a lexicon of any size. Sentences agree in person and number, also across a
//!   noun of the other number ("the bird near the foxes is calm"); invented facts depend on the seed; one- and two-digit
//!   sums; and two registers, one per document.
//! - `facts`: facts that are asked for with Zipf frequencies, see [`Facts`].
//! - `markov`: random sparse Markov chains, see [`Markov`].
//!
//! Every draw returns `−log₂ P` of its document, so the floor of any text of a world, in bits per byte, is exact. The
//! [`Oracle`] gives the distribution of each symbol after any prefix.
//!
//! A model `Q` can still beat the floor on a particular text by luck: because `E[Q/P] ≤ 1`, Markov's inequality bounds
//! the probability of beating it by `k` bits in total by `2⁻ᵏ`.

mod config;
mod corpus;
mod derivation;
mod draw;
mod facts;
mod folder;
mod grammar;
mod lexicon;
mod markov;
mod oracle;
mod probes;
mod process;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod tokens;
mod window;

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::DataError;

pub use config::{FactsConfig, LengthLaw, MarkovConfig, Size, WorldConfig, WorldKind};
pub use corpus::{WindowFloor, WorldCorpus};
pub use facts::Facts;
pub use folder::{Parameters, TextDescription, WorldDescription, WorldFolder};
pub use markov::Markov;
pub use oracle::{Oracle, SYMBOLS};
pub use probes::{Coverage, Family, Item};
pub use process::{END, Expected, Process, State, Step};
pub use tokens::TokenOracle;

/// Endless sequence of documents. Different streams are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Documents for training.
    Train,
    /// Documents for evaluation.
    Valid,
}

/// Text of a world, with its information content.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Text in ASCII, so that bytes and characters are the same. Its only newline is at the end.
    pub text: String,
    /// `−log₂` of the probability of the text, including its newline.
    pub bits: f64,
}

/// Documents of a world, one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text {
    /// The documents.
    pub text: String,
    /// `−log₂` of the probability of the documents. Divided by the bytes of the text, it is the floor in bits per byte.
    pub bits: f64,
    /// Number of documents.
    pub documents: u64,
}

/// Synthetic world from which documents are drawn. Clones share everything.
#[derive(Debug, Clone)]
pub struct World {
    config: WorldConfig,
    process: Arc<dyn Process>,
    content: Content,
}

/// Content of a world, from which [items](Item) are made.
#[derive(Debug, Clone)]
enum Content {
    Grammar(Arc<derivation::Derivations>),
    Facts(Arc<Facts>),
    /// Chains have no content besides their probabilities.
    Markov,
}

impl World {
    /// Creates the world of a configuration. No document is drawn yet.
    ///
    /// # Errors
    ///
    /// A key whose value is not valid.
    pub fn new(config: &WorldConfig) -> Result<Self, DataError> {
        let fault = |(key, reason): (&str, String)| DataError::Dataset {
            path: key.into(),
            reason,
        };
        config.validate().map_err(fault)?;
        let seed = config.seed;
        let mut rng = generator(seed, Purpose::Facts, 0);
        let (process, content): (Arc<dyn Process>, Content) = match config.kind {
            WorldKind::Grammar => {
                let mut words = generator(seed, Purpose::Words, 0);
                let grammar = lexicon::grammar(config.scale(), &mut rng, &mut words);
                let derivations = Arc::new(derivation::Derivations::new(grammar));
                (derivations.clone(), Content::Grammar(derivations))
            }
            WorldKind::Facts => {
                let facts = Facts::new(&config.of_facts(), &mut rng)
                    .map_err(|reason| fault(("data.world.exponent", reason)))?;
                let facts = Arc::new(facts);
                (facts.clone(), Content::Facts(facts))
            }
            WorldKind::Markov => {
                let chain = Markov::new(&config.of_chains(), &mut rng);
                (Arc::new(chain), Content::Markov)
            }
        };
        Ok(Self {
            config: config.clone(),
            process,
            content,
        })
    }

    /// Returns the configuration of the world.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// Returns document `index` of a stream. It is a pure function of the world's configuration and the arguments.
    pub fn document(&self, stream: Stream, index: u64) -> Document {
        let mut text = String::new();
        let bits = self.append(stream, index, &mut text);
        Document { text, bits }
    }

    /// Returns the mean number of bytes of a text of this size, which is about the least one if that is given.
    pub fn mean_bytes(&self, size: Size) -> u64 {
        match size {
            Size::Bytes(bytes) => bytes as u64,
            Size::Documents(documents) => (documents as f64 * self.expected().bytes) as u64,
        }
    }

    /// Returns the first documents of a stream.
    pub fn text(&self, stream: Stream, size: Size) -> Text {
        let mut text = Text::default();
        while !size.is_reached(text.text.len(), text.documents) {
            text.bits += self.append(stream, text.documents, &mut text.text);
            text.documents += 1;
        }
        text
    }

    /// Returns the bytes of a document, if all have the same length.
    pub fn document_bytes(&self) -> Option<usize> {
        let is_fixed = match self.config.kind {
            WorldKind::Grammar => false,
            WorldKind::Facts => true,
            WorldKind::Markov => self.config.of_chains().lengths == LengthLaw::Fixed,
        };
        is_fixed.then(|| self.document(Stream::Train, 0).text.len())
    }

    /// Computes the exact expectations for a document.
    pub fn expected(&self) -> Expected {
        self.process.expected()
    }

    /// Computes the entropy rate of the text: the floor of an endless text in bits per byte.
    pub fn entropy_rate(&self) -> f64 {
        self.expected().bits_per_byte()
    }

    /// Returns the exact distribution of the next symbol, at the start of a document.
    pub fn oracle(&self) -> Oracle {
        Oracle::new(self.process.clone())
    }

    /// Returns the process that writes the documents.
    pub fn process(&self) -> &dyn Process {
        &*self.process
    }

    /// Appends document `index` of a stream and returns its bits.
    fn append(&self, stream: Stream, index: u64, text: &mut String) -> f64 {
        let purpose = match stream {
            Stream::Train => Purpose::Train,
            Stream::Valid => Purpose::Valid,
        };
        let mut rng = generator(self.config.seed, purpose, index);
        self.process.draw(&mut rng, text)
    }
}

/// Purpose of random numbers. Each purpose has a generator, so that none depends on how many numbers another used.
#[derive(Clone, Copy)]
enum Purpose {
    Facts = 0,
    Train = 1,
    Valid = 2,
    Words = 3,
    Probes = 4,
}

/// Creates a ChaCha8 generator whose key has everything that its numbers depend on.
fn generator(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
