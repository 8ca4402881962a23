//! Claims: which process trains a run, also where several machines share a file system.
//!
//! A claim is a file that is created atomically. Its owner holds a lock on it, which the operating system releases when
//! the process dies, and renews its time of modification, because some shared file systems have no locks. The claims of a
//! run are numbered: a claim whose owner is dead is never removed or changed by another process, but followed by the next
//! number, which only one process can create. An owner that was believed dead finds the next number, and ends.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use foretoken_datasets::files;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Time without a renewal after which a claim without a lock is dead.
pub(super) const LEASE: Duration = Duration::from_secs(60);

/// Interval of renewals.
const RENEWAL: Duration = Duration::from_secs(10);

/// Content of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    host: String,
    process: u32,
    /// Identifies the machine since it was started. Locks are reliable between processes with the same value.
    machine: String,
    /// Whether the owner could lock the file.
    locked: bool,
    /// Whether the owner has given the claim up.
    released: bool,
}

impl Content {
    fn read(mut file: &File) -> Option<Self> {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        file.take(files::LARGEST_DESCRIPTION)
            .read_to_string(&mut text)
            .ok()?;
        serde_json::from_str(&text).ok()
    }

    fn write(&self, mut file: &File) -> std::io::Result<()> {
        // All contents are padded to one length, so that an interrupted write leaves no valid text of another length.
        let text = format!("{:<400}\n", serde_json::to_string(self)?);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

/// Locks the file of a new claim. Returns whether the file system has locks.
fn locked(file: &File) -> bool {
    // An observer that finds the file now holds a shared lock for a moment.
    for _ in 0..500 {
        match file.try_lock() {
            Ok(()) => return true,
            Err(TryLockError::Error(_)) => return false,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
    false
}

/// Returns the identity of this machine since it was started.
fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = boot.map_or_else(
        |_| sysinfo::System::boot_time().to_string(),
        |id| id.trim().to_owned(),
    );
    format!("{} {boot}", host())
}

fn host() -> String {
    sysinfo::System::host_name().unwrap_or_else(|| "unknown".into())
}

fn file_of(folder: &Path, name: &str, number: usize) -> PathBuf {
    folder.join(format!("{name}.{number}"))
}

/// The latest claim of each run at one time.
pub(super) struct Snapshot {
    folder: PathBuf,
    numbers: HashMap<String, usize>,
}

/// State of the owner of a claim, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Alive,
    Dead,
    /// Its lock says nothing, so that only its renewals tell.
    Unknown(SystemTime),
}

impl Snapshot {
    /// Lists the claims in a folder, which may not exist.
    pub(super) fn of(folder: &Path) -> Self {
        let mut numbers = HashMap::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.rsplit_once('.'));
            if let Some((name, number)) = parts
                && let Ok(number) = number.parse::<u32>()
            {
                let latest = numbers.entry(name.to_owned()).or_insert(0);
                *latest = (*latest).max(number as usize);
            }
        }
        Self {
            folder: folder.into(),
            numbers,
        }
    }

    /// Returns the number of a run's latest claim, or 0.
    fn latest(&self, name: &str) -> usize {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    fn owner(&self, name: &str) -> Owner {
        let number = self.latest(name);
        if number == 0 {
            return Owner::Dead;
        }
        let path = file_of(&self.folder, name, number);
        let Ok(file) = files::open_regular(&path) else {
            // It was removed, or cannot be read.
            let renewed = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            return Owner::Unknown(renewed.unwrap_or(SystemTime::UNIX_EPOCH));
        };
        let locked = file.try_lock_shared();
        if matches!(locked, Err(TryLockError::WouldBlock)) {
            return Owner::Alive;
        }
        let content = Content::read(&file);
        let renewed = file.metadata().and_then(|metadata| metadata.modified());
        let renewed = renewed.unwrap_or(SystemTime::UNIX_EPOCH);
        match content {
            Some(content) if content.released => Owner::Dead,
            Some(content) if content.locked && locked.is_ok() && content.machine == machine() => {
                Owner::Dead
            }
            _ => Owner::Unknown(renewed),
        }
    }

    /// Returns whether a process seems to hold a claim on a run. Where locks tell nothing, the clocks of the machines
    /// are compared, so that this is for display only.
    pub(super) fn is_held(&self, name: &str) -> bool {
        match self.owner(name) {
            Owner::Alive => true,
            Owner::Dead => false,
            Owner::Unknown(renewed) => renewed.elapsed().map_or(true, |age| age < LEASE),
        }
    }
}

/// Observer of claims, which decides when an owner is dead.
pub(super) struct Observer {
    folder: PathBuf,
    lease: Duration,
    /// Claims that seem to be held: number, last renewal, and when this process first saw it.
    seen: HashMap<String, (usize, SystemTime, Instant)>,
}

impl Observer {
    pub(super) fn new(folder: PathBuf, lease: Duration) -> Self {
        Self {
            folder,
            lease,
            seen: HashMap::new(),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.folder)
    }

