//! The plan of a sweep: a TOML file with a base experiment, axes and formulas.
//!
//! ```toml
//! experiment = "world.toml"                  # beside the plan; without it, the embedded experiment
//!
//! [set]                                      # keys that are the same in all runs
//! schedule.name = "wsd"
//!
//! [axes]                                     # one run for each combination
//! train.seed = [1, 2]
//! flops = { from = 1e12, to = 1e14, points = 5 }     # evenly spaced logarithms; a name without a dot is a variable
//!
//! [[tied]]                                   # one axis of several keys, whose values belong together
//! model.width = [32, 64]
//! model.heads = [2, 4]
//!
//! [derive]                                   # formulas over keys, variables and `BUILT_IN`
//! train.steps = "flops / (flops_per_token * tokens_per_step)"
//! ```

use std::path::{Path, PathBuf};

use foretoken_datasets::files::printable;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::formula::Formula;
use super::range;
use crate::Error;
use crate::experiment::Template;
use crate::spelling::nearest;

/// Names in formulas that every run has.
pub(super) const BUILT_IN: [&str; 4] = [
    "parameters",
    "non_embedding_parameters",
    "flops_per_token",
    "tokens_per_step",
];

/// Name of the base experiment that the program contains.
const EMBEDDED: &str = "embedded";

/// Tables and keys of a plan.
const KEYS: [&str; 6] = ["name", "experiment", "set", "axes", "tied", "derive"];

/// A plan, whose keys are checked and whose values are not.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the sweep.
    pub name: String,
    pub(super) text: String,
    pub(super) base: Template,
    /// Keys with one value.
    pub(super) set: Vec<(String, toml::Value)>,
    /// In the order of the file, and tied axes after the others.
    pub(super) axes: Vec<Axis>,
    /// In an order in which each formula comes after those that it refers to.
    pub(super) derived: Vec<Derived>,
    origin: String,
}

/// One dimension of the grid: a key or a variable with its values, or several that change together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) columns: Vec<Column>,
}

/// A key or a variable with one value for each point of its axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) key: String,
    pub(super) values: Vec<toml::Value>,
}

/// A key or a variable that is computed for each run.
#[derive(Debug, Clone)]
pub(super) struct Derived {
    pub(super) key: String,
    pub(super) formula: Formula,
    /// Whether the value is rounded to a whole number.
    pub(super) whole: bool,
}

/// Whether a name without a dot stands for a number of the plan, and not for a key of the experiment.
pub(super) fn is_variable(key: &str) -> bool {
    !key.contains('.')
}

impl Axis {
    /// Returns the number of its points.
    pub(super) fn points(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }
}

/// A leaf of the file, with its place.
struct Leaf<'a> {
    key: String,
    at: usize,
    value: &'a Spanned<DeValue<'a>>,
}

