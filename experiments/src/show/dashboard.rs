//! Names of the displays of a run.

/// What to show while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dashboard {
    /// burn-train's full-screen dashboard.
    Tui,
    /// One line per evaluation on standard output, and a progress bar on a terminal.
    Plain,
    /// As [`Plain`](Self::Plain), but on standard error: standard output is kept for machines.
    PlainOnStderr,
    /// Nothing.
    None,
}
