//! Progress and interruption of a build.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::DataError;

/// Progress of a build.
#[derive(Clone, Copy, Debug)]
pub enum BuildProgress {
    /// A pipe is being copied: number of bytes so far.
    Copying(u64),
    /// The first pass over the files is running.
    Scanning {
        /// Bytes on disk read so far.
        bytes: u64,
        /// Bytes on disk to read in total.
        total: u64,
    },
    /// The tokenizer is being trained.
    Training,
    /// The documents are being encoded.
    Encoding {
        /// Bytes of text encoded so far, by this build and the interrupted builds before it.
        bytes: u64,
        /// Bytes of text in total.
        total: u64,
        /// Documents so far.
        documents: u64,
        /// Tokens so far.
        tokens: u64,
    },
}

/// Progress callback and interrupt flag of a build.
#[derive(Clone, Copy)]
pub struct Monitor<'a> {
    /// Callback that receives the progress, from several threads.
    pub report: &'a (dyn Fn(BuildProgress) + Sync),
    /// Flag that stops the build at the next document once it is true.
    pub interrupt: &'a AtomicBool,
    /// Whether tokenizer training may draw its own progress bars on a terminal.
    pub bars: bool,
}

impl Monitor<'_> {
    /// Returns an error once the build is interrupted.
    pub(super) fn check(&self) -> Result<(), DataError> {
        match self.interrupt.load(Ordering::Relaxed) {
            true => Err(DataError::Interrupted),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Monitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}
