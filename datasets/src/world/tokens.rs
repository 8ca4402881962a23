//! Exact distribution of the next token of a world's text.

use std::sync::Arc;

use super::{Oracle, World};
use crate::{DataError, Tokenizer};

/// Exact distribution of the next token after any prefix, for a tokenizer with which every text of the world has one
/// division into tokens: that of bytes or characters, and any other one in which no token that the world can write is
/// the beginning of another.
///
/// The probability of a token is then the product of the probabilities of its symbols. With a byte-pair encoding it is
/// not: the token "t" is next only if the text does not go on as a longer token, so such tokenizers are refused.
#[derive(Debug, Clone)]
pub struct TokenOracle {
    oracle: Oracle,
    vocabulary: Arc<Vocabulary>,
    distribution: Vec<f64>,
    is_current: bool,
}

#[derive(Debug)]
struct Vocabulary {
    /// Bytes of each token, by id; empty if the world cannot write the token.
    tokens: Vec<Vec<u8>>,
    /// Prefix tree of these: edges of each node, from its root 0.
    nodes: Vec<Vec<(u8, Target)>>,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Node(usize),
    Token(u32),
}

impl TokenOracle {
    /// Creates the oracle at the start of a document.
    ///
    /// # Errors
    ///
    /// A tokenizer with which a text has several divisions into tokens, or that changes text.
    pub fn new(world: &World, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        if !tokenizer.is_exact() {
            return Err(unknown("this tokenizer changes text"));
        }
        let ids = 0..tokenizer.vocab_size() as u32;
        let bytes = ids.map(|id| tokenizer.token_bytes(id).to_vec());
        Self::of_tokens(world, bytes.collect())
    }

    /// Creates the oracle of a vocabulary: the bytes of each token by its id, none for a special token. A text is
    /// divided into tokens in the only way in which that is possible.
    ///
    /// # Errors
    ///
    /// Tokens that the world can write, of which one is the beginning of another.
    pub fn of_tokens(world: &World, mut tokens: Vec<Vec<u8>>) -> Result<Self, DataError> {
        let alphabet = world.process().alphabet();
        for token in &mut tokens {
            if token.iter().any(|byte| !alphabet.contains(byte)) {
                token.clear();
            }
        }
        let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
        order.retain(|id| !tokens[*id as usize].is_empty());
        order.sort_by(|a, b| tokens[*a as usize].cmp(&tokens[*b as usize]));
        for pair in order.windows(2) {
            let [one, other] = [pair[0], pair[1]].map(|id| &tokens[id as usize]);
            if other.starts_with(one) {
                let [one, other] = [one, other].map(|bytes| String::from_utf8_lossy(bytes));
                return Err(unknown(&format!(
                    "the token {one:?} is the beginning of {other:?}, so that a text has several divisions into tokens"
                )));
            }
        }
        let mut nodes: Vec<Vec<(u8, Target)>> = vec![Vec::new()];
        for id in order {
            let bytes = &tokens[id as usize];
            let mut node = 0;
            for (place, byte) in bytes.iter().enumerate() {
                let known = nodes[node].iter().find(|(symbol, _)| symbol == byte);
                match known {
                    Some((_, Target::Node(next))) => node = *next,
                    _ if place + 1 == bytes.len() => nodes[node].push((*byte, Target::Token(id))),
                    _ => {
                        let next = nodes.len();
                        nodes[node].push((*byte, Target::Node(next)));
                        nodes.push(Vec::new());
                        node = next;
                    }
                }
            }
        }
        Ok(Self {
            oracle: world.oracle(),
            distribution: vec![0.0; tokens.len()],
            vocabulary: Arc::new(Vocabulary { tokens, nodes }),
            is_current: false,
        })
    }

    /// Goes back to the start of a document.
    pub fn begin(&mut self) {
        self.oracle.begin();
        self.is_current = false;
    }

    /// Returns the probability of each token, by its id, given the prefix so far. They sum to 1, or are all 0 after an
    /// impossible prefix.
    pub fn distribution(&mut self) -> &[f64] {
        if !self.is_current {
            self.distribution.fill(0.0);
            self.vocabulary
                .add(0, 1.0, &mut self.oracle, &mut self.distribution);
            self.is_current = true;
        }
        &self.distribution
    }

    /// Appends a token to the prefix, and returns `log₂` of its probability before that: `−∞` if it is impossible. After
    /// the end of a document the next one begins, also if the prefix was impossible.
    pub fn advance(&mut self, token: u32) -> f64 {
        self.is_current = false;
        match self.vocabulary.tokens.get(token as usize) {
            Some(bytes) if !bytes.is_empty() => {
                bytes.iter().map(|byte| self.oracle.advance(*byte)).sum()
            }
            _ => {
                // No symbol is outside of ASCII.
                self.oracle.advance(u8::MAX)
            }
        }
    }

    /// Returns whether no document begins with the prefix since the last end of one.
    pub fn is_impossible(&self) -> bool {
        self.oracle.is_impossible()
    }
}

fn unknown(reason: &str) -> DataError {
    DataError::Dataset {
        path: "tokenizer".into(),
        reason: format!(
            "the exact distribution of the next token is not known, because {reason}; use a char or byte tokenizer"
        ),
    }
}

impl Vocabulary {
    /// Adds the probabilities of the tokens below a node, given that of the node.
    fn add(&self, node: usize, probability: f64, oracle: &mut Oracle, distribution: &mut [f64]) {
        let symbols = *oracle.distribution();
        for (symbol, target) in &self.nodes[node] {
            let probability = probability * symbols[usize::from(*symbol)];
            match *target {
                _ if probability == 0.0 => {}
                Target::Token(id) => distribution[id as usize] = probability,
                Target::Node(next) => {
                    let mut oracle = oracle.clone();
                    oracle.advance(*symbol);
                    self.add(next, probability, &mut oracle, distribution);
                }
            }
        }
    }
}
