//! Whether a file is still the one that was read, told without reading it.

use std::time::Duration;

use crate::{DataError, SourceFile};

/// Properties of a file that change with every change of its contents. The time of change
/// (`ctime`) is set by the system alone: `touch -r`, `rsync -t`, `tar` and backups set the time of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    written: Duration,
    changed: Duration,
}

impl Identity {
    /// Whether the file last changed before a time since 1970.
    pub(super) fn changed_before(&self, time: Duration) -> bool {
        self.changed < time
    }

    #[cfg(unix)]
    fn of(metadata: &std::fs::Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        // Times before 1970 are as unknown as no time.
        let time = |seconds: i64, nanoseconds: i64| {
            let seconds = u64::try_from(seconds).ok()?;
            Some(Duration::new(seconds, u32::try_from(nanoseconds).ok()?))
        };
        metadata.is_file().then_some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            written: time(metadata.mtime(), metadata.mtime_nsec()).unwrap_or_default(),
            changed: time(metadata.ctime(), metadata.ctime_nsec())?,
        })
    }

    #[cfg(not(unix))]
    fn of(_: &std::fs::Metadata) -> Option<Self> {
        None
    }
}

/// The identities of files; `None` where one has none, as a pipe, or any file of a system without times of
/// change.
pub(super) fn identities(files: &[SourceFile]) -> Result<Option<Vec<Identity>>, DataError> {
    let mut identities = Vec::with_capacity(files.len());
    for file in files {
        let metadata = std::fs::metadata(file.location()).map_err(|reason| DataError::Read {
            path: file.path.clone(),
            reason,
        })?;
        match Identity::of(&metadata) {
            Some(identity) => identities.push(identity),
            None => return Ok(None),
        }
    }
    Ok(Some(identities))
}
