//! The text of a plan as a table of leaves, in the order of the file and with their places.

use std::borrow::Cow;

use foretoken_datasets::files::printable;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::range;
use crate::Error;

/// A leaf of the file, with its place.
pub(super) struct Leaf<'a> {
    pub(super) key: String,
    /// Byte at which its key begins.
    pub(super) at: usize,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

/// The text of a plan, for values and for the lines in messages.
pub(super) struct PlanFile<'a> {
    pub(super) text: &'a str,
    pub(super) origin: &'a str,
}

impl PlanFile<'_> {
    pub(super) fn refused(&self, at: usize, message: &str) -> Error {
        let line = self.text[..at.min(self.text.len())].matches('\n').count() + 1;
        Error::Experiment {
            origin: self.origin.into(),
            message: printable(&format!("line {line}: {message}")),
        }
    }

    /// Returns the entries of a table in the order of the file.
    pub(super) fn in_order<'t>(
        &self,
        table: &'t DeTable<'t>,
    ) -> Vec<(&'t Spanned<Cow<'t, str>>, &'t Spanned<DeValue<'t>>)> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    pub(super) fn text_of(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, Error> {
        match value.get_ref().as_str() {
            Some(text) => Ok(text.into()),
            None => Err(self.refused(value.span().start, &format!("{key}: expected a text"))),
        }
    }

    /// Returns the leaves of a table with their dotted keys, in the order of the file. Tables of ranges are leaves too
    /// if `with_ranges`.
    pub(super) fn leaves<'t>(
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
    pub(super) fn value(&self, value: &Spanned<DeValue<'_>>) -> toml::Value {
        let text = &self.text[value.span()];
        let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"));
        // What was parsed once is parsed again.
        parsed
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(text.into()))
    }
}
