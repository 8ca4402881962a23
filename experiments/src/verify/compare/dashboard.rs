//! Display of a comparison under way: a full screen, plain lines, or nothing.
//!
//! Events are applied to a `State`, and everything is drawn or printed from it. Only `tui` uses a terminal, and only
//! `tui` and `plain` use a clock, so that everything else can be tested.

mod charts;
mod draw;
mod estimate;
mod plain;
mod plot;
mod popup;
mod scale;
mod scene;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod tui;
mod view;
mod words;

pub use plain::{Plain, Stream};
pub use tui::Tui;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Event, Watcher};
use crate::show::dashboard::Dashboard;

/// Creates the watcher for `dashboard`. The flag `interrupted` stops the comparison; the full screen sets it too.
/// Without a terminal, lines on standard error replace the full screen.
pub fn watcher(dashboard: Dashboard, interrupted: Arc<AtomicBool>) -> Box<dyn Watcher> {
    match dashboard {
        Dashboard::Tui => match Tui::new(interrupted.clone()) {
            Ok(tui) => Box::new(tui),
            Err(_) => Box::new(Plain::new(Stream::Stderr, interrupted)),
        },
        Dashboard::Plain => Box::new(Plain::new(Stream::Stdout, interrupted)),
        Dashboard::PlainOnStderr => Box::new(Plain::new(Stream::Stderr, interrupted)),
        Dashboard::None => Box::new(Silent::new(interrupted)),
    }
}

/// Watcher that shows nothing.
#[derive(Debug)]
pub struct Silent {
    interrupted: Arc<AtomicBool>,
}

impl Silent {
    /// Creates a watcher that stops the comparison when `interrupted` is set.
    pub fn new(interrupted: Arc<AtomicBool>) -> Self {
        Self { interrupted }
    }
}

impl Watcher for Silent {
    fn event(&mut self, _: Event) {}

    fn wants_to_stop(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
