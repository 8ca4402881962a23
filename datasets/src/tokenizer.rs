//! Text ⇄ token ids, one token per byte or one per character. Both are saved as a `tokenizer.json`
//! that Hugging Face `tokenizers` loads, and that gives the same ids there.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Map, Value, json};

use crate::DataError;

/// The tokenizers that [`Tokenizer::from_spec`] knows.
const BYTE: &str = "byte";
const CHAR: &str = "char";

/// A reversible map from text to token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Vocabulary {
    /// One token per byte of UTF-8; the id is the value of the byte.
    Byte,
    /// One token per character (Unicode scalar value). Sorted by code point: the id is the index.
    Char(Vec<char>),
}

impl Tokenizer {
    /// One token per byte of UTF-8: 256 tokens, and an id is the value of its byte.
    pub fn byte() -> Self {
        Self {
            vocabulary: Vocabulary::Byte,
        }
    }

    /// One token per distinct character of `text`, numbered from 0 in the order of code points.
    pub fn char(text: &str) -> Self {
        Self::from_characters(text.chars())
    }

    /// The tokenizer that `spec` names, `byte` or `char`; the latter has the characters of `text`.
    ///
    /// # Errors
    ///
    /// A `spec` that names no tokenizer.
    pub fn from_spec(spec: &str, text: &str) -> Result<Self, DataError> {
        Self::from_spec_and_characters(spec, text.chars())
    }

    pub(crate) fn from_spec_and_characters(
        spec: &str,
        characters: impl Iterator<Item = char>,
    ) -> Result<Self, DataError> {
        match spec {
            BYTE => Ok(Self::byte()),
            CHAR => Ok(Self::from_characters(characters)),
            _ => Err(DataError::UnknownTokenizer { spec: spec.into() }),
        }
    }

    fn from_characters(characters: impl Iterator<Item = char>) -> Self {
        let distinct: BTreeSet<char> = characters.collect();
        Self {
            vocabulary: Vocabulary::Char(distinct.into_iter().collect()),
        }
    }

