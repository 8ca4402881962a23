//! Names of tokenizers in experiment files and on the command line.

use std::{fmt, path::PathBuf, str::FromStr};

use super::hugging_face::{MAX_TOKENS, MIN_BPE_TOKENS};
use crate::DataError;

/// Tokenizer by name: `byte`, `char`, `bpe:8192` (or `bpe:8k`), or the path of a `tokenizer.json`. [`str::parse`] reads
/// a name, and `Display` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TokenizerSpec {
    /// One token per byte.
    Byte,
    /// One token per character of the text.
    Char,
    /// Byte-level byte-pair encoding, trained on the text.
    Bpe {
        /// Maximum number of tokens: the 256 bytes, merged tokens and `<|endoftext|>`. A text with few pairs gives
        /// fewer.
        vocab_size: usize,
    },
    /// A `tokenizer.json` of Hugging Face.
    File(PathBuf),
}

impl FromStr for TokenizerSpec {
    type Err = DataError;

    fn from_str(spec: &str) -> Result<Self, DataError> {
        match spec {
            "byte" => return Ok(Self::Byte),
            "char" => return Ok(Self::Char),
            _ => {}
        }
        if let Some(number) = spec.strip_prefix("bpe:") {
            let vocab_size = vocab_size(number).ok_or_else(|| bad_vocab_size(spec))?;
            return Ok(Self::Bpe { vocab_size });
        }
        // A path is recognised by its form, so that a misspelt name is reported as such and not as a missing file.
        if spec.ends_with(".json") || spec.contains(['/', std::path::MAIN_SEPARATOR]) {
            return Ok(Self::File(spec.into()));
        }
        Err(DataError::UnknownTokenizer { spec: spec.into() })
    }
}

impl fmt::Display for TokenizerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte => f.write_str("byte"),
            Self::Char => f.write_str("char"),
            Self::Bpe { vocab_size } => write!(f, "bpe:{vocab_size}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Parses `8192` or `8k`; `None` if it is not the size of a vocabulary.
fn vocab_size(number: &str) -> Option<usize> {
    let (digits, unit) = match number.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1024),
        None => (number, 1),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None; // `parse` would accept a sign
    }
    let size = digits.parse::<usize>().ok()?.checked_mul(unit)?;
    (MIN_BPE_TOKENS..=MAX_TOKENS)
        .contains(&size)
        .then_some(size)
}

pub(super) fn bad_vocab_size(spec: &str) -> DataError {
    DataError::VocabSize {
        spec: spec.into(),
        min: MIN_BPE_TOKENS,
        max: MAX_TOKENS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_written() {
        let bpe = |vocab_size| TokenizerSpec::Bpe { vocab_size };
        for (spec, expected, written) in [
            ("byte", TokenizerSpec::Byte, "byte"),
            ("char", TokenizerSpec::Char, "char"),
            ("bpe:257", bpe(257), "bpe:257"),
            ("bpe:8192", bpe(8192), "bpe:8192"),
            ("bpe:8k", bpe(8192), "bpe:8192"),
            ("bpe:50K", bpe(51_200), "bpe:51200"),
            (
                "gpt2.json",
                TokenizerSpec::File("gpt2.json".into()),
                "gpt2.json",
            ),
            (
                "models/gpt2",
                TokenizerSpec::File("models/gpt2".into()),
                "models/gpt2",
            ),
        ] {
            let parsed: TokenizerSpec = spec.parse().unwrap();
            assert_eq!(parsed, expected);
            assert_eq!(parsed.to_string(), written);
            assert_eq!(written.parse::<TokenizerSpec>().unwrap(), expected);
        }
    }

    #[test]
    fn error_of_an_invalid_size_names_the_valid_ones() {
        for spec in [
            "bpe:",
            "bpe:256",
            "bpe:k",
            "bpe:+300",
            "bpe:-1",
            "bpe:8 k",
            "bpe:8kk",
            "bpe:1e4",
            "bpe:16777217",
            "bpe:99999999999999999999",
            "bpe:99999999999999999k",
        ] {
            let error = spec.parse::<TokenizerSpec>().unwrap_err();
            assert!(matches!(error, DataError::VocabSize { .. }), "{error}");
            let message = error.to_string();
            for part in [spec, "257", "16777216", "8k"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn error_of_an_unknown_name_names_the_known_ones() {
        for spec in ["", "words", "bpe", "Byte"] {
            let error = spec.parse::<TokenizerSpec>().unwrap_err();
            assert!(matches!(error, DataError::UnknownTokenizer { .. }));
            for name in ["byte", "char", "bpe:", "tokenizer.json"] {
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }
}