impl Plan {
    /// Reads a plan, and the experiment that it names.
    ///
    /// # Errors
    ///
    /// Returns an error of one line if a file cannot be read, or a key, an axis or a formula is wrong.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::Experiment {
            origin: origin.clone(),
            message: match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "no such plan; `foretoken sweep --help` shows one".into()
                }
                _ => error.to_string(),
            },
        })?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy());
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &origin, &name.unwrap_or_default(), |file| {
            Template::read(&folder.join(file))
        })
    }

    /// Parses a plan. `open` reads the base experiment.
    pub(super) fn parse(
        text: &str,
        origin: &str,
        name: &str,
        open: impl FnOnce(&Path) -> Result<Template, Error>,
    ) -> Result<Self, Error> {
        let file = File { text, origin };
        let root = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            file.refused(at, &error.message().replace('\n', "; "))
        })?;
        let mut name = name.to_owned();
        let mut base = None;
        let (mut set, mut axes, mut tied, mut derived) = (vec![], vec![], vec![], vec![]);
        for (key, value) in file.in_order(root.get_ref()) {
            let at = key.span().start;
            match key.get_ref().as_ref() {
                "name" => name = file.text_of("name", value)?,
                "experiment" => base = Some(PathBuf::from(file.text_of("experiment", value)?)),
                "set" => set = file.leaves("set", at, value, false)?,
                "axes" => axes = file.leaves("axes", at, value, true)?,
                "derive" => derived = file.leaves("derive", at, value, false)?,
                "tied" => {
                    let tables = value.get_ref().as_array();
                    let expected =
                        "tied: expected [[tied]] tables, each with keys and their values";
                    for table in tables.ok_or_else(|| file.refused(at, expected))?.iter() {
                        let start = table.span().start;
                        tied.push((start, file.leaves("tied", start, table, true)?));
                    }
                }
                unknown => {
                    let guess = match nearest(unknown, KEYS) {
                        Some(known) => format!("did you mean `{known}`?"),
                        None => format!("a plan has {}", KEYS.join(", ")),
                    };
                    return Err(file.refused(at, &format!("unknown key `{unknown}`; {guess}")));
                }
            }
        }
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(file.refused(0, &format!("name: {name:?} cannot name a directory")));
        }
        let base = match base.as_deref() {
            None => Template::embedded(),
            Some(path) if path == Path::new(EMBEDDED) => Template::embedded(),
            Some(path) => open(path)?,
        };
        let keys = Keys {
            file: &file,
            base: &base,
        };
        keys.refuse_repetitions(
            [&set, &axes, &derived]
                .into_iter()
                .chain(tied.iter().map(|(_, leaves)| leaves)),
        )?;
        let fixed = set
            .iter()
            .map(|leaf| Ok((keys.experiment_key(leaf)?, file.value(leaf.value))))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut grid = Vec::new();
        for leaf in &axes {
            grid.push(Axis {
                columns: vec![keys.column(leaf)?],
            });
        }
        for (at, leaves) in &tied {
            let columns = leaves.iter().map(|leaf| keys.column(leaf));
            grid.push(keys.tied(*at, columns.collect::<Result<_, _>>()?)?);
        }
        let derived = derived
            .iter()
            .map(|leaf| Ok((leaf.at, keys.derived(leaf)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let derived = keys.ordered(derived, &grid)?;
        keys.refuse_unused(&axes, &tied, &derived)?;
        Ok(Self {
            name,
            text: text.into(),
            base,
            set: fixed,
            axes: grid,
            derived,
            origin: origin.into(),
        })
    }

    /// Returns an error that names the plan.
    pub(super) fn refused(&self, message: impl std::fmt::Display) -> Error {
        Error::Experiment {
            origin: self.origin.clone(),
            message: printable(&message.to_string()),
        }
    }
}

/// The text of a plan, for values and for the lines in messages.
struct File<'a> {
    text: &'a str,
    origin: &'a str,
}

impl<'a> File<'a> {
    fn refused(&self, at: usize, message: &str) -> Error {
        let line = self.text[..at.min(self.text.len())].matches('\n').count() + 1;
        Error::Experiment {
            origin: self.origin.into(),
            message: printable(&format!("line {line}: {message}")),
        }
    }