    /// Reads what [`save`](Self::save) has written.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, that Hugging Face `tokenizers` does not load, or that holds a
    /// tokenizer other than the two of this module.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let json = fs::read_to_string(path).map_err(|reason| DataError::Read {
            path: path.into(),
            reason,
        })?;
        Self::from_json(&json).map_err(|reason| DataError::TokenizerFile {
            path: path.into(),
            reason,
        })
    }

    fn from_json(json: &str) -> Result<Self, String> {
        use tokenizers::{Model, ModelWrapper, Tokenizer as HuggingFace};

        // A canonical form, in which two tokenizers are the same if and only if the strings are.
        let canonical =
            |tokenizer: &HuggingFace| tokenizer.to_string(false).map_err(|e| e.to_string());

        let saved: HuggingFace = json.parse().map_err(|e: tokenizers::Error| e.to_string())?;
        let tokenizer = match saved.get_model() {
            ModelWrapper::BPE(_) => Self::byte(),
            ModelWrapper::WordLevel(model) => {
                let vocabulary = model.get_vocab();
                Self::from_characters(vocabulary.keys().flat_map(|token| token.chars()))
            }
            _ => return Err("it is neither a byte nor a char tokenizer".into()),
        };
        let rebuilt = tokenizer
            .to_json()
            .parse()
            .map_err(|e: tokenizers::Error| e.to_string())?;
        if canonical(&rebuilt)? == canonical(&saved)? {
            Ok(tokenizer)
        } else {
            Err("it is not one that this program has written".into())
        }
    }

    /// Writes [`to_json`](Self::to_json) to a file.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), DataError> {
        let path = path.as_ref();
        fs::write(path, self.to_json()).map_err(|reason| DataError::Write {
            path: path.into(),
            reason,
        })
    }

    /// The tokenizer in the format of Hugging Face `tokenizers` (`tokenizer.json`).
    pub fn to_json(&self) -> String {
        let (pre_tokenizer, decoder, model) = match &self.vocabulary {
            // Byte-pair encoding that merges nothing, over GPT-2's printable stand-ins for bytes.
            Vocabulary::Byte => {
                let byte_level = json!({
                    "type": "ByteLevel",
                    "add_prefix_space": false,
                    "trim_offsets": false,
                    "use_regex": false,
                });
                let model = json!({
                    "type": "BPE",
                    "dropout": null,
                    "unk_token": null,
                    "continuing_subword_prefix": null,
                    "end_of_word_suffix": null,
                    "fuse_unk": false,
                    "byte_fallback": false,
                    "ignore_merges": false,
                    "vocab": numbered(byte_level_alphabet()),
                    "merges": [],
                });
                (byte_level.clone(), byte_level, model)
            }
            // Every character is a word. The unknown token is required by the format; being absent
            // from the vocabulary, it makes an unknown character an error there as it is here.
            Vocabulary::Char(characters) => (
                json!({
                    "type": "Split",
                    "pattern": { "Regex": r"[\s\S]" },
                    "behavior": "Isolated",
                    "invert": false,
                }),
                json!({ "type": "Fuse" }),
                json!({
                    "type": "WordLevel",
                    "vocab": numbered(characters.iter().copied()),
                    "unk_token": "<unk>",
                }),
            ),
        };
        let json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [],
            "normalizer": null,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": null,
            "decoder": decoder,
            "model": model,
        });
        format!("{json:#}\n")
    }

    /// How many tokens there are; ids run from 0 up to it, exclusive.
    pub fn vocab_size(&self) -> usize {
        match &self.vocabulary {
            Vocabulary::Byte => 256,
            Vocabulary::Char(characters) => characters.len(),
        }
    }

    /// The ids of a text.
    ///
    /// # Errors
    ///
    /// A character that a `char` tokenizer does not have.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match &self.vocabulary {
            Vocabulary::Byte => Ok(text.bytes().map(u32::from).collect()),
            Vocabulary::Char(characters) => text
                .char_indices()
                .map(
                    |(offset, character)| match characters.binary_search(&character) {
                        // There are fewer characters in Unicode than 2^21.
                        Ok(index) => Ok(index as u32),
                        Err(_) => Err(DataError::UnknownCharacter {
                            character,
                            offset,
                            vocab_size: characters.len(),
                        }),
                    },
                )
                .collect(),
        }
    }

    /// The text of some ids. Where bytes are cut in the middle of a character, U+FFFD stands for
    /// them.
    ///
    /// # Errors
    ///
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let vocab_size = self.vocab_size();
        if let Some(position) = ids.iter().position(|&id| id as usize >= vocab_size) {
            return Err(DataError::TokenOutOfVocabulary {
                id: ids[position],
                vocab_size,
                position,
            });
        }
        Ok(match &self.vocabulary {
            Vocabulary::Byte => {
                let bytes: Vec<u8> = ids.iter().map(|&id| id as u8).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Vocabulary::Char(characters) => ids.iter().map(|&id| characters[id as usize]).collect(),
        })
    }

    /// How many bytes of UTF-8 each token stands for, by id. Bits per byte divide by these.
    pub fn token_lengths(&self) -> Vec<usize> {
        match &self.vocabulary {
            Vocabulary::Byte => vec![1; 256],
            Vocabulary::Char(characters) => characters.iter().map(|c| c.len_utf8()).collect(),
        }
    }
}

/// `{token: id}`, with the ids in order.
fn numbered(characters: impl IntoIterator<Item = char>) -> Map<String, Value> {
    characters
        .into_iter()
        .enumerate()
        .map(|(id, c)| (c.to_string(), id.into()))
        .collect()
}

