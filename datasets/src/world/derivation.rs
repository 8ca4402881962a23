//! The derivations of a grammar as an automaton over symbols, for the exact distribution of the next symbol.
//!
//! The alternatives of each rule are merged into a prefix tree over symbols and references, so that words of one class
//! cost no more than their different letters. A state is a node of such a tree with what follows after the rule. Because
//! rules refer only to earlier ones, there are finitely many of these continuations, and all are listed here.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;

use super::grammar::{Grammar, Part};
use super::process::{Expected, Process, State, Step};

/// Grammar with its automaton. The last rule is the start symbol, and derives a newline at the end of its texts only.
///
/// This left-to-right use of the derivations gives the prefix probabilities of Jelinek and Lafferty 1991 and Stolcke
/// 1995. Without recursion they need no matrix inverse.
#[derive(Debug)]
pub(super) struct Derivations {
    grammar: Grammar,
    nodes: Vec<Node>,
    /// Root of the tree of each rule.
    roots: Vec<u32>,
    /// The first one is the end of a document.
    continuations: Vec<Continuation>,
}

/// Node of the prefix tree of a rule's alternatives. A leaf, without edges, is the end of the rule.
#[derive(Debug, Default)]
struct Node {
    edges: Vec<Edge>,
    /// Sum of the weights of its alternatives.
    total: u32,
}

#[derive(Debug)]
struct Edge {
    label: Label,
    /// Sum of the weights of the alternatives after it.
    weight: u32,
    child: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Label {
    Symbol(u8),
    Rule(usize),
}

/// Continuation after a rule: the rest of the rule that refers to it, from a node on, and then the rest of that one.
#[derive(Debug, Default)]
struct Continuation {
    node: u32,
    then: u32,
    /// Continuations of the rules that are referred to before it is reached, by the child of the reference.
    calls: Vec<(u32, u32)>,
}

impl Derivations {
    pub(super) fn new(grammar: Grammar) -> Self {
        let mut derivations = Self {
            grammar,
            nodes: Vec::new(),
            roots: Vec::new(),
            continuations: vec![Continuation::default()],
        };
        for rule in 0..derivations.grammar.rules.len() {
            derivations.grow(rule);
        }
        let start = derivations.roots[derivations.roots.len() - 1];
        let mut open = vec![(start, 0)];
        while let Some((node, continuation)) = open.pop() {
            for edge in 0..derivations.nodes[node as usize].edges.len() {
                let Edge { label, child, .. } = derivations.nodes[node as usize].edges[edge];
                if let Label::Rule(rule) = label {
                    let called = derivations.continuations.len() as u32;
                    derivations.continuations.push(Continuation {
                        node: child,
                        then: continuation,
                        calls: Vec::new(),
                    });
                    derivations.continuations[continuation as usize]
                        .calls
                        .push((child, called));
                    open.push((derivations.roots[rule], called));
                }
                open.push((child, continuation));
            }
        }
        derivations
    }

    /// Returns the grammar.
    pub(super) fn grammar(&self) -> &Grammar {
        &self.grammar
    }

    /// Adds the tree of a rule.
    fn grow(&mut self, rule: usize) {
        let root = self.nodes.len() as u32;
        self.roots.push(root);
        self.nodes.push(Node::default());
        for alternative in &self.grammar.rules[rule].alternatives {
            let labels = alternative.parts.iter().flat_map(|part| match part {
                Part::Literal(text) => text.bytes().map(Label::Symbol).collect(),
                Part::Rule(rule) => vec![Label::Rule(*rule)],
            });
            let mut node = root;
            for label in labels {
                let next = self.nodes.len() as u32;
                let Node { edges, total } = &mut self.nodes[node as usize];
                *total += alternative.weight;
                match edges.iter_mut().find(|edge| edge.label == label) {
                    Some(edge) => {
                        edge.weight += alternative.weight;
                        node = edge.child;
                    }
                    None => {
                        edges.push(Edge {
                            label,
                            weight: alternative.weight,
                            child: next,
                        });
                        self.nodes.push(Node::default());
                        node = next;
                    }
                }
            }
        }
    }

    /// Appends the steps from a node, each with its probability times `probability`.
    fn expand(&self, node: u32, continuation: u32, probability: f64, steps: &mut Vec<Step>) {
        let Node { edges, total } = &self.nodes[node as usize];
        for edge in edges {
            let probability = probability * f64::from(edge.weight) / f64::from(*total);
            match edge.label {
                Label::Symbol(symbol) => steps.push(Step {
                    symbol,
                    probability,
                    next: self.state(edge.child, continuation),
                }),
                Label::Rule(rule) => {
                    let calls = &self.continuations[continuation as usize].calls;
                    let called = calls.iter().find(|(child, _)| *child == edge.child);
                    let (_, called) = called.expect("every reference has its continuation");
                    self.expand(self.roots[rule], *called, probability, steps);
                }
            }
        }
    }

    /// Returns the state at a node. At the end of a rule, that is where its continuation goes on.
    fn state(&self, mut node: u32, mut continuation: u32) -> State {
        while self.nodes[node as usize].edges.is_empty() {
            if continuation == 0 {
                return self.start();
            }
            let rest = &self.continuations[continuation as usize];
            (node, continuation) = (rest.node, rest.then);
        }
        State::from(continuation) << 32 | State::from(node)
    }
}

impl Process for Derivations {
    fn draw(&self, rng: &mut ChaCha8Rng, text: &mut String) -> f64 {
        self.grammar.sample(rng, text)
    }

    fn expected(&self) -> Expected {
        self.grammar.expected()
    }

    fn alphabet(&self) -> Vec<u8> {
        let edges = self.nodes.iter().flat_map(|node| &node.edges);
        let symbols = edges.filter_map(|edge| match edge.label {
            Label::Symbol(symbol) => Some(symbol),
            Label::Rule(_) => None,
        });
        symbols.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn start(&self) -> State {
        self.roots[self.roots.len() - 1].into()
    }

    fn steps(&self, state: State, steps: &mut Vec<Step>) {
        self.expand(state as u32, (state >> 32) as u32, 1.0, steps);
    }
}
