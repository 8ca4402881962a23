//! World of random sparse Markov chains.

use rand_chacha::ChaCha8Rng;

use super::config::{LengthLaw, MarkovConfig};
use super::draw::{below, shuffle};
use super::process::{END, Expected, Process, State, Step};

/// Symbols of the chains, in their order.
const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Largest weight of a transition. All weights from 1 on are equally likely.
const MAX_WEIGHT: u32 = 1000;

/// World whose documents are paths of one Markov chain of order `k` over `V` symbols, drawn from the seed.
///
/// The first `k` symbols of a document are uniform and independent. Each later one follows one of the `b` symbols that
/// are possible after the `k` symbols before it, with probabilities that are ratios of random integers. A document has
/// either exactly `length` symbols, or a geometric number of mean `length`: after its first `k` symbols it ends, before
/// each further symbol, with probability `s = 1/(length − k + 1)`. Its newline is not counted in `length`.
///
/// With `π_t` the distribution of the last `k` symbols after `t` symbols and `h(c)` the entropy of the transitions from
/// `c`, the entropy of a document of fixed length is `k log₂ V + Σ_{t=k}^{length−1} Σ_c π_t(c) h(c)` by the chain rule.
/// The entropy of a geometric one is `k log₂ V + H(s)/s + Σ_{j≥0} (1−s)^{j+1} Σ_c π_{k+j}(c) h(c)`, where `H(s)` is the entropy
/// of one decision to end.
#[derive(Debug)]
pub struct Markov {
    symbols: usize,
    order: usize,
    branches: usize,
    /// Symbols of a document of fixed length; `None` if it is geometric.
    length: Option<usize>,
    /// One over the probability of the end after each symbol from the `order`-th on, if the length is geometric.
    ends_in: u32,
    /// Number of contexts: `symbols^order`.
    contexts: usize,
    /// `branches` transitions from each context. A context is a number in base `symbols`, the oldest symbol first.
    transitions: Vec<Transition>,
}

#[derive(Debug, Clone, Copy)]
struct Transition {
    symbol: u8,
    /// Sum of the weights up to and including this one.
    end: u32,
    probability: f64,
}

impl Markov {
    /// Relative accuracy of sums over states, which are computed by iteration.
    pub const TOLERANCE: f64 = 1e-13;

    /// Draws the chain. The configuration is valid.
    pub(super) fn new(config: &MarkovConfig, rng: &mut ChaCha8Rng) -> Self {
        let contexts = config.symbols.pow(config.order as u32);
        let mut transitions = Vec::with_capacity(contexts * config.branches);
        let mut numbers: Vec<u8> = (0..config.symbols as u8).collect();
        for _ in 0..contexts {
            shuffle(&mut numbers, rng);
            let mut chosen = numbers[..config.branches].to_vec();
            chosen.sort_unstable();
            let first = transitions.len();
            let mut end = 0;
            for symbol in chosen {
                let weight = 1 + below(rng, MAX_WEIGHT);
                end += weight;
                transitions.push(Transition {
                    symbol,
                    end,
                    probability: weight.into(),
                });
            }
            for transition in &mut transitions[first..] {
                transition.probability /= f64::from(end);
            }
        }
        Self {
            symbols: config.symbols,
            order: config.order,
            branches: config.branches,
            length: (config.lengths == LengthLaw::Fixed).then_some(config.length),
            ends_in: (config.length - config.order + 1) as u32,
            contexts,
            transitions,
        }
    }

