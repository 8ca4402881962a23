//! Ids to text while they come, one after the other.

use super::{Kind, Tokenizer};
use crate::DataError;

/// Decodes a text that grows by a token at a time, see [`Tokenizer::stream`].
#[derive(Debug)]
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    held: Held,
}

/// What is known and not returned yet.
#[derive(Debug)]
enum Held {
    /// The text is the bytes of its tokens: those of a character that is not complete.
    Bytes(Vec<u8>),
    /// Only the decoder knows the text, and what it makes of a token depends on its neighbours.
    Tokens {
        /// The last tokens of the text.
        ids: Vec<u32>,
        /// How many of them are neighbours only: their text has been returned.
        settled: usize,
        /// How many bytes of what they all decode to have been returned.
        returned: usize,
    },
}

impl Tokenizer {
    /// Decodes tokens while they come, after those of `before`, which end with a whole character.
    ///
    /// What [`push`](TextStream::push) and [`finish`](TextStream::finish) return, one after the other, is
    /// what [`decode`](Self::decode) gives for all tokens, less what it gives for `before`. (Where `before` ends
    /// with tokens such as `<0x0A>`, `decode` may take back a character of theirs for a byte that follows; what
    /// was before a stream stands.) No character is returned in parts, and an id outside the
    /// vocabulary stands for no text.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn stream(&self, before: &[u32]) -> Result<TextStream<'_>, DataError> {
        let held = match self.is_bytes() {
            true => Held::Bytes(Vec::new()),
            false => Held::Tokens {
                ids: before.to_vec(),
                settled: before.len(),
                returned: self.decode(before)?.len(),
            },
        };
        Ok(TextStream {
            tokenizer: self,
            held,
        })
    }

    /// Whether a token may be part of a character whatever text it decodes to by itself.
    pub(super) fn may_be_cut(&self, id: u32) -> bool {
        match &self.kind {
            Kind::HuggingFace(loaded) => loaded.is_byte(id),
            Kind::Byte | Kind::Char(_) => false,
        }
    }
}

impl TextStream<'_> {
    /// The text that is certain now that `id` has come: often that of the token, nothing where its last character
    /// may go on.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<String, DataError> {
        let tokenizer = self.tokenizer;
        match &mut self.held {
            Held::Bytes(bytes) => {
                bytes.extend_from_slice(tokenizer.tokens.shown(id));
                Ok(take_whole_characters(bytes))
            }
            Held::Tokens { .. } if id as usize >= tokenizer.vocab_size() => Ok(String::new()),
            Held::Tokens {
                ids,
                settled,
                returned,
            } => {
                ids.push(id);
                if tokenizer.may_be_cut(id) {
                    return Ok(String::new());
                }
                let text = tokenizer.decode(ids)?;
                if text.len() <= *returned || text.ends_with(char::REPLACEMENT_CHARACTER) {
                    return Ok(String::new());
                }
                let new = text[text.floor_char_boundary(*returned)..].to_string();
                // The tokens of this piece are neighbours enough for what follows, if they show anything without
                // those before them.
                let alone = tokenizer.decode(&ids[*settled..])?;
                *returned = text.len();
                if !alone.is_empty() {
                    ids.drain(..*settled);
                    *returned = alone.len();
                }
                *settled = ids.len();
                Ok(new)
            }
        }
    }

    /// The text that is held back, should nothing follow. Where it ends in the middle of a character, U+FFFD
    /// stands for that.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::decode`].
    pub fn finish(&self) -> Result<String, DataError> {
        Ok(match &self.held {
            Held::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Held::Tokens { ids, returned, .. } => {
                let text = self.tokenizer.decode(ids)?;
                text[text.floor_char_boundary(*returned)..].to_string()
            }
        })
    }
}

/// Takes the characters out of `bytes`, with U+FFFD for what is none; leaves the start of one that may go on.
fn take_whole_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut start = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        start += chunk.valid().len();
        let invalid = chunk.invalid();
        let goes_on = start + invalid.len() == bytes.len()
            && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if !invalid.is_empty() && !goes_on {
            text.push(char::REPLACEMENT_CHARACTER);
            start += invalid.len();
        }
    }
    bytes.drain(..start);
    text
}
