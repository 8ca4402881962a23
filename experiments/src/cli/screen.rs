//! Properties of standard output: its width, and whether it takes colours.

use std::io::{self, IsTerminal};

use foretoken::show::terminal;

/// Columns of text that does not depend on the terminal.
pub(super) const WIDTH: usize = 80;

/// Returns whether standard output takes colours.
pub(super) fn has_colours() -> bool {
    takes_colours(&io::stdout())
}

/// Returns whether a stream takes colours: it is a terminal, not a dumb one, and `NO_COLOR` is not set
/// (<https://no-color.org>).
pub(super) fn takes_colours(stream: &impl IsTerminal) -> bool {
    terminal::has_screen(stream)
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns the columns of the terminal, limited to 40 to 120; [`WIDTH`] without a terminal.
pub(super) fn columns() -> usize {
    #[cfg(unix)]
    if io::stdout().is_terminal()
        && let Ok(size) = rustix::termios::tcgetwinsize(io::stdout())
        && size.ws_col > 0
    {
        return usize::from(size.ws_col).clamp(40, 120);
    }
    WIDTH
}

/// Returns a readable name of a token: quoted, with visible spaces, and with escaped bytes if it is part of a
/// character. Special tokens keep their names.
pub(super) fn token_name(text: &str, bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        _ if text.is_empty() => "(no token)".into(),
        Ok("") => text.into(),
        Ok(text) => format!("{text:?}").replace(' ', "␣"),
        Err(_) => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// Returns a text in lines of at most `width` characters, broken between words.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// Shortens a text to at most `characters`, with `…` for the part that is cut off.
pub(super) fn shortened(text: String, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text,
        Some(_) => text.chars().take(characters - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_named_visibly() {
        for (text, bytes, name) in [
            (" the", &b" the"[..], "\"␣the\""),
            ("\n", b"\n", "\"\\n\""),
            ("\u{FFFD}", b"\xC3", "\"\\xc3\""),
            ("é", "é".as_bytes(), "\"é\""),
            ("<|endoftext|>", b"", "<|endoftext|>"),
            ("", b"", "(no token)"),
        ] {
            assert_eq!(token_name(text, bytes), name);
        }
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("longer than that", 3), ["longer", "than", "that"]);
    }

    #[test]
    fn long_names_are_shortened() {
        assert_eq!(shortened("äbcd".into(), 4), "äbcd");
        assert_eq!(shortened("äbcde".into(), 4), "äbc…");
    }
}
