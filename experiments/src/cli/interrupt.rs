//! Ctrl-C: the first one asks the work under way to stop at a safe point, the second does not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foretoken::renderer::terminal;

/// A flag that the first Ctrl-C sets, after it has called `stop`; the second ends the program.
pub(super) fn on_ctrl_c(stop: impl Fn() + Send + 'static) -> Arc<AtomicBool> {
    terminal::remember();
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            terminal::restore();
            std::process::exit(130);
        }
        stop();
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: Ctrl-C will lose work: {error}");
    }
    interrupted
}