    /// Computes the entropy rate of the chain, without ends of documents, in bits per symbol: `Σ_c π(c) h(c)`, where `π`
    /// is the limit of the distribution of contexts from the uniform start (Shannon 1948, theorem 5).
    ///
    /// It is computed by power iteration of the lazy chain `(I + T)/2`, which has the same limit and no period, until a
    /// step changes the distribution by less than [`TOLERANCE`](Self::TOLERANCE) in total. `None` if 100 000 steps, or
    /// as many as follow 2^30 transitions, do not reach that.
    fn entropy_rate(&self) -> Option<f64> {
        let entropies = self.entropies();
        let mut distribution = self.uniform();
        let steps = ((1 << 30) / self.transitions.len()).clamp(1, 100_000);
        for _ in 0..steps {
            let mut next = self.moved(&distribution);
            let mut change = 0.0;
            for (next, before) in next.iter_mut().zip(&distribution) {
                *next = 0.5 * (*next + before);
                change += (*next - before).abs();
            }
            distribution = next;
            if change < Self::TOLERANCE {
                return Some(dot(&distribution, &entropies));
            }
        }
        None
    }

    /// Returns the entropy of the transitions from each context, in bits.
    fn entropies(&self) -> Vec<f64> {
        let rows = self.transitions.chunks(self.branches);
        rows.map(|row| {
            row.iter()
                .map(|t| -t.probability * t.probability.log2())
                .sum()
        })
        .collect()
    }

    fn uniform(&self) -> Vec<f64> {
        vec![1.0 / self.contexts as f64; self.contexts]
    }

    /// Returns the distribution of contexts one symbol later.
    fn moved(&self, distribution: &[f64]) -> Vec<f64> {
        let mut moved = vec![0.0; self.contexts];
        let rows = self.transitions.chunks(self.branches);
        for (context, (row, probability)) in rows.zip(distribution).enumerate() {
            for transition in row {
                moved[self.context(context, transition.symbol)] +=
                    probability * transition.probability;
            }
        }
        moved
    }

    /// Returns the context after a symbol.
    fn context(&self, before: usize, symbol: u8) -> usize {
        (before * self.symbols + usize::from(symbol)) % self.contexts
    }

    fn row(&self, context: usize) -> &[Transition] {
        &self.transitions[context * self.branches..(context + 1) * self.branches]
    }

    /// Calls `visit` with the distribution of contexts at each place where a transition follows with a probability that
    /// is not negligible, and with that probability.
    fn places(&self, mut visit: impl FnMut(usize, f64, &[f64])) {
        let mut distribution = self.uniform();
        let mut weight = 1.0;
        for place in 0.. {
            match self.length {
                Some(length) if place == length - self.order => break,
                Some(_) => {}
                None => {
                    weight *= 1.0 - self.end();
                    // The weights after this one sum to weight/s.
                    if weight < Self::TOLERANCE * self.end() {
                        break;
                    }
                }
            }
            visit(place, weight, &distribution);
            distribution = self.moved(&distribution);
        }
    }

    /// Returns the probability of the end after each symbol from the `order`-th on, for a geometric length.
    fn end(&self) -> f64 {
        1.0 / f64::from(self.ends_in)
    }
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// Returns the entropy of a choice of two with these probabilities, in bits.
fn binary_entropy(p: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    term(p) + term(1.0 - p)
}

/// A [`State`] is `t · contexts + c`. `t` is the number of symbols so far; where the length is geometric, it stays at the
/// order. `c` is the context, or the number in base `symbols` of the fewer symbols so far.
impl Process for Markov {
    fn draw(&self, rng: &mut ChaCha8Rng, text: &mut String) -> f64 {
        let mut bits = self.order as f64 * (self.symbols as f64).log2();
        let mut context = 0;
        for _ in 0..self.order {
            let symbol = below(rng, self.symbols as u32) as u8;
            text.push(char::from(ALPHABET[usize::from(symbol)]));
            context = self.context(context, symbol);
        }
        let mut product = 1.0;
        for place in self.order.. {
            match self.length {
                Some(length) if place == length => break,
                Some(_) => {}
                None if below(rng, self.ends_in) == 0 => {
                    product *= self.end();
                    break;
                }
                None => product *= 1.0 - self.end(),
            }
            let row = self.row(context);
            let draw = below(rng, row[row.len() - 1].end);
            let chosen = row.iter().find(|transition| draw < transition.end);
            let chosen = chosen.expect("a draw is below the sum of the weights");
            text.push(char::from(ALPHABET[usize::from(chosen.symbol)]));
            product *= chosen.probability;
            // One logarithm for many factors.
            if product < 1e-200 {
                bits -= product.log2();
                product = 1.0;
            }
            context = self.context(context, chosen.symbol);
        }
        text.push(char::from(END));
        bits - product.log2()
    }

