//! Values of a record by their columns; errors are messages that name the column.

use std::collections::BTreeMap;

use serde_json::Value;

/// Maximum number of choices of an item. Every choice is read by the model by itself.
pub const MAX_CHOICES: usize = 128;

/// Values of a record.
pub(super) struct Fields<'r>(pub(super) &'r BTreeMap<&'static str, Value>);

impl<'r> Fields<'r> {
    fn get(&self, name: &str) -> &'r Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// Returns a string.
    pub(super) fn text(&self, name: &str) -> Result<&'r str, String> {
        let value = self.get(name);
        value
            .as_str()
            .ok_or_else(|| format!("{name:?} is {}, not a string", kind(value)))
    }

    /// Returns the strings of a list.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<&'r str>, String> {
        let value = self.get(name);
        let list = value
            .as_array()
            .ok_or_else(|| format!("{name:?} is {}, not a list of strings", kind(value)))?;
        // A longer list is refused anyway.
        list.iter()
            .take(MAX_CHOICES + 1)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| format!("{name:?} contains {}, not only strings", kind(value)))
            })
            .collect()
    }

    /// Returns an index, which data sets write as a number or as a string.
    pub(super) fn index(&self, name: &str) -> Result<usize, String> {
        let value = self.get(name);
        let number = match value {
            Value::String(text) => text.parse().ok(),
            value => value
                .as_u64()
                .and_then(|number| usize::try_from(number).ok()),
        };
        number.ok_or_else(|| match value {
            // Published test files hide their labels so.
            Value::String(text) if text.is_empty() => {
                format!("{name:?} is empty: this file has no labels, so take the validation file")
            }
            Value::Number(number) if number.as_i64() == Some(-1) => {
                format!("{name:?} is -1: this file has no labels, so take the validation file")
            }
            value => format!("{name:?} is {}, not an index from 0 on", shown(value)),
        })
    }

    /// Returns the first of these columns that the record has.
    pub(super) fn id(&self, names: &[&str]) -> Result<Option<String>, String> {
        let mut ids = names
            .iter()
            .filter_map(|name| Some((*name, self.0.get(name)?)));
        match ids.find(|(_, id)| !id.is_null()) {
            None => Ok(None),
            Some((_, Value::String(id))) => Ok(Some(id.clone())),
            Some((_, Value::Number(id))) => Ok(Some(id.to_string())),
            Some((name, id)) => Err(format!(
                "{name:?} is {}, not a string or a number",
                kind(id)
            )),
        }
    }
}

/// Describes a value in a message.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() <= 40 => format!("{text:?}"),
        Value::Number(number) => number.to_string(),
        value => kind(value).into(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
