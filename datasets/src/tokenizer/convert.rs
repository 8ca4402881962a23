//! Creation, loading and saving of tokenizers, encoding and decoding.

use std::{fmt, fs, path::Path, sync::Arc};

use tokenizers::{Model, ModelWrapper};

use super::{
    characters::Characters,
    end_of_text::END_OF_TEXT,
    hugging_face::{HuggingFace, MAX_TOKENS, MIN_BPE_TOKENS},
    native,
    spec::{self, TokenizerSpec},
    token_bytes::TokenBytes,
};
use crate::DataError;
use crate::files::{LARGEST_TOKENIZER, read_small_text};

/// Conversion of text to token ids and back. Cloning shares the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    pub(super) kind: Kind,
    pub(super) tokens: Arc<TokenBytes>,
    pub(super) end_of_text: Option<u32>,
}

/// Kind of a tokenizer, with its data.
#[derive(Clone)]
pub(super) enum Kind {
    /// One token per byte of UTF-8, whose value is the id.
    Byte,
    /// One token per character (Unicode scalar value), sorted by code point; the index is the id.
    Char(Arc<[char]>),
    /// All others.
    HuggingFace(Arc<HuggingFace>),
}

/// Options of [`Tokenizer::train`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainOptions {
    /// Whether to add an end-of-text token if there is none. A trained byte-pair encoding always has one.
    pub end_of_text: bool,
    /// Whether to draw progress bars while a byte-pair encoding is trained, if stdout and stderr are a terminal.
    pub progress: bool,
}

impl Tokenizer {
    /// Creates the tokenizer with one token per byte of UTF-8: 256 tokens, whose ids are the values of the bytes.
    pub fn byte() -> Self {
        let mut tokens = TokenBytes::default();
        for byte in 0..=u8::MAX {
            tokens.push(&[byte], false);
        }
        Self {
            kind: Kind::Byte,
            tokens: tokens.into(),
            end_of_text: None,
        }
    }

    /// Creates a tokenizer with one token per distinct character of `text`, numbered from 0 in the order of code
    /// points.
    pub fn char(text: &str) -> Self {
        let mut characters = Characters::default();
        characters.add(text);
        Self::from_characters(&characters)
    }

    fn from_characters(characters: &Characters) -> Self {
        let characters = characters.sorted();
        let mut tokens = TokenBytes::default();
        for character in &characters {
            tokens.push(character.encode_utf8(&mut [0; 4]).as_bytes(), false);
        }
        Self {
            kind: Kind::Char(characters.into()),
            tokens: tokens.into(),
            end_of_text: None,
        }
    }

    /// Creates the tokenizer that `spec` names (see [`TokenizerSpec`]). `char` and `bpe` are trained on `text`.
    ///
    /// # Errors
    ///
    /// A `spec` that does not name a tokenizer, and an invalid file.
    pub fn from_spec(spec: &str, text: &str) -> Result<Self, DataError> {
        let texts = std::iter::once(Ok(text));
        Self::train(&spec.parse()?, texts, TrainOptions::default())
    }

    /// Creates the tokenizer that `spec` names. A `char` tokenizer has the characters of `texts`, and a byte-pair
    /// encoding their most frequent parts; the other kinds read no text. Texts are read in sequence and not kept. The
    /// same texts give the same tokenizer.
    ///
    /// A byte-pair encoding splits texts like GPT-2, but into words of at most 256 characters. Its tokens are the 256
    /// bytes, merged tokens, and `<|endoftext|>` as the last one. It is smaller than requested if no pair that occurs
    /// twice is left to merge. It is trained on the first 2 GiB of text; if these have more than 2 MiB of different
    /// words, on the more frequent ones.
    ///
    /// # Errors
    ///
    /// The first error of `texts`, a size that is out of range, or an invalid file.
    pub fn train<T: AsRef<str> + Send>(
        spec: &TokenizerSpec,
        texts: impl Iterator<Item = Result<T, DataError>> + Send,
        options: TrainOptions,
    ) -> Result<Self, DataError> {
        let tokenizer = match spec {
            TokenizerSpec::Byte => Self::byte(),
            TokenizerSpec::Char => {
                let mut characters = Characters::default();
                for text in texts {
                    characters.add(text?.as_ref());
                }
                Self::from_characters(&characters)
            }
            &TokenizerSpec::Bpe { vocab_size } => {
                if !(MIN_BPE_TOKENS..=MAX_TOKENS).contains(&vocab_size) {
                    return Err(spec::bad_vocab_size(&spec.to_string()));
                }
                HuggingFace::train(vocab_size, texts, options.progress)?.into()
            }
            TokenizerSpec::File(path) => Self::load(path)?,
        };
        Ok(if options.end_of_text {
            tokenizer.with_end_of_text()
        } else {
            tokenizer
        })
    }

