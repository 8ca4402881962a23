//! Panics of Burn and of drivers, turned into reasons.

use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;

/// As long as it lives, panics are recorded and not printed: the first one explains, the others follow from it.
///
/// A panic on a thread of CubeCL's reaches the caller only as a broken channel. So the panic hook, which is the
/// whole process's, is replaced, and there is one record at a time.
pub(crate) struct PanicRecord {
    first: Arc<OnceLock<String>>,
    hook: Option<Hook>,
    _turn: MutexGuard<'static, ()>,
}

impl PanicRecord {
    pub(crate) fn start() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let first = Arc::new(OnceLock::new());
        let hook = panic::take_hook();
        panic::set_hook(Box::new({
            let first = first.clone();
            move |panic| {
                let message = panic
                    .payload_as_str()
                    .unwrap_or("a panic without a message");
                let _ = first.set(message.trim().to_owned());
            }
        }));
        Self {
            first,
            hook: Some(hook),
            _turn: turn,
        }
    }

    /// The message of the first panic.
    pub(crate) fn first(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }
}

impl Drop for PanicRecord {
    fn drop(&mut self) {
        // Taken and set again by a thread that panics itself, the hook would end the process.
        if let Some(hook) = self.hook.take()
            && !std::thread::panicking()
        {
            panic::set_hook(hook);
        }
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
}
