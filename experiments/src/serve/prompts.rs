//! The forms in which a request gives its prompts. They are read without an intermediate value, so that a long list of
//! numbers takes no more memory than its ids.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// The forms of `prompt`.
pub(super) enum Prompts {
    Texts(Vec<String>),
    Tokens(Vec<Vec<u32>>),
}

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptsVisitor)
    }
}

pub(super) const FORMS: &str =
    "a string, a list of strings, a list of token ids, or a list of lists of token ids";

struct PromptsVisitor;

impl<'de> Visitor<'de> for PromptsVisitor {
    type Value = Prompts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(FORMS)
    }

    fn visit_str<E>(self, text: &str) -> Result<Prompts, E> {
        Ok(Prompts::Texts(vec![text.into()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Prompts, A::Error> {
        let mixed = || A::Error::custom(format!("prompt mixes kinds; give {FORMS}"));
        let mut prompts = match list.next_element::<Element>()? {
            None => return Err(A::Error::custom("prompt is an empty list")),
            Some(Element::Text(text)) => Prompts::Texts(vec![text]),
            Some(Element::Tokens(ids)) => Prompts::Tokens(vec![ids]),
            Some(Element::Token(first)) => {
                let mut ids = vec![first];
                while let Some(id) = list.next_element::<u32>()? {
                    ids.push(id);
                }
                return Ok(Prompts::Tokens(vec![ids]));
            }
        };
        while let Some(element) = list.next_element::<Element>()? {
            match (&mut prompts, element) {
                (Prompts::Texts(texts), Element::Text(text)) => texts.push(text),
                (Prompts::Tokens(lists), Element::Tokens(ids)) => lists.push(ids),
                _ => return Err(mixed()),
            }
        }
        Ok(prompts)
    }
}

/// An element of a list of prompts.
enum Element {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;

        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string, a token id, or a list of token ids")
            }

            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.into()))
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Element, E> {
                let id = u32::try_from(id);
                id.map(Element::Token)
                    .map_err(|_| E::custom("a token id is larger than any vocabulary"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = list.next_element()? {
                    ids.push(id);
                }
                Ok(Element::Tokens(ids))
            }
        }

        deserializer.deserialize_any(ElementVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(json: &str) -> Result<Prompts, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn all_forms_of_prompts_are_read() {
        let texts = |json| match prompts(json) {
            Ok(Prompts::Texts(texts)) => texts,
            _ => panic!("{json}"),
        };
        assert_eq!(texts(r#""""#), [""]);
        assert_eq!(texts(r#"["a", "bc"]"#), ["a", "bc"]);
        let tokens = |json| match prompts(json) {
            Ok(Prompts::Tokens(lists)) => lists,
            _ => panic!("{json}"),
        };
        assert_eq!(tokens("[1, 2]"), [[1, 2]]);
        assert_eq!(tokens("[[1, 2], [], [3]]"), [vec![1, 2], vec![], vec![3]]);
        for json in [
            "1",
            "{}",
            "null",
            "[]",
            "[1, \"a\"]",
            "[\"a\", 1]",
            "[[1], 2]",
            "[[1], \"a\"]",
            "[-1]",
            "[1.5]",
            "[4294967296]",
            "[[[1]]]",
            "[[\"a\"]]",
            "[true]",
        ] {
            assert!(prompts(json).is_err(), "{json}");
        }
    }
}
