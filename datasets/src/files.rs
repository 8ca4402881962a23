//! Atomic writes, lock files, hashes of bytes, and text of files in messages.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use same_file::Handle;
use sha2::{Digest, Sha256};

/// Writes a file so that a reader finds either the old bytes or the new ones, even after a power cut: it writes a file
/// beside the target, waits for the disk, and renames it. If two writers write one file, the last one to finish wins.
///
/// # Errors
///
/// An error of the disk; the old file is unchanged then.
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

/// Reads a file of text of at most `largest` bytes. A device that gives bytes without end is refused like a larger file.
///
/// # Errors
///
/// An error of the disk, or of its kind [`InvalidData`](io::ErrorKind::InvalidData) if the text is not UTF-8, or
/// [`FileTooLarge`](io::ErrorKind::FileTooLarge).
pub fn read_text(path: &Path, largest: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(largest.saturating_add(1))
        .read_to_string(&mut text)?;
    match read as u64 > largest {
        false => Ok(text),
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("is larger than {largest} bytes"),
        )),
    }
}

/// Maximum size of a file that describes a run, a checkpoint, a dataset or the like, and is read whole.
pub const LARGEST_DESCRIPTION: u64 = 64 << 20;

/// Maximum size of a `tokenizer.json`. The largest vocabularies take about 35 MB.
pub const LARGEST_TOKENIZER: u64 = 256 << 20;

/// Opens a regular file for reading. A pipe is refused before it is opened, which would wait for a writer.
///
/// # Errors
///
/// An error of the disk, or of its kind [`InvalidInput`](io::ErrorKind::InvalidInput) if the file is a pipe or a device.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a device or a pipe, not a regular file",
        ));
    }
    File::open(path)
}

/// Reads a regular file of at most `largest` bytes.
///
/// # Errors
///
/// Returns the errors of [`open_regular`], and an error of the kind [`FileTooLarge`](io::ErrorKind::FileTooLarge) for a
/// larger file.
pub fn read_small(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    file.take(largest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > largest {
        false => Ok(bytes),
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!(
                "it has more than {} MiB, the limit for a file of this kind",
                largest >> 20
            ),
        )),
    }
}

/// Reads a regular file of text of at most `largest` bytes.
///
/// # Errors
///
/// Returns the errors of [`read_small`], and an error of the kind [`InvalidData`](io::ErrorKind::InvalidData) if the text is
/// not UTF-8.
pub fn read_small_text(path: &Path, largest: u64) -> io::Result<String> {
    let text = String::from_utf8(read_small(path, largest)?);
    text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// Whether `name` is the name of `file`, or of a partial file that an interrupted [`write_atomically`] has left.
pub fn is_file_or_part(name: &OsStr, file: &str) -> bool {
    let rest = name.to_str().and_then(|name| name.strip_prefix(file));
    rest.is_some_and(|rest| rest.is_empty() || is_partial(name))
}

/// Removes the partial files that killed writers have left in a folder. Only for folders of our own, while their lock is
/// held: nobody else writes there then.
pub fn remove_partial_files(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_partial(&entry.file_name())) {
        // A file that cannot be removed does no harm.
        let _ = fs::remove_file(entry.path());
    }
}

/// Whether `name` is that of a partial file of [`write_atomically`].
fn is_partial(name: &OsStr) -> bool {
    let writer = name
        .to_str()
        .and_then(|name| name.strip_suffix(".partial"))
        .and_then(|name| name.rsplit_once('.'))
        .and_then(|(_, writer)| writer.split_once('-'));
    writer.is_some_and(|(process, write)| {
        let is_number = |text: &str| text.parse::<u32>().is_ok();
        is_number(process) && is_number(write)
    })
}

/// Creates a directory and its parents, and waits until their names are on disk.
///
/// # Errors
///
/// An error of the disk.
pub fn create_directories(path: &Path) -> io::Result<()> {
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let made: Vec<&Path> = path.ancestors().take_while(missing).collect();
    fs::create_dir_all(path)?;
    made.into_iter().try_for_each(sync_parent)
}

/// Waits until the creation, renaming or removal of a file or directory is on disk.
///
/// # Errors
///
/// An error of the disk.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new(".")),
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Waits until the names in a directory are on disk. It does nothing on Windows, which has no such call, and on network
/// file systems that refuse it.
///
/// # Errors
///
/// An error of the disk.
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

/// Returns the SHA-256 of some bytes in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Escapes the control characters in text of a file or a name, so that it fits into a message of one line. Leaves out the
/// middle of a text of more than 1000 characters.
pub fn printable(text: &str) -> String {
    /// Characters of the beginning and of the end of a long text.
    const KEPT: [usize; 2] = [700, 200];
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    let cut = |count: usize| text.char_indices().nth(count).map(|(at, _)| at);
    let (Some(_), Some(first)) = (cut(1000), cut(KEPT[0])) else {
        return text.chars().map(shown).collect();
    };
    let last = text.char_indices().rev().nth(KEPT[1] - 1);
    let last = last.map_or(text.len(), |(at, _)| at);
    let parts = [&text[..first], &text[last..]];
    parts
        .map(|part| part.chars().map(shown).collect::<String>())
        .join(" … ")
}