/// The character that stands for each byte in byte-level vocabularies, by byte (Radford et al.
/// 2019, `encoder.py`): a printable byte is the character of that number, the others follow from
/// U+0100.
fn byte_level_alphabet() -> impl Iterator<Item = char> {
    let mut others = '\u{100}'..='\u{143}';
    (0..=u8::MAX).map(move |byte| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        _ => others.next().expect("68 bytes are not printable"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "To be,\r\nor\tnot: él 叫 🦀\u{0}\u{301} <unk> [UNK]";

    fn both(text: &str) -> [Tokenizer; 2] {
        [Tokenizer::byte(), Tokenizer::char(text)]
    }

    #[test]
    fn ids_are_bytes_or_ranks_of_code_points() {
        assert_eq!(Tokenizer::byte().encode("aé").unwrap(), [0x61, 0xC3, 0xA9]);
        let tokenizer = Tokenizer::char("béa, b");
        assert_eq!(tokenizer.vocab_size(), 5);
        assert_eq!(tokenizer.encode(" ,abé").unwrap(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn cut_characters_decode_with_a_mark() {
        assert_eq!(
            Tokenizer::byte().decode(&[0x61, 0xC3]).unwrap(),
            "a\u{FFFD}"
        );
    }

    proptest! {
        #[test]
        fn any_text_survives(text in any::<String>()) {
            for tokenizer in both(&text) {
                let ids = tokenizer.encode(&text).unwrap();
                prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_str());
                let lengths = tokenizer.token_lengths();
                prop_assert_eq!(lengths.len(), tokenizer.vocab_size());
                let bytes: usize = ids.iter().map(|&id| lengths[id as usize]).sum();
                prop_assert_eq!(bytes, text.len());
            }
        }
    }

    #[test]
    fn saved_and_loaded_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        for tokenizer in both(TEXT).into_iter().chain(both("")) {
            tokenizer.save(&path).unwrap();
            assert_eq!(Tokenizer::load(&path).unwrap(), tokenizer);
        }
    }

    #[test]
    fn the_known_tokenizers_are_named() {
        assert_eq!(
            Tokenizer::from_spec("byte", "ab").unwrap(),
            Tokenizer::byte()
        );
        assert_eq!(
            Tokenizer::from_spec("char", "ab").unwrap(),
            Tokenizer::char("ab")
        );
        let error = Tokenizer::from_spec("words", "ab").unwrap_err();
        assert!(matches!(error, DataError::UnknownTokenizer { .. }));
        for name in ["words", BYTE, CHAR] {
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn an_unknown_character_is_located() {
        let error = Tokenizer::char("aé").encode("éax").unwrap_err();
        assert!(
            matches!(
                error,
                DataError::UnknownCharacter {
                    character: 'x',
                    offset: 3,
                    vocab_size: 2
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn an_id_out_of_vocabulary_is_located() {
        for (tokenizer, id) in both("ab").into_iter().zip([256, 2]) {
            let error = tokenizer.decode(&[1, 0, id]).unwrap_err();
            let DataError::TokenOutOfVocabulary {
                id: found,
                vocab_size,
                position,
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!(
                (found, vocab_size, position),
                (id, tokenizer.vocab_size(), 2)
            );
        }
    }

    #[test]
    fn a_file_that_is_no_tokenizer_of_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let good = Tokenizer::char("abc").to_json();
        let renumbered = good.replace("\"c\": 2", "\"c\": 7");
        let merging = Tokenizer::byte()
            .to_json()
            .replace("\"merges\": []", "\"merges\": [[\"a\", \"b\"]]");
        let lowercased = good.replace(
            "\"normalizer\": null",
            "\"normalizer\": {\"type\": \"Lowercase\"}",
        );
        for bad in [
            "",
            "{}",
            "not json",
            &good[..good.len() / 2],
            &renumbered,
            &merging,
            &lowercased,
        ] {
            assert_ne!(bad, good);
            fs::write(&path, bad).unwrap();
            let error = Tokenizer::load(&path).unwrap_err();
            assert!(
                matches!(error, DataError::TokenizerFile { .. }),
                "{bad}: {error}"
            );
            assert!(error.to_string().contains("tokenizer.json"), "{error}");
        }
    }

    #[test]
    fn a_tokenizer_file_that_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/tokenizer.json");
        let error = Tokenizer::load(&path).unwrap_err();
        assert!(matches!(error, DataError::Read { .. }), "{error}");
        let error = Tokenizer::byte().save(&path).unwrap_err();
        assert!(matches!(error, DataError::Write { .. }), "{error}");
        assert!(
            error.to_string().contains("missing/tokenizer.json"),
            "{error}"
        );
    }
}
