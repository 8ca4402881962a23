//! Exact distribution of the next symbol of a world's text, symbol by symbol.

use std::sync::Arc;

use super::process::{END, Process, State, Step, merge};

/// Number of ASCII characters: symbols are below it.
pub const SYMBOLS: usize = 128;

/// Exact distribution of the next symbol after every prefix of a document.
///
/// It is a Bayesian filter: a belief over the states of the process that the prefix allows, which is a single state for
/// facts and chains. A step costs as much as the belief has steps, whatever the length of the prefix. Clones are
/// independent.
///
/// ```
/// use foretoken_datasets::world::{END, World, WorldConfig};
///
/// let world = World::new(&WorldConfig::default())?;
/// let mut oracle = world.oracle();
/// let bits: f64 = "You are calm. I am tired.\n".bytes().map(|symbol| -oracle.advance(symbol)).sum();
/// assert!(bits.is_finite() && bits > 0.0);
/// // The newline ended the document, so the next one begins here.
/// assert_eq!(oracle.advance(b'?'), f64::NEG_INFINITY);
/// assert!(oracle.is_impossible());
/// # Ok::<(), foretoken_datasets::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Oracle {
    process: Arc<dyn Process>,
    /// Probabilities of the states, which sum to 1; empty after an impossible prefix.
    belief: Vec<(State, f64)>,
    /// The belief's steps, each with its probability given the prefix. Valid if `is_current`.
    steps: Vec<Step>,
    /// Sums of the steps by symbol. Valid if `is_current`.
    distribution: [f64; SYMBOLS],
    is_current: bool,
}

impl Oracle {
    pub(super) fn new(process: Arc<dyn Process>) -> Self {
        let belief = vec![(process.start(), 1.0)];
        Self {
            process,
            belief,
            steps: Vec::new(),
            distribution: [0.0; SYMBOLS],
            is_current: false,
        }
    }

    /// Goes back to the start of a document.
    pub fn begin(&mut self) {
        self.believe(&[(self.process.start(), 1.0)]);
    }

    /// Sets the probabilities of the states, which sum to 1.
    pub(super) fn believe(&mut self, belief: &[(State, f64)]) {
        self.belief.clear();
        self.belief.extend_from_slice(belief);
        self.is_current = false;
    }

    /// Returns the probability of each symbol, by its byte, given the prefix so far. [`END`] is the end of the document.
    /// They sum to 1, or are all 0 after an impossible prefix.
    pub fn distribution(&mut self) -> &[f64; SYMBOLS] {
        self.update();
        &self.distribution
    }

    /// Returns the entropy of the next symbol given the prefix so far, in bits.
    pub fn entropy(&mut self) -> f64 {
        let possible = self.distribution().iter().filter(|p| **p > 0.0);
        -possible.map(|p| p * p.log2()).sum::<f64>()
    }

    /// Returns `log₂` of the probability of a symbol given the prefix so far: `−∞` if it is impossible.
    pub fn log2(&mut self, symbol: u8) -> f64 {
        let probability = self.distribution().get(usize::from(symbol));
        probability.copied().unwrap_or(0.0).log2()
    }

    /// Appends a symbol to the prefix, and returns its [`log2`](Self::log2) before that. After [`END`] the next document
    /// begins, also if the prefix was impossible.
    pub fn advance(&mut self, symbol: u8) -> f64 {
        let log2 = self.log2(symbol);
        if symbol == END {
            self.begin();
            return log2;
        }
        self.belief.clear();
        if log2.is_finite() {
            let probability = self.distribution[usize::from(symbol)];
            let taken = self.steps.iter().filter(|step| step.symbol == symbol);
            self.belief
                .extend(taken.map(|step| (step.next, step.probability / probability)));
            if self.belief.len() > 1 {
                merge(&mut self.belief);
            }
        }
        self.is_current = false;
        log2
    }

    /// Returns whether no document begins with the prefix since the last [`END`].
    pub fn is_impossible(&self) -> bool {
        self.belief.is_empty()
    }

    fn update(&mut self) {
        if self.is_current {
            return;
        }
        for step in &self.steps {
            self.distribution[usize::from(step.symbol)] = 0.0;
        }
        self.steps.clear();
        for &(state, weight) in &self.belief {
            let first = self.steps.len();
            self.process.steps(state, &mut self.steps);
            for step in &mut self.steps[first..] {
                step.probability *= weight;
                self.distribution[usize::from(step.symbol)] += step.probability;
            }
        }
        self.is_current = true;
    }
}
