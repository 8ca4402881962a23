//! Output to standard output and standard error. All printing goes through this module.
//!
//! `println!` panics if the reader is gone or the disk is full, and a panic must not end a training run. Here, a
//! closed reader (`foretoken train | head -1`, a closed terminal) only ends the printing. Any other failure ends the
//! printing too, and [`finish`] reports it at the end of the command, so that work under way is completed first.

use std::io::{self, Write};
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

/// Writes `text` to standard output and flushes it. Returns whether printing goes on: nothing is printed after the
/// first failure.
pub fn write(text: &str) -> bool {
    let mut state = STATE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if matches!(*state, State::Open) {
        *state = after(put(&mut io::stdout().lock(), text));
    }
    matches!(*state, State::Open)
}

/// Writes `text` to standard error. A failure is ignored, because it cannot be reported anywhere.
pub fn write_error(text: &str) {
    let _ = put(&mut io::stderr().lock(), text);
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
