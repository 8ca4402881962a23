//! Writing a file so that a reader, or a power cut, finds the old bytes or the new ones; locks that keep a second
//! process from writing the same folder; and text of a file in messages.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use same_file::Handle;

/// Description of a token folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Tokenizer of a token folder.
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// Journal of a token folder that is being made. Hidden, so that no one takes it for text.
pub(crate) const JOURNAL: &str = ".build.json";

/// Writes beside, waits for the disk, renames. Two writers of one file do not mix: the last one to finish wins.
///
/// # Errors
///
/// When the disk refuses; the old file is still there then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static WRITES: AtomicU32 = AtomicU32::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{write}.partial", process::id()));
    let partial = path.with_file_name(name);
    let result = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    if result.is_err() {
        let _ = fs::remove_file(&partial);
    }
    result.and_then(|()| sync_parent(path))
}

/// Whether `name` is that of `file`, or of a part of it that an interrupted [`write_atomically`] has left.
pub fn is_file_or_part(name: &OsStr, file: &str) -> bool {
    let rest = name.to_str().and_then(|name| name.strip_prefix(file));
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with(".partial"))
}

/// Creates a directory and those that it lies in, and waits until the disk has their names.
///
/// # Errors
///
/// When the disk refuses.
pub fn create_directories(path: &Path) -> io::Result<()> {
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let made: Vec<&Path> = path.ancestors().take_while(missing).collect();
    fs::create_dir_all(path)?;
    made.into_iter().try_for_each(sync_parent)
}

/// Waits until the disk has the name of a file or directory that was created, renamed or removed.
///
/// # Errors
///
/// When the disk refuses.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new(".")),
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Waits until the disk has the names that a directory holds. Windows has no such call, and some network file systems
/// refuse it: there it does nothing.
///
/// # Errors
///
/// When the disk refuses.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(path).and_then(|directory| directory.sync_all()) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Text of a file as it stands in a message of one line: control characters are escaped.
pub fn printable(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// An exclusive hold on what a lock file stands for. It ends when this is dropped, which removes the file, or when
/// the process dies, however that happens: the hold is the operating system's, the file alone means nothing.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    _held: Handle,
}

impl LockFile {
    /// Name of the lock file of a folder that one process at a time may write.
    pub const NAME: &str = "foretoken.lock";

    /// Takes the lock, or returns `None` where another process, or another value in this one, holds it.
    ///
    /// # Errors
    ///
    /// When the file cannot be created.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        // A lock on a file that its last holder has removed in between keeps nobody out: take the next one.
        const ATTEMPTS: usize = 100;
        let mut attempt = 0;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            let held = Handle::from_file(file)?;
            // A file system without locks is no reason to refuse.
            if matches!(held.as_file().try_lock(), Err(TryLockError::WouldBlock)) {
                return Ok(None);
            }
            attempt += 1;
            if attempt == ATTEMPTS || Handle::from_path(path).is_ok_and(|there| there == held) {
                return Ok(Some(Self {
                    path: path.into(),
                    _held: held,
                }));
            }
        }
    }

    /// Takes the lock of a folder that exists; see [`try_take`](Self::try_take).
    ///
    /// # Errors
    ///
    /// When the lock file cannot be created.
    pub fn try_take_folder(folder: &Path) -> io::Result<Option<Self>> {
        Self::try_take(&folder.join(Self::NAME))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A file that stays behind does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let held = LockFile::try_take_folder(folder.path()).unwrap().unwrap();
        assert!(LockFile::try_take_folder(folder.path()).unwrap().is_none());
        drop(held);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // A file that a killed process has left is no hold.
        fs::write(folder.path().join(LockFile::NAME), "").unwrap();
        assert!(LockFile::try_take_folder(folder.path()).unwrap().is_some());
    }

    #[test]
    fn of_many_that_take_and_drop_a_lock_one_at_a_time_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let holders = AtomicU32::new(0);
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Some(lock) = LockFile::try_take_folder(folder.path()).unwrap() {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
    }

    #[test]
    fn two_writers_of_one_file_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        let texts = [vec![b'a'; 1 << 16], vec![b'b'; 1 << 16]];
        std::thread::scope(|scope| {
            for text in &texts {
                scope.spawn(|| (0..50).for_each(|_| write_atomically(&path, text).unwrap()));
            }
            for _ in 0..50 {
                if let Ok(read) = fs::read(&path) {
                    assert!(texts.contains(&read), "{} bytes", read.len());
                }
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
