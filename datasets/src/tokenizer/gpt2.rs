//! GPT-2's pre-tokenizer (Radford et al. 2019, `encoder.py`): the words of a text, and where a long
//! text can be cut without changing them.

use std::sync::LazyLock;

use tokenizers::utils::SysRegex;

/// Every character is in a word: the three classes, and white space in the last two alternatives.
const WORD: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The words of a text, in order and nothing left out.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    static REGEX: LazyLock<SysRegex> =
        LazyLock::new(|| SysRegex::new(WORD).expect("the pattern is one"));
    REGEX.find_iter(text).map(|(start, end)| &text[start..end])
}

/// Bytes of a piece, at least, but for the last one.
pub(super) const PIECE: usize = 1 << 16;

/// The pieces of a text, in order and nothing left out. Each but the last has `at_least` bytes, and
/// they have the words that the whole has.
pub(super) fn pieces(text: &str, at_least: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, tail) = rest.split_at(piece_end(rest, at_least));
        rest = tail;
        Some(piece)
    })
}

/// [`pieces`] that own their text, for an iterator of which nothing else remains.
pub(super) fn into_pieces(text: impl AsRef<str>) -> impl Iterator<Item = String> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &text.as_ref()[start..];
        if rest.is_empty() {
            return None;
        }
        let end = piece_end(rest, PIECE);
        start += end;
        Some(rest[..end].to_owned())
    })
}

/// Where the first piece ends.
fn piece_end(text: &str, at_least: usize) -> usize {
    let bytes = text.as_bytes();
    (at_least.max(1)..text.len())
        .find(|&at| bytes[at - 1] == b'\n' && is_cut(text, at))
        .unwrap_or(text.len())
}

/// Whether the newline at `at - 1` is a word of its own, whether or not the text ends at `at`.
///
/// So it is between a character that is not white and a letter. Only the last two alternatives can
/// take a newline, and they take nothing else here: the word before ends before it, and the next
/// begins after it. With the letter, `\s+(?!\S)` fails and `\s+` takes the newline; without, the
/// former does. No alternative looks behind itself, and only the one that is left looks ahead.
fn is_cut(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    // Not white in any version of Unicode; in ASCII, also no control character.
    let solid = |c: char| c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric());
    bytes[at].is_ascii_alphabetic() && text[..at - 1].chars().next_back().is_some_and(solid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
        pre_tokenizers::byte_level::ByteLevel,
    };

    use super::{super::token_bytes::spelled, *};

    /// The reference: words in which characters stand for bytes.
    fn spelled_words(text: &str) -> Vec<String> {
        let mut words = PreTokenizedString::from(text);
        let byte_level = ByteLevel::new(false, false, true);
        byte_level.pre_tokenize(&mut words).unwrap();
        words
            .get_splits(OffsetReferential::Original, OffsetType::None)
            .into_iter()
            .map(|(word, ..)| word.to_owned())
            .collect()
    }

    #[test]
    fn cuts_are_after_newlines_between_a_solid_character_and_a_letter() {
        let cut = |text| pieces(text, 1).collect::<Vec<_>>();
        assert_eq!(cut("a\nb.\nc"), ["a\n", "b.\n", "c"]);
        assert_eq!(cut("叫\nA"), ["叫\n", "A"]);
        for whole in [
            "",
            "\na",
            "a\n",
            "a\n\nb",
            "a \nb",
            "a\n b",
            "a\n1",
            "a\n'd",
            "a\u{85}\nb",
        ] {
            assert!(cut(whole).len() <= 1, "{whole:?}");
        }
        assert_eq!(
            pieces("ab\ncd\nef", 4).collect::<Vec<_>>(),
            ["ab\ncd\n", "ef"]
        );
        let long = "word\n".repeat(40_000);
        let parts: Vec<String> = into_pieces(&long).collect();
        assert_eq!(parts, pieces(&long, PIECE).collect::<Vec<_>>());
        assert_eq!(parts.len(), 4);
        assert_eq!(parts.concat(), long);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn cutting_changes_no_word(
            text in prop::collection::vec(
                prop_oneof![
                    4 => Just("\n"),
                    4 => prop::sample::select(vec!["a", "B", "s", "d", "ll", "re", "é", "叫", "ſ"]),
                    1 => prop::sample::select(vec![
                        "\r", "\r\n", " ", "  ", "\t", "\u{85}", "\u{A0}", "\u{1680}", "\u{180E}",
                        "\u{200B}", "\u{2003}", "\u{2028}", "\u{3000}", "\u{FEFF}", "\u{1C}",
                        "\u{B}", "\u{0}",
                    ]),
                    1 => prop::sample::select(vec![
                        "'", "'s", "'ll", "’", ".", "_", "1", "٣", "Ⅷ", "²", "\u{301}", "\u{20DD}",
                        "🦀", "\u{200D}", "\u{FE0F}",
                    ]),
                ],
                0..40,
            ),
        ) {
            let text = text.concat();
            let parts: Vec<&str> = pieces(&text, 1).collect();
            prop_assert_eq!(parts.concat(), text.as_str());
            let reference = spelled_words(&text);
            let of_parts: Vec<String> = parts.into_iter().flat_map(spelled_words).collect();
            prop_assert_eq!(&of_parts, &reference);
            let ours: Vec<String> = words(&text).map(spelled).collect();
            prop_assert_eq!(ours, reference);
        }
    }
}
