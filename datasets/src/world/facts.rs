//! World of facts that are asked for with Zipf frequencies, the setting in which scaling exponents have been predicted.

use rand_chacha::ChaCha8Rng;

use super::config::FactsConfig;
use super::draw::{below, below_wide};
use super::process::{END, Expected, Process, State, Step};
use crate::permutation::Permutation;

/// Letters of questions and answers.
const LETTERS: u8 = 26;

/// Bit of a [`State`] within a document of which only one fact is left. Its other bits are the position of the next
/// symbol in [`Facts::text`]. Other states are nodes.
const IN_FACT: State = 1 << 63;

/// World in which each document states one fact, such as `qhx tbae`: a question, a space, its answer, and a newline.
///
/// Fact `i`, from 1, has probability `p_i ∝ i^−(1+a)`, where `a` is the exponent. Questions and answers are random
/// letters, drawn once from the seed; no two questions are equal. The entropy of a document is therefore
/// `−Σ p_i log₂ p_i`, all of it in the question: an answer can be known.
///
/// The probabilities are ratios of integers, so that those reported are those drawn from.
#[derive(Debug)]
pub struct Facts {
    /// All documents, one after the other, the most frequent first.
    text: Vec<u8>,
    /// Bytes of a document.
    stride: usize,
    /// Sum of the weights up to and including each fact.
    ends: Vec<u64>,
    /// Prefix tree of the questions: node 0 is the start of a document. A prefix of a single question has no node.
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

#[derive(Debug)]
struct Node {
    /// Its range of `edges`.
    first: u32,
    end: u32,
    /// Sum of the weights of its facts.
    weight: u64,
}

#[derive(Debug)]
struct Edge {
    symbol: u8,
    /// Sum of the weights of the facts after it.
    weight: u64,
    next: State,
}

impl Facts {
    /// Smallest weight of a fact. So rounding to integers changes no frequency by more than 0.05 %.
    const MIN_WEIGHT: u64 = 1 << 10;

