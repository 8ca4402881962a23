//! Output to standard output and standard error. All printing goes through this module.
//!
//! `println!` panics if the reader is gone or the disk is full, and a panic must not end a training run. Here, a
//! closed reader (`foretoken train | head -1`, a closed terminal) only ends the printing. Any other failure ends the
//! printing too, and [`finish`] reports it at the end of the command, so that work under way is completed first.
//!
//! Text from outside, such as names of files and lines of documents, may contain control characters, which would move the
//! cursor of a terminal or change its state. They are printed as escapes, except newlines and tabs.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use crate::Error;

/// Prints a line to standard output, as [`println!`] does; see [`write()`].
#[macro_export]
macro_rules! outln {
    ($($part:tt)*) => {{
        $crate::show::output::write(&format!("{}\n", format_args!($($part)*)));
    }};
}

/// Prints a line to standard error, as [`eprintln!`] does; see [`write_error`].
#[macro_export]
macro_rules! errln {
    ($($part:tt)*) => {{
        $crate::show::output::write_error(&format!("{}\n", format_args!($($part)*)));
    }};
}

/// State of standard output.
enum State {
    Open,
    /// The reader is gone.
    Closed,
    /// A failure that [`finish`] has not reported yet.
    Failed(io::Error),
}

static STATE: Mutex<State> = Mutex::new(State::Open);

/// Writes `text` to standard output with control characters as escapes, and flushes it. Returns whether printing goes on:
/// nothing is printed after the first failure.
pub fn write(text: &str) -> bool {
    write_exactly(&escaped(text, false))
}

/// Writes as [`write()`] does, but lets colours and other styles through.
pub fn write_styled(text: &str) -> bool {
    write_exactly(&escaped(text, true))
}

/// Writes text of a model as [`write_styled`] does to a terminal, and exactly to anything else.
pub fn write_text(text: &str) -> bool {
    match io::stdout().is_terminal() {
        true => write_styled(text),
        false => write_exactly(text),
    }
}

/// Writes as [`write()`] does, but exactly, for bytes that another program reads.
pub fn write_exactly(text: &str) -> bool {
    let mut state = STATE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if matches!(*state, State::Open) {
        *state = after(put(&mut io::stdout().lock(), text));
    }
    matches!(*state, State::Open)
}

/// Writes `text` to standard error with control characters as escapes. A failure is ignored, because it cannot be reported
/// anywhere.
pub fn write_error(text: &str) {
    let _ = put(&mut io::stderr().lock(), &escaped(text, false));
}

/// Writes as [`write_error`] does, but lets colours and other styles through.
pub fn write_styled_error(text: &str) {
    let _ = put(&mut io::stderr().lock(), &escaped(text, true));
}

/// Escapes control characters, except newlines, tabs, and styles if these are allowed. JSON stays valid and the same.
fn escaped(text: &str, with_styles: bool) -> Cow<'_, str> {
    let is_harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.chars().all(is_harmless) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let style = if with_styles { style(rest) } else { 0 };
        let length = style.max(c.len_utf8());
        match c {
            _ if style > 0 || is_harmless(c) => escaped += &rest[..length],
            // The end of a line on Windows.
            '\r' if rest.starts_with("\r\n") => escaped.push(c),
            '\0'..' ' => escaped.extend(c.escape_default()),
            // Only these occur in JSON as they are.
            _ => escaped += &format!("\\u{:04x}", u32::from(c)),
        }
        rest = &rest[length..];
    }
    escaped.into()
}

/// Returns the length of the style that a text begins with, such as `ESC [ 1 m`; 0 if it begins with none.
fn style(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else {
        return 0;
    };
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';');
    match end {
        Some(end) if parameters[end..].starts_with('m') => "\x1b[".len() + end + 1,
        _ => 0,
    }
}

/// Reports a failure of an earlier [`write()`]. A closed reader is not a failure.
///
/// # Errors
///
/// Returns an error if a write failed.
pub fn finish() -> Result<(), Error> {
    let mut state = STATE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    match std::mem::replace(&mut *state, State::Closed) {
        State::Failed(error) => Err(Error::Output(error)),
        open_or_closed => {
            *state = open_or_closed;
            Ok(())
        }
    }
}

fn put(stream: &mut impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

fn after(written: io::Result<()>) -> State {
    match written {
        Ok(()) => State::Open,
        Err(error) if is_gone(&error) => State::Closed,
        Err(error) => State::Failed(error),
    }
}

/// Returns whether the reader is gone, because the pipe or the terminal is closed.
fn is_gone(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EIO) && has_hung_up(libc::STDOUT_FILENO) {
        return true;
    }
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Returns whether the terminal of a file descriptor is gone.
#[cfg(unix)]
pub(crate) fn has_hung_up(fd: libc::c_int) -> bool {
    waits_for_hang_up(fd, 0)
}

/// Waits until a terminal is gone, for at most `milliseconds`, or without limit if negative. Returns whether it is
/// gone.
#[cfg(unix)]
pub(crate) fn waits_for_hang_up(fd: libc::c_int, milliseconds: libc::c_int) -> bool {
    // poll reports these even though none is requested.
    let gone = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    let mut polled = libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    // SAFETY: one entry, which lives as long as the call.
    let ready = unsafe { libc::poll(&raw mut polled, 1, milliseconds) };
    ready > 0 && polled.revents & gone != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_json_stays_valid() {
        let text = "a\tb\nc";
        assert_eq!(escaped(text, false), text);
        let hostile = "\x1b[31mx\x1b]0;title\x07\r\x7f\u{9b}2J\r\n";
        let plain = escaped(hostile, false);
        assert_eq!(
            plain,
            "\\u{1b}[31mx\\u{1b}]0;title\\u{7}\\r\\u007f\\u009b2J\r\n"
        );
        assert!(escaped(hostile, true).starts_with("\x1b[31mx\\u{1b}]0"));
        assert_eq!(escaped("\x1b[", true), "\\u{1b}[");
        let json = serde_json::to_string(hostile).unwrap();
        let printed = escaped(&json, false);
        assert_ne!(printed, json);
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), hostile);
    }

    #[test]
    fn a_full_disk_is_a_failure_and_a_closed_pipe_is_not() {
        let failed = |kind: io::ErrorKind| after(Err(kind.into()));
        assert!(matches!(after(Ok(())), State::Open));
        assert!(matches!(failed(io::ErrorKind::BrokenPipe), State::Closed));
        assert!(matches!(
            failed(io::ErrorKind::StorageFull),
            State::Failed(_)
        ));
    }
}
