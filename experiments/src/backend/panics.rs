//! The panic hook of the process, which this file alone replaces, and panics turned into reasons.
//!
//! Hooks that several places take and set again lose one another when they end in another order than they began. So
//! one hook is installed once and stays; what should happen on a panic is registered with it.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread;

type Record = Arc<OnceLock<String>>;

/// Active records, the innermost last.
static RECORDS: Mutex<Vec<Record>> = Mutex::new(Vec::new());

/// Held by the thread that has records.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Conditions under which a panic is not reported.
static SILENCED: Mutex<Vec<fn() -> bool>> = Mutex::new(Vec::new());

/// Work to do before the message of a panic is printed.
static BEFORE_MESSAGE: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Adds work to do before the message of a panic is printed, such as leaving the full screen. Added once however often
/// it is called with one function; recorded panics print nothing and do not call it.
pub(crate) fn before_message(work: fn()) {
    install();
    let mut all = locked(&BEFORE_MESSAGE);
    if !all.iter().any(|other| std::ptr::fn_addr_eq(*other, work)) {
        all.push(work);
    }
}

/// Does not report panics during which `condition` holds on the panicking thread.
pub(crate) fn silence_if(condition: fn() -> bool) {
    install();
    let mut all = locked(&SILENCED);
    if !all
        .iter()
        .any(|other| std::ptr::fn_addr_eq(*other, condition))
    {
        all.push(condition);
    }
}

/// Installs the hook, unless it is there. A hook cannot be replaced by a thread that panics.
fn install() {
    static ONCE: Once = Once::new();
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let message = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // Each list is copied, so that no lock is held while foreign code runs.
            if record(panic) || all(&SILENCED).iter().any(|condition| condition()) {
                return;
            }
            for work in all(&BEFORE_MESSAGE) {
                work();
            }
            message(panic);
        }));
    });
}

/// Adds a panic to the innermost record; `false` if there is none.
fn record(panic: &PanicHookInfo<'_>) -> bool {
    let Some(innermost) = locked(&RECORDS).last().cloned() else {
        return false;
    };
    let message = panic
        .payload_as_str()
        .unwrap_or("a panic without a message");
    // The first one explains, the others follow from it.
    let _ = innermost.set(message.trim().to_owned());
    true
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn all<T: Clone>(list: &Mutex<Vec<T>>) -> Vec<T> {
    locked(list).clone()
}

thread_local! {
    /// Records of this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// As long as it lives, panics are recorded and not printed: the first one explains, the others follow from it.
///
/// A panic on a thread of CubeCL's reaches the caller only as a broken channel, so panics of all threads are recorded,
/// and one thread at a time has records. Records may be nested; a panic belongs to the innermost.
pub(crate) struct PanicRecord {
    first: Record,
    /// Keeps other threads waiting; the outermost record of a thread holds it.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl PanicRecord {
    pub(crate) fn start() -> Self {
        let turn = (DEPTH.get() == 0).then(|| locked(&ONE_AT_A_TIME));
        install();
        DEPTH.set(DEPTH.get() + 1);
        let first = Record::default();
        locked(&RECORDS).push(first.clone());
        Self { first, _turn: turn }
    }

    /// The message of the first panic.
    pub(crate) fn first(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }
}

impl Drop for PanicRecord {
    fn drop(&mut self) {
        locked(&RECORDS).retain(|record| !Arc::ptr_eq(record, &self.first));
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Does `work`; its error, or its panic, as a reason.
pub(crate) fn caught<T, E: std::fmt::Display>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    let record = PanicRecord::start();
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(one_line(
            record.first().unwrap_or("it stopped without a message"),
        )),
    }
}

/// A message on one line: reasons stand in tables.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_reason_and_so_is_an_error() {
        assert_eq!(caught(|| Ok::<_, String>(3)), Ok(3));
        assert_eq!(caught(|| Err::<(), _>("no room")), Err("no room".into()));
        let panicking = || -> Result<(), String> { panic!("shader\n  {}", "failed") };
        assert_eq!(caught(panicking), Err("shader failed".into()));
        // And after it, panics go their usual way again.
        assert_eq!(caught(|| Ok::<_, String>(4)), Ok(4));
    }

    #[test]
    fn records_nest_and_each_has_its_own_panics() {
        let outer = PanicRecord::start();
        let inner: Result<(), String> = caught(|| -> Result<(), String> { panic!("inner") });
        assert_eq!(inner, Err("inner".into()));
        assert_eq!(outer.first(), None);
        let thread = std::thread::spawn(|| panic!("on another thread"));
        assert!(thread.join().is_err());
        assert_eq!(outer.first(), Some("on another thread"));
    }

    #[test]
    fn only_panics_that_are_reported_call_what_comes_before_their_message() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        const SILENT: &str = "a silenced thread";
        const LOUD: &str = "a thread that is heard";
        fn named(name: &str) -> bool {
            thread::current().name() == Some(name)
        }
        let panics_on = |name: &str| {
            let thread = thread::Builder::new().name(name.into());
            let thread = thread.spawn(|| panic!("expected by a test")).unwrap();
            assert!(thread.join().is_err());
        };
        for _ in 0..2 {
            before_message(|| {
                if named(LOUD) {
                    CALLS.fetch_add(1, Ordering::SeqCst);
                }
            });
            silence_if(|| named(SILENT));
        }
        {
            let record = PanicRecord::start();
            panics_on(LOUD);
            assert_eq!(record.first(), Some("expected by a test"));
        }
        assert_eq!(CALLS.load(Ordering::SeqCst), 0);
        // No record of another test may take these.
        let _turn = locked(&ONE_AT_A_TIME);
        panics_on(SILENT);
        assert_eq!(CALLS.load(Ordering::SeqCst), 0);
        panics_on(LOUD);
        assert_eq!(CALLS.load(Ordering::SeqCst), 1, "added twice, called once");
    }
}
