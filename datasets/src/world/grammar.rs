//! Probabilistic context-free grammars as data, a sampler that returns `−log₂ P` of its text, and exact expectations.
//! The rules of the world are in `lexicon`.

use rand_chacha::rand_core::RngCore;

use super::draw::below;
use super::process::Expected;

/// Grammar whose rules refer only to *earlier* rules. So derivations end, and every expectation is one pass over the
/// rules. The last rule is the start symbol.
#[derive(Debug, Default)]
pub(super) struct Grammar {
    pub(super) rules: Vec<Rule>,
}

/// Nonterminal. One of its alternatives is drawn in proportion to the weights.
#[derive(Debug)]
pub(super) struct Rule {
    name: String,
    pub(super) alternatives: Vec<Alternative>,
    /// Sum of the weights.
    pub(super) total: u32,
    /// Sum of the weights up to and including each alternative.
    ends: Vec<u32>,
}

/// Right-hand side of a rule: a sequence of parts, and its weight relative to the other alternatives.
#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) weight: u32,
    pub(super) parts: Vec<Part>,
}

/// Terminal, or reference to a rule by index.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Literal(String),
    Rule(usize),
}

impl Grammar {
    /// Adds a rule from `(weight, template)` pairs. `{name}` in a template refers to an earlier rule.
    ///
    /// # Panics
    ///
    /// On an unknown or repeated name, an unclosed brace, a weight of zero and a rule without alternatives. These are
    /// mistakes in the lexicon, which no input can cause.
    pub(super) fn rule<T: AsRef<str>>(
        &mut self,
        name: &str,
        alternatives: impl IntoIterator<Item = (u32, T)>,
    ) {
        assert!(self.find(name).is_none(), "two rules are named `{name}`");
        let alternatives: Vec<Alternative> = alternatives
            .into_iter()
            .map(|(weight, template)| {
                assert!(weight > 0, "`{name}` has an alternative of weight zero");
                let parts = self.parts(template.as_ref());
                Alternative { weight, parts }
            })
            .collect();
        assert!(!alternatives.is_empty(), "`{name}` has no alternatives");
        let mut total = 0;
        let ends = alternatives.iter().map(|alternative| {
            total += alternative.weight;
            total
        });
        let ends: Vec<u32> = ends.collect();
        self.rules.push(Rule {
            name: name.to_owned(),
            total,
            ends,
            alternatives,
        });
    }

    /// Draws a derivation of the start symbol, appends its text, and returns `−log₂` of its probability.
    pub(super) fn sample(&self, rng: &mut impl RngCore, text: &mut String) -> f64 {
        self.expand(self.rules.len() - 1, rng, text)
    }

    /// Computes the expectations for the texts of the start symbol. The entropy is that of the derivation. It is that of
    /// the *text* if no text has two derivations, and otherwise an upper bound of it.
    pub(super) fn expected(&self) -> Expected {
        let mut expected: Vec<Expected> = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let mut sum = Expected::default();
            for alternative in &rule.alternatives {
                let probability = f64::from(alternative.weight) / f64::from(rule.total);
                sum.bits += probability * rule.bits(alternative);
                for part in &alternative.parts {
                    let part = match part {
                        Part::Literal(literal) => Expected {
                            bits: 0.0,
                            bytes: literal.len() as f64,
                        },
                        Part::Rule(index) => expected[*index],
                    };
                    sum.bits += probability * part.bits;
                    sum.bytes += probability * part.bytes;
                }
            }
            expected.push(sum);
        }
        expected.last().copied().unwrap_or_default()
    }

    /// Returns the texts of a rule that refers to no other, in their order; none for an unknown name.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        let rule = self.find(name).map(|index| &self.rules[index]);
        let alternatives = rule.into_iter().flat_map(|rule| &rule.alternatives);
        alternatives
            .filter_map(|alternative| match &alternative.parts[..] {
                [Part::Literal(text)] => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    fn expand(&self, index: usize, rng: &mut impl RngCore, text: &mut String) -> f64 {
        let rule = &self.rules[index];
        let alternative = rule.choose(below(rng, rule.total));
        let mut bits = rule.bits(alternative);
        for part in &alternative.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Rule(index) => bits += self.expand(*index, rng, text),
            }
        }
        bits
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.name == name)
    }

    /// Splits `The {animal} sleeps.` into literals and references.
    fn parts(&self, template: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((literal, tail)) = rest.split_once('{') {
            let Some((name, tail)) = tail.split_once('}') else {
                panic!("unclosed brace in `{template}`");
            };
            let Some(index) = self.find(name) else {
                panic!("`{template}` refers to `{name}`, which no earlier rule defines");
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Rule(index));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        parts
    }
}

impl Rule {
    /// Returns `−log₂` of the probability of an alternative of this rule.
    fn bits(&self, alternative: &Alternative) -> f64 {
        (f64::from(self.total) / f64::from(alternative.weight)).log2()
    }

    /// Returns the alternative of a draw below `total`.
    fn choose(&self, draw: u32) -> &Alternative {
        &self.alternatives[self.ends.partition_point(|end| *end <= draw)]
    }
}
