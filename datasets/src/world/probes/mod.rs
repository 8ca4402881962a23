//! Items that ask what a world's text teaches: a context, a right answer and wrong ones.
//!
//! Items are drawn from a generator of their own. Whether an answer is right is not decided by the templates that write
//! the items but by the [`Oracle`](super::Oracle): an item that the world can write is kept only if its right answer is
//! possible and more probable than each wrong one. An item that the world cannot write, such as a question about a fact
//! that only its context states, is kept only if the oracle says so, and is labelled [`Coverage::Outside`].

mod grammar;
mod retrieval;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashSet;
use std::fmt;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::draw::below;
use super::{Content, END, Purpose, Size, Stream, World, WorldKind, generator};

/// Draws for each item before a level counts as exhausted.
const TRIES: usize = 200;

/// Ability that items ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Agreement of verb and subject, by the number of words between them.
    Agreement,
    /// Facts of the world, by how often the training text states them.
    Facts,
    /// Sums of one- and two-digit numbers.
    Sums,
    /// Continuation in the register of the document, formal or informal.
    Register,
    /// Copying of a fact that only the context states.
    Recall,
}

impl Family {
    /// All families, in the order of tables.
    pub const ALL: [Self; 5] = [
        Self::Agreement,
        Self::Facts,
        Self::Sums,
        Self::Register,
        Self::Recall,
    ];

    /// Returns the name in experiment files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agreement => "agreement",
            Self::Facts => "facts",
            Self::Sums => "sums",
            Self::Register => "register",
            Self::Recall => "recall",
        }
    }

    /// Returns the families that worlds of a kind have.
    pub fn of(kind: WorldKind) -> &'static [Self] {
        match kind {
            WorldKind::Grammar => &Self::ALL,
            WorldKind::Facts => &[Self::Facts, Self::Recall],
            WorldKind::Markov => &[],
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Relation of an item to the world and to its training text, which says what a right answer is evidence of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coverage {
    /// The world can write the item, and the training text may contain it.
    World,
    /// The world can write the item, and the training text does not contain it.
    Unseen,
    /// The world cannot write the item.
    Outside,
}

/// A question with its answers. No answer is the beginning of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Ability that it asks for.
    pub family: Family,
    /// Difficulty, in words.
    pub level: String,
    /// Relation to the world and to its training text.
    pub coverage: Coverage,
    /// Text before the answer, from the start of a document.
    pub context: String,
    /// The right answer.
    pub right: String,
    /// Wrong answers, at least one.
    pub wrong: Vec<String>,
    /// `−log₂` of the exact probability of the right answer after the context. `None` for [`Coverage::Outside`], where the
    /// world has no distribution.
    pub right_bits: Option<f64>,
    /// Whether each symbol of the right answer is a most probable one under the exact distribution, so that greedy decoding
    /// of a perfect model writes it. `None` for [`Coverage::Outside`].
    pub right_is_greedy: Option<bool>,
    /// Exact probability of the right answer among the answers of the item: the p(right) of a perfect model. `None` for
    /// [`Coverage::Outside`].
    pub right_share: Option<f64>,
}

impl Item {
    /// Returns the share of right answers of a model that has no preference among the answers.
    pub fn chance(&self) -> f64 {
        1.0 / (1 + self.wrong.len()) as f64
    }
}

/// Context and answers of an item.
struct Question {
    context: String,
    right: String,
    wrong: Vec<String>,
}

impl Question {
    /// Returns a question; `None` without wrong answers.
    fn new(context: String, right: String, wrong: Vec<String>) -> Option<Self> {
        (!wrong.is_empty()).then_some(Self {
            context,
            right,
            wrong,
        })
    }

    /// Returns a minimal pair.
    fn pair(context: String, [right, wrong]: [&str; 2]) -> Option<Self> {
        Self::new(context, right.into(), vec![wrong.into()])
    }
}

/// Questions of one difficulty.
struct Level<'w> {
    name: String,
    coverage: Coverage,
    /// Draws a question; `None` if the draw has none.
    draw: Box<Draw<'w>>,
}

type Draw<'w> = dyn Fn(&mut ChaCha8Rng) -> Option<Question> + 'w;

impl<'w> Level<'w> {
    fn new(
        name: impl Into<String>,
        coverage: Coverage,
        draw: impl Fn(&mut ChaCha8Rng) -> Option<Question> + 'w,
    ) -> Self {
        Self {
            name: name.into(),
            coverage,
            draw: Box::new(draw),
        }
    }
}

impl World {
    /// Returns up to `count` different items of a family, as evenly as possible over its levels; none if worlds of this
    /// kind do not have the family. They are a pure function of the world's configuration and the arguments, and those
    /// of a level for a smaller count are the first ones for a larger count.
    ///
    /// For sums, the training text is drawn once more, to know which of them it contains.
    pub fn probe_items(&self, family: Family, count: usize) -> Vec<Item> {
        let levels = match &self.content {
            Content::Grammar(derivations) => grammar::levels(self, derivations.grammar(), family),
            Content::Facts(facts) => retrieval::levels(self, facts, family),
            Content::Markov => Vec::new(),
        };
        let mut items = Vec::with_capacity(count);
        for (number, level) in levels.iter().enumerate() {
            let share = count / levels.len() + usize::from(number < count % levels.len());
            let index = (family as u64) << 32 | number as u64;
            let mut rng = generator(self.config.seed, Purpose::Probes, index);
            let mut known = HashSet::new();
            let first = items.len();
            for _ in 0..share * TRIES {
                if items.len() - first == share {
                    break;
                }
                let Some(question) = (level.draw)(&mut rng) else {
                    continue;
                };
                if known.insert((question.context.clone(), question.right.clone())) {
                    items.extend(self.item(family, level, question));
                }
            }
        }
        items
    }