    /// Draws the facts. The error says why the frequencies cannot be represented.
    pub(super) fn new(config: &FactsConfig, rng: &mut ChaCha8Rng) -> Result<Self, String> {
        let ends = weights(config)?;
        let mut letters = 1;
        let mut questions = u64::from(LETTERS);
        while questions < config.facts as u64 {
            questions *= u64::from(LETTERS);
            letters += 1;
        }
        let permutation = Permutation::draw(questions, rng);
        let stride = letters + 1 + config.answer + 1;
        let mut text = Vec::with_capacity(config.facts * stride);
        for fact in 0..config.facts {
            let mut number = permutation.apply(fact as u64);
            for _ in 0..letters {
                text.push(letter((number % u64::from(LETTERS)) as u8));
                number /= u64::from(LETTERS);
            }
            text.push(b' ');
            text.extend((0..config.answer).map(|_| letter(below(rng, LETTERS.into()) as u8)));
            text.push(END);
        }
        let mut facts = Self {
            text,
            stride,
            ends,
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        let mut order: Vec<usize> = (0..config.facts).collect();
        order.sort_unstable_by_key(|fact| facts.document(*fact));
        facts.grow(&order, 0);
        Ok(facts)
    }

    /// Returns the number of facts.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Returns the question, with the space after it, and the answer of a fact, from 0 for the most frequent one.
    pub(super) fn statement(&self, fact: usize) -> (&str, &str) {
        let text = str::from_utf8(self.document(fact)).expect("facts are ASCII");
        let text = text.trim_end_matches(char::from(END));
        text.split_at(text.find(' ').map_or(text.len(), |space| space + 1))
    }

    fn document(&self, fact: usize) -> &[u8] {
        &self.text[fact * self.stride..(fact + 1) * self.stride]
    }

    fn weight(&self, fact: usize) -> u64 {
        let before = fact.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ends[fact] - before
    }

    fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns `−log₂` of the probability of a fact.
    pub(super) fn bits(&self, fact: usize) -> f64 {
        (self.total() as f64 / self.weight(fact) as f64).log2()
    }

    /// Adds the node of facts, in the order of their text, whose first `depth` symbols are equal. Returns its number.
    fn grow(&mut self, facts: &[usize], depth: usize) -> u32 {
        let number = self.nodes.len();
        let symbol = |facts: &Self, fact: usize| facts.text[fact * facts.stride + depth];
        let groups: Vec<&[usize]> = facts
            .chunk_by(|one, other| symbol(self, *one) == symbol(self, *other))
            .collect();
        let first = self.edges.len();
        for group in &groups {
            self.edges.push(Edge {
                symbol: symbol(self, group[0]),
                weight: group.iter().map(|fact| self.weight(*fact)).sum(),
                next: IN_FACT | (group[0] * self.stride + depth + 1) as State,
            });
        }
        let end = self.edges.len();
        self.nodes.push(Node {
            first: first as u32,
            end: end as u32,
            weight: self.edges[first..end].iter().map(|edge| edge.weight).sum(),
        });
        for (edge, group) in (first..end).zip(groups) {
            if group.len() > 1 {
                self.edges[edge].next = self.grow(group, depth + 1).into();
            }
        }
        number as u32
    }
}

/// Returns the sums of the integer weights of the facts: `i^−(1+a)`, scaled to a total of about 2⁶². The powers are those
/// of `libm`, so that they do not depend on the machine.
fn weights(config: &FactsConfig) -> Result<Vec<u64>, String> {
    let power = |rank: usize| libm::pow(rank as f64, -(1.0 + config.exponent));
    // From the smallest, so that the sum has no large rounding error.
    let sum: f64 = (1..=config.facts).rev().map(power).sum();
    let scale = (1u64 << 62) as f64 / sum;
    if scale * power(config.facts) < Facts::MIN_WEIGHT as f64 {
        return Err(format!(
            "is {}, with which the last of {} facts would have a probability below 2^-52; lower it, or lower \
             data.world.facts",
            config.exponent, config.facts
        ));
    }
    let mut end = 0;
    Ok((1..=config.facts)
        .map(|rank| {
            end += (scale * power(rank)).round() as u64;
            end
        })
        .collect())
}

fn letter(number: u8) -> u8 {
    b'a' + number
}

impl Process for Facts {
    fn draw(&self, rng: &mut ChaCha8Rng, text: &mut String) -> f64 {
        let draw = below_wide(rng, self.total());
        let fact = self.ends.partition_point(|end| *end <= draw);
        text.extend(self.document(fact).iter().map(|byte| char::from(*byte)));
        self.bits(fact)
    }

    fn expected(&self) -> Expected {
        let total = self.total() as f64;
        // From the smallest terms to the largest.
        let bits = (0..self.ends.len())
            .rev()
            .map(|fact| self.weight(fact) as f64 / total * self.bits(fact))
            .sum();
        Expected {
            bits,
            bytes: self.stride as f64,
        }
    }

    fn alphabet(&self) -> Vec<u8> {
        let mut alphabet = vec![END, b' '];
        alphabet.extend((0..LETTERS).map(letter));
        alphabet
    }

    fn start(&self) -> State {
        0
    }

    fn steps(&self, state: State, steps: &mut Vec<Step>) {
        if state & IN_FACT != 0 {
            let place = (state ^ IN_FACT) as usize;
            let symbol = self.text[place];
            steps.push(Step {
                symbol,
                probability: 1.0,
                next: if symbol == END { 0 } else { state + 1 },
            });
            return;
        }
        let node = &self.nodes[state as usize];
        let total = node.weight as f64;
        let edges = &self.edges[node.first as usize..node.end as usize];
        steps.extend(edges.iter().map(|edge| Step {
            symbol: edge.symbol,
            probability: edge.weight as f64 / total,
            next: edge.next,
        }));
    }
}
