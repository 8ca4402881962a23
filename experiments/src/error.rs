//! The errors of the library, and their exit codes.

use std::path::{Path, PathBuf};

use foretoken_datasets::DataError;
use foretoken_datasets::files::printable;
use foretoken_model::ModelError;

use crate::backend::BackendError;

/// The error that stopped a command. [`Error::exit_code`] separates errors that the user can fix from failures during
/// the run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The experiment file, or an override, does not describe an experiment.
    #[error("{origin}: {message}")]
    Experiment {
        /// The file, or the `--set` argument.
        origin: String,
        /// The problem, and what to do.
        message: String,
    },
    /// The text cannot become token windows.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model cannot be loaded, or does not support the request.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The backend is not compiled in or has no device.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The run directory cannot be used for the requested action.
    #[error("{}: {message}", path.display())]
    RunDirectory {
        /// The run directory.
        path: PathBuf,
        /// The problem, and what to do.
        message: String,
    },
    /// A checkpoint is missing or damaged.
    #[error("checkpoint {}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint's directory.
        path: PathBuf,
        /// The problem, and what to do.
        message: String,
    },
    /// Reading or writing failed: no space, no permission, a broken disk.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The failed action: "read", "write", "create", …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Standard output cannot be written, for example to a full disk.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    /// The loss or the gradient norm is not finite.
    #[error(
        "the loss is {loss} and the gradient norm {gradient_norm} at step {step}, at a learning rate of \
         {learning_rate:.3e}: lower optimizer.learning_rate or optimizer.clip, or raise optimizer.warmup{}",
        and_then(checkpoint)
    )]
    NotFinite {
        /// The loss, in nats per token.
        loss: f64,
        /// The step that produced it, counted from 0.
        step: usize,
        /// The learning rate of that step.
        learning_rate: f64,
        /// The gradient norm of that step, before clipping.
        gradient_norm: f64,
        /// The path of the last good checkpoint, in words; `None` for a run without checkpoints.
        checkpoint: Option<String>,
    },
    /// Another result of training is not finite, and was not saved.
    #[error(
        "{what} after {step} steps: lower optimizer.learning_rate or optimizer.clip, or raise optimizer.warmup{}",
        and_then(checkpoint)
    )]
    Diverged {
        /// The result that is not finite.
        what: String,
        /// The number of steps taken.
        step: usize,
        /// The path of the last good checkpoint, in words; `None` for a run without checkpoints.
        checkpoint: Option<String>,
    },
    /// Training failed for a reason that the user did not cause.
    #[error("training failed: {0}")]
    Training(String),
    /// An evaluation failed for a reason that the user did not cause.
    #[error("evaluation failed: {0}")]
    Evaluation(String),
    /// An error with advice that depends on the command.
    #[error("{error}; {}", advice.without_flag)]
    Advised {
        /// The error without advice.
        error: Box<Error>,
        /// The advice.
        advice: Advice,
    },
}

/// Advice that names a flag, which only some commands have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// The flag, such as `--tokenizer`.
    pub flag: &'static str,
    /// Advice of a command that has the flag.
    pub with_flag: &'static str,
    /// Advice of any other command.
    pub without_flag: &'static str,
}

fn and_then(checkpoint: &Option<String>) -> String {
    let checkpoint = checkpoint.as_ref();
    checkpoint.map_or(String::new(), |checkpoint| format!("; {checkpoint}"))
}

/// Our own types always serialize to JSON, so an error here is a failure of the run.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Training(error.to_string())
    }
}

/// Whether the path is at fault, such as one that may not be read, and not the machine.
fn is_of_path(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        FileTooLarge, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound,
        PermissionDenied, ReadOnlyFilesystem,
    };
    let kinds = [
        FileTooLarge,
        InvalidFilename,
        InvalidInput,
        IsADirectory,
        NotADirectory,
        NotFound,
        PermissionDenied,
        ReadOnlyFilesystem,
    ];
    kinds.contains(&error.kind())
}

impl Error {
    /// Returns the exit code: 2 if the user can fix the experiment, the data or the arguments, 1 for a failure during
    /// the run, 130 if the user interrupted it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Advised { error, .. } => error.exit_code(),
            Self::Data(DataError::Interrupted) => 130,
            Self::Data(DataError::Fetch { .. } | DataError::Write { .. })
            | Self::Model(
                ModelError::Read(_)
                | ModelError::InvalidLogit { .. }
                | ModelError::WriteFile { .. },
            ) => 1,
            Self::Experiment { .. }
            | Self::Data(_)
            | Self::Model(_)
            | Self::Backend(_)
            | Self::RunDirectory { .. }
            | Self::Checkpoint { .. } => 2,
            Self::Io {
                action: "read",
                source,
                ..
            } if is_of_path(source) => 2,
            Self::Io { .. }
            | Self::Output(_)
            | Self::NotFinite { .. }
            | Self::Diverged { .. }
            | Self::Training(_)
            | Self::Evaluation(_) => 1,
        }
    }

    /// Returns the error in words, with the advice for a command that has the flags that `has_flag` accepts.
    pub fn words(&self, has_flag: impl Fn(&str) -> bool) -> String {
        match self {
            Self::Advised { error, advice } if has_flag(advice.flag) => {
                format!("{error}; {}", advice.with_flag)
            }
            error => error.to_string(),
        }
    }

    /// Adds advice that depends on the command.
    pub(crate) fn advised(self, advice: Advice) -> Self {
        Self::Advised {
            error: Box::new(self),
            advice,
        }
    }

    /// Names the run whose experiment states what is wrong, such as a path of data.
    pub fn of_run(self, run: &Path) -> Self {
        match self {
            Self::Experiment { origin, message } => {
                Self::run_directory(run, format!("{origin}: {message}"))
            }
            error => error,
        }
    }

    /// Adds the path of the last good checkpoint to an error of numbers that are not finite.
    pub(crate) fn with_checkpoint(mut self, last_finite: impl FnOnce() -> String) -> Self {
        if let Self::NotFinite { checkpoint, .. } | Self::Diverged { checkpoint, .. } = &mut self {
            checkpoint.get_or_insert_with(last_finite);
        }
        self
    }

    /// Returns a function that adds the action and the file to an error of the system.
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn device(error: impl std::fmt::Display) -> Self {
        Self::Training(format!("the device failed: {error}"))
    }

    /// Returns an error that names a file of a run or a comparison. The message, which may quote the file, becomes one
    /// line.
    pub(crate) fn run_directory(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::RunDirectory {
            path: path.as_ref().to_path_buf(),
            message: printable(&message.into()),
        }
    }

    /// Returns an error that names a checkpoint. The message, which may quote a file of it, becomes one line.
    pub(crate) fn checkpoint(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.as_ref().to_path_buf(),
            message: printable(&message.into()),
        }
    }
}
