//! A tokenizer, and the tokens it makes of a training and a validation text.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{DataError, Tokenizer};

/// Tokens in their order, and the bytes of text that they stand for. Cloning shares the tokens.
#[derive(Clone, Debug)]
pub struct Split {
    ids: Arc<[u32]>,
    /// Bytes of each token of the vocabulary, by id.
    token_lengths: Arc<[usize]>,
}

impl Split {
    fn encode(text: &str, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        Ok(Self {
            ids: tokenizer.encode(text)?.into(),
            token_lengths: tokenizer.token_lengths().into(),
        })
    }

    /// The token ids.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// How many bytes of text the tokens stand for.
    pub fn bytes(&self) -> usize {
        self.bytes_of(&self.ids)
    }

    /// How many bytes of text some tokens of this vocabulary stand for.
    pub(crate) fn bytes_of(&self, ids: &[u32]) -> usize {
        ids.iter().map(|&id| self.token_lengths[id as usize]).sum()
    }
}

/// What a run trains on and is judged by.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The tokenizer of both splits.
    pub tokenizer: Tokenizer,
    /// The tokens to train on.
    pub train: Split,
    /// The tokens to evaluate on.
    pub valid: Split,
}

impl Corpus {
    /// Splits one text by position: of its n characters (Unicode scalar values), the first ⌊9n/10⌋
    /// are for training and the rest for validation. The cut does not depend on the tokenizer, so
    /// what is held out is the same text for all of them.
    ///
    /// # Errors
    ///
    /// A `spec` that [`Tokenizer::from_spec`] does not know.
    pub fn from_text(text: &str, spec: &str) -> Result<Self, DataError> {
        let train_characters = text.chars().count() * 9 / 10;
        let cut = text
            .char_indices()
            .nth(train_characters)
            .map_or(text.len(), |(offset, _)| offset);
        let (train, valid) = text.split_at(cut);
        Self::from_parts(train, valid, spec)
    }

    /// Takes a training and a validation text as they are. A `char` vocabulary has the characters
    /// of both, so that validation cannot meet one that has no id.
    ///
    /// # Errors
    ///
    /// A `spec` that [`Tokenizer::from_spec`] does not know.
    pub fn from_parts(train: &str, valid: &str, spec: &str) -> Result<Self, DataError> {
        let characters = train.chars().chain(valid.chars());
        let tokenizer = Tokenizer::from_spec_and_characters(spec, characters)?;
        Ok(Self {
            train: Split::encode(train, &tokenizer)?,
            valid: Split::encode(valid, &tokenizer)?,
            tokenizer,
        })
    }

    /// SHA-256, in hexadecimal, of the tokenizer and the ids of both splits. Equal fingerprints
    /// mean that a run can be resumed on this corpus.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.tokenizer.to_json());
        for split in [&self.train, &self.valid] {
            // The length keeps a token that moves from one split to the other from going unnoticed.
            hasher.update((split.tokens() as u64).to_le_bytes());
            for id in split.ids() {
                hasher.update(id.to_le_bytes());
            }
        }
        format!("{:x}", hasher.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_by_characters() {
        // 21 characters of 1 to 4 bytes: ⌊18.9⌋ of them are for training.
        let text = "aé叫🦀bcd".repeat(3);
        for spec in ["byte", "char"] {
            let corpus = Corpus::from_text(&text, spec).unwrap();
            let decode = |split: &Split| corpus.tokenizer.decode(split.ids()).unwrap();
            assert_eq!(decode(&corpus.train).chars().count(), 18);
            assert_eq!(decode(&corpus.train) + &decode(&corpus.valid), text);
            assert_eq!(corpus.train.bytes() + corpus.valid.bytes(), text.len());
        }
    }

    #[test]
    fn short_texts_split_without_panic() {
        for text in ["", "é", "éé"] {
            let corpus = Corpus::from_text(text, "char").unwrap();
            assert_eq!(
                corpus.train.tokens() + corpus.valid.tokens(),
                text.chars().count()
            );
        }
    }

    #[test]
    fn the_vocabulary_covers_both_parts() {
        let corpus = Corpus::from_parts("bé", "ab", "char").unwrap();
        assert_eq!(corpus.tokenizer, Tokenizer::char("abé"));
        assert_eq!(corpus.train.ids(), [1, 2]);
        assert_eq!(corpus.valid.ids(), [0, 1]);
        assert_eq!((corpus.train.tokens(), corpus.train.bytes()), (2, 3));
    }

    #[test]
    fn an_unknown_tokenizer_is_an_error() {
        let error = Corpus::from_text("text", "words").unwrap_err();
        assert!(matches!(error, DataError::UnknownTokenizer { .. }));
    }

    #[test]
    fn the_fingerprint_tells_corpora_apart() {
        let print = |train, valid, spec| {
            Corpus::from_parts(train, valid, spec)
                .unwrap()
                .fingerprint()
        };
        let reference = print("abc", "ab", "char");
        assert_eq!(reference.len(), 64);
        assert_eq!(print("abc", "ab", "char"), reference);
        assert_ne!(print("abc", "ab", "byte"), reference, "other tokenizer");
        assert_ne!(
            print("abd", "ab", "char"),
            reference,
            "same ids, other characters"
        );
        assert_ne!(print("abc", "ba", "char"), reference, "other order");
        assert_ne!(print("abca", "b", "char"), reference, "other cut");
    }
}
