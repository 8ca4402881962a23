//! Kinds of displays of a run.

/// Display of a run under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dashboard {
    /// burn-train's full-screen dashboard.
    Tui,
    /// One line per evaluation on standard output, and a progress bar on a terminal.
    Plain,
    /// Like [`Plain`](Self::Plain), but on standard error, so that standard output has only JSON.
    PlainOnStderr,
    /// No display.
    None,
}
