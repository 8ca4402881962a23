//! Text ⇄ token ids: one token per byte or per character, byte-pair encoding, or what a
//! `tokenizer.json` says. All are saved as a `tokenizer.json` that Hugging Face `tokenizers` loads,
//! and that gives the same ids there.

mod gpt2;
mod hugging_face;
mod native;
mod spec;
mod stream;
#[cfg(test)]
mod tests;
mod token_bytes;

use std::{fmt, fs, path::Path, sync::Arc};

use hugging_face::{HuggingFace, MAX_TOKENS, MIN_BPE_TOKENS};
pub use spec::TokenizerSpec;
pub use stream::TextStream;
use token_bytes::TokenBytes;
use tokenizers::{Model, ModelWrapper};

use crate::DataError;

/// The special token between two texts, where this crate adds one.
const END_OF_TEXT: &str = "<|endoftext|>";

/// A map from text to token ids and back. Cloning shares the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    kind: Kind,
    tokens: Arc<TokenBytes>,
    end_of_text: Option<u32>,
}

#[derive(Clone)]
enum Kind {
    /// One token per byte of UTF-8; the id is the value of the byte.
    Byte,
    /// One token per character (Unicode scalar value). Sorted by code point: the id is the index.
    Char(Arc<[char]>),
    /// Anything else.
    HuggingFace(Arc<HuggingFace>),
}

/// How [`Tokenizer::train`] goes about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainOptions {
    /// Have a token for the end of a text, added where there is none. A trained byte-pair encoding
    /// always has one.
    pub end_of_text: bool,
    /// Draw progress bars on the terminal while a byte-pair encoding is trained, if stdout and
    /// stderr are one.
    pub progress: bool,
}

impl Tokenizer {
    /// One token per byte of UTF-8: 256 tokens, and an id is the value of its byte.
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

    /// One token per distinct character of `text`, numbered from 0 in the order of code points.
    pub fn char(text: &str) -> Self {
        let mut characters = Characters::default();
        characters.add(text);
        characters.into_tokenizer()
    }

    /// The tokenizer that `spec` names (see [`TokenizerSpec`]), trained on `text` if it is one that
    /// learns.
    ///
    /// # Errors
    ///
    /// A `spec` that names no tokenizer, or a file that holds none.
    pub fn from_spec(spec: &str, text: &str) -> Result<Self, DataError> {
        let texts = std::iter::once(Ok(text));
        Self::train(&spec.parse()?, texts, TrainOptions::default())
    }

    /// The tokenizer that `spec` names: a `char` tokenizer has the characters of `texts`, a
    /// byte-pair encoding their most frequent parts. For the other kinds no text is taken. Texts
    /// are read one after the other and not kept. The same texts give the same tokenizer.
    ///
    /// A byte-pair encoding splits texts as GPT-2 does, into words of at most 256 characters, has a token
    /// for each of the 256 bytes and `<|endoftext|>` as the last one. It is smaller than asked for where
    /// all pairs that occur twice are merged. It is trained on the first 2 GiB of text; where that has more
    /// than 2 MiB of different words, on the more frequent of them.
    ///
    /// # Errors
    ///
    /// The first error of `texts`, a size that no byte-pair encoding has, or a file that holds no
    /// tokenizer.
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
                characters.into_tokenizer()
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

