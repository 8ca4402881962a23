//! What ends a race before its time, and whose fault it is.

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RaceError {
    /// What the user can mend.
    #[error("{0}")]
    Usage(String),
    /// What failed on its way.
    #[error("{0}")]
    Failed(String),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// Our own training step could not be taken.
    #[error(transparent)]
    Foretoken(#[from] foretoken::Error),
}

impl RaceError {
    /// As `foretoken`: 2 for what the user can mend, 1 for what failed on its way, 130 for what was interrupted.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::Interrupted => 130,
            Self::Foretoken(error) => error.exit_code(),
        }
    }

    /// For `map_err`: what was tried when something else failed.
    pub(crate) fn while_trying<E: std::fmt::Display>(action: String) -> impl FnOnce(E) -> Self {
        move |error| Self::Failed(format!("cannot {action}: {error}"))
    }
}
