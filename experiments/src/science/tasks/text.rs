//! Operations on strings as Python defines them, in which the prompts of the tasks are written.

/// Returns whether Python's `str.isspace` counts a character as white space. It counts four separators of ASCII that
/// Unicode does not.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\x1c'..='\x1f')
}

/// Removes white space from both ends, as `str.strip`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Returns the text with its first character in upper case and all others in lower case, as `str.capitalize`. Of a first
/// character that becomes several, such as `ß`, only the first is in upper case, as in a title.
pub(super) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else {
        return String::new();
    };
    let mut capital = first.to_uppercase();
    let mut result: String = capital.next().into_iter().collect();
    result.extend(capital.flat_map(char::to_lowercase));
    // In lower case as a whole, because a sigma depends on the letters before it.
    let lower = text.to_lowercase();
    result.extend(lower.chars().skip(first.to_lowercase().count()));
    result
}

/// Cleans a text of HellaSwag, whose part from WikiHow has remains of markup: `[title]` begins a sentence, and anything
/// else in brackets is dropped.
pub(super) fn without_markup(text: &str) -> String {
    let text = strip(text).replace(" [title]", ". ");
    let mut result = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(open) = rest.find('[') {
        // Brackets that enclose a line break are kept.
        let close = rest[open..].find([']', '\n']).map(|at| open + at);
        let (kept, after) = match close {
            Some(close) if rest.as_bytes()[close] == b']' => (open, close + 1),
            _ => (open + 1, open + 1),
        };
        result += &rest[..kept];
        rest = &rest[after..];
    }
    result += rest;
    result.replace("  ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_that_of_python() {
        assert_eq!(strip("\x1f \u{a0}\u{3000}a b\x1c\n\u{85}"), "a b");
        assert_eq!(strip("\u{200b}a"), "\u{200b}a");
    }

    /// The results are those of `str.capitalize` in Python 3.13.
    #[test]
    fn capitals_are_those_of_python() {
        for (text, expected) in [
            ("", ""),
            ("he sees Jane", "He sees jane"),
            ("ÉTÉ", "Été"),
            ("ßA", "Ssa"),
            ("ﬁN", "Fin"),
            ("ΑΣ ΟΔΟΣ Σ", "Ας οδος σ"),
            ("İI", "İi"),
            ("1A", "1a"),
        ] {
            assert_eq!(capitalize(text), expected, "{text:?}");
        }
    }

    /// The results are those of the expressions in Python that define the task.
    #[test]
    fn markup_is_dropped() {
        for (text, expected) in [
            (" a [title] b [step] c  ", "a. b c"),
            ("[header] How to", " How to"),
            ("a [b [c] d] e", "a d] e"),
            ("a [b\nc] d", "a [b\nc] d"),
            ("[a\n[b]c]", "[a\nc]"),
            ("a] [b", "a] [b"),
            ("a    b", "a  b"),
            ("[]", ""),
        ] {
            assert_eq!(without_markup(text), expected, "{text:?}");
        }
    }
}
