//! Standard output as commands fill it: how wide it is, and whether it takes colours.

use std::io::{self, IsTerminal};

use foretoken::show::terminal;

/// Columns where nobody says how many there are.
const COLUMNS: usize = 80;

/// Whether standard output takes colours.
pub(super) fn has_colours() -> bool {
    takes_colours(&io::stdout())
}

/// Whether a stream takes colours: a terminal, unless it is dumb or `NO_COLOR` is set (<https://no-color.org>).
pub(super) fn takes_colours(stream: &impl IsTerminal) -> bool {
    terminal::has_screen(stream)
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns of the terminal, within reason; 80 where there is none.
pub(super) fn columns() -> usize {
    #[cfg(unix)]
    if io::stdout().is_terminal()
        && let Ok(size) = rustix::termios::tcgetwinsize(io::stdout())
        && size.ws_col > 0
    {
        return usize::from(size.ws_col).clamp(40, 120);
    }
    COLUMNS
}

/// A token as a name: quoted, with visible white space, bytes of cut characters by their values, special tokens
/// as they are.
pub(super) fn token_name(text: &str, bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        _ if text.is_empty() => "(no token)".into(),
        Ok("") => text.into(),
        Ok(text) => format!("{text:?}").replace(' ', "␣"),
        Err(_) => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// At most so many characters, with `…` for what is left out.
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
    fn long_names_are_shortened() {
        assert_eq!(shortened("äbcd".into(), 4), "äbcd");
        assert_eq!(shortened("äbcde".into(), 4), "äbc…");
    }
}
