//! The terminal that a dashboard takes over: given back while the program is suspended and when it ends, and let
//! go of when it hangs up.
//!
//! Raw mode makes ordinary keys of Ctrl-C, Ctrl-Z and Ctrl-\. Here they become signals again, for both dashboards.

use std::io::IsTerminal;

/// Whether a stream is a terminal whose cursor can be moved. With `TERM=dumb` it cannot.
pub fn has_screen(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(unix)]
mod unix {
    use std::fs::OpenOptions;
    use std::io::{self, StdoutLock, Write};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError, mpsc};
    use std::thread;
    use std::time::{Duration, Instant};

    use ratatui::crossterm::cursor::{Hide, Show};
    use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture};
    use ratatui::crossterm::execute;
    use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
    use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin, stdout};
    use rustix::termios::{
        LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
    };
    use signal_hook::consts::{SIGCONT, SIGHUP, SIGQUIT, SIGTSTP};
    use signal_hook::iterator::Signals;

    use crate::show::output::{has_hung_up, waits_for_hang_up};

    /// How long a resized screen is shown, so that either dashboard draws it at least once.
    const RESIZED: Duration = Duration::from_millis(500);

    /// How long a terminal that takes no output can hold up the end of the program.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Settings before any dashboard.
    static BEFORE: OnceLock<Termios> = OnceLock::new();

    /// The screen of the dashboard that is open.
    static OPEN: Mutex<Option<Screen>> = Mutex::new(None);

    static HUNG_UP: AtomicBool = AtomicBool::new(false);

    #[derive(Clone)]
    struct Screen {
        raw: Termios,
        mouse: bool,
    }

    /// A screen that was given back. No thread prints while this holds standard output.
    struct Left {
        screen: Screen,
        stdout: StdoutLock<'static>,
    }

    fn open() -> MutexGuard<'static, Option<Screen>> {
        OPEN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether standard input was a terminal when it was remembered, and is gone.
    pub fn input_is_gone() -> bool {
        BEFORE.get().is_some() && has_hung_up(libc::STDIN_FILENO)
    }

    /// Remembers the terminal's settings, for the first call only.
    pub fn remember() {
        if let Ok(termios) = tcgetattr(stdin()) {
            let _ = BEFORE.set(termios);
        }
    }

    /// Notes that a dashboard has opened, or is about to on another thread, and whether it uses the mouse. From
    /// now on Ctrl-C, Ctrl-Z and Ctrl-\ are signals, and a hang-up is noticed.
    pub(crate) fn opened(mouse: bool) {
        static ONCE: Once = Once::new();
        // Before the terminal is looked at, which may be gone already.
        ONCE.call_once(|| {
            // Without threads to spare, the dashboard works and cannot be suspended.
            let _ = watch_job_control();
            let _ = watch_for_hang_up();
        });
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut raw = loop {
            match tcgetattr(stdin()) {
                Ok(termios) if !termios.local_modes.contains(LocalModes::ICANON) => break termios,
                Ok(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        };
        raw.local_modes |= LocalModes::ISIG;
        let _ = tcsetattr(stdin(), OptionalActions::Now, &raw);
        *open() = Some(Screen { raw, mouse });
    }

    /// Notes that the dashboard is about to give the terminal back.
    pub(crate) fn closed() {
        *open() = None;
    }

    /// Whether the terminal that a dashboard used is gone. If so, it has been let go of when this returns.
    pub(crate) fn is_gone() -> bool {
        static ONCE: Once = Once::new();
        if !HUNG_UP.load(Ordering::SeqCst) && !input_is_gone() {
            return false;
        }
        ONCE.call_once(|| {
            HUNG_UP.store(true, Ordering::SeqCst);
            closed();
            let _ = let_go();
            // The kernel signals the terminal's foreground processes only. Ignored, it changes nothing.
            // SAFETY: it takes no memory.
            unsafe { libc::kill(libc::getpid(), SIGHUP) };
        });
        true
    }

    /// Shows a line on the dashboard's last row, or on standard error if none is open.
    pub(crate) fn notice(text: &str) {
        let dashboard = open().is_some();
        if !dashboard {
            return crate::errln!("{text}");
        }
        let mut stdout = io::stdout().lock();
        // Cursor saved, last row, reversed; then all of it undone.
        let _ = write!(stdout, "\x1b7\x1b[999;1H\x1b[7m {text} \x1b[0m\x1b8");
        let _ = stdout.flush();
    }

    /// Gives the terminal back, prints `last_words` to standard error and ends the process at once: destructors of
    /// a library that is at work on other threads must not run.
    pub(crate) fn exit(code: i32, last_words: &str) -> ! {
        give_back();
        crate::show::output::write_error(last_words);
        // SAFETY: it takes no memory and does not return.
        unsafe { libc::_exit(code) }
    }

    /// Gives the terminal back, and keeps all threads from printing from now on.
    fn give_back() {
        let (done, given_back) = mpsc::channel();
        // On another thread, because a terminal that takes no output holds whoever writes to it.
        thread::spawn(move || {
            let _left = leave();
            restore_settings();
            let _ = done.send(());
            loop {
                thread::park();
            }
        });
        let _ = given_back.recv_timeout(PATIENCE);
    }

    /// `None` if no dashboard is open.
    fn leave() -> Option<Left> {
        let screen = open().clone()?;
        let mut stdout = io::stdout().lock();
        if screen.mouse {
            let _ = execute!(stdout, DisableMouseCapture);
        }
        let _ = execute!(stdout, LeaveAlternateScreen, Show);
        restore_settings();
        Some(Left { screen, stdout })
    }

    /// Ends raw mode, a line editor's included.
    fn restore_settings() {
        if let (Some(before), Ok(now)) = (BEFORE.get(), tcgetattr(stdin()))
            && !now.local_modes.contains(LocalModes::ICANON)
        {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }

    fn enter(left: Left) {
        let Left { screen, mut stdout } = left;
        // A program in the background is stopped here until it is in the foreground.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &screen.raw);
        let _ = execute!(stdout, EnterAlternateScreen, Hide);
        if screen.mouse {
            let _ = execute!(stdout, EnableMouseCapture);
        }
        drop(stdout);
        repaint();
    }

    /// Makes the dashboard draw everything: for burn-train's there is no other way than another size.
    fn repaint() {
        let Ok(size) = tcgetwinsize(stdout()) else {
            return;
        };
        let mut other = size;
        other.ws_row = match size.ws_row {
            0 => return,
            1 => 2,
            rows => rows - 1,
        };
        if tcsetwinsize(stdout(), other).is_err() {
            return;
        }
        thread::sleep(RESIZED);
        // Unless the user has resized the window meanwhile.
        if tcgetwinsize(stdout())
            .is_ok_and(|now| (now.ws_row, now.ws_col) == (other.ws_row, other.ws_col))
        {
            let _ = tcsetwinsize(stdout(), size);
        }
    }

    /// Suspends, continues and quits with the terminal as the user's shell expects it.
    fn watch_job_control() -> io::Result<()> {
        let mut signals = Signals::new(without_ignored(&[SIGTSTP, SIGCONT, SIGQUIT]))?;
        let watch = move || {
            // Whether the next SIGCONT is the one that ended our own stop.
            let mut continued = false;
            for signal in signals.forever() {
                match signal {
                    SIGTSTP => {
                        let left = leave();
                        stop();
                        continued = true;
                        if let Some(left) = left {
                            enter(left);
                        }
                    }
                    // After a SIGSTOP, which nobody can prepare for.
                    SIGCONT if !std::mem::take(&mut continued) => {
                        let screen = open().clone();
                        if let Some(screen) = screen {
                            let stdout = io::stdout().lock();
                            enter(Left { screen, stdout });
                        }
                    }
                    SIGQUIT => {
                        give_back();
                        let _ = signal_hook::low_level::emulate_default_handler(SIGQUIT);
                    }
                    _ => {}
                }
            }
        };
        let thread = thread::Builder::new().name("job control".into());
        thread.spawn(watch).map(drop)
    }

    /// The signals that were not ignored when the program started.
    pub(crate) fn without_ignored(signals: &[libc::c_int]) -> Vec<libc::c_int> {
        let is_ignored = |signal| {
            // SAFETY: nothing is changed, and a zeroed `sigaction` is a valid one to write to.
            unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0
                    && now.sa_sigaction == libc::SIG_IGN
            }
        };
        let signals = signals.iter().copied();
        signals.filter(|signal| !is_ignored(*signal)).collect()
    }

    /// Stops the process as an unhandled SIGTSTP does: not if no shell is there to continue it.
    fn stop() {
        // SAFETY: a zeroed `sigaction` is a valid one (no flags, an empty mask), and all pointers live as long as
        // their calls. This thread is the only one that changes the disposition of SIGTSTP.
        unsafe {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            let mut ours: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(SIGTSTP, &raw const default, &raw mut ours) == 0 {
                libc::raise(SIGTSTP);
                libc::sigaction(SIGTSTP, &raw const ours, std::ptr::null_mut());
            }
        }
    }

    /// Waits on a thread for the terminal to go away. Crossterm, asked for keys of a terminal that is gone, reads
    /// for ever without a pause, and its caller cannot prevent that: the terminal can go in between. So standard
    /// input is replaced, after which crossterm finds no keys and returns.
    fn watch_for_hang_up() -> io::Result<()> {
        let watch = || {
            while !waits_for_hang_up(libc::STDIN_FILENO, -1) {}
            is_gone();
        };
        let thread = thread::Builder::new().name("hang-up".into());
        thread.spawn(watch).map(drop)
    }

    /// Replaces the standard streams that lead to the terminal that is gone.
    fn let_go() -> io::Result<()> {
        let [input, output, error] =
            [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO].map(has_hung_up);
        if input {
            // A pipe that stays open and empty. At the end of a file, crossterm would go on reading as well.
            let (reader, writer) = io::pipe()?;
            rustix::io::ioctl_fionbio(&reader, true)?;
            dup2_stdin(&reader)?;
            std::mem::forget(writer);
        }
        if output {
            // A pipe without a reader: a dashboard that fails to draw ends its thread.
            let (_, writer) = io::pipe()?;
            dup2_stdout(&writer)?;
        }
        if error {
            dup2_stderr(OpenOptions::new().write(true).open("/dev/null")?)?;
        }
        Ok(())
    }
}

#[cfg(unix)]
pub(crate) use unix::{closed, exit, is_gone, notice, opened, without_ignored};
#[cfg(unix)]
pub use unix::{input_is_gone, remember};

/// Other systems have no job control and keep the dashboards' own keys.
#[cfg(not(unix))]
mod other {
    /// Does nothing: there is nothing to remember.
    pub fn remember() {}
    /// Whether standard input is gone: this is not known.
    pub fn input_is_gone() -> bool {
        false
    }
    pub(crate) fn opened(_mouse: bool) {}
    pub(crate) fn closed() {}
    pub(crate) fn is_gone() -> bool {
        false
    }
    pub(crate) fn notice(text: &str) {
        crate::errln!("{text}");
    }
    pub(crate) fn exit(code: i32, last_words: &str) -> ! {
        crate::show::output::write_error(last_words);
        std::process::exit(code)
    }
}

#[cfg(not(unix))]
pub(crate) use other::{closed, exit, is_gone, notice, opened};
#[cfg(not(unix))]
pub use other::{input_is_gone, remember};
