//! The full screen of a dashboard of our own. There is only one terminal, so its state is static.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, TryLockError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::show::terminal;

/// The terminal that is drawn on.
pub(crate) type Screen = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// Whether the screen is open.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Lock on the screen. `WRITER` names the thread that holds it, so that a panic while drawing does not wait for
/// itself.
static WRITING: Mutex<()> = Mutex::new(());
static WRITER: Mutex<Option<ThreadId>> = Mutex::new(None);

/// Returns whether the screen is open.
pub(crate) fn is_open() -> bool {
    OPEN.load(Ordering::SeqCst)
}

/// Takes over the terminal.
pub(crate) fn enter() -> io::Result<Screen> {
    enable_raw_mode()?;
    OPEN.store(true, Ordering::SeqCst);
    let mut stdout = io::stdout();
    let screen = execute!(stdout, EnterAlternateScreen, Hide)
        .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(stdout))));
    terminal::opened(false);
    screen.inspect_err(|_| leave())
}

/// Restores the terminal; does nothing if the screen is not open.
pub(crate) fn leave() {
    if !OPEN.swap(false, Ordering::SeqCst) {
        return;
    }
    terminal::closed();
    // The rest of a half-written frame would mix with later output, so the writer may finish.
    let deadline = Instant::now() + Duration::from_secs(1);
    let me = Some(thread::current().id());
    let _written = loop {
        match WRITING.try_lock() {
            Ok(guard) => break Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => break Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        let mine = WRITER.try_lock().is_ok_and(|writer| *writer == me);
        if mine || Instant::now() > deadline {
            break None;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Draws a picture, unless the screen is closed.
pub(crate) fn draw(screen: &mut Screen, picture: impl FnOnce(&mut ratatui::Frame)) {
    let _writing = WRITING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    set_writer(Some(thread::current().id()));
    if is_open() && !terminal::is_gone() {
        let _ = screen.draw(picture);
    }
    set_writer(None);
}

/// Makes the next drawing repaint the whole screen.
pub(crate) fn repaint(screen: &mut Screen) {
    let _writing = WRITING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    // `clear` asks the terminal for the position of the cursor, and takes keys for an answer.
    if is_open()
        && let Ok(size) = screen.size()
    {
        let _ = screen.resize(size.into());
        let _ = screen.backend_mut().flush();
    }
}

fn set_writer(writer: Option<ThreadId>) {
    *WRITER
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner()) = writer;
}
