//! Detects that a file has changed without reading it.

use std::time::Duration;

use crate::{DataError, SourceFile};

/// Properties of a file that change with every change of its contents. Only the operating system sets the change time
/// (`ctime`), while `touch -r`, `rsync -t`, `tar` and backups set the modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Modification time, since 1970.
    written: Duration,
    /// Change time, since 1970.
    changed: Duration,
}

impl Identity {
    /// Whether the change time is before `time`, counted since 1970.
    pub(super) fn changed_before(&self, time: Duration) -> bool {
        self.changed < time
    }

    #[cfg(unix)]
    fn from_metadata(metadata: &std::fs::Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        // Times before 1970 are treated as unknown.
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
    fn from_metadata(_: &std::fs::Metadata) -> Option<Self> {
        None
    }
}

/// Returns the identities of files. `None` if one has none: a pipe, or any file on a system without change times.
pub(super) fn identities(files: &[SourceFile]) -> Result<Option<Vec<Identity>>, DataError> {
    let mut identities = Vec::with_capacity(files.len());
    for file in files {
        let metadata = std::fs::metadata(file.location()).map_err(|reason| DataError::Read {
            path: file.path.clone(),
            reason,
        })?;
        match Identity::from_metadata(&metadata) {
            Some(identity) => identities.push(identity),
            None => return Ok(None),
        }
    }
    Ok(Some(identities))
}
