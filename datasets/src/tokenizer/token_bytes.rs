//! Bytes of text that each token stands for.

use std::{collections::HashMap, sync::LazyLock};

use tokenizers::{DecoderWrapper, normalizers::Replace};

/// Bytes of each token of a vocabulary, by id.
#[derive(Debug, Default)]
pub(super) struct TokenBytes {
    /// Bytes of all tokens in sequence.
    bytes: Vec<u8>,
    /// End of the bytes of each token.
    ends: Vec<usize>,
    /// Whether each token is special. The bytes of a special token are its name, which is not text.
    special: Vec<bool>,
}

impl TokenBytes {
    pub(super) fn push(&mut self, bytes: &[u8], special: bool) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
        self.special.push(special);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the bytes that display a token: its text, or the name of a special token. Empty for an id without a
    /// token.
    pub(super) fn displayed(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else {
            return &[];
        };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start..end]
    }

    /// Whether a token is special.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize) == Some(&true)
    }

    /// Returns the text that a token stands for. Empty for a special token.
    pub(super) fn text(&self, id: u32) -> &[u8] {
        match self.special.get(id as usize) {
            Some(false) => self.displayed(id),
            _ => &[],
        }
    }
}

/// Spelling of text in the tokens of a vocabulary, determined from its decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Each byte is written as a character of [`byte_level_alphabet`].
    ByteLevel,
    /// Tokens are text, in which `▁` may stand for a space and `<0x0A>` for a byte.
    SentencePiece { underscores: bool, bytes: bool },
    /// Any other spelling, for which the decoder is needed.
    Other,
}

impl Spelling {
    pub(super) fn from_decoder(decoder: Option<&DecoderWrapper>) -> Self {
        let decoders = match decoder {
            Some(DecoderWrapper::Sequence(sequence)) => sequence.get_decoders(),
            Some(decoder) => std::slice::from_ref(decoder),
            None => return Self::Other,
        };
        let (mut byte_level, mut underscores, mut bytes, mut strip) = (false, false, false, false);
        for decoder in decoders {
            match decoder {
                DecoderWrapper::ByteLevel(_) => byte_level = true,
                DecoderWrapper::Replace(replace)
                    if Replace::new("▁", " ").is_ok_and(|known| *replace == known) =>
                {
                    underscores = true;
                }
                DecoderWrapper::Metaspace(metaspace) if metaspace.get_replacement() == '▁' => {
                    underscores = true;
                }
                DecoderWrapper::ByteFallback(_) => bytes = true,
                // This removes the space that was put before the text. It does not concern single tokens.
                DecoderWrapper::Strip(_) => strip = true,
                DecoderWrapper::Fuse(_) => {}
                _ => return Self::Other,
            }
        }
        match (byte_level, underscores || bytes || strip) {
            (true, false) => Self::ByteLevel,
            (true, true) => Self::Other,
            (false, _) => Self::SentencePiece { underscores, bytes },
        }
    }

    /// Returns the bytes that a token of the model stands for; `None` if the decoder is needed.
    pub(super) fn bytes(self, token: &str) -> Option<Vec<u8>> {
        match self {
            Self::ByteLevel => {
                let bytes: Option<Vec<u8>> =
                    token.chars().map(|c| BYTES.get(&c).copied()).collect();
                // Like the decoder, this leaves a token unchanged if a character of it does not stand for a byte.
                Some(bytes.unwrap_or_else(|| token.into()))
            }
            Self::SentencePiece { underscores, bytes } => Some(match byte_token(token) {
                Some(byte) if bytes => vec![byte],
                _ if underscores => token.replace('▁', " ").into(),
                _ => token.into(),
            }),
            Self::Other => None,
        }
    }
}

/// Returns the byte of a token such as `<0x0A>`.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// Writes the bytes of a text in [`byte_level_alphabet`].
pub(super) fn to_byte_level(text: &str) -> String {
    static ALPHABET: LazyLock<Vec<char>> = LazyLock::new(|| byte_level_alphabet().collect());
    let mut characters = String::with_capacity(2 * text.len());
    characters.extend(text.bytes().map(|byte| ALPHABET[byte as usize]));
    characters
}

