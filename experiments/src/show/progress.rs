//! Progress of long work other than training: a bar on a terminal, and otherwise a line from time to time.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use foretoken_datasets::{BuildProgress, Monitor};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::errln;
use crate::show::dashboard::Dashboard;
use crate::show::terminal;

/// Minimum interval between lines if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Returns a bar of bytes on standard error, which is hidden if standard error is not a terminal.
pub fn bytes_bar(label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        None,
        match terminal::has_screen(&std::io::stderr()) {
            true => ProgressDrawTarget::stderr_with_hz(8),
            false => ProgressDrawTarget::hidden(),
        },
    );
    let template = "{prefix} {wide_bar} {bytes}/{total_bytes}  {msg}  {elapsed}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(label.to_string());
    bar
}

/// Returns a bar of targets on standard error, which is hidden if standard error is not a terminal.
pub fn targets_bar(label: &str) -> ProgressBar {
    let bar = bytes_bar(label);
    let template = "{prefix} {wide_bar} {human_pos}/{human_len} tokens  {elapsed}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_length(0);
    bar
}

/// Reporter of the progress of a token build.
pub struct BuildReporter {
    report: Box<dyn Fn(BuildProgress) + Sync>,
    bars: bool,
}

impl BuildReporter {
    /// Returns a reporter on standard error, which is silent for [`Dashboard::None`].
    pub fn new(dashboard: Dashboard) -> Self {
        let bars = dashboard != Dashboard::None && terminal::has_screen(&std::io::stderr());
        let report: Box<dyn Fn(BuildProgress) + Sync> = match dashboard {
            Dashboard::None => Box::new(|_| {}),
            _ if bars => on_terminal(),
            _ => in_lines(),
        };
        Self { report, bars }
    }

    /// Returns the monitor of a build.
    pub fn monitor<'a>(&'a self, interrupt: &'a AtomicBool) -> Monitor<'a> {
        Monitor {
            report: &*self.report,
            interrupt,
            bars: self.bars,
        }
    }
}

fn on_terminal() -> Box<dyn Fn(BuildProgress) + Sync> {
    /// The pass under way.
    struct Pass {
        bar: ProgressBar,
        began: Instant,
        /// Tokens at its beginning.
        tokens: u64,
        encoding: bool,
    }
    impl Drop for Pass {
        fn drop(&mut self) {
            self.bar.finish_and_clear();
        }
    }
    let pass: Mutex<Option<Pass>> = Mutex::new(None);
    Box::new(move |progress| {
        let mut pass = pass.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (label, bytes, total, tokens, encoding) = match progress {
            // The total size of a pipe is not known.
            BuildProgress::Copying(bytes) => ("copying", bytes, bytes, 0, false),
            BuildProgress::Scanning { bytes, total } => ("scanning", bytes, total, 0, false),
            // The trainer draws bars of its own.
            BuildProgress::Training => return *pass = None,
            BuildProgress::Encoding {
                bytes,
                total,
                tokens,
                ..
            } => ("encoding", bytes, total, tokens, true),
        };
        if pass.as_ref().is_none_or(|pass| pass.encoding != encoding) {
            *pass = None;
            let bar = bytes_bar(label);
            bar.set_position(bytes);
            bar.reset_eta();
            *pass = Some(Pass {
                bar,
                began: Instant::now(),
                tokens,
                encoding,
            });
        }
        let Some(pass) = &*pass else { return };
        pass.bar.set_prefix(label);
        pass.bar.set_length(total);
        pass.bar.set_position(bytes);
        if let BuildProgress::Encoding {
            documents, tokens, ..
        } = progress
        {
            let rate = (tokens - pass.tokens) as f64 / pass.began.elapsed().as_secs_f64().max(1e-3);
            // The message fits into 80 columns.
            pass.bar.set_message(format!(
                "{} documents  {:.0}k tokens/s",
                HumanCount(documents),
                rate / 1e3
            ));
        }
    })
}

fn in_lines() -> Box<dyn Fn(BuildProgress) + Sync> {
    let last = Mutex::new(Instant::now());
    Box::new(move |progress| {
        let mut last = last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if last.elapsed() < LINE_EVERY {
            return;
        }
        *last = Instant::now();
        match progress {
            BuildProgress::Copying(bytes) => errln!("copying: {}", HumanBytes(bytes)),
            BuildProgress::Scanning { bytes, total } => {
                errln!("scanning: {} of {}", HumanBytes(bytes), HumanBytes(total));
            }
            BuildProgress::Training => errln!("training the tokenizer"),
            BuildProgress::Encoding {
                bytes,
                total,
                documents,
                tokens,
            } => errln!(
                "encoding: {} of {}, {documents} documents, {tokens} tokens",
                HumanBytes(bytes),
                HumanBytes(total)
            ),
        }
    })
}
