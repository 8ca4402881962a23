//! Three ways to know what a grammar derives that share nothing with the sampler: write everything out,
//! parse a given text, and decide whether any text has two derivations.

use std::collections::{BTreeMap, HashMap};

use super::grammar::{Grammar, Part};

/// Every text a grammar derives from a rule, with its probability; one entry per derivation.
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

/// The inside algorithm: P(text), summed over all derivations, from the text alone.
pub(super) fn probability(grammar: &Grammar, text: &str) -> f64 {
    let mut known = HashMap::new();
    let ends = inside(grammar, grammar.rules.len() - 1, 0, text, &mut known);
    ends.get(&text.len()).copied().unwrap_or(0.0)
}

type Ends = BTreeMap<usize, f64>;

/// Where a rule can stop having started at `start`, and with which probability.
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

/// What is still to be derived; the next piece is last.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Text(&'a str),
    Rule(usize),
}

fn with_parts<'a>(mut stack: Vec<Piece<'a>>, parts: &'a [Part]) -> Vec<Piece<'a>> {
    stack.extend(parts.iter().rev().map(|part| match part {
        Part::Literal(literal) => Piece::Text(literal),
        Part::Rule(rule) => Piece::Rule(*rule),
    }));
    stack
}

/// Whether one sequence derives a text that begins (or is) a text of the other. Exact when the rules
/// they refer to are prefix-free: two texts of such a rule, at the same place, are the same text.
fn clash<'a>(grammar: &'a Grammar, mut a: Vec<Piece<'a>>, mut b: Vec<Piece<'a>>) -> bool {
    loop {
        match (a.pop(), b.pop()) {
            (None, _) | (_, None) => return true,
            (Some(Piece::Rule(i)), Some(Piece::Rule(j))) if i == j => {}
            (Some(Piece::Rule(rule)), Some(other)) => {
                b.push(other);
                let mut expansions = grammar.rules[rule].alternatives.iter();
                return expansions
                    .any(|x| clash(grammar, with_parts(a.clone(), &x.parts), b.clone()));
            }
            (Some(text), Some(Piece::Rule(rule))) => {
                a.push(text);
                b.push(Piece::Rule(rule));
                (a, b) = (b, a);
            }
            (Some(Piece::Text(s)), Some(Piece::Text(t))) => {
                let common = s.len().min(t.len());
                if s[..common] != t[..common] {
                    return false;
                }
                for (stack, rest) in [(&mut a, &s[common..]), (&mut b, &t[common..])] {
                    if !rest.is_empty() {
                        stack.push(Piece::Text(rest));
                    }
                }
            }
        }
    }
}

/// The rules in which two alternatives clash. Where there are none, every rule is a prefix-free code,
/// by induction from the first: a text can be read from the left in one way only.
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