static BYTES: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| byte_level_alphabet().zip(0..=u8::MAX).collect());

/// Returns the character that stands for each byte in byte-level vocabularies (Radford et al. 2019, `encoder.py`): a
/// printable byte is the character of that code point, and the others are numbered from U+0100.
pub(super) fn byte_level_alphabet() -> impl Iterator<Item = char> {
    let mut others = '\u{100}'..='\u{143}';
    (0..=u8::MAX).map(move |byte| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        _ => others.next().expect("68 bytes are not printable"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_bytes_of_their_spelling() {
        let bytes = |spelling: Spelling, token| spelling.bytes(token).unwrap();
        assert_eq!(bytes(Spelling::ByteLevel, "ĠaĊÃ©"), " a\né".as_bytes());
        assert_eq!(bytes(Spelling::ByteLevel, "Ã"), [0xC3]);
        assert_eq!(bytes(Spelling::ByteLevel, "叫Ġ"), "叫Ġ".as_bytes());
        let llama = Spelling::SentencePiece {
            underscores: true,
            bytes: true,
        };
        assert_eq!(bytes(llama, "<0x0A>"), b"\n");
        assert_eq!(bytes(llama, "<0xC3>"), [0xC3]);
        assert_eq!(bytes(llama, "▁a▁"), b" a ");
        for token in ["<0xZZ>", "<0x0>", "<0x0A> ", "<0xé>"] {
            assert_eq!(bytes(llama, token), token.as_bytes());
        }
        let plain = Spelling::SentencePiece {
            underscores: false,
            bytes: false,
        };
        assert_eq!(bytes(plain, "<0x0A>"), b"<0x0A>");
        assert_eq!(bytes(plain, "▁"), "▁".as_bytes());
        assert_eq!(Spelling::Other.bytes("a"), None);
    }

    #[test]
    fn decoders_determine_the_spelling() {
        let spelling = |json: &str| {
            let decoder: DecoderWrapper = serde_json::from_str(json).unwrap();
            Spelling::from_decoder(Some(&decoder))
        };
        let byte_level = r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true}"#;
        let sequence = |members: &str| format!(r#"{{"type":"Sequence","decoders":[{members}]}}"#);
        let underscore = r#"{"type":"Replace","pattern":{"String":"▁"},"content":" "}"#;
        let strip = r#"{"type":"Strip","content":" ","start":1,"stop":0}"#;
        let bytes = r#"{"type":"ByteFallback"}"#;
        assert_eq!(spelling(byte_level), Spelling::ByteLevel);
        assert_eq!(spelling(&sequence(byte_level)), Spelling::ByteLevel);
        assert_eq!(
            spelling(&sequence(&format!(
                r#"{underscore},{bytes},{{"type":"Fuse"}},{strip}"#
            ))),
            Spelling::SentencePiece {
                underscores: true,
                bytes: true
            }
        );
        for other in [
            sequence(&format!("{byte_level},{strip}")),
            underscore.replace('▁', "_"),
            r###"{"type":"WordPiece","prefix":"##","cleanup":true}"###.into(),
        ] {
            assert_eq!(spelling(&other), Spelling::Other, "{other}");
        }
        assert_eq!(Spelling::from_decoder(None), Spelling::Other);
    }

    #[test]
    fn special_token_is_displayed_but_has_no_text() {
        let mut tokens = TokenBytes::default();
        tokens.push(b"ab", false);
        tokens.push(b"<end>", true);
        tokens.push(b"", false);
        assert_eq!(
            (tokens.displayed(0), tokens.text(0)),
            (&b"ab"[..], &b"ab"[..])
        );
        assert_eq!(
            (tokens.displayed(1), tokens.text(1)),
            (&b"<end>"[..], &b""[..])
        );
        for id in [2, 3, u32::MAX] {
            assert_eq!(
                (tokens.displayed(id), tokens.text(id)),
                (&b""[..], &b""[..])
            );
        }
    }
}
