//! The bytes behind each token: how a token is written in the text that it stands for.

use std::{collections::HashMap, sync::LazyLock};

use tokenizers::{DecoderWrapper, normalizers::Replace};

/// The bytes of each token of a vocabulary, by id.
#[derive(Debug, Default)]
pub(super) struct TokenBytes {
    /// Of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where those of each token end.
    ends: Vec<usize>,
    /// Whether the token is a border between texts, which is written by its name and is no text.
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

    /// How a token is shown; a special one by its name. Nothing for an id without a token.
    pub(super) fn shown(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else {
            return &[];
        };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start..end]
    }

    /// Whether a token is a border and no text.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize) == Some(&true)
    }

    /// The text that a token stands for: nothing for a special one.
    pub(super) fn text(&self, id: u32) -> &[u8] {
        match self.special.get(id as usize) {
            Some(false) => self.shown(id),
            _ => &[],
        }
    }
}

/// How a vocabulary writes text, told from its decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Every byte is a character of [`byte_level_alphabet`].
    ByteLevel,
    /// Text, in which `▁` may be a space and `<0x0A>` a byte.
    SentencePiece { underscores: bool, bytes: bool },
    /// Only the decoder knows.
    Other,
}

impl Spelling {
    pub(super) fn of(decoder: Option<&DecoderWrapper>) -> Self {
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
                // Takes the space away that was put before the text: no matter of single tokens.
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

    /// The bytes that a token of the model stands for; `None` where only the decoder knows.
    pub(super) fn bytes(self, token: &str) -> Option<Vec<u8>> {
        match self {
            Self::ByteLevel => {
                let bytes: Option<Vec<u8>> =
                    token.chars().map(|c| BYTES.get(&c).copied()).collect();
                // As the decoder does: a token with a character that is no byte is as it is.
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

/// The byte of a token such as `<0x0A>`.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// A text as a byte-level model takes it.
pub(super) fn spelled(text: &str) -> String {
    static ALPHABET: LazyLock<Vec<char>> = LazyLock::new(|| byte_level_alphabet().collect());
    let mut spelled = String::with_capacity(2 * text.len());
    spelled.extend(text.bytes().map(|byte| ALPHABET[byte as usize]));
    spelled
}

static BYTES: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| byte_level_alphabet().zip(0..=u8::MAX).collect());

/// The character that stands for each byte in byte-level vocabularies, by byte (Radford et al.
/// 2019, `encoder.py`): a printable byte is the character of that number, the others follow from
/// U+0100.
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
    fn bytes_of_tokens() {
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
    fn spelling_of_decoders() {
        let spelling = |json: &str| {
            let decoder: DecoderWrapper = serde_json::from_str(json).unwrap();
            Spelling::of(Some(&decoder))
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
        assert_eq!(Spelling::of(None), Spelling::Other);
    }

    #[test]
    fn a_special_token_is_shown_and_is_no_text() {
        let mut tokens = TokenBytes::default();
        tokens.push(b"ab", false);
        tokens.push(b"<end>", true);
        tokens.push(b"", false);
        assert_eq!((tokens.shown(0), tokens.text(0)), (&b"ab"[..], &b"ab"[..]));
        assert_eq!((tokens.shown(1), tokens.text(1)), (&b"<end>"[..], &b""[..]));
        for id in [2, 3, u32::MAX] {
            assert_eq!((tokens.shown(id), tokens.text(id)), (&b""[..], &b""[..]));
        }
    }
}
