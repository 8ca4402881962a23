//! Catches panics of libraries that parse untrusted files.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

thread_local! {
    /// Whether [`catch`] handles panics on this thread, so that they are not printed.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and returns its result, or `None` if it panics. The panic is not printed, because the caller turns it
/// into an error.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                others(info);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outer);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_caught_also_when_nested() {
        assert_eq!(catch(|| 7), Some(7));
        let inner = || catch(|| panic!("of a library")).unwrap_or(3);
        assert_eq!(catch(inner), Some(3));
        assert!(!CAUGHT.get());
        assert_eq!(catch(|| -> u8 { panic!("again") }), None);
        assert!(!CAUGHT.get(), "other panics must still be printed");
    }
}