    fn expected(&self) -> Expected {
        let entropies = self.entropies();
        let mut bits = self.order as f64 * (self.symbols as f64).log2();
        self.places(|_, weight, contexts| bits += weight * dot(contexts, &entropies));
        let length = match self.length {
            Some(length) => length as f64,
            None => {
                bits += binary_entropy(self.end()) / self.end();
                self.order as f64 + f64::from(self.ends_in - 1)
            }
        };
        Expected {
            bits,
            bytes: length + 1.0,
        }
    }

    fn alphabet(&self) -> Vec<u8> {
        let mut alphabet = ALPHABET[..self.symbols].to_vec();
        alphabet.push(END);
        alphabet.sort_unstable();
        alphabet
    }

    fn endless_rate(&self) -> Option<f64> {
        self.entropy_rate()
    }

    fn start(&self) -> State {
        0
    }

    fn steps(&self, state: State, steps: &mut Vec<Step>) {
        let (place, context) = (
            state as usize / self.contexts,
            state as usize % self.contexts,
        );
        let end = match self.length {
            Some(length) => f64::from(place == length),
            None if place == self.order => self.end(),
            None => 0.0,
        };
        if end > 0.0 {
            steps.push(Step {
                symbol: END,
                probability: end,
                next: 0,
            });
        }
        if end == 1.0 {
            return;
        }
        let next = |symbol: u8| {
            let place = match self.length {
                Some(_) => place + 1,
                None => (place + 1).min(self.order),
            };
            (place * self.contexts + self.context(context, symbol)) as State
        };
        if place < self.order {
            steps.extend((0..self.symbols as u8).map(|symbol| Step {
                symbol: ALPHABET[usize::from(symbol)],
                probability: 1.0 / self.symbols as f64,
                next: next(symbol),
            }));
        } else {
            steps.extend(self.row(context).iter().map(|transition| Step {
                symbol: ALPHABET[usize::from(transition.symbol)],
                probability: (1.0 - end) * transition.probability,
                next: next(transition.symbol),
            }));
        }
    }

    fn visits(&self, limit: usize) -> Option<Vec<(State, f64)>> {
        let places = self.length.map_or(1, |length| length + 1 - self.order);
        if places.saturating_mul(self.contexts) > limit {
            return None;
        }
        let mut visits = Vec::new();
        let mut prefixes = 1;
        for place in 0..self.order {
            let states = (0..prefixes).map(|code| (place * self.contexts + code) as State);
            visits.extend(states.map(|state| (state, 1.0 / prefixes as f64)));
            prefixes *= self.symbols;
        }
        // Visits of the places from the `order`-th on: one row for each place, or one for all if the length is geometric.
        let mut rows = vec![0.0; places * self.contexts];
        let last = match self.length {
            Some(_) => {
                let mut last = self.uniform();
                self.places(|place, _, contexts| {
                    rows[place * self.contexts..][..self.contexts].copy_from_slice(contexts);
                    last = self.moved(contexts);
                });
                Some(last)
            }
            None => {
                // The end is decided before the transition, so that a place has 1/(1−s) times its weight.
                self.places(|_, weight, contexts| {
                    for (row, probability) in rows.iter_mut().zip(contexts) {
                        *row += weight / (1.0 - self.end()) * probability;
                    }
                });
                None
            }
        };
        if let Some(last) = last {
            let first = (places - 1) * self.contexts;
            rows[first..].copy_from_slice(&last);
        }
        let states = (0..rows.len()).map(|row| (self.order * self.contexts + row) as State);
        visits.extend(states.zip(rows).filter(|(_, visits)| *visits > 0.0));
        Some(visits)
    }
}
