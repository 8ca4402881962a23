//! Lines for logs and pipes: the end of every run, and progress at intervals.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use super::{FRAME, Progress, View, duration};
use crate::science::sweep::index::{Entry, State};
use crate::show::format;
use crate::{errln, outln};

/// Interval of lines while no run ends.
const INTERVAL: Duration = Duration::from_secs(60);

/// View that prints lines.
pub struct Lines {
    /// First line, until it is printed.
    headline: Option<String>,
    to_stderr: bool,
    states: HashMap<String, State>,
    printed: Instant,
}

impl Lines {
    /// Returns a view on standard output, or on standard error, which leaves standard output to programs.
    pub fn new(headline: String, to_stderr: bool) -> Self {
        Self {
            headline: Some(headline),
            to_stderr,
            states: HashMap::new(),
            printed: Instant::now(),
        }
    }

    fn print(&mut self, line: &str) {
        match self.to_stderr {
            true => errln!("{line}"),
            false => outln!("{line}"),
        }
        self.printed = Instant::now();
    }
}

impl View for Lines {
    fn update(&mut self, progress: &Progress<'_>, is_over: bool) {
        let is_first = self.states.is_empty();
        if let Some(headline) = self.headline.take() {
            self.print(&headline);
        }
        for entry in progress.entries {
            let before = self.states.insert(entry.name.clone(), entry.state);
            let has_changed = before != Some(entry.state);
            // Runs of earlier processes are not news.
            if has_changed && entry.state.has_ended() && !is_first {
                let ended = progress.entries.iter();
                let ended =
                    ended.filter(|other| self.states.get(&other.name) == Some(&other.state));
                let ended = ended.filter(|entry| entry.state.has_ended()).count();
                let all = progress.entries.len();
                let width = all.to_string().len();
                self.print(&format!("[{ended:>width$}/{all}] {}", outcome(entry)));
            }
        }
        if self.printed.elapsed() >= INTERVAL {
            let left = progress.seconds_left();
            let left = left.map(|seconds| format!(", about {} left", duration(seconds)));
            let line = format!(
                "{}; {} elapsed{}",
                progress.counts(),
                format::duration(progress.elapsed),
                left.unwrap_or_default()
            );
            self.print(&line);
        }
        if !is_over {
            thread::sleep(FRAME);
        }
    }
}

/// Returns the outcome of a run in one line.
fn outcome(entry: &Entry) -> String {
    let name = &entry.name;
    match (&entry.result, &entry.reason) {
        (Some(result), _) => format!(
            "{name}: valid loss {}, bits/byte {}, {}",
            format::short_loss(result.valid_loss),
            format::short_loss(result.bits_per_byte),
            format::plural(result.steps, "step"),
        ),
        (None, Some(reason)) => format!("{name}: {}: {reason}", entry.state.name()),
        (None, None) => format!("{name}: {}", entry.state.name()),
    }
}