    /// Adds an [`end_of_text`](Self::end_of_text) if there is none: `<|endoftext|>` gets the next free id.
    #[must_use]
    pub fn with_end_of_text(self) -> Self {
        if self.end_of_text.is_some() {
            return self;
        }
        match &self.kind {
            Kind::Byte | Kind::Char(_) => {
                let mut tokens = TokenBytes::default();
                for id in 0..self.tokens.len() as u32 {
                    tokens.push(self.tokens.displayed(id), false);
                }
                tokens.push(END_OF_TEXT.as_bytes(), true);
                Self {
                    end_of_text: Some(self.tokens.len() as u32),
                    tokens: tokens.into(),
                    kind: self.kind,
                }
            }
            Kind::HuggingFace(loaded) => loaded
                .with_end_of_text()
                .expect("loading checks that the next id is free")
                .into(),
        }
    }

    /// Reads a `tokenizer.json` of this or another program. Its truncation, padding and dropout are ignored.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, that Hugging Face `tokenizers` does not load, in which two tokens have the same id,
    /// or that has an id of 2^24 or more.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let json = read_small_text(path, LARGEST_TOKENIZER).map_err(|reason| DataError::Read {
            path: path.into(),
            reason,
        })?;
        Self::from_json(&json).map_err(|reason| DataError::TokenizerFile {
            path: path.into(),
            reason,
        })
    }

    pub(super) fn from_json(json: &str) -> Result<Self, String> {
        let (loaded, tokens) = HuggingFace::from_json(json)?;
        Ok(match Self::native(&loaded) {
            Some(native) => native,
            None => (loaded, tokens).into(),
        })
    }

    /// Returns the byte or char tokenizer that was saved as `loaded`; `None` for any other tokenizer.
    fn native(loaded: &HuggingFace) -> Option<Self> {
        let native = match loaded.model() {
            ModelWrapper::BPE(model) if model.get_vocab_size() == 256 => Self::byte(),
            ModelWrapper::WordLevel(model) => {
                let mut characters = Characters::default();
                for token in model.get_vocab().keys() {
                    characters.add(token);
                }
                Self::from_characters(&characters)
            }
            _ => return None,
        };
        let native = match loaded.end_of_text() {
            Some(_) => native.with_end_of_text(),
            None => native,
        };
        // The library writes the same JSON if and only if the tokenizers are equal.
        let (written, _) = HuggingFace::from_json(&native.to_json()).ok()?;
        (written.json() == loaded.json()).then_some(native)
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

    /// Returns the tokenizer in the format of Hugging Face `tokenizers` (`tokenizer.json`).
    pub fn to_json(&self) -> String {
        match &self.kind {
            Kind::Byte => native::byte(self.end_of_text),
            Kind::Char(characters) => native::char(characters, self.end_of_text),
            Kind::HuggingFace(loaded) => loaded.json().into(),
        }
    }

    /// Returns the largest token id plus 1. It is the number of tokens, including added ones, if ids have no gaps.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// Returns the id of the special token that ends a text, such as `<|endoftext|>` or `</s>`.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// Encodes a text. Names of special tokens in it are encoded as text, and no special token is added. A long text
    /// may be encoded on several threads.
    ///
    /// # Errors
    ///
    /// A character that a `char` tokenizer does not have, or a failure of the tokenizer of a file.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        if let Kind::HuggingFace(loaded) = &self.kind {
            return loaded.encode(text);
        }
        let mut ids = Vec::with_capacity(text.len());
        self.encode_part(text, 0..text.len(), &mut ids)?;
        Ok(ids)
    }

    /// Encodes a text in which names of special tokens stand for these tokens. Use it for trusted text only: any other
    /// text may contain `<|endoftext|>` by accident or on purpose.
    ///
    /// # Errors
    ///
    /// The errors of [`encode`](Self::encode).
    pub fn encode_with_special_tokens(&self, text: &str) -> Result<Vec<u32>, DataError> {
        if let Kind::HuggingFace(loaded) = &self.kind {
            return loaded.encode_with_special_tokens(text);
        }
        let mut ids = Vec::with_capacity(text.len());
        let mut start = 0;
        if let Some(end_of_text) = self.end_of_text {
            for (end, name) in text.match_indices(END_OF_TEXT) {
                self.encode_part(text, start..end, &mut ids)?;
                ids.push(end_of_text);
                start = end + name.len();
            }
        }
        self.encode_part(text, start..text.len(), &mut ids)?;
        Ok(ids)
    }

    /// Returns the length of a prefix of `text` that can be encoded apart from the rest: the encoding of the prefix
    /// followed by that of the rest is the encoding of all, whatever follows `text`. 0 if no such prefix is known.
    pub(crate) fn stable_prefix(&self, text: &str, special_tokens: bool) -> usize {
        match &self.kind {
            Kind::HuggingFace(loaded) => loaded.stable_prefix(text, special_tokens),
            Kind::Byte | Kind::Char(_) if special_tokens && self.end_of_text.is_some() => {
                // The name of the end-of-text token may have begun.
                let begun = (1..END_OF_TEXT.len())
                    .rev()
                    .find(|&bytes| text.ends_with(&END_OF_TEXT[..bytes]));
                text.len() - begun.unwrap_or(0)
            }
            Kind::Byte | Kind::Char(_) => text.len(),
        }
    }

    /// Returns what [`stable_prefix`](Self::stable_prefix) does, for training a tokenizer of this kind.
    pub(crate) fn stable_prefix_for_training(spec: &TokenizerSpec, text: &str) -> usize {
        match spec {
            TokenizerSpec::Bpe { .. } => HuggingFace::stable_prefix_for_training(text),
            TokenizerSpec::Byte | TokenizerSpec::Char | TokenizerSpec::File(_) => text.len(),
        }
    }

    /// Appends the ids of a part of a text, byte by byte or character by character.
    fn encode_part(
        &self,
        text: &str,
        part: std::ops::Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<(), DataError> {
        let start = part.start;
        let Kind::Char(characters) = &self.kind else {
            ids.extend(text[part].bytes().map(u32::from));
            return Ok(());
        };
        for (offset, character) in text[part].char_indices() {
            match characters.binary_search(&character) {
                // Unicode has fewer than 2^21 characters.
                Ok(index) => ids.push(index as u32),
                Err(_) => {
                    return Err(DataError::UnknownCharacter {
                        character,
                        offset: start + offset,
                        vocab_size: characters.len(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Decodes ids, with special tokens as their names. Bytes of an incomplete character become U+FFFD.
    ///
    /// # Errors
    ///
    /// An id outside the vocabulary, or a failure of the tokenizer of a file.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let vocab_size = self.vocab_size();
        if let Some(position) = ids.iter().position(|&id| id as usize >= vocab_size) {
            return Err(DataError::TokenOutOfVocabulary {
                id: ids[position],
                vocab_size,
                position,
            });
        }
        if let Kind::HuggingFace(loaded) = &self.kind
            && !self.is_bytes()
        {
            return loaded.decode(ids);
        }
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.tokens.displayed(id));
        }
        Ok(match String::from_utf8_lossy(&bytes) {
            std::borrow::Cow::Owned(marked) => marked,
            std::borrow::Cow::Borrowed(text) => text.into(),
        })
    }

    /// Whether the bytes of tokens in sequence are their text.
    pub(super) fn is_bytes(&self) -> bool {
        match &self.kind {
            Kind::Byte | Kind::Char(_) => true,
            Kind::HuggingFace(loaded) => loaded.is_byte_level(),
        }
    }

    /// Returns the special tokens that the file puts before every text, such as `<s>` of Llama. A model that was
    /// trained with them expects them; [`encode`](Self::encode) omits them.
    ///
    /// # Errors
    ///
    /// A failure of the tokenizer of a file.
    pub fn start_of_text(&self) -> Result<Vec<u32>, DataError> {
        match &self.kind {
            Kind::Byte | Kind::Char(_) => Ok(Vec::new()),
            Kind::HuggingFace(loaded) => loaded.start_of_text(),
        }
    }

    /// Returns the bytes of text that a token stands for, which may be an incomplete character. Special tokens, which
    /// are not text, and ids outside the vocabulary have none.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.tokens.text(id)
    }

    /// Returns a token for display: the name of a special token, and U+FFFD for incomplete characters.
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.tokens.displayed(id)).into_owned()
    }

    /// Returns the lengths of [`token_bytes`](Self::token_bytes) by id. Bits per byte divide by these.
    pub fn token_lengths(&self) -> Vec<usize> {
        (0..self.vocab_size() as u32)
            .map(|id| self.token_bytes(id).len())
            .collect()
    }

    /// Whether the bytes of the tokens of any text in sequence are the text. This holds for byte, char and the usual
    /// byte-level vocabularies. It does not hold for a tokenizer that changes the text (a space before it, lower case,
    /// a normal form, unknown words); its token lengths count the text that `decode` gives.
    pub fn is_exact(&self) -> bool {
        match &self.kind {
            Kind::Byte | Kind::Char(_) => true,
            Kind::HuggingFace(loaded) => loaded.is_exact(),
        }
    }
}

impl From<(HuggingFace, TokenBytes)> for Tokenizer {
    fn from((loaded, tokens): (HuggingFace, TokenBytes)) -> Self {
        Self {
            end_of_text: loaded.end_of_text(),
            kind: Kind::HuggingFace(loaded.into()),
            tokens: tokens.into(),
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Byte => "byte",
            Kind::Char(_) => "char",
            Kind::HuggingFace(_) => "Hugging Face",
        };
        f.debug_struct("Tokenizer")
            .field("kind", &kind)
            .field("vocab_size", &self.vocab_size())
            .field("end_of_text", &self.end_of_text)
            .finish()
    }
}
