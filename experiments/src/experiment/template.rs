//! The text of an experiment file, from which experiments with other values are made.

use std::path::Path;

use foretoken_datasets::files::{self, printable};

use crate::spelling::nearest;
use crate::{Error, Experiment};

/// The embedded experiment, which `foretoken` runs by default: the synthetic world.
pub(super) const EMBEDDED: &str = include_str!("../../configs/world.toml");

/// The text of an experiment file.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    text: String,
    /// The file, as errors name it.
    origin: String,
    /// Name of an experiment whose file has none.
    name: String,
}

impl Template {
    /// Largest size of a file, in bytes.
    pub(crate) const LARGEST: u64 = 16 << 20;

    /// Returns the text of a file, which `origin` names in errors.
    pub(crate) fn new(text: &str, origin: &str, name: &str) -> Self {
        Self {
            text: text.into(),
            origin: origin.into(),
            name: name.into(),
        }
    }

    /// Returns the text of the file.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the embedded experiment.
    pub(crate) fn embedded() -> Self {
        Self::new(EMBEDDED, "world.toml (embedded)", "world")
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let origin = path.display().to_string();
        let text = files::read_text(path, Self::LARGEST).map_err(|error| Error::Experiment {
            origin: origin.clone(),
            message: match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "no such experiment file; `foretoken train` without one runs the embedded experiment".into()
                }
                std::io::ErrorKind::IsADirectory => {
                    "is a directory; name an experiment file, such as the experiment.toml of a run".into()
                }
                _ => error.to_string(),
            },
        })?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy());
        Ok(Self::new(&text, &origin, &stem.unwrap_or_default()))
    }

    /// Returns the experiment with overrides.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not TOML, or has unknown, missing or contradictory keys, or if an override has an
    /// unknown key or a value that is refused.
    pub(crate) fn experiment(&self, overrides: &[String]) -> Result<Experiment, Error> {
        let experiment = self.unchecked(overrides)?;
        self.check(&experiment, overrides)?;
        Ok(experiment)
    }

    /// Returns the experiment with overrides, whose keys and types are right but whose values may be refused by
    /// [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not TOML, or a key is unknown, missing or of the wrong type.
    pub(crate) fn unchecked(&self, overrides: &[String]) -> Result<Experiment, Error> {
        let text = &self.text;
        let parsed = |error: toml::de::Error| self.in_file(explain(&error, text));
        // The file is parsed alone first, because its errors have line numbers and no override causes them.
        let alone: Experiment = toml::from_str(text).map_err(parsed)?;
        let table: toml::Table = toml::from_str(text).map_err(parsed)?;
        let mut changed = table.clone();
        let assigned = overrides
            .iter()
            .all(|assignment| assign(&mut changed, assignment).is_ok());
        let mut experiment = match changed.try_into::<Experiment>() {
            Ok(experiment) if assigned => experiment,
            _ => one_by_one(alone, table, overrides)?,
        };
        if experiment.name.is_empty() {
            experiment.name.clone_from(&self.name);
        }
        Ok(experiment)
    }

    /// Checks the values of an experiment that was made with these overrides.
    ///
    /// # Errors
    ///
    /// Returns an error that names the override or the file with the value that is refused.
    pub(crate) fn check(&self, experiment: &Experiment, overrides: &[String]) -> Result<(), Error> {
        experiment.validate().map_err(|(key, message)| {
            let sets = |assignment: &&String| {
                assignment
                    .split_once('=')
                    .is_some_and(|(name, _)| name.trim() == key)
            };
            match overrides.iter().rev().find(sets) {
                Some(assignment) => in_override(assignment, message),
                None => self.in_file(format!("{key}: {message}")),
            }
        })
    }

    fn in_file(&self, message: String) -> Error {
        Error::Experiment {
            origin: self.origin.clone(),
            message: printable(&message),
        }
    }
}

/// Applies overrides one by one, to find the one that is wrong.
fn one_by_one(
    mut experiment: Experiment,
    mut table: toml::Table,
    overrides: &[String],
) -> Result<Experiment, Error> {
    // The next override may set a missing key.
    let mut missing = None;
    for assignment in overrides {
        assign(&mut table, assignment).map_err(|message| in_override(assignment, message))?;
        match table.clone().try_into::<Experiment>() {
            Ok(changed) => (experiment, missing) = (changed, None),
            Err(error) => {
                let message = explain(&error, "") + &quoting(&error, assignment);
                let of_override = in_override(assignment, message);
                if !error.message().starts_with("missing field") {
                    return Err(of_override);
                }
                missing = Some(of_override);
            }
        }
    }
    missing.map_or(Ok(experiment), Err)
}

fn in_override(assignment: &str, message: String) -> Error {
    Error::Experiment {
        origin: printable(&format!("--set {assignment}")),
        message: printable(&message),
    }
}

/// Sets `a.b=value` in the table. The value is TOML, or else a string, so that `data.path=text.txt` needs no
/// quotes.
fn assign(table: &mut toml::Table, assignment: &str) -> Result<(), String> {
    let (path, text) = assignment
        .split_once('=')
        .ok_or("expected key=value, such as train.steps=500")?;
    let value = toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.into()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut table = table;
    for key in keys {
        table = table
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| {
                format!("{key} is not a section in this experiment; set {key} itself, or use a file with that section")
            })?;
    }
    table.insert(last.into(), value);
    Ok(())
}

/// Returns advice to quote the value of an override if a text is expected and the value has another type, such as the
/// number in `data.path=2024`. Otherwise returns an empty text.
fn quoting(error: &toml::de::Error, assignment: &str) -> String {
    let Some((key, value)) = assignment.split_once('=') else {
        return String::new();
    };
    let message = error.message();
    let expects_text = message
        .split_once("expected ")
        .is_some_and(|(_, expected)| expected.contains("string"));
    let is_text = message.contains("invalid type: string");
    match expects_text && !is_text {
        true => format!(
            "; to set it as text, put it in quotes: --set '{}={:?}'",
            key.trim(),
            value.trim()
        ),
        false => String::new(),
    }
}

/// Turns a TOML or schema error into one line, with the line number if there is one, and a suggestion for an unknown
/// key.
fn explain(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    let place = error
        .span()
        .filter(|_| !text.is_empty())
        .map(|span| {
            format!(
                "line {}: ",
                text[..span.start.min(text.len())].matches('\n').count() + 1
            )
        })
        .unwrap_or_default();
    // serde says: unknown field `x`, expected one of `a`, `b` (or: expected `a`).
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown field"), &quoted[..]) {
        return format!(
            "{place}unknown key `{unknown}`{}",
            nearest(unknown, known.iter().copied())
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_else(|| format!("; known keys here: {}", known.join(", ")))
        );
    }
    // serde says: unknown variant `x`, expected one of `a`, `b` (or: expected `a`, or `a` or `b`).
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown variant"), &quoted[..]) {
        let name = nearest(unknown, known.iter().copied());
        let guess = name.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        return format!(
            "{place}`{unknown}` is not a value of this key, whose values are {}{guess}",
            known.join(", ")
        );
    }
    format!(
        "{place}{}",
        message
            .replace('\n', "; ")
            .replace("missing field", "missing key")
            .replace("expected usize", "expected a whole number from 0 on")
            .replace("expected u64", "expected a whole number from 0 on")
            .replace("expected f64", "expected a number")
    )
}
