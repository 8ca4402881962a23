//! The embedded corpus: a small synthetic world whose entropy is known exactly.
//!
//! A world is a probabilistic grammar: sentences that agree in person and number, also across a noun of
//! the other number ("the bird near the foxes is calm"); a table of invented facts, decided by the
//! seed; one- and two-digit sums; and two registers, one per document. Every draw returns `−log₂ P`
//! of its text, so that the floor of any text drawn from a world, in bits per byte, is exact.
//!
//! A model `Q` can still do better than the floor on one particular text, by luck: as `E[Q/P] ≤ 1`,
//! Markov's inequality bounds the probability that it does so by `k` bits in all by `2⁻ᵏ`.
//!
//! Not here: tokens and windows. A world only writes text.

mod grammar;
mod lexicon;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use grammar::Grammar;

/// Which world, and how much of its text to draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Decides the facts, and every document.
    pub seed: u64,
    /// Least number of bytes of training text; the document that reaches it is finished.
    pub train_bytes: usize,
    /// The same for the validation text.
    pub valid_bytes: usize,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            train_bytes: 2_000_000,
            valid_bytes: 32_768,
        }
    }
}

/// An endless sequence of documents. Those of different streams are drawn independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// What models are trained on.
    Train,
    /// What they are evaluated on.
    Valid,
}

/// A text, and what it costs a reader who knows the world perfectly.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// ASCII, so that bytes and characters are the same. Ends in the only newline it has.
    pub text: String,
    /// `−log₂` of the probability of the text, its newline included.
    pub bits: f64,
}

/// A world to draw documents from.
#[derive(Debug)]
pub struct World {
    seed: u64,
    grammar: Grammar,
}

impl World {
    /// The world of a seed. Nothing is drawn yet.
    pub fn new(config: &WorldConfig) -> Self {
        let seed = config.seed;
        Self {
            seed,
            grammar: lexicon::grammar(&mut generator(seed, Purpose::Facts, 0)),
        }
    }

    /// Document `index` of a stream: a pure function of the world's seed and the arguments.
    pub fn document(&self, stream: Stream, index: u64) -> Document {
        let purpose = match stream {
            Stream::Train => Purpose::Train,
            Stream::Valid => Purpose::Valid,
        };
        let mut rng = generator(self.seed, purpose, index);
        let (text, bits) = self.grammar.sample(&mut rng);
        Document { text, bits }
    }

    /// The first documents of a stream, as many as it takes to reach `bytes`: their text, and its
    /// `−log₂ P` in bits. Divided by the length of the text, that is the floor in bits per byte.
    pub fn text(&self, stream: Stream, bytes: usize) -> (String, f64) {
        let mut text = String::with_capacity(bytes + 128);
        let mut bits = 0.0;
        for index in 0.. {
            if text.len() >= bytes {
                break;
            }
            let document = self.document(stream, index);
            text.push_str(&document.text);
            bits += document.bits;
        }
        (text, bits)
    }

    /// Entropy rate in bits per byte: the floor of an endless text, computed from the grammar.
    pub fn entropy_rate(&self) -> f64 {
        let document = self.grammar.expected();
        document.bits / document.bytes
    }
}

/// What random numbers are for. Each purpose has its own, so that none depends on how many another used.
#[derive(Clone, Copy)]
enum Purpose {
    Facts = 0,
    Train = 1,
    Valid = 2,
}

/// ChaCha8 keyed by all that its numbers depend on.
fn generator(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
