//! Embedded corpus: a small synthetic world that writes text of exactly known entropy.
//!
//! A world is a probabilistic grammar: sentences that agree in person and number, also across a noun of the other
//! number ("the bird near the foxes is calm"); invented facts, which depend on the seed; one- and two-digit sums; and
//! two registers, one per document. Every draw returns `−log₂ P` of its text, so the floor of any text of a world, in
//! bits per byte, is exact.
//!
//! A model `Q` can still beat the floor on a particular text by luck: because `E[Q/P] ≤ 1`, Markov's inequality bounds
//! the probability of beating it by `k` bits in total by `2⁻ᵏ`.

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

/// Configuration of a world and of the lengths of its texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Seed of the facts and of all documents.
    pub seed: u64,
    /// Minimum number of bytes of training text, which ends with a complete document.
    pub train_bytes: usize,
    /// Minimum number of bytes of validation text, which ends with a complete document.
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

/// Synthetic world from which documents are drawn.
#[derive(Debug)]
pub struct World {
    seed: u64,
    grammar: Grammar,
}

impl World {
    /// Creates the world of a seed. No document is drawn yet.
    pub fn new(config: &WorldConfig) -> Self {
        let seed = config.seed;
        Self {
            seed,
            grammar: lexicon::grammar(&mut generator(seed, Purpose::Facts, 0)),
        }
    }

    /// Returns document `index` of a stream. It is a pure function of the world's seed and the arguments.
    pub fn document(&self, stream: Stream, index: u64) -> Document {
        let purpose = match stream {
            Stream::Train => Purpose::Train,
            Stream::Valid => Purpose::Valid,
        };
        let mut rng = generator(self.seed, purpose, index);
        let (text, bits) = self.grammar.sample(&mut rng);
        Document { text, bits }
    }

    /// Returns the text of the first documents of a stream, of at least `bytes` bytes, and its `−log₂ P` in bits. The
    /// bits divided by the length of the text are the floor in bits per byte.
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

    /// Computes the entropy rate from the grammar: the floor of an endless text in bits per byte.
    pub fn entropy_rate(&self) -> f64 {
        let document = self.grammar.expected();
        document.bits / document.bytes
    }
}

/// Purpose of random numbers. Each purpose has a generator, so that none depends on how many numbers another used.
#[derive(Clone, Copy)]
enum Purpose {
    Facts = 0,
    Train = 1,
    Valid = 2,
}

/// Creates a ChaCha8 generator whose key has everything that its numbers depend on.
fn generator(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
