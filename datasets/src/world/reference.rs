//! References for the tests, which share no code with the sampler: enumeration of all texts of a grammar, the
//! probability of a given text, and a check that no text has two derivations.

use std::collections::{BTreeMap, HashMap};

use super::grammar::{Grammar, Part};

/// Enumerates all derivations of a rule, each as its text and probability.
pub(super) fn enumerate(grammar: &Grammar, rule: usize) -> Vec<(String, f64)> {
    let rule = &grammar.rules[rule];
    let mut all = Vec::new();
    for alternative in &rule.alternatives {
        let probability = f64::from(alternative.weight) / f64::from(rule.total);
        let mut texts = vec![(String::new(), probability)];
        for part in &alternative.parts {
            let tails = match part {
                Part::Literal(literal) => vec![(literal.clone(), 1.0)],
                Part::Rule(rule) => enumerate(grammar, *rule),
            };
            texts = texts
                .iter()
                .flat_map(|(head, p)| {
                    tails
                        .iter()
                        .map(move |(tail, q)| (format!("{head}{tail}"), p * q))
                })
                .collect();
        }
        all.extend(texts);
    }
    all
}

/// Computes P(text), summed over all derivations, with the inside algorithm.
pub(super) fn probability(grammar: &Grammar, text: &str) -> f64 {
    let mut known = HashMap::new();
    let ends = inside(grammar, grammar.rules.len() - 1, 0, text, &mut known);
    ends.get(&text.len()).copied().unwrap_or(0.0)
}

type Ends = BTreeMap<usize, f64>;

/// Returns the positions at which a derivation of a rule from `start` can end, with their probabilities.
fn inside(
    grammar: &Grammar,
    rule: usize,
    start: usize,
    text: &str,
    known: &mut HashMap<(usize, usize), Ends>,
) -> Ends {
    if let Some(ends) = known.get(&(rule, start)) {
        return ends.clone();
    }
    let mut all = Ends::new();
    for alternative in &grammar.rules[rule].alternatives {
        let weight = f64::from(alternative.weight) / f64::from(grammar.rules[rule].total);
        let mut reached = Ends::from([(start, weight)]);
        for part in &alternative.parts {
            let mut next = Ends::new();
            for (at, p) in reached {
                match part {
                    Part::Literal(literal) if text[at..].starts_with(literal.as_str()) => {
                        *next.entry(at + literal.len()).or_default() += p;
                    }
                    Part::Literal(_) => {}
                    Part::Rule(rule) => {
                        for (end, q) in inside(grammar, *rule, at, text, known) {
                            *next.entry(end).or_default() += p * q;
                        }
                    }
                }
            }
            reached = next;
        }
        for (end, p) in reached {
            *all.entry(end).or_default() += p;
        }
    }
    known.insert((rule, start), all.clone());
    all
}

/// Symbol that remains to be derived. The next one is last on a stack.
#[derive(Clone, Copy)]
enum Symbol<'a> {
    Text(&'a str),
    Rule(usize),
}

fn with_parts<'a>(mut stack: Vec<Symbol<'a>>, parts: &'a [Part]) -> Vec<Symbol<'a>> {
    stack.extend(parts.iter().rev().map(|part| match part {
        Part::Literal(literal) => Symbol::Text(literal),
        Part::Rule(rule) => Symbol::Rule(*rule),
    }));
    stack
}

/// Whether one sequence derives a text that is a prefix of (or equals) a text of the other. The result is exact if the
/// rules that they refer to are prefix-free: then two texts of such a rule at the same position are the same.
fn clash<'a>(grammar: &'a Grammar, mut a: Vec<Symbol<'a>>, mut b: Vec<Symbol<'a>>) -> bool {
    loop {
        match (a.pop(), b.pop()) {
            (None, _) | (_, None) => return true,
            (Some(Symbol::Rule(i)), Some(Symbol::Rule(j))) if i == j => {}
            (Some(Symbol::Rule(rule)), Some(other)) => {
                b.push(other);
                let mut expansions = grammar.rules[rule].alternatives.iter();
                return expansions
                    .any(|x| clash(grammar, with_parts(a.clone(), &x.parts), b.clone()));
            }
            (Some(text), Some(Symbol::Rule(rule))) => {
                a.push(text);
                b.push(Symbol::Rule(rule));
                (a, b) = (b, a);
            }
            (Some(Symbol::Text(s)), Some(Symbol::Text(t))) => {
                let common = s.len().min(t.len());
                if s[..common] != t[..common] {
                    return false;
                }
                for (stack, rest) in [(&mut a, &s[common..]), (&mut b, &t[common..])] {
                    if !rest.is_empty() {
                        stack.push(Symbol::Text(rest));
                    }
                }
            }
        }
    }
}

/// Returns the rules in which two alternatives clash. If there are none, every rule is a prefix-free code, by induction
/// from the first rule, so every text has one derivation.
pub(super) fn ambiguous_rules(grammar: &Grammar) -> Vec<usize> {
    let pairs = |rule: &usize| {
        let alternatives = &grammar.rules[*rule].alternatives;
        alternatives.iter().enumerate().any(|(i, x)| {
            let mut others = alternatives[..i].iter();
            others.any(|y| {
                clash(
                    grammar,
                    with_parts(vec![], &x.parts),
                    with_parts(vec![], &y.parts),
                )
            })
        })
    };
    (0..grammar.rules.len()).filter(pairs).collect()
}
