//! Full screen: the thread that draws.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event as Input};

use super::draw::draw;
use super::scene::Scene;
use super::state::State;
use super::table;
use super::view::{Action, View};
use crate::backend::panics;
use crate::show::{screen, terminal};
use crate::verify::compare::{Event, Watcher};

/// Interval at which keys and events are read.
const FRAME: Duration = Duration::from_millis(125);

/// Maximum interval between two drawings, because the clock on the screen goes on.
const MAX_INTERVAL: Duration = Duration::from_secs(1);

/// Watcher that shows a full screen until it is dropped.
#[derive(Debug)]
pub struct Tui {
    /// Sender to the thread; `None` after the drop, which ends the thread.
    events: Option<Sender<(Event, Instant)>>,
    thread: Option<JoinHandle<()>>,
    interrupted: Arc<AtomicBool>,
}

impl Tui {
    /// Takes over the terminal. The flag `interrupted` stops the comparison, and the key `q` sets it.
    ///
    /// Ctrl-C remains a signal on systems that have signals. A caller must handle it to stop a comparison properly, as
    /// the command line does.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no terminal.
    pub fn new(interrupted: Arc<AtomicBool>) -> io::Result<Self> {
        terminal::remember();
        // A panic's message must appear on the user's own screen, so the terminal is restored before it is written.
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
        // The comparison goes on if the drawing thread has ended.
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

/// State of the drawing thread.
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
            let happened = match self.receive(events) {
                Some(happened) => happened,
                None => return,
            };
            // A panic restored the terminal, so that its message can be read later. If the comparison goes on
            // nevertheless, so does the dashboard.
            if happened && !screen::is_open() {
                match screen::enter() {
                    Ok(screen) => self.screen = screen,
                    Err(_) => return,
                }
            }
            let stopping = self.interrupted.load(Ordering::Relaxed);
            changed |= happened || stopping != was_stopping;
            was_stopping = stopping;
            if changed || drawn.is_none_or(|drawn| drawn.elapsed() >= MAX_INTERVAL) {
                self.draw(stopping);
                drawn = Some(Instant::now());
            }
        }
    }

    /// Applies all waiting events and returns whether there were any; `None` if the sender is dropped.
    fn receive(&mut self, events: &Receiver<(Event, Instant)>) -> Option<bool> {
        let mut happened = false;
        loop {
            match events.try_recv() {
                Ok((event, at)) => {
                    let first_step = matches!(event, Event::Step { step: 0, .. });
                    self.state.apply(event, at.duration_since(self.began));
                    // Some drivers write a greeting on the screen when they are first used.
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

    /// Waits at most a frame for keys, handles them, and returns whether there were any.
    fn keys(&mut self) -> bool {
        if !screen::is_open() || terminal::is_gone() {
            thread::sleep(FRAME);
            return false;
        }
        let mut any = false;
        let mut timeout = FRAME;
        loop {
            match event::poll(timeout) {
                Ok(true) => {}
                Ok(false) => return any,
                Err(_) => {
                    thread::sleep(timeout);
                    return any;
                }
            }
            timeout = Duration::ZERO;
            any = true;
            match event::read() {
                Ok(Input::Key(key)) => match self.view.key(key, table::rows(&self.state).len()) {
                    Action::None => {}
                    Action::Repaint => screen::repaint(&mut self.screen),
                    Action::Stop => self.interrupted.store(true, Ordering::Relaxed),
                    Action::Interrupt => {
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
