//! Requests to stop: Ctrl-C, SIGTERM, and the hang-up of a terminal.
//!
//! The first request sets a flag that the work checks. The program then saves [`Unsaved`] work, however long that
//! takes, or else ends within `GRACE`, even inside a library that cannot be interrupted, and removes its lock files. A second Ctrl-C ends it at
//! once. A second SIGTERM or SIGHUP does not, so that a service manager gets the checkpoint. A signal that was ignored
//! at the start of the program (`nohup`) stays ignored.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use foretoken_datasets::files::remove_temporary;

use crate::show::terminal;

/// Time until the program ends after a request to stop, if it has nothing to save.
const GRACE: Duration = Duration::from_millis(1500);

/// Time in which a repeated Ctrl-C counts as the first one, because `timeout`, shells and containers send it twice.
const REPEAT: Duration = Duration::from_secs(1);

/// Time after a request to stop until a notice is shown.
const NOTICE_DELAY: Duration = Duration::from_millis(500);

static UNSAVED: AtomicUsize = AtomicUsize::new(0);

/// Guard of unsaved work, or of work that stops by itself. While it lives, only a second Ctrl-C ends the program by force.
#[derive(Debug)]
pub struct Unsaved(());

impl Unsaved {
    /// Begins unsaved work.
    pub fn begin() -> Self {
        UNSAVED.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Unsaved {
    fn drop(&mut self) {
        UNSAVED.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends the program at once with success, while a computation that cannot be interrupted still runs on another thread.
pub fn leave() -> ! {
    terminal::exit(0, "")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    CtrlC,
    /// SIGTERM or SIGHUP.
    Terminate,
}

/// Listens for requests to stop, and returns the flag that each request sets before it calls `stop`. Work that goes on
/// after a Ctrl-C, such as a dialogue, clears the flag.
///
/// # Errors
///
/// Returns an error if signals cannot be handled.
pub fn listen(stop: impl Fn() + Send + 'static) -> io::Result<Arc<AtomicBool>> {
    terminal::remember();
    let flag = Arc::new(AtomicBool::new(false));
    let requested = flag.clone();
    let mut first = Instant::now();
    let mut terminating = false;
    let on = move |request| {
        let again = requested.swap(true, Ordering::SeqCst);
        if again && request == Request::CtrlC && first.elapsed() >= REPEAT {
            remove_temporary();
            terminal::exit(130, "");
        }
        stop();
        if !again {
            first = Instant::now();
        }
        let first_to_terminate = request == Request::Terminate && !terminating;
        terminating |= first_to_terminate;
        if !again || first_to_terminate {
            let requested = requested.clone();
            thread::spawn(move || end_in_time(request, &requested));
        }
    };
    listen_for_signals(on)?;
    Ok(flag)
}

/// Ends the program, unless it ends by itself or the request is withdrawn.
fn end_in_time(request: Request, requested: &AtomicBool) {
    let began = Instant::now();
    let mut saved = began;
    let mut silent = true;
    loop {
        thread::sleep(Duration::from_millis(50));
        if request == Request::CtrlC && !requested.load(Ordering::SeqCst) {
            return;
        }
        if UNSAVED.load(Ordering::SeqCst) > 0 {
            saved = Instant::now();
            if silent && began.elapsed() > NOTICE_DELAY {
                silent = false;
                terminal::notice("stopping after the step under way; Ctrl-C again quits at once");
            }
        } else if saved.elapsed() > GRACE {
            remove_temporary();
            terminal::exit(130, "interrupted\n");
        }
    }
}

#[cfg(unix)]
fn listen_for_signals(mut on: impl FnMut(Request) + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new(terminal::without_ignored(&[SIGINT, SIGTERM, SIGHUP]))?;
    let thread = thread::Builder::new().name("signals".into());
    let watch = move || {
        for signal in signals.forever() {
            on(match signal {
                SIGINT => Request::CtrlC,
                _ => Request::Terminate,
            });
        }
    };
    thread.spawn(watch).map(drop)
}

#[cfg(not(unix))]
fn listen_for_signals(mut on: impl FnMut(Request) + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(move || on(Request::CtrlC)).map_err(io::Error::other)
}
