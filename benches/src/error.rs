//! Errors of a race, with their exit codes.

/// Reason why a race has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RaceError {
    /// Mistake that the user can correct.
    #[error("{0}")]
    Usage(String),
    /// Failure during the race.
    #[error("{0}")]
    Failed(String),
    /// The user has interrupted the race.
    #[error("interrupted")]
    Interrupted,
    /// The training step of foretoken failed.
    #[error(transparent)]
    Foretoken(#[from] foretoken::Error),
}

impl RaceError {
    /// Returns the exit code, as in `foretoken`: 2 for mistakes of the user, 1 for failures, 130 for interruptions.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::Interrupted => 130,
            Self::Foretoken(error) => error.exit_code(),
        }
    }

    /// Returns a function for `map_err` that names the action that failed.
    pub(crate) fn cannot<E: std::fmt::Display>(action: String) -> impl FnOnce(E) -> Self {
        move |error| Self::Failed(format!("cannot {action}: {error}"))
    }
}