    /// The same tokenizer with an [`end_of_text`](Self::end_of_text): where there is none,
    /// `<|endoftext|>` gets the next free id.
    #[must_use]
    pub fn with_end_of_text(self) -> Self {
        if self.end_of_text.is_some() {
            return self;
        }
        match &self.kind {
            Kind::Byte | Kind::Char(_) => {
                let mut tokens = TokenBytes::default();
                for id in 0..self.tokens.len() as u32 {
                    tokens.push(self.tokens.shown(id), false);
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
                .expect("when it was loaded, the next id was free")
                .into(),
        }
    }

    /// Reads a `tokenizer.json`, whether [`save`](Self::save) has written it or not. What it says
    /// on truncation, padding and dropout is passed over.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, that Hugging Face `tokenizers` does not load, in which two
    /// tokens have one id, or with an id of 2^24 or more.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        crate::mapped::check_regular(path)?;
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
        let (loaded, tokens) = HuggingFace::from_json(json)?;
        Ok(match Self::native(&loaded) {
            Some(native) => native,
            None => (loaded, tokens).into(),
        })
    }

    /// The byte or char tokenizer that has been written as `loaded`, if it is one.
    fn native(loaded: &HuggingFace) -> Option<Self> {
        let native = match loaded.model() {
            ModelWrapper::BPE(model) if model.get_vocab_size() == 256 => Self::byte(),
            ModelWrapper::WordLevel(model) => {
                let mut characters = Characters::default();
                for token in model.get_vocab().keys() {
                    characters.add(token);
                }
                characters.into_tokenizer()
            }
            _ => return None,
        };
        let native = match loaded.end_of_text() {
            Some(_) => native.with_end_of_text(),
            None => native,
        };
        // What the library writes is the same if and only if the tokenizers are.
        let (written, _) = HuggingFace::from_json(&native.to_json()).ok()?;
        (written.json() == loaded.json()).then_some(native)
    }

    /// The first difference, in words, that makes texts other ids than they are in `other`, or ids other
    /// text: another token at an id, a token more or less, another rule of cutting texts. `None` where an
    /// id means the same in both and every text has the same ids, however the two are written: white space
    /// and order in a `tokenizer.json`, what it puts around a text, and how it decodes make no difference.
    /// Special tokens that only one of the two has are left aside, for they are in no text.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        for id in 0..self.tokens.len().max(other.tokens.len()) as u32 {
            let known = |tokenizer: &Self| (id as usize) < tokenizer.tokens.len();
            let (ours, theirs) = (self.tokens.shown(id), other.tokens.shown(id));
            let special = self.tokens.is_special(id) || other.tokens.is_special(id);
            let shown = |tokenizer: &Self| match known(tokenizer) {
                true => format!("{:?}", tokenizer.token_text(id)),
                false => "missing".into(),
            };
            let differs = match known(self) && known(other) {
                true => ours != theirs || self.tokens.is_special(id) != other.tokens.is_special(id),
                false => !special,
            };
            if differs {
                return Some(format!("id {id} is {} and {}", shown(self), shown(other)));
            }
        }
        let (ours, theirs) = (self.rules(), other.rules());
        ["normalizer", "pre_tokenizer", "model", "added_tokens"]
            .into_iter()
            .find(|part| ours[*part] != theirs[*part])
            .map(|part| format!("the tokens are the same, the {part} is not"))
    }

    /// The parts of the `tokenizer.json` that decide the ids of a text.
    fn rules(&self) -> serde_json::Value {
        let json = match &self.kind {
            Kind::HuggingFace(loaded) => loaded.json().to_owned(),
            // As the library writes it, to be compared with what it has written.
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
        match &self.kind {
            Kind::Byte => native::byte(self.end_of_text),
            Kind::Char(characters) => native::char(characters, self.end_of_text),
            Kind::HuggingFace(loaded) => loaded.json().into(),
        }
    }

    /// The largest token id and one: how many tokens there are, where there is no gap. Added tokens
    /// count.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The id of the special token that ends a text, such as `<|endoftext|>` or `</s>`.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The ids of a text. What looks like a special token in it is text, and none is added at its
    /// ends. A long text may be encoded on several threads.
    ///
    /// # Errors
    ///
    /// A character that a `char` tokenizer does not have, or a text that the tokenizer of a file
    /// fails on.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        if let Kind::HuggingFace(loaded) = &self.kind {
            return loaded.encode(text);
        }
        let mut ids = Vec::with_capacity(text.len());
        self.encode_part(text, 0..text.len(), &mut ids)?;
        Ok(ids)
    }

    /// The ids of a text in which special tokens are written by their names. For a text that was
    /// made by hand; in one from elsewhere, anybody may have written `<|endoftext|>`.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
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

    /// The end of a beginning of `text` that is encoded alike whatever follows the text, and leaves the
    /// encoding of the rest as it is: the two encodings one after the other are that of the whole. 0 where
    /// none is known.
    pub(crate) fn settled(&self, text: &str, special_tokens: bool) -> usize {
        match &self.kind {
            Kind::HuggingFace(loaded) => loaded.settled(text, special_tokens),
            Kind::Byte | Kind::Char(_) if special_tokens && self.end_of_text.is_some() => {
                // The name of the end of text may have begun.
                let begun = (1..END_OF_TEXT.len())
                    .rev()
                    .find(|&bytes| text.ends_with(&END_OF_TEXT[..bytes]));
                text.len() - begun.unwrap_or(0)
            }
            Kind::Byte | Kind::Char(_) => text.len(),
        }
    }

    /// Does what [`settled`](Self::settled) does, for the text that a tokenizer of this kind is trained on.
    pub(crate) fn settled_for_training(spec: &TokenizerSpec, text: &str) -> usize {
        match spec {
            TokenizerSpec::Bpe { .. } => HuggingFace::settled_for_training(text),
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
                // There are fewer characters in Unicode than 2^21.
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

    /// The text of some ids, special tokens by their names. Where bytes are cut in the middle of a
    /// character, U+FFFD stands for them.
    ///
    /// # Errors
    ///
    /// An id outside the vocabulary, or ids that the tokenizer of a file fails on.
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
            bytes.extend_from_slice(self.tokens.shown(id));
        }
        Ok(match String::from_utf8_lossy(&bytes) {
            std::borrow::Cow::Owned(marked) => marked,
            std::borrow::Cow::Borrowed(text) => text.into(),
        })
    }

    /// Whether the text of some tokens is the bytes that they show, one after the other.
    fn is_bytes(&self) -> bool {
        match &self.kind {
            Kind::Byte | Kind::Char(_) => true,
            Kind::HuggingFace(loaded) => loaded.is_byte_level(),
        }
    }

    /// The special tokens that the file wants before every text, such as Llama's `<s>`. A model whose makers
    /// used them expects them; [`encode`](Self::encode) leaves them out.
    ///
    /// # Errors
    ///
    /// If the tokenizer of a file fails.
    pub fn start_of_text(&self) -> Result<Vec<u32>, DataError> {
        match &self.kind {
            Kind::Byte | Kind::Char(_) => Ok(Vec::new()),
            Kind::HuggingFace(loaded) => loaded.start_of_text(),
        }
    }

    /// The bytes of text that a token stands for, which need not be whole characters. None for a
    /// special token, which is a border and no text, and for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.tokens.text(id)
    }

    /// A token as it is shown to people: a special one by its name, cut characters as U+FFFD.
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.tokens.shown(id)).into_owned()
    }

    /// How many bytes of UTF-8 each token stands for, by id: the lengths of
    /// [`token_bytes`](Self::token_bytes). Bits per byte divide by these.
    pub fn token_lengths(&self) -> Vec<usize> {
        (0..self.vocab_size() as u32)
            .map(|id| self.token_bytes(id).len())
            .collect()
    }

    /// Whether the bytes of its tokens, one after the other, are always the text. So they are for
    /// byte, char and the usual byte-level vocabularies. They are not where a tokenizer changes the
    /// text (a space put before it, lowercase, a normal form, unknown words): token lengths then
    /// count the text that `decode` gives.
    pub fn is_exact(&self) -> bool {
        match &self.kind {
            Kind::Byte | Kind::Char(_) => true,
            Kind::HuggingFace(loaded) => loaded.is_exact(),
        }
    }
}

