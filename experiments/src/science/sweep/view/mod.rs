//! Display of a sweep while it runs: runs as rows with sparklines on a terminal, and lines elsewhere.

mod curves;
mod lines;
mod rows;

use std::time::Duration;

pub use curves::{Curve, Curves};
pub use lines::Lines;
pub use rows::Rows;

use super::directory::SweepDirectory;
use super::index::{Entry, State};
use super::speed::{Speeds, side_by_side};
use crate::show::format;

/// Interval at which a view returns to the work.
const FRAME: Duration = Duration::from_millis(50);

/// Everything that a view shows.
pub struct Progress<'a> {
    /// The directory of the sweep.
    pub sweep: &'a SweepDirectory,
    /// Its runs.
    pub entries: &'a [Entry],
    /// Losses of runs.
    pub curves: &'a Curves,
    /// Estimated times of runs.
    pub speeds: &'a Speeds,
    /// Number of runs side by side.
    pub jobs: usize,
    /// Time since the start of the process.
    pub elapsed: Duration,
    /// Whether the runs are asked to stop.
    pub stopping: bool,
}

impl Progress<'_> {
    /// Returns the seconds until all runs have ended; `None` if unknown.
    pub fn seconds_left(&self) -> Option<f64> {
        seconds_left(self.entries, self.curves, self.speeds, self.jobs)
    }

    /// Returns the number of runs in each state, such as `3 of 12 done, 2 running`.
    pub fn counts(&self) -> String {
        counts(self.entries)
    }
}

/// Returns the seconds until all runs have ended, `jobs` of them side by side; `None` if unknown.
pub(super) fn seconds_left(
    entries: &[Entry],
    curves: &Curves,
    speeds: &Speeds,
    jobs: usize,
) -> Option<f64> {
    let left = entries.iter().filter(|entry| !entry.state.has_ended());
    let seconds = left.map(|entry| {
        let curve = curves.of(&entry.name);
        let steps = entry.cost.map_or(0, |cost| cost.steps);
        let measured = curve.and_then(|curve| curve.seconds_left(steps));
        measured.or_else(|| speeds.seconds(&entry.name))
    });
    let seconds = seconds.collect::<Option<Vec<_>>>()?;
    Some(side_by_side(&seconds, jobs))
}

/// Formats a time for people: `1m 20s`.
pub(super) fn duration(seconds: f64) -> String {
    format::duration(Duration::from_secs(seconds.clamp(0.0, 1e15).round() as u64))
}

/// Returns the number of runs in each state, in words.
pub fn counts(entries: &[Entry]) -> String {
    let count = |state: State| entries.iter().filter(|entry| entry.state == state).count();
    let mut words = vec![format!("{} of {} done", count(State::Done), entries.len())];
    for state in State::ALL.into_iter().filter(|state| *state != State::Done) {
        match count(state) {
            0 => {}
            number => words.push(format!("{number} {}", state.name())),
        }
    }
    words.join(", ")
}

/// A display of a sweep under way.
pub trait View {
    /// Shows the present progress, and waits for a moment, so that it can be called in a loop. `is_over` tells it that
    /// this is the last call.
    fn update(&mut self, progress: &Progress<'_>, is_over: bool);
}

/// The display that shows nothing.
pub struct Nothing;

impl View for Nothing {
    fn update(&mut self, _: &Progress<'_>, is_over: bool) {
        if !is_over {
            std::thread::sleep(FRAME);
        }
    }
}
