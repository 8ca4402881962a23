//! GPT-2's pre-tokenizer (Radford et al. 2019, `encoder.py`): the words of a text, and where a long
//! text can be cut without changing them.
//!
//! GPT-2's words have no greatest length: a genome or a base64 blob is one word. Byte-pair encodings that
//! are trained here limit a word to [`MAX_WORD`] characters, by a pattern that Hugging Face `tokenizers`
//! runs too.

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

/// Characters in a word of an encoding that is trained here; a longer run of letters, digits, signs or
/// white space is several words. No published byte-pair encoding has a token of more than 128 characters
/// (the longest of GPT-2, GPT-4 and Llama 3 are runs of 128 spaces), so that a word is never cut within
/// two of the longest tokens. The limit is the field's remedy too: Llama 3's tokenizer cuts runs at 25 000
/// characters, BERT's takes words of at most 100. A text of long words then takes time and memory in
/// proportion to its length.
pub(super) const MAX_WORD: usize = 256;

/// GPT-2's pattern. Every character is in a word: the three classes, and white space in the last two
/// alternatives.
const UNLIMITED: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// How a text is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// Words of any length, as GPT-2 cuts them.
    Unlimited,
    /// GPT-2's words, cut after at most [`MAX_WORD`] characters and a space before them.
    Limited,
}

impl Words {
    /// The words of a pre-tokenizer, if it makes these words and spells them in bytes.
    pub(super) fn of(pre_tokenizer: &PreTokenizerWrapper) -> Option<Self> {
        let spells = |byte_level: &ByteLevel, use_regex| {
            byte_level.use_regex == use_regex && !byte_level.add_prefix_space
        };
        match pre_tokenizer {
            PreTokenizerWrapper::ByteLevel(byte_level) if spells(byte_level, true) => {
                Some(Self::Unlimited)
            }
            PreTokenizerWrapper::Sequence(sequence) => match sequence.as_ref() {
                [
                    PreTokenizerWrapper::Split(split),
                    PreTokenizerWrapper::ByteLevel(byte_level),
                ] if *split == limited_split() && spells(byte_level, false) => Some(Self::Limited),
                _ => None,
            },
            _ => None,
        }
    }

    /// The words of a text, in order and nothing left out.
    pub(super) fn split(self, text: &str) -> impl Iterator<Item = &str> {
        let regex = self.regex();
        regex.find_iter(text).map(|(start, end)| &text[start..end])
    }

    /// The end of a beginning of `text` that has the same words whatever follows the text, and leaves the
    /// words after it as they are; 0 where none is known.
    ///
    /// A line's end serves, see [`is_cut`], or else the end of a word but the last two. Whether a word ends
    /// where it does depends on two characters after it at most (`'` may become `'ll`), or on where a run
    /// of white space ends: on the two words that follow. At the end of a text a run of white space is one
    /// word, so that none may be cut, unless the limit cuts it there anyway.
    pub(super) fn settled(self, text: &str) -> usize {
        let by_line = Self::settled_by_line(text);
        if by_line > 0 {
            return by_line;
        }
        let mut settled = 0;
        let mut next = 0;
        let mut word = "";
        for (start, end) in self.regex().find_iter(text) {
            if next > 0 {
                settled = next;
            }
            let is_full = self == Self::Limited && word.chars().count() == MAX_WORD;
            next = match text[..start].chars().next_back() {
                Some(before) if is_solid(before) || is_full => start,
                _ => 0,
            };
            word = &text[start..end];
        }
        settled
    }

    /// Does what [`settled`](Self::settled) does, at the end of a line only.
    pub(super) fn settled_by_line(text: &str) -> usize {
        memchr::memrchr_iter(b'\n', text.as_bytes())
            .map(|newline| newline + 1)
            .find(|&at| at < text.len() && is_cut(text, at))
            .unwrap_or(0)
    }

