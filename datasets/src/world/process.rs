//! Interface of every world: a stochastic process that writes documents, as an automaton with probabilities.

use std::collections::HashMap;
use std::fmt::Debug;

use rand_chacha::ChaCha8Rng;

/// Last symbol of every document, which occurs nowhere else in it.
pub const END: u8 = b'\n';

/// State of a process. The distribution of all later symbols depends on nothing else. Documents are independent, so the
/// state after [`END`] is the [start](Process::start).
pub type State = u64;

/// One possible next symbol, with the state after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Byte in ASCII.
    pub symbol: u8,
    /// Probability of the step, above 0. Those of a state sum to 1.
    pub probability: f64,
    /// State after the symbol.
    pub next: State,
}

/// Expectations for a document.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expected {
    /// Entropy of a document, in bits.
    pub bits: f64,
    /// Mean length of a document, in bytes, its [`END`] included.
    pub bytes: f64,
}

impl Expected {
    /// Returns the entropy of an endless text of documents, in bits per byte: the ratio of the two expectations, by the
    /// renewal theorem.
    pub fn bits_per_byte(&self) -> f64 {
        self.bits / self.bytes
    }
}

/// Stochastic process that writes documents of known probability, in ASCII.
///
/// [`steps`](Self::steps) and [`draw`](Self::draw) describe one distribution. Several steps of a state may have the same
/// symbol, but no text may have two sequences of states: then the entropy of the steps is the entropy of the text.
pub trait Process: Debug + Send + Sync {
    /// Appends a document to `text` and returns `−log₂` of its probability.
    fn draw(&self, rng: &mut ChaCha8Rng, text: &mut String) -> f64;

    /// Computes the exact expectations for a document.
    fn expected(&self) -> Expected;

    /// Returns the symbols that can occur, in order, with [`END`].
    fn alphabet(&self) -> Vec<u8>;

    /// Returns the state at the start of every document.
    fn start(&self) -> State;

    /// Appends the steps that are possible in a state.
    fn steps(&self, state: State, steps: &mut Vec<Step>);

    /// Computes the entropy rate of the process without ends of documents, in bits per symbol; `None` unless the process
    /// is a chain.
    fn endless_rate(&self) -> Option<f64> {
        None
    }

    /// Computes the mean number of times that a document visits each state, in order of the states; `None` if there are
    /// more than `limit` states.
    ///
    /// Divided by the mean length of a document, these are the probabilities of the states at a uniformly random place
    /// of an endless text.
    fn visits(&self, limit: usize) -> Option<Vec<(State, f64)>> {
        let mut visits: HashMap<State, f64> = HashMap::new();
        let mut reached = vec![(self.start(), 1.0)];
        let mut steps = Vec::new();
        while !reached.is_empty() {
            let mut next = Vec::new();
            for (state, probability) in reached {
                *visits.entry(state).or_default() += probability;
                steps.clear();
                self.steps(state, &mut steps);
                let within = steps.iter().filter(|step| step.symbol != END);
                next.extend(within.map(|step| (step.next, probability * step.probability)));
            }
            if visits.len() > limit || next.len() > limit {
                return None;
            }
            merge(&mut next);
            reached = next;
        }
        let mut visits: Vec<_> = visits.into_iter().collect();
        visits.sort_unstable_by_key(|(state, _)| *state);
        Some(visits)
    }
}

/// Sorts by state and adds the weights of equal states.
pub(super) fn merge(weights: &mut Vec<(State, f64)>) {
    weights.sort_unstable_by_key(|(state, _)| *state);
    weights.dedup_by(|later, earlier| {
        let is_equal = later.0 == earlier.0;
        if is_equal {
            earlier.1 += later.1;
        }
        is_equal
    });
}
