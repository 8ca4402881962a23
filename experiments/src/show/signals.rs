//! Requests to stop: Ctrl-C, SIGTERM, and the hang-up of a terminal.
//!
//! The first request sets a flag that the work looks at. While there is [`Unsaved`] work, the program then takes
//! the time that saving needs; otherwise it ends within `GRACE`, wherever it is: in a library that cannot be
//! interrupted, too. A second Ctrl-C ends it at once. SIGTERM and SIGHUP never do: whoever sends two of them
//! still wants the checkpoint. A signal that was ignored when the program started (`nohup`) stays ignored.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::show::terminal;

/// How long work may take to notice a request to stop, if it has nothing to save.
const GRACE: Duration = Duration::from_millis(1500);

/// A second Ctrl-C that comes sooner is taken for the first one: `timeout`, shells and containers send it twice.
const SAME: Duration = Duration::from_secs(1);

/// Steps that take longer are worth a line.
const SILENCE: Duration = Duration::from_millis(500);

static UNSAVED: AtomicUsize = AtomicUsize::new(0);

/// Work that a request to stop would lose. As long as it lives, only a second Ctrl-C ends the program by force.
#[derive(Debug)]
pub struct Unsaved(());

impl Unsaved {
    /// Begins such work.
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    CtrlC,
    /// SIGTERM or SIGHUP.
    Terminate,
}

/// Listens for requests to stop. Each calls `stop`, after it has set the flag that is returned. Work that goes on
/// after a Ctrl-C, as a dialogue does, clears the flag.
///
/// # Errors
///
/// When signals cannot be handled.
pub fn listen(stop: impl Fn() + Send + 'static) -> io::Result<Arc<AtomicBool>> {
    terminal::remember();
    let flag = Arc::new(AtomicBool::new(false));
    let requested = flag.clone();
    let mut first = Instant::now();
    let mut terminating = false;
    let on = move |request| {
        let again = requested.swap(true, Ordering::SeqCst);
        if again && request == Request::CtrlC && first.elapsed() >= SAME {
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

/// Ends the program, unless it ends by itself or the request is taken back.
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
            if silent && began.elapsed() > SILENCE {
                silent = false;
                terminal::notice("stopping after the step under way; Ctrl-C again quits at once");
            }
        } else if saved.elapsed() > GRACE {
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
