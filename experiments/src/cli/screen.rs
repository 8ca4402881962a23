//! Standard output as commands write to it: how wide it is, whether it takes colours, and that it may be closed.

use std::io::{self, IsTerminal, Write};

/// Columns where nobody says how many there are.
const COLUMNS: usize = 80;

/// Whether to use colours: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub(super) fn has_colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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

/// Writes `text` and says whether anybody still reads: a closed pipe is no error, but a reason to stop.
pub(super) fn write(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .is_ok()
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