/// Returns whether a file is a device, which may have no end.
pub fn is_device(file_type: fs::FileType) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        file_type.is_char_device() || file_type.is_block_device()
    }
    #[cfg(not(unix))]
    {
        let _ = file_type;
        false
    }
}

/// Paths that this process removes when it ends by force.
static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn temporary() -> MutexGuard<'static, Vec<PathBuf>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// File or directory that is removed if the process ends by force while this lives; a directory only if it is empty then.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// Registers a path.
    pub fn new(path: PathBuf) -> Self {
        temporary().push(path.clone());
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut paths = temporary();
        if let Some(place) = paths.iter().position(|path| *path == self.0) {
            paths.remove(place);
        }
    }
}

/// Removes lock files and every other [`Temporary`]: files, and then directories in the order of their registration. For a
/// process that ends without running destructors.
pub fn remove_temporary() {
    let paths = temporary();
    for remove in [fs::remove_file::<&Path>, fs::remove_dir::<&Path>] {
        // What cannot be removed does no harm.
        paths.iter().for_each(|path| drop(remove(path)));
    }
}

/// Exclusive lock, such as on a folder. Dropping it releases the lock and removes the file. The operating system
/// releases it when the process dies for any reason; a file without a lock on it has no effect.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    _held: Handle,
    _temporary: Temporary,
}

impl LockFile {
    /// Name of the lock file of a folder.
    pub const NAME: &str = "foretoken.lock";

    /// Takes the lock, or returns `None` if another process, or another value in this process, holds it.
    ///
    /// # Errors
    ///
    /// A lock file that cannot be created.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        // The previous holder may have removed the file in the meantime. A lock on a removed file excludes no other
        // process, so the lock is taken again on the new file.
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
            // A file system without locks counts as unlocked.
            if matches!(held.as_file().try_lock(), Err(TryLockError::WouldBlock)) {
                return Ok(None);
            }
            attempt += 1;
            if attempt == ATTEMPTS || Handle::from_path(path).is_ok_and(|there| there == held) {
                return Ok(Some(Self {
                    path: path.into(),
                    _held: held,
                    _temporary: Temporary::new(path.into()),
                }));
            }
        }
    }

    /// Takes the lock of an existing folder; see [`try_take`](Self::try_take).
    ///
    /// # Errors
    ///
    /// A lock file that cannot be created.
    pub fn try_take_folder(folder: &Path) -> io::Result<Option<Self>> {
        Self::try_take(&folder.join(Self::NAME))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A file that cannot be removed does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_one_short_line() {
        assert_eq!(printable("a\n\u{1b}[31m é"), "a\\n\\u{1b}[31m é");
        let long = printable(&format!("é{}z", "\0".repeat(1_000_000)));
        assert!(
            long.starts_with("é\\u{0}") && long.ends_with("\\u{0}z"),
            "{long}"
        );
        assert!(long.contains(" … ") && long.chars().count() < 6000);
        let whole = "x".repeat(1000);
        assert_eq!(printable(&whole), whole);
    }

    #[test]
    fn large_files_and_pipes_are_refused_without_reading_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, vec![b' '; (2 << 20) + 1]).unwrap();
        assert_eq!(read_small(&path, 3 << 20).unwrap().len(), (2 << 20) + 1);
        let error = read_small_text(&path, 2 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("more than 2 MiB"), "{error}");
        fs::write(&path, b"\xff").unwrap();
        let error = read_small_text(&path, 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = open_regular(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        #[cfg(unix)]
        {
            let pipe = folder.path().join("pipe");
            let made = process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.unwrap().success());
            let error = read_small(&pipe, 10).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("a pipe"), "{error}");
        }
    }

    #[test]
    fn lock_is_held_once_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let held = LockFile::try_take_folder(folder.path()).unwrap().unwrap();
        assert!(LockFile::try_take_folder(folder.path()).unwrap().is_none());
        drop(held);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // A file that a killed process has left is not locked.
        fs::write(folder.path().join(LockFile::NAME), "").unwrap();
        assert!(LockFile::try_take_folder(folder.path()).unwrap().is_some());
    }

    /// The process ends by force in the tests of the program only, because these tests share one.
    #[test]
    fn what_is_temporary_is_registered_while_it_lives() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join(LockFile::NAME);
        let is_registered = || temporary().contains(&lock);
        let held = LockFile::try_take_folder(folder.path()).unwrap();
        assert!(is_registered() && LockFile::try_take(&lock).unwrap().is_none());
        assert!(is_registered());
        drop(held);
        assert!(!is_registered());
    }

    #[test]
    fn only_partial_files_of_atomic_writes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let others = [
            ".step-5.partial",
            "a.partial",
            "a.x-1.partial",
            "b.5-1.part",
        ];
        for name in ["a.json.5-1.partial", ".b.77-0.partial"]
            .iter()
            .chain(&others)
        {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_partial_files(folder.path());
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, others);
        let is = |name: &str| is_file_or_part(OsStr::new(name), "a.json");
        assert!(is("a.json") && is("a.json.5-1.partial"));
        assert!(!is("a.json.partial") && !is("b.json.5-1.partial") && !is("a.jsonl"));
    }

    #[test]
    fn only_one_thread_at_a_time_holds_a_lock() {
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
    fn concurrent_atomic_writes_do_not_mix() {
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
