//! Checks of the keys of a plan against its base experiment.

use toml::Spanned;
use toml::de::DeValue;

use super::formula::Formula;
use super::grid::{
    Axis, BUILT_IN, Column, Derived, MAX_VALUES, TOKENS_PER_STEP, is_variable, without_origin,
};
use super::plan_file::{Leaf, PlanFile};
use super::range::{self, MAX_WHOLE};
use crate::Error;
use crate::experiment::Template;
use crate::spelling::nearest;

/// Key that no run can have, because the sweep gives it.
const NAME: &str = "name";

/// The kind of number that a key holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Real,
    Other,
}

/// Checks of keys against the base experiment.
pub(super) struct Keys<'a> {
    pub(super) file: &'a PlanFile<'a>,
    pub(super) base: &'a Template,
}

impl Keys<'_> {
    pub(super) fn refuse_repetitions<'l, 'v: 'l>(
        &self,
        tables: impl Iterator<Item = &'l Vec<Leaf<'v>>>,
    ) -> Result<(), Error> {
        let mut seen = std::collections::BTreeSet::new();
        for leaf in tables.flatten() {
            if !seen.insert(leaf.key.clone()) {
                let message = format!("{} is given twice; keep one of them", leaf.key);
                return Err(self.file.refused(leaf.at, &message));
            }
        }
        Ok(())
    }

    /// Returns the kind of number that a key of the experiment holds.
    ///
    /// # Errors
    ///
    /// Returns an error if the experiment has no such key.
    fn kind(&self, key: &str, at: usize) -> Result<Kind, Error> {
        let holds = |value: &str| self.base.unchecked(&[format!("{key}={value}")]);
        if key == NAME {
            let message = "name: the sweep names its runs; leave the key out, or give the sweep a name before the first table";
            return Err(self.file.refused(at, message));
        }
        match (holds("1.5"), holds("1")) {
            (Ok(_), _) => Ok(Kind::Real),
            (_, Ok(_)) => Ok(Kind::Whole),
            (_, Err(error)) => match without_origin(&error) {
                message if message.starts_with("unknown key") => {
                    Err(self.file.refused(at, &format!("{key}: {message}")))
                }
                _ => Ok(Kind::Other),
            },
        }
    }

    /// Returns a key of the experiment with its value.
    pub(super) fn fixed(&self, leaf: &Leaf) -> Result<(String, toml::Value), Error> {
        let kind = self.kind(&leaf.key, leaf.at)?;
        Ok((leaf.key.clone(), self.value(leaf.value, kind)))
    }

    /// Returns a value for a key of a kind. A whole number may be written as `1e3`.
    fn value(&self, value: &Spanned<DeValue<'_>>, kind: Kind) -> toml::Value {
        match self.file.value(value) {
            toml::Value::Float(real)
                if kind == Kind::Whole && real.fract() == 0.0 && real.abs() <= MAX_WHOLE =>
            {
                toml::Value::Integer(real as i64)
            }
            other => other,
        }
    }

    /// Returns the values of one key or variable of an axis.
    fn column(&self, leaf: &Leaf) -> Result<Column, Error> {
        let refused = |message: &str| self.refused(leaf, message);
        let kind = self.kind_of(leaf)?;
        let values = match leaf.value.get_ref() {
            DeValue::Array(array) if array.len() > MAX_VALUES => {
                return Err(refused(&format!(
                    "has {} values; an axis has at most {MAX_VALUES}",
                    array.len()
                )));
            }
            DeValue::Array(array) => array.iter().map(|value| self.value(value, kind)).collect(),
            DeValue::Table(_) if kind == Kind::Other => {
                return Err(refused(
                    "is not a number, so that it has no range; list its values",
                ));
            }
            DeValue::Table(table) => {
                let part = |(key, value): (&Spanned<_>, &Spanned<DeValue>)| {
                    format!("{} = {}", key.get_ref(), &self.file.text[value.span()])
                };
                let parts: Vec<_> = table.iter().map(part).collect();
                let text = format!("{{ {} }}", parts.join(", "));
                range::values(&text, kind == Kind::Whole).map_err(|message| refused(&message))?
            }
            _ => {
                return Err(refused(
                    "expected a list such as [1, 2], or a range such as { from = 1, to = 100, points = 5 }; a key with \
                     one value belongs in [set]",
                ));
            }
        };
        if values.is_empty() {
            return Err(refused("has no values; list some, or remove it"));
        }
        let is_number = |value: &toml::Value| value.is_integer() || value.is_float();
        if is_variable(&leaf.key) && !values.iter().all(is_number) {
            return Err(refused(
                "is a variable for formulas, so that its values must be numbers",
            ));
        }
        Ok(Column {
            key: leaf.key.clone(),
            values,
        })
    }

    /// Returns an error about a key or a variable, at its place in the file.
    fn refused(&self, leaf: &Leaf, message: &str) -> Error {
        self.file
            .refused(leaf.at, &format!("{}: {message}", leaf.key))
    }

    /// Returns the kind of number of a key or a variable.
    fn kind_of(&self, leaf: &Leaf) -> Result<Kind, Error> {
        match is_variable(&leaf.key) && leaf.key != NAME {
            true => self
                .variable(&leaf.key)
                .map_err(|message| self.refused(leaf, &message)),
            false => self.kind(&leaf.key, leaf.at),
        }
    }

    /// Checks the name of a variable.
    fn variable(&self, name: &str) -> Result<Kind, String> {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match () {
            () if BUILT_IN.contains(&name) => {
                Err("every run has its own; choose another name".into())
            }
            () if !is_name => Err("a variable has letters, digits and _ only".into()),
            () => Ok(Kind::Real),
        }
    }

    /// Returns the axis of one key or variable, or of several that change together. Runs are named after the first one,
    /// so that its values must differ. `at` is the place of the axis in the file.
    pub(super) fn axis(&self, at: usize, leaves: &[Leaf]) -> Result<Axis, Error> {
        let columns = leaves.iter().map(|leaf| self.column(leaf));
        let columns: Vec<Column> = columns.collect::<Result<_, _>>()?;
        let values = &columns[0].values;
        if let Some(other) = columns
            .iter()
            .find(|column| column.values.len() != values.len())
        {
            let message = format!(
                "tied: {} has {} values and {} has {}; they must have as many",
                columns[0].key,
                values.len(),
                other.key,
                other.values.len()
            );
            return Err(self.file.refused(at, &message));
        }
        let is_repeated = |at: &usize| values[..*at].contains(&values[*at]);
        if let Some(at) = (0..values.len()).find(is_repeated) {
            let advice = match leaves[0].value.get_ref() {
                DeValue::Table(_) => "; ask for fewer points",
                _ if leaves.len() > 1 => {
                    ", and names the runs; put a key first whose values differ"
                }
                _ => "",
            };
            return Err(self.refused(&leaves[0], &format!("has {} twice{advice}", values[at])));
        }
        Ok(Axis::new(columns))
    }

    pub(super) fn derived(&self, leaf: &Leaf) -> Result<Derived, Error> {
        let refused = |message: &str| self.refused(leaf, message);
        let kind = self.kind_of(leaf)?;
        if kind == Kind::Other {
            return Err(refused("is not a number, so that no formula can give it"));
        }
        let text = leaf.value.get_ref().as_str();
        let text =
            text.ok_or_else(|| refused("expected a formula as text, such as \"20 * parameters\""))?;
        Ok(Derived {
            key: leaf.key.clone(),
            formula: Formula::parse(text)
                .map_err(|message| refused(&format!("formula {text:?} {message}")))?,
            whole: kind == Kind::Whole,
        })
    }

    /// Orders formulas so that each comes after those that it refers to, and checks their names.
    pub(super) fn ordered(
        &self,
        mut left: Vec<(usize, Derived)>,
        axes: &[Axis],
    ) -> Result<Vec<Derived>, Error> {
        let columns = axes.iter().flat_map(|axis| &axis.columns);
        let keys = columns.map(|column| column.key.as_str());
        let mut known: Vec<String> = keys.chain(BUILT_IN).map(String::from).collect();
        known.extend(left.iter().map(|(_, derived)| derived.key.clone()));
        for (at, derived) in &left {
            for name in derived.formula.names() {
                let exists = known.iter().any(|known| known == name)
                    || !is_variable(name)
                        && self.kind(name, *at).is_ok_and(|kind| kind != Kind::Other);
                if !exists {
                    let guess = nearest(name, known.iter().map(String::as_str));
                    let guess = match guess {
                        Some(guess) => format!("did you mean {guess}?"),
                        None => format!("every run has {}", BUILT_IN.join(", ")),
                    };
                    let message = format!(
                        "{}: {name} is neither a number of the experiment nor a variable; {guess}",
                        derived.key
                    );
                    return Err(self.file.refused(*at, &message));
                }
            }
        }
        let mut ordered = Vec::new();
        while !left.is_empty() {
            let waits = |derived: &Derived| {
                let names = derived.formula.names();
                left.iter()
                    .any(|(_, other)| names.iter().any(|name| depends_on(name, &other.key)))
            };
            let Some(next) = left.iter().position(|(_, derived)| !waits(derived)) else {
                let keys: Vec<_> = left
                    .iter()
                    .map(|(_, derived)| derived.key.as_str())
                    .collect();
                let message = format!(
                    "derive: the formulas of {} refer to each other in a circle",
                    keys.join(", ")
                );
                return Err(self.file.refused(left[0].0, &message));
            };
            ordered.push(left.remove(next).1);
        }
        Ok(ordered)
    }

    pub(super) fn refuse_unused(
        &self,
        axes: &[Leaf],
        tied: &[(usize, Vec<Leaf>)],
        derived: &[Derived],
    ) -> Result<(), Error> {
        let leaves = axes
            .iter()
            .chain(tied.iter().flat_map(|(_, leaves)| leaves));
        for leaf in leaves.filter(|leaf| is_variable(&leaf.key)) {
            let key = leaf.key.as_str();
            if !derived
                .iter()
                .any(|derived| derived.formula.names().contains(key))
            {
                let message = format!(
                    "{key}: no formula of [derive] refers to this variable; a key of the experiment has a section, as \
                     in train.{key}"
                );
                return Err(self.file.refused(leaf.at, &message));
            }
        }
        Ok(())
    }
}

/// Whether a name in a formula changes with a key.
fn depends_on(name: &str, key: &str) -> bool {
    match name {
        "parameters" | "non_embedding_parameters" => key.starts_with("model."),
        "flops_per_token" => key.starts_with("model."),
        TOKENS_PER_STEP => {
            ["train.batch", "train.accumulation", "model.context"].contains(&key)
                || key.starts_with("data.")
        }
        name => name == key,
    }
}