    /// Returns the number with which a run can be claimed; `None` while it is held. Clocks of other machines are not
    /// needed: a claim is dead if its time of renewal has not changed for the length of the lease on this clock.
    pub(super) fn free(&mut self, snapshot: &Snapshot, name: &str) -> Option<usize> {
        let number = snapshot.latest(name);
        let is_free = match snapshot.owner(name) {
            Owner::Alive => false,
            Owner::Dead => true,
            Owner::Unknown(renewed) => match self.seen.get(name) {
                Some((seen, at, since)) if (*seen, *at) == (number, renewed) => {
                    since.elapsed() >= self.lease
                }
                _ => {
                    let now = (number, renewed, Instant::now());
                    self.seen.insert(name.to_owned(), now);
                    false
                }
            },
        };
        is_free.then_some(number + 1)
    }
}

/// A claim that this process holds.
#[derive(Debug)]
pub(super) struct Held {
    file: Arc<File>,
    content: Content,
    ended: Arc<AtomicBool>,
}

impl Held {
    /// Creates a claim; `None` if another process was faster. Calls `lost` on another thread if another process claims
    /// the run nevertheless, because it believes this one dead.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be created or written.
    pub(super) fn take(
        folder: &Path,
        name: &str,
        number: usize,
        lost: impl Fn() + Send + 'static,
    ) -> Result<Option<Self>, Error> {
        let path = file_of(folder, name, number);
        let created = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = match created {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            created => created.map_err(Error::io("create", &path))?,
        };
        let content = Content {
            host: host(),
            process: std::process::id(),
            machine: machine(),
            locked: locked(&file),
            released: false,
        };
        content.write(&file).map_err(Error::io("write", &path))?;
        let held = Self {
            file: Arc::new(file),
            content,
            ended: Arc::default(),
        };
        let next = file_of(folder, name, number + 1);
        held.renew(path, next, RENEWAL, lost);
        // Claims of dead owners have done their duty. Only the latest one counts.
        for before in 1..number {
            let _ = fs::remove_file(file_of(folder, name, before));
        }
        Ok(Some(held))
    }

    /// Renews the claim at `path` until it is dropped.
    fn renew(
        &self,
        path: PathBuf,
        next: PathBuf,
        interval: Duration,
        lost: impl Fn() + Send + 'static,
    ) {
        let (file, ended) = (self.file.clone(), self.ended.clone());
        thread::spawn(move || {
            let mut renewed = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(100));
                if renewed.elapsed() < interval {
                    continue;
                }
                renewed = Instant::now();
                // The owner of a later claim removes the earlier ones.
                if next.exists() || !path.exists() {
                    return lost();
                }
                // A file system that is away for a while must not end the run.
                let _ = file.set_modified(SystemTime::now());
            }
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.content.released = true;
        // A claim that cannot be released is dead when the process is.
        let _ = self.content.write(&self.file);
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(folder: &Path, number: usize) -> Option<Held> {
        Held::take(folder, "a.b-1", number, || {}).unwrap()
    }

    fn free(folder: &Path, observer: &mut Observer) -> Option<usize> {
        observer.free(&Snapshot::of(folder), "a.b-1")
    }

    #[test]
    fn a_claim_is_held_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut observer = Observer::new(folder.into(), Duration::ZERO);
        assert_eq!(free(folder, &mut observer), Some(1));
        let held = take(folder, 1).unwrap();
        assert!(take(folder, 1).is_none());
        assert!(Snapshot::of(folder).is_held("a.b-1"));
        for _ in 0..2 {
            assert_eq!(free(folder, &mut observer), None);
        }
        drop(held);
        assert!(!Snapshot::of(folder).is_held("a.b-1"));
        assert_eq!(free(folder, &mut observer), Some(2));
        let next = take(folder, 2).unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
        drop(next);
    }

    #[test]
    fn only_one_of_many_gets_a_claim() {
        let folder = tempfile::tempdir().unwrap();
        let taken: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| take(folder.path(), 1).map(std::mem::forget).is_some()))
                .collect();
            threads
                .into_iter()
                .map(|thread| usize::from(thread.join().unwrap()))
                .sum()
        });
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_claim_without_a_lock_is_dead_after_a_lease_without_renewal() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        // A claim of another machine, whose locks do not reach this one.
        let path = file_of(folder, "a.b-1", 3);
        let file = File::create(&path).unwrap();
        let content = Content {
            host: "elsewhere".into(),
            process: 1,
            machine: "another".into(),
            locked: true,
            released: false,
        };
        content.write(&file).unwrap();
        let lease = Duration::from_millis(300);
        let mut observer = Observer::new(folder.into(), lease);
        assert_eq!(free(folder, &mut observer), None);
        thread::sleep(lease);
        // It was renewed, by a clock that is an hour behind.
        let behind = SystemTime::now() - Duration::from_secs(3600);
        file.set_modified(behind).unwrap();
        assert_eq!(free(folder, &mut observer), None);
        thread::sleep(lease);
        assert_eq!(free(folder, &mut observer), Some(4));
        // A claim that was just created, and has no content yet, is held.
        File::create(file_of(folder, "a.b-1", 4)).unwrap();
        assert_eq!(free(folder, &mut observer), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_claim_that_cannot_be_opened_is_dead_after_a_lease() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::os::unix::fs::symlink("/nowhere/at-all", file_of(folder, "a.b-1", 2)).unwrap();
        // No number that a process of ours can have reached.
        File::create(folder.join(format!("a.b-1.{}", u64::MAX))).unwrap();
        let lease = Duration::from_millis(200);
        let mut observer = Observer::new(folder.into(), lease);
        assert_eq!(free(folder, &mut observer), None);
        thread::sleep(lease);
        assert_eq!(free(folder, &mut observer), Some(3));
    }

    #[test]
    fn an_owner_that_was_believed_dead_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (told, lost) = std::sync::mpsc::channel();
        let [path, next] = [1, 2].map(|number| file_of(folder.path(), "a.b-1", number));
        let held = take(folder.path(), 1).unwrap();
        let interval = Duration::from_millis(100);
        held.renew(path, next.clone(), interval, move || told.send(()).unwrap());
        assert!(lost.recv_timeout(5 * interval).is_err());
        File::create(next).unwrap();
        lost.recv_timeout(Duration::from_secs(20)).unwrap();
    }
}
