//! The terminal that a dashboard takes over. It is restored while the program is suspended and when it ends, and
//! released when it hangs up.
//!
//! In raw mode, Ctrl-C, Ctrl-Z and Ctrl-\ are ordinary keys. Here they become signals again, for both dashboards.

use std::io::IsTerminal;

/// Returns whether a stream is a terminal with a movable cursor. A terminal with `TERM=dumb` is not.
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

    /// Time for which the screen is resized, so that either dashboard draws it at least once.
    const RESIZE_TIME: Duration = Duration::from_millis(500);

    /// Maximum time that a blocked terminal delays the end of the program.
    const RESTORE_TIMEOUT: Duration = Duration::from_secs(1);

    /// Settings of the terminal before any dashboard.
    static ORIGINAL_SETTINGS: OnceLock<Termios> = OnceLock::new();

    /// The screen of the dashboard that is open.
    static OPEN_SCREEN: Mutex<Option<Screen>> = Mutex::new(None);

    static HUNG_UP: AtomicBool = AtomicBool::new(false);

    /// Settings of a dashboard's screen.
    #[derive(Clone)]
    struct Screen {
        raw: Termios,
        mouse: bool,
    }

    /// A suspended screen. It holds the lock of standard output, so that no thread prints.
    struct SuspendedScreen {
        screen: Screen,
        stdout: StdoutLock<'static>,
    }

    fn open_screen() -> MutexGuard<'static, Option<Screen>> {
        OPEN_SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether standard input was a terminal at the call of [`remember`], and is gone now.
    pub fn input_is_gone() -> bool {
        ORIGINAL_SETTINGS.get().is_some() && has_hung_up(libc::STDIN_FILENO)
    }

    /// Stores the terminal's settings at the first call.
    pub fn remember() {
        if let Ok(termios) = tcgetattr(stdin()) {
            let _ = ORIGINAL_SETTINGS.set(termios);
        }
    }

    /// Registers a dashboard that has opened, or is about to open on another thread, and whether it uses the mouse.
    /// From now on Ctrl-C, Ctrl-Z and Ctrl-\ are signals, and hang-ups are detected.
    pub(crate) fn opened(mouse: bool) {
        static ONCE: Once = Once::new();
        // The threads start first, because the terminal may be gone already.
        ONCE.call_once(|| {
            // If a thread cannot start, the dashboard works but cannot be suspended.
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
        *open_screen() = Some(Screen { raw, mouse });
    }

    /// Registers that the dashboard is about to restore the terminal.
    pub(crate) fn closed() {
        *open_screen() = None;
    }

    /// Returns whether the terminal of a dashboard is gone, and releases it in this case.
    pub(crate) fn is_gone() -> bool {
        static ONCE: Once = Once::new();
        if !HUNG_UP.load(Ordering::SeqCst) && !input_is_gone() {
            return false;
        }
        ONCE.call_once(|| {
            HUNG_UP.store(true, Ordering::SeqCst);
            closed();
            let _ = release();
            // The kernel sends the signal only to foreground processes. An ignored SIGHUP has no effect.
            // SAFETY: `kill` takes no pointer.
            unsafe { libc::kill(libc::getpid(), SIGHUP) };
        });
        true
    }

    /// Shows a line on the dashboard's last row, or on standard error if none is open.
    pub(crate) fn notice(text: &str) {
        let dashboard = open_screen().is_some();
        if !dashboard {
            return crate::errln!("{text}");
        }
        let mut stdout = io::stdout().lock();
        // The sequence saves the cursor, writes reversed text on the last row, and restores the cursor.
        let _ = write!(stdout, "\x1b7\x1b[999;1H\x1b[7m {text} \x1b[0m\x1b8");
        let _ = stdout.flush();
    }

    /// Restores the terminal, prints `message` to standard error and ends the process at once, without destructors,
    /// which are not safe while a library works on other threads.
    pub(crate) fn exit(code: i32, message: &str) -> ! {
        restore();
        crate::show::output::write_error(message);
        // SAFETY: `_exit` takes no pointer and does not return.
        unsafe { libc::_exit(code) }
    }

    /// Restores the terminal, and keeps all threads from printing from now on.
    fn restore() {
        let (done, restored) = mpsc::channel();
        // A thread restores it, because a write to a blocked terminal does not return.
        thread::spawn(move || {
            let _suspended = suspend();
            restore_settings();
            let _ = done.send(());
            loop {
                thread::park();
            }
        });
        let _ = restored.recv_timeout(RESTORE_TIMEOUT);
    }

    /// Leaves the dashboard's screen. `None` if no dashboard is open.
    fn suspend() -> Option<SuspendedScreen> {
        let screen = open_screen().clone()?;
        let mut stdout = io::stdout().lock();
        if screen.mouse {
            let _ = execute!(stdout, DisableMouseCapture);
        }
        let _ = execute!(stdout, LeaveAlternateScreen, Show);
        restore_settings();
        Some(SuspendedScreen { screen, stdout })
    }

    /// Ends raw mode, also that of a line editor.
    fn restore_settings() {
        if let (Some(before), Ok(now)) = (ORIGINAL_SETTINGS.get(), tcgetattr(stdin()))
            && !now.local_modes.contains(LocalModes::ICANON)
        {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }

    /// Enters the dashboard's screen again.
    fn resume(suspended: SuspendedScreen) {
        let SuspendedScreen { screen, mut stdout } = suspended;
        // A background process is stopped here until it is in the foreground.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &screen.raw);
        let _ = execute!(stdout, EnterAlternateScreen, Hide);
        if screen.mouse {
            let _ = execute!(stdout, EnableMouseCapture);
        }
        drop(stdout);
        repaint();
    }

    /// Makes the dashboard redraw everything, by a change of size, because burn-train's offers no other way.
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
        thread::sleep(RESIZE_TIME);
        // The size is restored unless the user has resized the window meanwhile.
        if tcgetwinsize(stdout())
            .is_ok_and(|now| (now.ws_row, now.ws_col) == (other.ws_row, other.ws_col))
        {
            let _ = tcsetwinsize(stdout(), size);
        }
    }

    /// Suspends, resumes and quits on signals, with the terminal in the state that the user's shell expects.
    fn watch_job_control() -> io::Result<()> {
        let mut signals = Signals::new(without_ignored(&[SIGTSTP, SIGCONT, SIGQUIT]))?;
        let watch = move || {
            // Whether the next SIGCONT ends a stop by this thread.
            let mut continued = false;
            for signal in signals.forever() {
                match signal {
                    SIGTSTP => {
                        let suspended = suspend();
                        stop();
                        continued = true;
                        if let Some(suspended) = suspended {
                            resume(suspended);
                        }
                    }
                    // The process was stopped by SIGSTOP, which cannot be handled.
                    SIGCONT if !std::mem::take(&mut continued) => {
                        let screen = open_screen().clone();
                        if let Some(screen) = screen {
                            let stdout = io::stdout().lock();
                            resume(SuspendedScreen { screen, stdout });
                        }
                    }
                    SIGQUIT => {
                        restore();
                        let _ = signal_hook::low_level::emulate_default_handler(SIGQUIT);
                    }
                    _ => {}
                }
            }
        };
        let thread = thread::Builder::new().name("job control".into());
        thread.spawn(watch).map(drop)
    }

    /// Returns the signals that were not ignored when the program started.
    pub(crate) fn without_ignored(signals: &[libc::c_int]) -> Vec<libc::c_int> {
        let is_ignored = |signal| {
            // SAFETY: the call changes no disposition, and a zeroed `sigaction` is valid to write to.
            unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0
                    && now.sa_sigaction == libc::SIG_IGN
            }
        };
        let signals = signals.iter().copied();
        signals.filter(|signal| !is_ignored(*signal)).collect()
    }

    /// Stops the process as an unhandled SIGTSTP does, which has no effect if no shell can continue it.
    fn stop() {
        // SAFETY: a zeroed `sigaction` is valid (no flags, an empty mask), and all pointers live as long as their
        // calls. Only this thread changes the disposition of SIGTSTP.
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

    /// Waits on a thread for a hang-up, and then replaces standard input. Crossterm would otherwise read from the
    /// closed terminal forever without a pause. Its caller cannot prevent that, because a hang-up can come at any time.
    fn watch_for_hang_up() -> io::Result<()> {
        let watch = || {
            while !waits_for_hang_up(libc::STDIN_FILENO, -1) {}
            is_gone();
        };
        let thread = thread::Builder::new().name("hang-up".into());
        thread.spawn(watch).map(drop)
    }

    /// Replaces the standard streams of the terminal that is gone.
    fn release() -> io::Result<()> {
        let [input, output, error] =
            [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO].map(has_hung_up);
        if input {
            // The pipe stays open and empty, because crossterm would go on reading at an end of file as well.
            let (reader, writer) = io::pipe()?;
            rustix::io::ioctl_fionbio(&reader, true)?;
            dup2_stdin(&reader)?;
            std::mem::forget(writer);
        }
        if output {
            // The pipe has no reader, so that the dashboard fails to draw and ends its thread.
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
    /// Does nothing, because no settings change.
    pub fn remember() {}
    /// Returns false, because a hang-up cannot be detected.
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
    pub(crate) fn exit(code: i32, message: &str) -> ! {
        crate::show::output::write_error(message);
        std::process::exit(code)
    }
}

#[cfg(not(unix))]
pub(crate) use other::{closed, exit, is_gone, notice, opened};
#[cfg(not(unix))]
pub use other::{input_is_gone, remember};
