//! Everything that can go wrong in a run, and whose fault it is.

use std::path::{Path, PathBuf};

use foretoken_datasets::DataError;
use foretoken_datasets::files::printable;
use foretoken_model::ModelError;

use crate::backend::BackendError;

/// What stopped a command. [`Error::exit_code`] separates what the user can mend from what failed on
/// its way.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The experiment file, or an override, does not describe an experiment.
    #[error("{origin}: {message}")]
    Experiment {
        /// The file, or the `--set` argument.
        origin: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The text cannot become token windows.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model cannot be had, or cannot do what it is asked for.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The backend is not compiled in or has no device.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The run directory cannot be used as asked.
    #[error("{}: {message}", path.display())]
    RunDirectory {
        /// The run directory.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A checkpoint is not what was written.
    #[error("checkpoint {}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint's directory.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// Reading or writing failed: no space, no permission, a broken disk.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "write", "create", …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Something that was printed did not arrive.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    /// The loss stopped being a number.
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
        /// Where the last good checkpoint lies, in words; `None` for a run without checkpoints.
        checkpoint: Option<String>,
    },
    /// What training made is no longer a number, and nothing of it was saved.
    #[error(
        "{what} after {step} steps: lower optimizer.learning_rate or optimizer.clip, or raise optimizer.warmup{}",
        and_then(checkpoint)
    )]
    Diverged {
        /// What is not finite.
        what: String,
        /// Steps taken.
        step: usize,
        /// Where the last good checkpoint lies, in words; `None` for a run without checkpoints.
        checkpoint: Option<String>,
    },
    /// The training loop failed in a way that is not the user's doing.
    #[error("training failed: {0}")]
    Training(String),
}

fn and_then(checkpoint: &Option<String>) -> String {
    let checkpoint = checkpoint.as_ref();
    checkpoint.map_or(String::new(), |checkpoint| format!("; {checkpoint}"))
}

/// Our own types are always JSON; where they are not, the run fails and says so.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Training(error.to_string())
    }
}

impl Error {
    /// 2 for what the user can mend in the experiment, the data or the arguments; 1 for what failed on its
    /// way; 130 for what the user interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
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
            Self::Io { .. }
            | Self::Output(_)
            | Self::NotFinite { .. }
            | Self::Diverged { .. }
            | Self::Training(_) => 1,
        }
    }

    /// Adds where the last good checkpoint lies to an error of numbers that are not finite.
    pub(crate) fn with_checkpoint(mut self, last_finite: impl FnOnce() -> String) -> Self {
        if let Self::NotFinite { checkpoint, .. } | Self::Diverged { checkpoint, .. } = &mut self {
            checkpoint.get_or_insert_with(last_finite);
        }
        self
    }

    /// Names what was being done to which file when the system refused.
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

    /// Names a file of a run or a comparison; the message, which may quote the file, becomes one line.
    pub(crate) fn run_directory(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::RunDirectory {
            path: path.as_ref().to_path_buf(),
            message: printable(&message.into()),
        }
    }

    /// Names a checkpoint; the message, which may quote a file of it, becomes one line.
    pub(crate) fn checkpoint(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.as_ref().to_path_buf(),
            message: printable(&message.into()),
        }
    }
}
