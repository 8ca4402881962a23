//! Decoding of ids that arrive one at a time.

use super::convert::{Kind, Tokenizer};
use crate::DataError;

/// Decoder of a text that grows by one token at a time; see [`Tokenizer::stream`].
#[derive(Debug)]
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    pending: Pending,
}

/// Tokens or bytes whose text has not been returned yet.
#[derive(Debug)]
enum Pending {
    /// Bytes of an incomplete character, for tokenizers whose text is the bytes of its tokens.
    Bytes(Vec<u8>),
    /// Tokens for which the decoder is needed. The text that it gives for a token depends on the neighbouring tokens.
    Tokens {
        /// Last tokens of the text.
        ids: Vec<u32>,
        /// Number of `ids` whose text has been returned. They are kept as neighbours.
        done: usize,
        /// Bytes of the text of all `ids` that have been returned.
        returned: usize,
    },
}

impl Tokenizer {
    /// Creates a decoder for tokens that follow `before`, which ends with a complete character.
    ///
    /// The results of [`push`](TextStream::push) and [`finish`](TextStream::finish) together are what
    /// [`decode`](Self::decode) gives for all tokens, without what it gives for `before`. (If `before` ends with tokens
    /// such as `<0x0A>`, `decode` may change their last character because of a byte that follows; a stream does not.)
    /// No character is returned in parts. An id outside the vocabulary has no text.
    ///
    /// # Errors
    ///
    /// The errors of [`decode`](Self::decode).
    pub fn stream(&self, before: &[u32]) -> Result<TextStream<'_>, DataError> {
        let pending = match self.is_bytes() {
            true => Pending::Bytes(Vec::new()),
            false => Pending::Tokens {
                ids: before.to_vec(),
                done: before.len(),
                returned: self.decode(before)?.len(),
            },
        };
        Ok(TextStream {
            tokenizer: self,
            pending,
        })
    }

    /// Whether a token may be part of a character, whatever text it decodes to by itself.
    pub(super) fn may_be_cut(&self, id: u32) -> bool {
        match &self.kind {
            Kind::HuggingFace(loaded) => loaded.is_byte(id),
            Kind::Byte | Kind::Char(_) => false,
        }
    }
}

impl TextStream<'_> {
    /// Adds a token, and returns the text that is now certain. It is often the text of the token, but empty if the last
    /// character may be incomplete.
    ///
    /// # Errors
    ///
    /// The errors of [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<String, DataError> {
        let tokenizer = self.tokenizer;
        match &mut self.pending {
            Pending::Bytes(bytes) => {
                bytes.extend_from_slice(tokenizer.tokens.displayed(id));
                Ok(take_complete_characters(bytes))
            }
            Pending::Tokens { .. } if id as usize >= tokenizer.vocab_size() => Ok(String::new()),
            Pending::Tokens {
                ids,
                done,
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
                // The tokens of this text suffice as neighbours of the next ones if they decode to text without the
                // tokens before them.
                let alone = tokenizer.decode(&ids[*done..])?;
                *returned = text.len();
                if !alone.is_empty() {
                    ids.drain(..*done);
                    *returned = alone.len();
                }
                *done = ids.len();
                Ok(new)
            }
        }
    }

    /// Returns the remaining text if no token follows. An incomplete character becomes U+FFFD.
    ///
    /// # Errors
    ///
    /// The errors of [`Tokenizer::decode`].
    pub fn finish(&self) -> Result<String, DataError> {
        Ok(match &self.pending {
            Pending::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Pending::Tokens { ids, returned, .. } => {
                let text = self.tokenizer.decode(ids)?;
                text[text.floor_char_boundary(*returned)..].to_string()
            }
        })
    }
}

/// Removes the complete characters from `bytes` and returns them, with U+FFFD for invalid bytes. The start of an
/// incomplete character is kept.
fn take_complete_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut start = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        start += chunk.valid().len();
        let invalid = chunk.invalid();
        let incomplete = start + invalid.len() == bytes.len()
            && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if !invalid.is_empty() && !incomplete {
            text.push(char::REPLACEMENT_CHARACTER);
            start += invalid.len();
        }
    }
    bytes.drain(..start);
    text
}