    /// Returns the entries of a table in the order of the file.
    fn in_order<'t>(
        &self,
        table: &'t DeTable<'t>,
    ) -> Vec<(
        &'t Spanned<std::borrow::Cow<'t, str>>,
        &'t Spanned<DeValue<'t>>,
    )> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    fn text_of(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, Error> {
        match value.get_ref().as_str() {
            Some(text) => Ok(text.into()),
            None => Err(self.refused(value.span().start, &format!("{key}: expected a text"))),
        }
    }

    /// Returns the leaves of a table with their dotted keys, in the order of the file. Tables of ranges are leaves too
    /// if `with_ranges`.
    fn leaves<'t>(
        &self,
        name: &str,
        at: usize,
        value: &'t Spanned<DeValue<'t>>,
        with_ranges: bool,
    ) -> Result<Vec<Leaf<'t>>, Error> {
        let Some(table) = value.get_ref().as_table() else {
            return Err(self.refused(at, &format!("{name}: expected a table of keys")));
        };
        let mut leaves = Vec::new();
        self.collect("", table, with_ranges, &mut leaves);
        match leaves.is_empty() {
            true => Err(self.refused(
                at,
                &format!("[{name}] is empty; give it keys, or remove it"),
            )),
            false => Ok(leaves),
        }
    }

    fn collect<'t>(
        &self,
        prefix: &str,
        table: &'t DeTable<'t>,
        with_ranges: bool,
        leaves: &mut Vec<Leaf<'t>>,
    ) {
        for (key, value) in self.in_order(table) {
            let name = key.get_ref();
            let path = match prefix {
                "" => name.to_string(),
                _ => format!("{prefix}.{name}"),
            };
            match value.get_ref().as_table() {
                Some(table) if !(with_ranges && range::is_range(table)) => {
                    self.collect(&path, table, with_ranges, leaves);
                }
                _ => leaves.push(Leaf {
                    key: path,
                    at: key.span().start,
                    value,
                }),
            }
        }
    }

    /// Returns the value of a leaf.
    fn value(&self, value: &Spanned<DeValue<'_>>) -> toml::Value {
        let text = &self.text[value.span()];
        let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"));
        // What was parsed once is parsed again.
        parsed
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(text.into()))
    }
}

/// The kind of number that a key holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Real,
    Other,
}

/// Checks of keys against the base experiment.
struct Keys<'a> {
    file: &'a File<'a>,
    base: &'a Template,
}

impl Keys<'_> {
    fn refuse_repetitions<'l, 'v: 'l>(
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
        if key == "name" {
            let message = "name: the sweep names its runs; leave the key out";
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

    fn experiment_key(&self, leaf: &Leaf) -> Result<String, Error> {
        self.kind(&leaf.key, leaf.at)?;
        Ok(leaf.key.clone())
    }

    /// Returns the values of one key or variable of an axis.
    fn column(&self, leaf: &Leaf) -> Result<Column, Error> {
        let refused = |message: &str| {
            self.file
                .refused(leaf.at, &format!("{}: {message}", leaf.key))
        };
        let kind = match is_variable(&leaf.key) {
            true => self
                .variable(&leaf.key)
                .map_err(|message| refused(&message))?,
            false => self.kind(&leaf.key, leaf.at)?,
        };
        let values = match leaf.value.get_ref() {
            DeValue::Array(array) => array.iter().map(|value| self.file.value(value)).collect(),
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
        for (index, value) in values.iter().enumerate() {
            if values[..index].contains(value) {
                return Err(refused(&format!("has {value} twice")));
            }
        }
        Ok(Column {
            key: leaf.key.clone(),
            values,
        })
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

    fn tied(&self, at: usize, columns: Vec<Column>) -> Result<Axis, Error> {
        let length = columns[0].values.len();
        match columns.iter().find(|column| column.values.len() != length) {
            None => Ok(Axis { columns }),
            Some(other) => {
                let message = format!(
                    "tied: {} has {length} values and {} has {}; they must have as many",
                    columns[0].key,
                    other.key,
                    other.values.len()
                );
                Err(self.file.refused(at, &message))
            }
        }
    }

    fn derived(&self, leaf: &Leaf) -> Result<Derived, Error> {
        let refused = |message: &str| {
            self.file
                .refused(leaf.at, &format!("{}: {message}", leaf.key))
        };
        let kind = match is_variable(&leaf.key) {
            true => self
                .variable(&leaf.key)
                .map_err(|message| refused(&message))?,
            false => self.kind(&leaf.key, leaf.at)?,
        };
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
    fn ordered(
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

    fn refuse_unused(
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
        "tokens_per_step" => ["train.batch", "train.accumulation", "model.context"].contains(&key),
        name => name == key,
    }
}

/// Returns the message of an error without the override that it names.
pub(super) fn without_origin(error: &Error) -> String {
    match error {
        Error::Experiment { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
