//! Equality and difference of tokenizers.

use std::sync::Arc;

use super::{
    convert::{Kind, Tokenizer},
    hugging_face::HuggingFace,
};

impl Tokenizer {
    /// Describes the first difference from `other` that changes the ids of a text or the text of ids: another token at
    /// an id, a missing token, or another rule of splitting texts. `None` if every id and every text mean the same in
    /// both. White space and order in a `tokenizer.json`, tokens put around a text, and decoding are not compared.
    /// Special tokens that only one of the two has are ignored, because they are not part of texts.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        for id in 0..self.tokens.len().max(other.tokens.len()) as u32 {
            let known = |tokenizer: &Self| (id as usize) < tokenizer.tokens.len();
            let (ours, theirs) = (self.tokens.displayed(id), other.tokens.displayed(id));
            let special = self.tokens.is_special(id) || other.tokens.is_special(id);
            let display = |tokenizer: &Self| match known(tokenizer) {
                true => format!("{:?}", tokenizer.token_text(id)),
                false => "missing".into(),
            };
            let differs = match known(self) && known(other) {
                true => ours != theirs || self.tokens.is_special(id) != other.tokens.is_special(id),
                false => !special,
            };
            if differs {
                return Some(format!(
                    "id {id} is {} and {}",
                    display(self),
                    display(other)
                ));
            }
        }
        let (ours, theirs) = (self.rules(), other.rules());
        ["normalizer", "pre_tokenizer", "model", "added_tokens"]
            .into_iter()
            .find(|part| ours[*part] != theirs[*part])
            .map(|part| format!("the tokens are the same, but the {part} differs"))
    }

    /// Returns the parts of the `tokenizer.json` that determine the ids of a text.
    fn rules(&self) -> serde_json::Value {
        let json = match &self.kind {
            Kind::HuggingFace(loaded) => loaded.json().to_owned(),
            // The library rewrites the JSON, so that it can be compared with other JSON of the library.
            Kind::Byte | Kind::Char(_) => {
                let written = self.to_json();
                HuggingFace::from_json(&written)
                    .map_or(written, |(loaded, _)| loaded.json().to_owned())
            }
        };
        let mut rules: serde_json::Value =
            serde_json::from_str(&json).expect("the library writes JSON");
        if let Some(tokens) = rules["added_tokens"].as_array_mut() {
            tokens.retain(|token| token["special"] != true);
        }
        without_offsets(&mut rules["pre_tokenizer"]);
        rules
    }
}

/// Removes the settings of offsets from a pre-tokenizer, because they do not change ids.
fn without_offsets(part: &mut serde_json::Value) {
    if let Some(fields) = part.as_object_mut() {
        fields.shift_remove("trim_offsets");
        fields.values_mut().for_each(without_offsets);
    }
    if let Some(parts) = part.as_array_mut() {
        parts.iter_mut().for_each(without_offsets);
    }
}

/// Compares what [`Tokenizer::save`] writes.
impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Byte, Kind::Byte) => self.end_of_text == other.end_of_text,
            (Kind::Char(ours), Kind::Char(theirs)) => {
                ours == theirs && self.end_of_text == other.end_of_text
            }
            (Kind::HuggingFace(ours), Kind::HuggingFace(theirs)) => {
                Arc::ptr_eq(ours, theirs) || ours.json() == theirs.json()
            }
            _ => false,
        }
    }
}

impl Eq for Tokenizer {}
