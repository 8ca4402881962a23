//! Formulas of derived keys: arithmetic over the numbers of a run.
//!
//! A formula has numbers, names such as `model.width`, the operators `+ - * / ^` with the usual precedence, brackets, and
//! [`FUNCTIONS`]. The parser is our own, because names contain dots, and every mistake is one line that names its place.

use std::collections::BTreeSet;
use std::fmt;

/// Deepest nesting, so that a hostile formula cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

/// Longest formula in bytes, which limits the depth of `1 + 1 + …` too.
const MAX_LENGTH: usize = 1000;

/// Functions by name, with their number of arguments.
const FUNCTIONS: [(&str, usize); 9] = [
    ("sqrt", 1),
    ("log", 1),
    ("log2", 1),
    ("exp", 1),
    ("round", 1),
    ("floor", 1),
    ("ceil", 1),
    ("min", 2),
    ("max", 2),
];

/// A parsed formula.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Formula {
    text: String,
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Number(f64),
    Name(String),
    Negative(Box<Node>),
    Operation(char, Box<Node>, Box<Node>),
    Function(&'static str, Vec<Node>),
}

impl Formula {
    /// Parses a formula.
    ///
    /// # Errors
    ///
    /// Returns the reason, which quotes the place.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("is longer than {MAX_LENGTH} characters"));
        }
        let mut parser = Parser { text, at: 0 };
        let root = parser.sum(0)?;
        parser.space();
        match parser.rest() {
            "" => Ok(Self {
                text: text.into(),
                root,
            }),
            rest => Err(format!("expected an operator before {rest:?}")),
        }
    }

    /// Returns the names that the formula refers to.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        collect(&self.root, &mut names);
        names
    }

    /// Computes the value. `number` returns the number of a name, or `None` if the run has no such number.
    ///
    /// # Errors
    ///
    /// Returns the reason if a name has no number, or if the value is not finite.
    pub(super) fn value(&self, number: &dyn Fn(&str) -> Option<f64>) -> Result<f64, String> {
        match value(&self.root, number)? {
            value if value.is_finite() => Ok(value),
            value => Err(format!("{self} is {value}")),
        }
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn collect<'a>(node: &'a Node, names: &mut BTreeSet<&'a str>) {
    match node {
        Node::Number(_) => {}
        Node::Name(name) => drop(names.insert(name)),
        Node::Negative(inner) => collect(inner, names),
        Node::Operation(_, left, right) => {
            collect(left, names);
            collect(right, names);
        }
        Node::Function(_, arguments) => arguments
            .iter()
            .for_each(|argument| collect(argument, names)),
    }
}

