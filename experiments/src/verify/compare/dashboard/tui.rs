//! The full screen: a thread that draws, and the terminal that it draws on.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event as Input};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::draw::draw;
use super::scene::Scene;
use super::state::State;
use super::table;
use super::view::{View, Wish};
use crate::backend::panics;
use crate::show::terminal;
use crate::verify::compare::{Event, Watcher};

/// Between two looks at keys and events.
const FRAME: Duration = Duration::from_millis(125);

/// Between two pictures if nothing happens: the clock goes on.
const AT_LEAST: Duration = Duration::from_secs(1);

/// A full screen, until it is dropped.
#[derive(Debug)]
pub struct Tui {
    /// Nothing once it is dropped, which ends the thread.
    events: Option<Sender<(Event, Instant)>>,
    thread: Option<JoinHandle<()>>,
    interrupted: Arc<AtomicBool>,
}

impl Tui {
    /// Takes the terminal over. `interrupted` asks the comparison to stop, and `q` sets it.
    ///
    /// Ctrl-C stays a signal where there are signals: who wants a comparison to survive it handles it, as the
    /// command line does.
    ///
    /// # Errors
    /// There is no terminal.
    pub fn new(interrupted: Arc<AtomicBool>) -> io::Result<Self> {
        terminal::remember();
        // Before a panic's message is written, which belongs on the user's own screen.
        panics::before_message(screen::leave);
        let screen = screen::enter()?;
        let (events, received) = mpsc::channel();
        let flag = interrupted.clone();
        let thread = thread::Builder::new()
            .name("comparison dashboard".into())
            .spawn(move || Drawer::new(screen, flag).run(&received));
        let thread = thread.inspect_err(|_| screen::leave())?;
        Ok(Self {
            events: Some(events),
            thread: Some(thread),
            interrupted,
        })
    }
}

impl Watcher for Tui {
    fn event(&mut self, event: Event) {
        // A comparison does not fail because nobody draws it any more.
        if let Some(events) = &self.events {
            let _ = events.send((event, Instant::now()));
        }
    }

    fn wants_to_stop(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        self.events = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        screen::leave();
    }
}

/// What the thread owns.
struct Drawer {
    screen: screen::Screen,
    state: State,
    view: View,
    began: Instant,
    interrupted: Arc<AtomicBool>,
}

impl Drawer {
    fn new(screen: screen::Screen, interrupted: Arc<AtomicBool>) -> Self {
        Self {
            screen,
            state: State::default(),
            view: View::default(),
            began: Instant::now(),
            interrupted,
        }
    }

    fn run(mut self, events: &Receiver<(Event, Instant)>) {
        let mut drawn: Option<Instant> = None;
        let mut was_stopping = false;
        loop {
            let mut changed = self.keys();
            let happened = match self.take_in(events) {
                Some(happened) => happened,
                None => return,
            };
            // A panic gave the terminal back, so that its message can be read later. If the comparison goes
            // on regardless, so does the dashboard.
            if happened && !screen::is_ours() {
                match screen::enter() {
                    Ok(screen) => self.screen = screen,
                    Err(_) => return,
                }
            }
            let stopping = self.interrupted.load(Ordering::Relaxed);
            changed |= happened || stopping != was_stopping;
            was_stopping = stopping;
            if changed || drawn.is_none_or(|drawn| drawn.elapsed() >= AT_LEAST) {
                self.draw(stopping);
                drawn = Some(Instant::now());
            }
        }
    }

    /// Takes in what happened; nothing if the end is reached.
    fn take_in(&mut self, events: &Receiver<(Event, Instant)>) -> Option<bool> {
        let mut happened = false;
        loop {
            match events.try_recv() {
                Ok((event, at)) => {
                    let first_step = matches!(event, Event::Step { step: 0, .. });
                    self.state.apply(event, at.duration_since(self.began));
                    // Drivers like to write a greeting when they are first used.
                    if first_step {
                        screen::repaint(&mut self.screen);
                    }
                    happened = true;
                }
                Err(TryRecvError::Empty) => return Some(happened),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
    }

    /// Waits for keys, but not longer than a frame, and says whether there were any.
    fn keys(&mut self) -> bool {
        if !screen::is_ours() || terminal::is_gone() {
            thread::sleep(FRAME);
            return false;
        }
        let mut any = false;
        let mut patience = FRAME;
        loop {
            match event::poll(patience) {
                Ok(true) => {}
                Ok(false) => return any,
                Err(_) => {
                    thread::sleep(patience);
                    return any;
                }
            }
            patience = Duration::ZERO;
            any = true;
            match event::read() {
                Ok(Input::Key(key)) => match self.view.key(key, table::rows(&self.state).len()) {
                    Wish::Nothing => {}
                    Wish::Repaint => screen::repaint(&mut self.screen),
                    Wish::Stop => self.interrupted.store(true, Ordering::Relaxed),
                    Wish::Interrupt => {
                        if self.interrupted.swap(true, Ordering::Relaxed) {
                            screen::leave();
                            std::process::exit(130);
                        }
                    }
                },
                Ok(_) => {}
                Err(_) => return any,
            }
        }
    }

    fn draw(&mut self, stopping: bool) {
        let scene = Scene {
            state: &self.state,
            view: &self.view,
            stopping,
            now: self.began.elapsed(),
        };
        screen::draw(&mut self.screen, |frame| draw(&scene, frame));
    }
}

/// The terminal, of which a program has one.
mod screen {
    use super::*;

    pub(super) type Screen = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

    static OURS: AtomicBool = AtomicBool::new(false);

    /// Held by who writes, with a name: a panic while drawing must not wait for itself.
    static WRITING: Mutex<()> = Mutex::new(());
    static WRITER: Mutex<Option<ThreadId>> = Mutex::new(None);

    pub(super) fn is_ours() -> bool {
        OURS.load(Ordering::SeqCst)
    }

    pub(super) fn enter() -> io::Result<Screen> {
        enable_raw_mode()?;
        OURS.store(true, Ordering::SeqCst);
        let mut stdout = io::stdout();
        let screen = execute!(stdout, EnterAlternateScreen, Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(stdout))));
        terminal::opened(false);
        screen.inspect_err(|_| leave())
    }

    /// Does nothing if it was left before.
    pub(super) fn leave() {
        if !OURS.swap(false, Ordering::SeqCst) {
            return;
        }
        terminal::closed();
        // A picture that is half written would end up among what comes next.
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

    pub(super) fn draw(screen: &mut Screen, picture: impl FnOnce(&mut ratatui::Frame)) {
        let _writing = WRITING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        set_writer(Some(thread::current().id()));
        if is_ours() && !terminal::is_gone() {
            let _ = screen.draw(picture);
        }
        set_writer(None);
    }

    /// Paints everything anew with the next picture.
    pub(super) fn repaint(screen: &mut Screen) {
        let _writing = WRITING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // Not `clear`, which asks the terminal for the cursor's place and takes keys for an answer.
        if is_ours()
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
}