    fn regex(self) -> &'static SysRegex {
        static REGEXES: LazyLock<[SysRegex; 2]> = LazyLock::new(|| {
            [UNLIMITED, &limited_pattern()]
                .map(|pattern| SysRegex::new(pattern).expect("the pattern is one"))
        });
        &REGEXES[self as usize]
    }
}

/// GPT-2's pattern with an upper bound on every run.
fn limited_pattern() -> String {
    UNLIMITED.replace('+', &format!("{{1,{MAX_WORD}}}"))
}

fn limited_split() -> Split {
    let pattern = SplitPattern::Regex(limited_pattern());
    Split::new(pattern, SplitDelimiterBehavior::Isolated, false).expect("the pattern is one")
}

/// Returns the pre-tokenizer that cuts [`Words::Limited`] in a `tokenizer.json`.
pub(super) fn limited_pre_tokenizer() -> PreTokenizerWrapper {
    let byte_level = ByteLevel::new(false, false, false);
    PreTokenizerWrapper::Sequence(Sequence::new(vec![
        PreTokenizerWrapper::Split(limited_split()),
        PreTokenizerWrapper::ByteLevel(byte_level),
    ]))
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
    let before = text[..at - 1].chars().next_back();
    text.as_bytes()[at].is_ascii_alphabetic() && before.is_some_and(is_solid)
}

/// Whether a character is not white in any version of Unicode, and in ASCII no control character.
fn is_solid(c: char) -> bool {
    c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::{super::token_bytes::spelled, *};

    const BOTH: [Words; 2] = [Words::Unlimited, Words::Limited];

    fn pre_tokenizer(words: Words) -> PreTokenizerWrapper {
        match words {
            Words::Unlimited => ByteLevel::new(false, false, true).into(),
            Words::Limited => limited_pre_tokenizer(),
        }
    }

    /// The reference: words in which characters stand for bytes.
    fn spelled_words(words: Words, text: &str) -> Vec<String> {
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

    #[test]
    fn pre_tokenizers_are_recognised() {
        for words in BOTH {
            assert_eq!(Words::of(&pre_tokenizer(words)), Some(words));
        }
        for other in [
            ByteLevel::new(true, false, true),
            ByteLevel::new(false, false, false),
        ] {
            assert_eq!(Words::of(&other.into()), None);
        }
    }

    #[test]
    fn a_long_run_is_several_words() {
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
    fn a_text_without_line_ends_is_settled_but_for_its_end() {
        for text in [
            "ACGT".repeat(10_000),
            " ".repeat(40_000),
            "word, ".repeat(8000),
        ] {
            let left = text.len() - Words::Limited.settled(&text);
            assert!(left <= 2 * MAX_WORD, "{left} bytes left");
        }
        // Without a limit, a genome is one word.
        assert_eq!(Words::Unlimited.settled(&"ACGT".repeat(10_000)), 0);
    }

    /// Texts of what words are told by, with runs about as long as the limit.
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
        fn cutting_changes_no_word(text in texts()) {
            for words in BOTH {
                let parts: Vec<&str> = pieces(&text, 1).collect();
                prop_assert_eq!(parts.concat(), text.as_str());
                let reference = spelled_words(words, &text);
                let of_parts: Vec<String> =
                    parts.into_iter().flat_map(|part| spelled_words(words, part)).collect();
                prop_assert_eq!(&of_parts, &reference);
                let ours: Vec<String> =
                    words.split(&text).map(spelled).collect();
                prop_assert_eq!(ours, reference);
            }
        }

        #[test]
        fn what_is_settled_has_its_words_whatever_follows(text in texts(), more in texts()) {
            let whole = format!("{text}{more}");
            for words in BOTH {
                let reference: Vec<&str> = words.split(&whole).collect();
                for settled in [words.settled(&text), Words::settled_by_line(&text)] {
                    let (before, after) = whole.split_at(settled);
                    let cut: Vec<&str> = words.split(before).chain(words.split(after)).collect();
                    prop_assert_eq!(cut, reference.clone(), "cut at {}", settled);
                }
            }
        }
    }
}