fn value(node: &Node, number: &dyn Fn(&str) -> Option<f64>) -> Result<f64, String> {
    Ok(match node {
        Node::Number(number) => *number,
        Node::Name(name) => number(name).ok_or_else(|| format!("{name} has no number here"))?,
        Node::Negative(inner) => -value(inner, number)?,
        Node::Operation(operator, left, right) => {
            let (left, right) = (value(left, number)?, value(right, number)?);
            match operator {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                '/' => left / right,
                _ => left.powf(right),
            }
        }
        Node::Function(name, arguments) => {
            let arguments = arguments.iter().map(|argument| value(argument, number));
            let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
            match (*name, &arguments[..]) {
                ("sqrt", [x]) => x.sqrt(),
                ("log", [x]) => x.ln(),
                ("log2", [x]) => x.log2(),
                ("exp", [x]) => x.exp(),
                ("round", [x]) => x.round(),
                ("floor", [x]) => x.floor(),
                ("ceil", [x]) => x.ceil(),
                ("min", [x, y]) => x.min(*y),
                ("max", [x, y]) => x.max(*y),
                _ => f64::NAN,
            }
        }
    })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes the next character if it is one of `characters`.
    fn take(&mut self, characters: &[char]) -> Option<char> {
        self.space();
        let next = self.rest().chars().next()?;
        characters.contains(&next).then(|| {
            self.at += next.len_utf8();
            next
        })
    }

    fn sum(&mut self, depth: usize) -> Result<Node, String> {
        let mut left = self.product(depth)?;
        while let Some(operator) = self.take(&['+', '-']) {
            left = Node::Operation(operator, left.into(), self.product(depth)?.into());
        }
        Ok(left)
    }

    fn product(&mut self, depth: usize) -> Result<Node, String> {
        let mut left = self.signed(depth)?;
        while let Some(operator) = self.take(&['*', '/']) {
            left = Node::Operation(operator, left.into(), self.signed(depth)?.into());
        }
        Ok(left)
    }

    /// A minus binds less than a power: −2 ^ 2 is −4.
    fn signed(&mut self, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} deep"));
        }
        match self.take(&['-']) {
            Some(_) => Ok(Node::Negative(self.signed(depth + 1)?.into())),
            None => self.power(depth),
        }
    }

    /// Powers group from the right: 2 ^ 3 ^ 2 is 2 ^ 9.
    fn power(&mut self, depth: usize) -> Result<Node, String> {
        let base = self.atom(depth)?;
        match self.take(&['^']) {
            Some(_) => Ok(Node::Operation(
                '^',
                base.into(),
                self.signed(depth + 1)?.into(),
            )),
            None => Ok(base),
        }
    }

    fn atom(&mut self, depth: usize) -> Result<Node, String> {
        if self.take(&['(']).is_some() {
            let inner = self.sum(depth + 1)?;
            self.close()?;
            return Ok(inner);
        }
        self.space();
        let rest = self.rest();
        match rest.chars().next() {
            None => Err("ends where a number or a name is expected".into()),
            Some(first) if first.is_ascii_digit() || first == '.' => self.number(),
            Some(first) if first.is_ascii_alphabetic() || first == '_' => self.name(depth),
            Some(_) => Err(format!("expected a number or a name before {rest:?}")),
        }
    }

    fn close(&mut self) -> Result<(), String> {
        match self.take(&[')']) {
            Some(_) => Ok(()),
            None if self.rest().is_empty() => Err("a bracket is not closed".into()),
            None => Err(format!("expected \")\" before {:?}", self.rest())),
        }
    }

    /// A number as Rust writes it, with `_` between digits as in TOML.
    fn number(&mut self) -> Result<Node, String> {
        let rest = self.rest();
        let mut length = 0;
        for (at, character) in rest.char_indices() {
            let is_sign = matches!(character, '+' | '-') && rest[..at].ends_with(['e', 'E']);
            if !(character.is_ascii_alphanumeric() || matches!(character, '.' | '_') || is_sign) {
                break;
            }
            length = at + 1;
        }
        let (text, _) = rest.split_at(length);
        self.at += length;
        let number = text.replace('_', "").parse::<f64>().ok();
        number
            .filter(|number| number.is_finite())
            .map(Node::Number)
            .ok_or_else(|| format!("{text:?} is not a number"))
    }

    fn name(&mut self, depth: usize) -> Result<Node, String> {
        let rest = self.rest();
        let is_other = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_'));
        let name = &rest[..rest.find(is_other).unwrap_or(rest.len())];
        self.at += name.len();
        if self.take(&['(']).is_none() {
            return Ok(Node::Name(name.into()));
        }
        let Some((name, count)) = FUNCTIONS.into_iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "there is no function {name}; the functions are {}",
                known.join(", ")
            ));
        };
        let mut arguments = vec![self.sum(depth + 1)?];
        while self.take(&[',']).is_some() {
            arguments.push(self.sum(depth + 1)?);
        }
        self.close()?;
        match arguments.len() == count {
            true => Ok(Node::Function(name, arguments)),
            false => Err(format!(
                "{name} takes {count} arguments, not {}",
                arguments.len()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(name: &str) -> Option<f64> {
        match name {
            "model.width" => Some(64.0),
            "flops" => Some(1e12),
            _ => None,
        }
    }

    fn value(text: &str) -> f64 {
        Formula::parse(text).unwrap().value(&number).unwrap()
    }

    #[test]
    fn formulas_have_the_usual_precedence() {
        for (text, expected) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("8 / 4 / 2", 1.0),
            ("8 - 4 - 2", 2.0),
            ("-2 ^ 2", -4.0),
            ("2 ^ -1", 0.5),
            ("2 ^ 3 ^ 2", 512.0),
            ("2e3 + 1_000", 3000.0),
            ("1e-2*(64/model.width)^0.5", 0.01),
            ("max(min(3, 5), sqrt(4))", 3.0),
            ("log2(8) + floor(1.7) + ceil(1.2) + round(0.5)", 7.0),
            ("flops / (6 * model.width)", 1e12 / 384.0),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
        assert!((value("exp(log(3))") - 3.0).abs() < 1e-15);
    }

    #[test]
    fn names_are_listed_once_each() {
        let formula = Formula::parse("a.b + max(c, a.b) / -d").unwrap();
        assert_eq!(
            formula.names().into_iter().collect::<Vec<_>>(),
            ["a.b", "c", "d"]
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let deep = format!("{}1", "(".repeat(100));
        for (text, message) in [
            ("", "ends where a number or a name is expected"),
            ("1 +", "ends where a number or a name is expected"),
            ("1 2", "expected an operator before \"2\""),
            ("(1", "a bracket is not closed"),
            ("sqrt(1, 2)", "sqrt takes 1 arguments, not 2"),
            (
                "sine(1)",
                "there is no function sine; the functions are sqrt, log",
            ),
            ("1.2.3", "\"1.2.3\" is not a number"),
            ("1e999", "\"1e999\" is not a number"),
            ("2 * %", "expected a number or a name before \"%\""),
            (deep.as_str(), "is nested more than 64 deep"),
        ] {
            let error = Formula::parse(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
        let value = |text: &str| Formula::parse(text).unwrap().value(&number).unwrap_err();
        assert_eq!(value("1 / 0"), "1 / 0 is inf");
        assert_eq!(value("train.steps"), "train.steps has no number here");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+*/^(),.a-z0-9e_ é]{0,40}") {
            if let Ok(formula) = Formula::parse(&text) {
                let _ = formula.value(&number);
            }
        }
    }
}
