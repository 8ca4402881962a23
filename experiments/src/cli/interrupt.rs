//! Ctrl-C and other requests to stop, for commands that end at a safe point.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use foretoken::errln;
use foretoken::show::signals;

/// Returns the flag of [`signals::listen`], which is set on the first request to stop. Warns if signals cannot be
/// handled.
pub(super) fn on_ctrl_c(stop: impl Fn() + Send + 'static) -> Arc<AtomicBool> {
    signals::listen(stop).unwrap_or_else(|error| {
        errln!("warning: Ctrl-C will lose work: {error}");
        Arc::default()
    })
}
