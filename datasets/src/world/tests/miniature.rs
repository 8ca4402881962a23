//! Miniature worlds with all of their documents, which tests enumerate.

use std::collections::BTreeMap;

use super::super::derivation::Derivations;
use super::super::markov::Markov;
use super::super::reference::enumerate;
use super::super::*;
use super::miniature;

/// A process, and all of its documents with their probabilities, computed in another way.
pub(super) struct Miniature {
    pub(super) process: Arc<dyn Process>,
    pub(super) documents: BTreeMap<String, f64>,
}

impl Miniature {
    pub(super) fn prefix(&self, prefix: &str) -> f64 {
        let with_prefix = self.documents.iter().filter(|(d, _)| d.starts_with(prefix));
        with_prefix.map(|(_, p)| p).sum()
    }
}

fn grammar() -> Miniature {
    let grammar = miniature();
    Miniature {
        documents: enumerate(&grammar, grammar.rules.len() - 1)
            .into_iter()
            .collect(),
        process: Arc::new(Derivations::new(grammar)),
    }
}

/// 40 facts, of which two questions may begin alike, so that there are two letters. The texts are found by drawing.
fn facts() -> Miniature {
    let config = FactsConfig {
        facts: 40,
        exponent: 0.3,
        answer: 2,
    };
    let facts = Facts::new(&config, &mut generator(3, Purpose::Facts, 0)).unwrap();
    let weights: Vec<f64> = (1..=40).map(|i| f64::from(i).powf(-1.3)).collect();
    let total: f64 = weights.iter().sum();
    let mut documents = BTreeMap::new();
    for index in 0..20_000 {
        let mut text = String::new();
        let bits = facts.draw(&mut generator(3, Purpose::Train, index), &mut text);
        let close = |weight: &&f64| (bits + (*weight / total).log2()).abs() < 1e-9;
        let weight = weights.iter().find(close);
        let weight = weight.unwrap_or_else(|| panic!("no fact has {bits} bits"));
        documents.insert(text, weight / total);
    }
    assert_eq!(documents.len(), 40, "each fact is drawn");
    Miniature {
        process: Arc::new(facts),
        documents,
    }
}

/// Chains of order 2 over 3 symbols, whose documents have 5. The transition probabilities are those that draws of one
/// symbol show by their bits.
fn chain() -> Miniature {
    let config = MarkovConfig {
        symbols: 3,
        order: 2,
        branches: 2,
        length: 5,
        lengths: LengthLaw::Fixed,
    };
    let chain = |length| {
        let config = MarkovConfig { length, ..config };
        Markov::new(&config, &mut generator(5, Purpose::Facts, 0))
    };
    // With length 3, a document is a context and one transition.
    let (short, mut transitions) = (chain(3), BTreeMap::new());
    for index in 0..2000 {
        let mut text = String::new();
        let bits = short.draw(&mut generator(5, Purpose::Train, index), &mut text);
        transitions.insert(text.trim_end().to_owned(), 9.0 * (-bits).exp2());
    }
    assert_eq!(transitions.len(), 9 * 2, "each transition is drawn");
    let mut documents: BTreeMap<String, f64> = transitions
        .keys()
        .map(|text| (text[..2].to_owned(), 1.0 / 9.0))
        .collect();
    for _ in 0..3 {
        let longer = documents.iter().flat_map(|(text, p)| {
            let context = &text[text.len() - 2..];
            let next = transitions
                .iter()
                .filter(move |(t, _)| t.starts_with(context));
            next.map(move |(t, q)| (format!("{text}{}", &t[2..]), p * q))
        });
        documents = longer.collect();
    }
    Miniature {
        process: Arc::new(chain(5)),
        documents: documents
            .into_iter()
            .map(|(text, p)| (text + "\n", p))
            .collect(),
    }
}

/// A chain of order 1 without a choice, whose documents go on with probability 3/4. Documents of more than 300 symbols
/// are left out.
fn geometric() -> Miniature {
    let config = MarkovConfig {
        symbols: 3,
        order: 1,
        branches: 1,
        length: 4,
        lengths: LengthLaw::Geometric,
    };
    let chain = Markov::new(&config, &mut generator(2, Purpose::Facts, 0));
    let mut next = BTreeMap::new();
    for index in 0..200 {
        let mut text = String::new();
        chain.draw(&mut generator(2, Purpose::Train, index), &mut text);
        let text: Vec<char> = text.trim_end().chars().collect();
        next.extend(text.windows(2).map(|pair| (pair[0], pair[1])));
    }
    let mut documents = BTreeMap::new();
    for first in ['a', 'b', 'c'] {
        let (mut text, mut probability, mut last) = (first.to_string(), 1.0 / 3.0, first);
        for _ in 0..300 {
            documents.insert(format!("{text}\n"), probability / 4.0);
            probability *= 0.75;
            last = next[&last];
            text.push(last);
        }
    }
    Miniature {
        process: Arc::new(chain),
        documents,
    }
}

/// Returns a miniature of each kind, and a chain of geometric length.
pub(super) fn miniatures() -> [Miniature; 4] {
    [grammar(), facts(), chain(), geometric()]
}
