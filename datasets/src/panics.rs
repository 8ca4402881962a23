//! Panics of libraries that read what anybody may have written.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

thread_local! {
    /// Whether a panic on this thread is caught by [`catch`], and so nobody needs to hear of it.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `work` returns, or nothing where it panics. The panic is not printed: what went wrong is an error,
/// and whoever handles that says so in a line.
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
    fn panics_are_caught_and_do_not_last() {
        assert_eq!(catch(|| 7), Some(7));
        let inner = || catch(|| panic!("of a library")).unwrap_or(3);
        assert_eq!(catch(inner), Some(3));
        assert!(!CAUGHT.get());
        assert_eq!(catch(|| -> u8 { panic!("again") }), None);
        assert!(!CAUGHT.get(), "a panic of our own must be heard");
    }
}