/// Takes away what a pre-tokenizer says on offsets, which change no id.
fn without_offsets(part: &mut serde_json::Value) {
    if let Some(fields) = part.as_object_mut() {
        fields.shift_remove("trim_offsets");
        fields.values_mut().for_each(without_offsets);
    }
    if let Some(parts) = part.as_array_mut() {
        parts.iter_mut().for_each(without_offsets);
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

/// Tokenizers are equal if they are saved alike.
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

/// The characters of some texts: whether each occurs, by code point.
struct Characters(Vec<bool>);

impl Default for Characters {
    fn default() -> Self {
        Self(vec![false; char::MAX as usize + 1])
    }
}

impl Characters {
    fn add(&mut self, text: &str) {
        for character in text.chars() {
            self.0[character as usize] = true;
        }
    }

    fn into_tokenizer(self) -> Tokenizer {
        let characters: Arc<[char]> = ('\0'..=char::MAX)
            .filter(|&character| self.0[character as usize])
            .collect();
        let mut tokens = TokenBytes::default();
        for character in characters.iter() {
            tokens.push(character.encode_utf8(&mut [0; 4]).as_bytes(), false);
        }
        Tokenizer {
            kind: Kind::Char(characters),
            tokens: tokens.into(),
            end_of_text: None,
        }
    }
}
