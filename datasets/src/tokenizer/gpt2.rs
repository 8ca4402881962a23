//! Pre-tokenizer of GPT-2 (Radford et al. 2019, `encoder.py`), which splits text into words, and positions at which a
//! long text can be divided without changing its words.
//!
//! Words of GPT-2 have unlimited length: a genome or a base64 blob is one word. Byte-pair encodings that are trained
//! here limit words to [`MAX_WORD`] characters, with a pattern that Hugging Face `tokenizers` supports, too.

use std::sync::LazyLock;

use tokenizers::{
    PreTokenizerWrapper, SplitDelimiterBehavior,
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
    utils::SysRegex,
};

/// Maximum number of characters in a word of an encoding that is trained here. A longer run of letters, digits, signs
/// or white space is several words, so that time and memory are proportional to the length of a text. The longest
/// tokens of published byte-pair encodings have 128 characters (runs of spaces in GPT-2, GPT-4 and Llama 3), so a word
/// can hold two of them. Other tokenizers have such limits, too: Llama 3 splits runs at 25 000 characters, and BERT
/// limits words to 100.
pub(super) const MAX_WORD: usize = 256;

/// Pattern of GPT-2. Every character is in a word: letters, numbers and others, and white space by the last two
/// alternatives.
const UNLIMITED: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Rule by which a text is split into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// Words of GPT-2, of any length.
    Unlimited,
    /// Words of GPT-2, of at most [`MAX_WORD`] characters and a space before them.
    Limited,
}

