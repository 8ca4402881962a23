//! Values in the body of a request. They are read without a tree of values, so that a long list of numbers takes no more
//! memory than its ids, and before they are checked, so that each fault names its key.

use std::fmt;

use foretoken_datasets::files::printable;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::Number;

use super::failure::Failure;
use crate::spelling::nearest;

/// Maximum number of characters of a value or a key in a message.
const SHOWN: usize = 40;

/// A value of JSON, as far as a request can use it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    EmptyList,
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
    /// A list that no key takes, and why.
    OtherList(&'static str),
    Object {
        is_empty: bool,
    },
}

impl Given {
    /// Describes the value for a message.
    fn shown(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => {
                let short: String = text.chars().take(SHOWN).collect();
                let more = if short.len() < text.len() { "…" } else { "" };
                format!("{:?}", short + more)
            }
            Self::EmptyList => "an empty list".into(),
            Self::Texts(_) => "a list of strings".into(),
            Self::Tokens(_) => "a list of numbers".into(),
            Self::TokenLists(_) => "a list of lists".into(),
            Self::OtherList(_) => "a list".into(),
            Self::Object { .. } => "an object".into(),
        }
    }
}

struct GivenVisitor;

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor)
    }
}

const MIXED: &str = "it mixes kinds";
const NO_ID: &str = "a token id is a whole number from 0 to 4294967295";

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Given, E> {
        Ok(Given::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Given, E> {
        Ok(Given::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Given, E> {
        Ok(Given::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Given, E> {
        Ok(Given::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Given, E> {
        let number = Number::from_f64(value);
        let number = number.ok_or_else(|| E::custom("a number is not finite"))?;
        Ok(Given::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Given, E> {
        Ok(Given::Text(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Given, E> {
        Ok(Given::Text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        let mut is_empty = true;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            is_empty = false;
        }
        Ok(Given::Object { is_empty })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Given, A::Error> {
        let mut given = Given::EmptyList;
        while let Some(element) = list.next_element::<Given>()? {
            match (&mut given, element) {
                (Given::EmptyList, Given::Text(text)) => given = Given::Texts(vec![text]),
                (Given::Texts(texts), Given::Text(text)) => texts.push(text),
                (Given::EmptyList, Given::Tokens(ids)) => given = Given::TokenLists(vec![ids]),
                (Given::EmptyList, Given::EmptyList) => given = Given::TokenLists(vec![vec![]]),
                (Given::TokenLists(lists), Given::Tokens(ids)) => lists.push(ids),
                (Given::TokenLists(lists), Given::EmptyList) => lists.push(Vec::new()),
                (Given::EmptyList | Given::Tokens(_), Given::Number(number)) => {
                    let id = number.as_u64().and_then(|id| u32::try_from(id).ok());
                    match (id, &mut given) {
                        (Some(id), Given::Tokens(ids)) => ids.push(id),
                        (Some(id), _) => given = Given::Tokens(vec![id]),
                        (None, _) => given = Given::OtherList(NO_ID),
                    }
                }
                (Given::OtherList(_), _) => {}
                (_, Given::OtherList(reason)) => given = Given::OtherList(reason),
                _ => given = Given::OtherList(MIXED),
            }
        }
        Ok(given)
    }
}

/// The object in the body of a request.
pub(super) struct Fields {
    values: Vec<(&'static str, Given)>,
}

impl Fields {
    /// Reads an object that has some of the `known` keys.
    ///
    /// # Errors
    ///
    /// Returns a failure if the body is not a JSON object, or has another key, or one twice.
    pub(super) fn read(body: &[u8], known: &'static [&'static str]) -> Result<Self, Failure> {
        let (fields, unknown) = Self::read_some(body, known)?;
        unknown.map_or(Ok(fields), Err)
    }

    /// Reads the `known` keys of an object, and returns the failure that another key would be.
    ///
    /// # Errors
    ///
    /// Returns a failure if the body is not a JSON object, or has a key twice.
    pub(super) fn read_some(
        body: &[u8],
        known: &'static [&'static str],
    ) -> Result<(Self, Option<Failure>), Failure> {
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Failure::invalid(
                None,
                format!("the body must be a JSON object with the key {}", known[0]),
            ));
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let mut fields = Self { values: Vec::new() };
        let (mut twice, mut other) = (None, None);
        let reader = FieldsReader {
            known,
            values: &mut fields.values,
            twice: &mut twice,
            other: &mut other,
        };
        let read = reader.deserialize(&mut json).and_then(|()| json.end());
        read.map_err(|error| {
            let message = format!("the body is not JSON: {}", printable(&error.to_string()));
            Failure::invalid(None, message)
        })?;
        twice.map_or(Ok((fields, other)), Err)
    }

    /// Removes the value of a key; `None` if it is missing or null.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Given> {
        let place = self.values.iter().position(|(name, _)| *name == key)?;
        let (_, given) = self.values.swap_remove(place);
        (given != Given::Null).then_some(given)
    }

    /// Removes the value of a key that `read` understands.
    ///
    /// # Errors
    ///
    /// Returns a failure that says what was `expected` if `read` returns `None`.
    fn take_as<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Given) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(given) = self.take(key) else {
            return Ok(None);
        };
        match read(&given) {
            Some(value) => Ok(Some(value)),
            None => Err(wrong(key, expected, &given)),
        }
    }

    /// Removes a whole number that `accepts` accepts; `range` describes these, such as `from 1 to 512`.
    pub(super) fn whole(
        &mut self,
        key: &'static str,
        range: &str,
        accepts: impl Fn(u64) -> bool,
    ) -> Result<Option<usize>, Failure> {
        let expected = format!("a whole number {range}");
        self.take_as(key, &expected, |given| match given {
            Given::Number(number) => {
                let number = number.as_u64().filter(|number| accepts(*number))?;
                Some(usize::try_from(number).unwrap_or(usize::MAX))
            }
            _ => None,
        })
    }

    /// Removes a whole number of 64 bits with a sign.
    pub(super) fn signed(&mut self, key: &'static str) -> Result<Option<i64>, Failure> {
        let expected = format!("a whole number from {} to {}", i64::MIN, i64::MAX);
        self.take_as(key, &expected, |given| match given {
            Given::Number(number) => number.as_i64(),
            _ => None,
        })
    }

    pub(super) fn number(&mut self, key: &'static str) -> Result<Option<f64>, Failure> {
        self.take_as(key, "a number", |given| match given {
            Given::Number(number) => number.as_f64(),
            _ => None,
        })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, Failure> {
        self.take_as(key, "true or false", |given| match given {
            Given::Bool(value) => Some(*value),
            _ => None,
        })
    }

    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Failure> {
        match self.take(key) {
            None => Ok(None),
            Some(Given::Text(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(key, "a string", &other)),
        }
    }
}

/// Returns the failure for a value that a key does not take.
pub(super) fn wrong(key: &'static str, expected: &str, given: &Given) -> Failure {
    let found = match given {
        Given::OtherList(reason) => format!("this list: {reason}"),
        given => printable(&given.shown()),
    };
    Failure::invalid(Some(key), format!("{key} must be {expected}, not {found}"))
}

/// Reads the keys and values of an object.
struct FieldsReader<'r> {
    known: &'static [&'static str],
    values: &'r mut Vec<(&'static str, Given)>,
    twice: &'r mut Option<Failure>,
    other: &'r mut Option<Failure>,
}

impl<'de> DeserializeSeed<'de> for FieldsReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsReader<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let Some(name) = self.known.iter().find(|name| **name == key) else {
                self.other.get_or_insert_with(|| unknown(&key, self.known));
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let given = map
                .next_value()
                .map_err(|error| A::Error::custom(format!("the value of {name}: {error}")))?;
            if self.values.iter().any(|(other, _)| other == name) {
                let message = format!("{name} is given twice; give it once");
                self.twice
                    .get_or_insert_with(|| Failure::invalid(Some(name), message));
            } else {
                self.values.push((name, given));
            }
        }
        Ok(())
    }
}

fn unknown(key: &str, known: &[&'static str]) -> Failure {
    let short: String = key.chars().take(SHOWN).collect();
    let advice = match nearest(&short, known.iter().copied()) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("the keys are {}", known.join(", ")),
    };
    let message = format!("there is no key {}; {advice}", printable(&short));
    Failure::invalid(None, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(json: &str) -> Given {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn lists_are_read_by_the_kind_of_their_elements() {
        assert_eq!(
            given(r#"["a", "bc"]"#),
            Given::Texts(vec!["a".into(), "bc".into()])
        );
        assert_eq!(given("[1, 2]"), Given::Tokens(vec![1, 2]));
        assert_eq!(
            given("[[1, 2], [], [3]]"),
            Given::TokenLists(vec![vec![1, 2], vec![], vec![3]])
        );
        assert_eq!(given("[[]]"), Given::TokenLists(vec![vec![]]));
        assert_eq!(given("[]"), Given::EmptyList);
        for json in [
            "[1, \"a\"]",
            "[\"a\", 1]",
            "[[1], 2]",
            "[[1], \"a\"]",
            "[[[1]]]",
            "[[\"a\"]]",
            "[true]",
            "[null]",
            "[{}]",
        ] {
            assert_eq!(given(json), Given::OtherList(MIXED), "{json}");
        }
        for json in ["[-1]", "[1.5]", "[1, 4294967296]", "[[1], [2, -3]]"] {
            assert_eq!(given(json), Given::OtherList(NO_ID), "{json}");
        }
    }

    #[test]
    fn every_fault_names_its_key_and_no_type_of_rust() {
        const KEYS: [&str; 3] = ["tokens", "max_tokens", "echo"];
        let message = |json: &str| {
            let read = Fields::read(json.as_bytes(), &KEYS).and_then(|mut fields| {
                fields.whole("max_tokens", "from 0 to 16", |count| count <= 16)?;
                fields.flag("echo")
            });
            let message = read.err().map(|failure| failure.body());
            message.unwrap_or_default()
        };
        assert_eq!(message(r#"{"max_tokens": 16, "echo": true}"#), "");
        assert_eq!(message(r#"{"max_tokens": null}"#), "");
        for (json, part) in [
            (
                r#"{"max_tokens": "ten"}"#,
                r#"max_tokens must be a whole number from 0 to 16, not \"ten\""#,
            ),
            (r#"{"max_tokens": 17}"#, "from 0 to 16, not 17"),
            (r#"{"max_tokens": -1}"#, "not -1"),
            (r#"{"max_tokens": 1.5}"#, "not 1.5"),
            (r#"{"max_tokens": 1e300}"#, "not 1e+300"),
            (r#"{"max_tokens": [1]}"#, "not a list of numbers"),
            (r#"{"max_tokens": {"a": [{}]}}"#, "not an object"),
            (r#"{"echo": 1}"#, "echo must be true or false, not 1"),
            (r#"{"echo": "\u001b\n"}"#, "echo must be true or false"),
            (r#"{"echo": true, "echo": false}"#, "echo is given twice"),
            (r#"{"max_token": 5}"#, "did you mean max_tokens?"),
            (r#"{"zzz": 5}"#, "the keys are tokens, max_tokens, echo"),
            ("[1]", "a JSON object"),
            ("", "a JSON object"),
            ("{", "not JSON: EOF"),
            (r#"{"echo": tru}"#, "not JSON"),
            (r#"{"echo": true} x"#, "not JSON"),
        ] {
            let message = message(json);
            assert!(message.contains(part), "{json}: {message}");
            for rust in ["u32", "usize", "f64", "invalid type", "struct", "expected"] {
                assert!(
                    !message.contains(rust) || json.contains("tru}"),
                    "{message}"
                );
            }
            assert!(!message.chars().any(char::is_control));
        }
    }
}