    /// Returns the item of a question; `None` if the exact distribution disagrees with it.
    fn item(&self, family: Family, level: &Level<'_>, question: Question) -> Option<Item> {
        let mut oracle = self.oracle();
        for symbol in question.context.bytes() {
            oracle.advance(symbol);
        }
        let bits = |answer: &str| -> f64 {
            let mut oracle = oracle.clone();
            -answer
                .bytes()
                .map(|symbol| oracle.advance(symbol))
                .sum::<f64>()
        };
        let is_greedy = |answer: &str| {
            let mut oracle = oracle.clone();
            answer.bytes().all(|symbol| {
                let distribution = oracle.distribution();
                let highest = distribution.iter().copied().fold(0.0, f64::max);
                let is_highest = distribution[usize::from(symbol)] == highest;
                oracle.advance(symbol);
                is_highest
            })
        };
        let (right_bits, right_share) = match level.coverage {
            Coverage::Outside if oracle.is_impossible() => (None, None),
            Coverage::Outside => return None,
            Coverage::World | Coverage::Unseen => {
                let right = bits(&question.right);
                let wrong: Vec<f64> = question.wrong.iter().map(|wrong| bits(wrong)).collect();
                if !right.is_finite() || wrong.iter().any(|wrong| *wrong <= right) {
                    return None;
                }
                // Relative to that of the right answer; 0 for impossible ones.
                let others: f64 = wrong.iter().map(|wrong| (right - wrong).exp2()).sum();
                (Some(right), Some(1.0 / (1.0 + others)))
            }
        };
        Some(Item {
            family,
            level: level.name.clone(),
            coverage: level.coverage,
            right_is_greedy: right_bits.map(|_| is_greedy(&question.right)),
            context: question.context,
            right: question.right,
            wrong: question.wrong,
            right_bits,
            right_share,
        })
    }

    /// Returns the expected number of documents of the training text that begin with a text.
    fn occurrences(&self, start: &str) -> f64 {
        let mut oracle = self.oracle();
        let log2: f64 = start.bytes().map(|symbol| oracle.advance(symbol)).sum();
        log2.exp2() * self.training_documents()
    }

    /// Returns the expected number of training documents.
    fn training_documents(&self) -> f64 {
        match self.config.size(Stream::Train) {
            Size::Documents(documents) => documents as f64,
            Size::Bytes(bytes) => bytes as f64 / self.expected().bytes,
        }
    }

    /// Calls `visit` with each document of the training text, one after the other.
    fn visit_training_text(&self, mut visit: impl FnMut(&str)) {
        let size = self.config.size(Stream::Train);
        let (mut bytes, mut documents) = (0, 0);
        let mut text = String::new();
        while !size.is_reached(bytes, documents) {
            text.clear();
            self.append(Stream::Train, documents, &mut text);
            bytes += text.len();
            documents += 1;
            visit(&text);
        }
    }
}

/// Power of ten of an expected number of occurrences, and its name as a level.
fn decade(occurrences: f64) -> (i32, String) {
    let power = occurrences.log10().floor().max(-1.0) as i32;
    let name = match power {
        ..0 => "less than once".into(),
        _ => {
            let least = 10u64.saturating_pow(power as u32);
            format!("{least} to {} times", least.saturating_mul(10) - 1)
        }
    };
    (power, name)
}

/// Returns a random element.
fn pick<'a, T>(rng: &mut ChaCha8Rng, of: &'a [T]) -> &'a T {
    &of[below(rng, of.len() as u32) as usize]
}

/// Returns up to `count` different random elements other than `right`.
fn others<T: PartialEq + Clone>(rng: &mut ChaCha8Rng, of: &[T], right: &T, count: usize) -> Vec<T> {
    let mut chosen: Vec<T> = Vec::new();
    for _ in 0..TRIES {
        if chosen.len() == count {
            break;
        }
        let other = pick(rng, of);
        if other != right && !chosen.contains(other) {
            chosen.push(other.clone());
        }
    }
    chosen
}

/// Returns a random word of a consonant and a vowel in turn, of the letters that the world writes.
fn invented(rng: &mut ChaCha8Rng, alphabet: &[u8], syllables: usize) -> String {
    let letters = |of: &[u8]| -> Vec<u8> {
        let known = of.iter().filter(|letter| alphabet.contains(letter));
        known.copied().collect()
    };
    let (consonants, vowels) = (letters(b"bdfgklmnprstvz"), letters(b"aeiou"));
    let mut word = String::new();
    for _ in 0..syllables {
        word.extend([&consonants, &vowels].map(|letters| char::from(*pick(rng, letters))));
    }
    word
}