impl Words {
    /// Recognises a pre-tokenizer that splits text into these words and writes them in the byte-level alphabet.
    pub(super) fn from_pre_tokenizer(pre_tokenizer: &PreTokenizerWrapper) -> Option<Self> {
        let is_plain = |byte_level: &ByteLevel, use_regex| {
            byte_level.use_regex == use_regex && !byte_level.add_prefix_space
        };
        match pre_tokenizer {
            PreTokenizerWrapper::ByteLevel(byte_level) if is_plain(byte_level, true) => {
                Some(Self::Unlimited)
            }
            PreTokenizerWrapper::Sequence(sequence) => match sequence.as_ref() {
                [
                    PreTokenizerWrapper::Split(split),
                    PreTokenizerWrapper::ByteLevel(byte_level),
                ] if *split == limited_split() && is_plain(byte_level, false) => {
                    Some(Self::Limited)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Splits a text into words, which together are the text.
    pub(super) fn split(self, text: &str) -> impl Iterator<Item = &str> {
        let regex = self.regex();
        regex.find_iter(text).map(|(start, end)| &text[start..end])
    }

    /// Returns the length of a prefix of `text` whose words, and the words after it, are the same if both are split
    /// apart, whatever follows `text`. 0 if none is known.
    ///
    /// The prefix ends at the end of a line (see [`is_boundary`]), or else at the end of a word before the last two.
    /// The end of a word depends on at most two characters after it (`'` may become `'ll`), or on the end of a run of
    /// white space, so at most on the next two words. White space at the end of a text is one word, so the prefix must
    /// not end in it, unless the limit splits the run there.
    pub(super) fn stable_prefix(self, text: &str) -> usize {
        let by_line = Self::stable_lines(text);
        if by_line > 0 {
            return by_line;
        }
        let mut stable = 0;
        let mut next = 0;
        let mut word = "";
        for (start, end) in self.regex().find_iter(text) {
            if next > 0 {
                stable = next;
            }
            let is_full = self == Self::Limited && word.chars().count() == MAX_WORD;
            next = match text[..start].chars().next_back() {
                Some(before) if is_never_white(before) || is_full => start,
                _ => 0,
            };
            word = &text[start..end];
        }
        stable
    }

    /// Returns what [`stable_prefix`](Self::stable_prefix) does, but only at the end of a line.
    pub(super) fn stable_lines(text: &str) -> usize {
        memchr::memrchr_iter(b'\n', text.as_bytes())
            .map(|newline| newline + 1)
            .find(|&at| at < text.len() && is_boundary(text, at))
            .unwrap_or(0)
    }

    fn regex(self) -> &'static SysRegex {
        static REGEXES: LazyLock<[SysRegex; 2]> = LazyLock::new(|| {
            [UNLIMITED, &limited_pattern()]
                .map(|pattern| SysRegex::new(pattern).expect("the pattern is valid"))
        });
        &REGEXES[self as usize]
    }
}

/// Returns the pattern of GPT-2 with an upper bound on every run.
fn limited_pattern() -> String {
    UNLIMITED.replace('+', &format!("{{1,{MAX_WORD}}}"))
}

fn limited_split() -> Split {
    let pattern = SplitPattern::Regex(limited_pattern());
    Split::new(pattern, SplitDelimiterBehavior::Isolated, false).expect("the pattern is valid")
}

/// Returns the pre-tokenizer that splits text into [`Words::Limited`] in a `tokenizer.json`.
pub(super) fn limited_pre_tokenizer() -> PreTokenizerWrapper {
    let byte_level = ByteLevel::new(false, false, false);
    PreTokenizerWrapper::Sequence(Sequence::new(vec![
        PreTokenizerWrapper::Split(limited_split()),
        PreTokenizerWrapper::ByteLevel(byte_level),
    ]))
}

/// Minimum number of bytes in a piece, except for the last one.
pub(super) const PIECE: usize = 1 << 16;

/// Divides a text into pieces that have the same words as the text. Each but the last has at least `at_least` bytes.
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

/// Divides a text like [`pieces`], but takes ownership of it.
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

/// Returns the length of the first piece.
fn piece_end(text: &str, at_least: usize) -> usize {
    let bytes = text.as_bytes();
    (at_least.max(1)..text.len())
        .find(|&at| bytes[at - 1] == b'\n' && is_boundary(text, at))
        .unwrap_or(text.len())
}

/// Whether the newline at `at - 1` is a word by itself, both in the text and if the text ended at `at`.
///
/// This holds between a character that is not white space and a letter. Only the last two alternatives match a newline,
/// and here they match nothing else: the previous word ends before it, and the next begins after it. If the letter
/// follows, `\s+(?!\S)` fails and `\s+` matches the newline; if the text ends, `\s+(?!\S)` matches it. No alternative
/// looks behind, and only `\s+(?!\S)` looks ahead.
fn is_boundary(text: &str, at: usize) -> bool {
    let before = text[..at - 1].chars().next_back();
    text.as_bytes()[at].is_ascii_alphabetic() && before.is_some_and(is_never_white)
}

/// Whether a character is white space in no version of Unicode, and not an ASCII control character.
fn is_never_white(c: char) -> bool {
    c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::{super::token_bytes::to_byte_level, *};

    const BOTH: [Words; 2] = [Words::Unlimited, Words::Limited];

    fn pre_tokenizer(words: Words) -> PreTokenizerWrapper {
        match words {
            Words::Unlimited => ByteLevel::new(false, false, true).into(),
            Words::Limited => limited_pre_tokenizer(),
        }
    }

    /// Returns the reference words of the library, in the byte-level alphabet.
    fn reference_words(words: Words, text: &str) -> Vec<String> {
        let reference = pre_tokenizer(words);
        let mut words = PreTokenizedString::from(text);
        reference.pre_tokenize(&mut words).unwrap();
        words
            .get_splits(OffsetReferential::Original, OffsetType::None)
            .into_iter()
            .map(|(word, ..)| word.to_owned())
            .collect()
    }

    #[test]
    fn boundaries_are_newlines_between_a_visible_character_and_a_letter() {
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

    #[test]
    fn pre_tokenizers_are_recognised() {
        for words in BOTH {
            assert_eq!(
                Words::from_pre_tokenizer(&pre_tokenizer(words)),
                Some(words)
            );
        }
        for other in [
            ByteLevel::new(true, false, true),
            ByteLevel::new(false, false, false),
        ] {
            assert_eq!(Words::from_pre_tokenizer(&other.into()), None);
        }
    }

    #[test]
    fn long_run_is_several_words() {
        for (run, expected) in [
            ("a".repeat(600), vec![256, 256, 88]),
            (format!(" {}", "7".repeat(256)), vec![257]),
            ("叫".repeat(300), vec![768, 132]),
            (" ".repeat(600), vec![256, 256, 88]),
            (format!("{}x", " ".repeat(257)), vec![256, 2]),
            ("=".repeat(257), vec![256, 1]),
        ] {
            let lengths: Vec<usize> = Words::Limited.split(&run).map(str::len).collect();
            assert_eq!(lengths, expected, "{run}");
        }
    }

    #[test]
    fn text_without_line_ends_has_a_long_stable_prefix() {
        for text in [
            "ACGT".repeat(10_000),
            " ".repeat(40_000),
            "word, ".repeat(8000),
        ] {
            let left = text.len() - Words::Limited.stable_prefix(&text);
            assert!(left <= 2 * MAX_WORD, "{left} bytes left");
        }
        // Without a limit, a genome is one word.
        assert_eq!(Words::Unlimited.stable_prefix(&"ACGT".repeat(10_000)), 0);
    }

    /// Generates texts of characters that decide where words end, with runs about as long as the limit.
    fn texts() -> impl Strategy<Value = String> {
        let runs = prop::sample::select(vec!["a", " ", "-", "1", "叫", "\t"]);
        let piece = prop_oneof![
            40 => Just("\n".to_string()),
            40 => prop::sample::select(vec!["a", "B", "s", "d", "ll", "re", "é", "叫", "ſ"])
                .prop_map(String::from),
            10 => prop::sample::select(vec![
                "\r", "\r\n", " ", "  ", "\t", "\u{85}", "\u{A0}", "\u{1680}", "\u{180E}",
                "\u{200B}", "\u{2003}", "\u{2028}", "\u{3000}", "\u{FEFF}", "\u{1C}",
                "\u{B}", "\u{0}",
            ])
            .prop_map(String::from),
            10 => prop::sample::select(vec![
                "'", "'s", "'ll", "’", ".", "_", "1", "٣", "Ⅷ", "²", "\u{301}", "\u{20DD}",
                "🦀", "\u{200D}", "\u{FE0F}",
            ])
            .prop_map(String::from),
            2 => (runs, 250_usize..520).prop_map(|(run, times)| run.repeat(times)),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn pieces_have_the_words_of_the_text(text in texts()) {
            for words in BOTH {
                let parts: Vec<&str> = pieces(&text, 1).collect();
                prop_assert_eq!(parts.concat(), text.as_str());
                let reference = reference_words(words, &text);
                let of_parts: Vec<String> =
                    parts.into_iter().flat_map(|part| reference_words(words, part)).collect();
                prop_assert_eq!(&of_parts, &reference);
                let ours: Vec<String> =
                    words.split(&text).map(to_byte_level).collect();
                prop_assert_eq!(ours, reference);
            }
        }

        #[test]
        fn stable_prefix_keeps_its_words_whatever_follows(text in texts(), more in texts()) {
            let whole = format!("{text}{more}");
            for words in BOTH {
                let reference: Vec<&str> = words.split(&whole).collect();
                for stable in [words.stable_prefix(&text), Words::stable_lines(&text)] {
                    let (before, after) = whole.split_at(stable);
                    let cut: Vec<&str> = words.split(before).chain(words.split(after)).collect();
                    prop_assert_eq!(cut, reference.clone(), "divided at {}", stable);
                }
            }
        }
    }
}
