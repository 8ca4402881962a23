//! Full screen: each run is a row with its state, a sparkline of its training loss, its step and its loss.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Table};

use super::{FRAME, Progress, View, duration};
use crate::backend::panics;
use crate::science::sweep::index::{Entry, State};
use crate::show::{format, screen, terminal};

/// Longest interval between two drawings.
const INTERVAL: Duration = Duration::from_millis(500);

/// Longest sparkline.
const MAX_SPARKLINE: usize = 100;

/// Colour of secondary text, readable on black and on white.
const GREY: Color = Color::Indexed(244);

/// View that takes over the terminal until it is dropped.
pub struct Rows {
    screen: screen::Screen,
    interrupted: Arc<AtomicBool>,
    /// First row that is shown, if the user has chosen it.
    top: Option<usize>,
    /// Rows that fit.
    height: usize,
    drawn: Option<Instant>,
}

impl Rows {
    /// Takes over the terminal. The key `q` sets `interrupted`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no terminal.
    pub fn new(interrupted: Arc<AtomicBool>) -> io::Result<Self> {
        terminal::remember();
        // A panic's message must appear on the user's own screen, so the terminal is restored before it is written.
        panics::before_message(screen::leave);
        Ok(Self {
            screen: screen::enter()?,
            interrupted,
            top: None,
            height: 1,
            drawn: None,
        })
    }

    /// Waits for keys for at most a frame, and returns whether there were any.
    fn keys(&mut self, rows: usize) -> bool {
        if !screen::is_open() || terminal::is_gone() {
            thread::sleep(FRAME);
            return false;
        }
        let (mut any, mut timeout) = (false, FRAME);
        while let Ok(true) = event::poll(timeout) {
            timeout = Duration::ZERO;
            any = true;
            let Ok(Event::Key(key)) = event::read() else {
                continue;
            };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            let last = rows.saturating_sub(self.height);
            let top = self.top.unwrap_or(0);
            match key.code {
                KeyCode::Char('l') if control => screen::repaint(&mut self.screen),
                // On systems where Ctrl-C is a key and no signal.
                KeyCode::Char('c') if control => self.interrupted.store(true, Ordering::SeqCst),
                KeyCode::Char('q') => self.interrupted.store(true, Ordering::SeqCst),
                KeyCode::Up => self.top = Some(top.saturating_sub(1)),
                KeyCode::Down => self.top = Some((top + 1).min(last)),
                KeyCode::PageUp => self.top = Some(top.saturating_sub(self.height)),
                KeyCode::PageDown => self.top = Some((top + self.height).min(last)),
                KeyCode::Home => self.top = Some(0),
                KeyCode::End => self.top = Some(last),
                KeyCode::Esc => self.top = None,
                _ => {}
            }
        }
        any
    }
}

impl View for Rows {
    fn update(&mut self, progress: &Progress<'_>, is_over: bool) {
        let pressed = !is_over && self.keys(progress.entries.len());
        let is_due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= INTERVAL);
        if !(pressed || is_due || is_over) {
            return;
        }
        self.drawn = Some(Instant::now());
        let (top, mut height) = (self.top, self.height);
        screen::draw(&mut self.screen, |frame| {
            height = draw(progress, top, frame);
        });
        self.height = height;
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        screen::leave();
    }
}

/// Draws everything, and returns the number of rows that fit.
fn draw(progress: &Progress<'_>, top: Option<usize>, frame: &mut Frame) -> usize {
    let [head, bar, table, help] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(headline(progress)), head);
    frame.render_widget(gauge(progress), bar);
    let height = usize::from(table.height.saturating_sub(3)).max(1);
    rows(
        progress,
        top.unwrap_or_else(|| first_row(progress, height)),
        height,
        table,
        frame,
    );
    let keys = match progress.stopping {
        true => "stopping: each run writes a checkpoint",
        false => "q stop with checkpoints   ↑ ↓ PgUp PgDn scroll   Esc follow   Ctrl-L repaint",
    };
    frame.render_widget(Paragraph::new(keys).style(Style::new().fg(GREY)), help);
    height
}

fn headline(progress: &Progress<'_>) -> Line<'static> {
    let path = progress.sweep.path().display().to_string();
    Line::from(vec![
        Span::from(path).bold(),
        Span::from(format!("   {}", progress.counts())),
    ])
}

fn gauge(progress: &Progress<'_>) -> Gauge<'static> {
    let all: f64 = progress.entries.iter().map(Entry::own_flops).sum();
    let done: f64 = progress
        .entries
        .iter()
        .map(|entry| done(progress, entry))
        .sum();
    let left = progress.seconds_left();
    let left = left.map(|seconds| format!(", about {} left", duration(seconds)));
    let share = if all > 0.0 { done / all } else { 1.0 };
    let label = format!(
        "{:.0} % of the operations, {} elapsed{}",
        (100.0 * share).floor(),
        format::duration(progress.elapsed),
        left.unwrap_or_default()
    );
    Gauge::default()
        .ratio(share.clamp(0.0, 1.0))
        .label(label)
        .gauge_style(Style::new().fg(Color::Indexed(26)))
}

/// Returns the floating-point operations of a run that are done.
fn done(progress: &Progress<'_>, entry: &Entry) -> f64 {
    let own = entry.own_flops();
    let steps = entry.cost.map_or(1, |cost| cost.steps).max(1);
    let curve = progress.curves.of(&entry.name);
    match entry.state {
        state if state.has_ended() => own,
        State::Waiting => 0.0,
        _ => {
            let left = steps - curve.map_or(0, |curve| curve.step).min(steps);
            (own - entry.cost.map_or(0.0, |cost| cost.flops) * left as f64 / steps as f64).max(0.0)
        }
    }
}

/// Returns the first row such that the runs under way are in the middle.
fn first_row(progress: &Progress<'_>, height: usize) -> usize {
    let is_running = |entry: &Entry| entry.state == State::Running;
    let first = progress.entries.iter().position(is_running).unwrap_or(0);
    let last = progress
        .entries
        .iter()
        .rposition(is_running)
        .unwrap_or(first);
    let middle = (first + last) / 2;
    let most = progress.entries.len().saturating_sub(height);
    middle.saturating_sub(height / 2).min(most)
}

fn rows(progress: &Progress<'_>, top: usize, height: usize, area: Rect, frame: &mut Frame) {
    let names = progress
        .entries
        .iter()
        .map(|entry| entry.name.chars().count());
    let inner = usize::from(area.width.saturating_sub(2));
    // Columns: name, state, sparkline, step, loss, with a space between them.
    let others = 8 + 13 + 7 + 4;
    let name = names
        .max()
        .unwrap_or(3)
        .clamp(3, (inner.saturating_sub(others) * 2 / 3).max(8));
    let spark = inner.saturating_sub(name + others).min(MAX_SPARKLINE);
    let shown = progress.entries.iter().skip(top).take(height);
    let shown: Vec<Row> = shown
        .map(|entry| row(progress, entry, name, spark))
        .collect();
    let header = Row::new(["RUN", "STATE", "TRAIN LOSS", "STEP", "LOSS"].map(Line::from));
    let widths = [name, 8, spark, 13, 7].map(|width| Constraint::Length(width as u16));
    let title = format!(
        " runs {}–{} of {} ",
        (top + 1).min(progress.entries.len()),
        (top + height).min(progress.entries.len()),
        progress.entries.len()
    );
    let table = Table::new(shown, widths)
        .header(header.style(Style::new().fg(GREY)))
        .block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

fn row(progress: &Progress<'_>, entry: &Entry, name: usize, spark: usize) -> Row<'static> {
    let curve = progress.curves.of(&entry.name);
    let steps = entry.cost.map_or(0, |cost| cost.steps);
    let colour = match entry.state {
        State::Running => Color::Indexed(75),
        State::Done => Color::Indexed(36),
        State::Diverged | State::Failed => Color::Indexed(166),
        State::Refused | State::Stopped => Color::Indexed(214),
        State::Waiting => GREY,
    };
    let shown_name: String = match entry.name.chars().count() > name {
        true => entry.name.chars().take(name - 1).chain(['…']).collect(),
        false => entry.name.clone(),
    };
    let middle = match (&entry.reason, curve) {
        (Some(reason), _) => reason.chars().take(spark).collect(),
        (None, Some(curve)) => curve.sparkline(spark),
        (None, None) => String::new(),
    };
    let step = match (entry.state, curve) {
        (State::Done, _) => steps.to_string(),
        (State::Waiting | State::Refused, _) | (_, None) => format!("{steps}"),
        (_, Some(curve)) => format!("{}/{steps}", curve.step),
    };
    let loss = match &entry.result {
        Some(result) => Some(result.valid_loss),
        None => curve.and_then(|curve| curve.loss),
    };
    let loss = loss.map_or(String::new(), format::short_loss);
    Row::new(vec![
        Line::from(shown_name),
        Line::from(Span::styled(entry.state.name(), Style::new().fg(colour))),
        Line::from(Span::styled(middle, Style::new().fg(colour))),
        Line::from(step).right_aligned(),
        Line::from(loss).right_aligned(),
    ])
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::science::sweep::view::Curves;
    use crate::science::sweep::{Speeds, SweepDirectory};

    /// Draws a sweep of three runs, of which the first has taken half of its steps.
    fn drawn(width: u16, height: u16) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.jsonl"), "").unwrap();
        let sweep = SweepDirectory::open(folder.path()).unwrap();
        let entry = |rest: &str| -> Entry {
            let cost = "\"steps\":100,\"tokens\":100,\"parameters\":1,\"non_embedding_parameters\":1,\"flops\":1e6,\
                        \"memory_bytes\":1";
            serde_json::from_str(&format!("{{\"keys\":{{}},\"seed\":1,{cost},{rest}}}")).unwrap()
        };
        let entries = [
            entry("\"name\":\"width16\",\"state\":\"running\""),
            entry("\"name\":\"width32\",\"state\":\"diverged\",\"reason\":\"the loss is NaN\""),
            entry("\"name\":\"width64\",\"state\":\"waiting\""),
        ];
        let line = |step: usize| {
            let loss = 8.0 * 0.9_f64.powi(step as i32);
            format!(
                "{{\"kind\":\"step\",\"step\":{step},\"tokens\":1,\"loss\":{loss},\"gradient_norm\":1,\
                 \"learning_rate\":1,\"seconds\":0.5}}\n"
            )
        };
        let run = sweep.run("width16");
        std::fs::create_dir_all(&run).unwrap();
        let log: String = (0..50).map(line).collect();
        std::fs::write(run.join("metrics.jsonl"), log).unwrap();
        let curves = Curves::of_sweep(&sweep, &entries);
        let progress = Progress {
            sweep: &sweep,
            entries: &entries,
            curves: &curves,
            speeds: &Speeds::default(),
            jobs: 1,
            elapsed: Duration::from_secs(25),
            stopping: false,
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let frame = terminal.draw(|frame| {
            draw(&progress, None, frame);
        });
        let cells = frame.unwrap().buffer.content();
        let lines = cells.chunks(width.into());
        let text = |line: &[ratatui::buffer::Cell]| {
            line.iter().map(|cell| cell.symbol()).collect::<String>() + "\n"
        };
        lines.map(text).collect()
    }

    #[test]
    fn runs_are_rows_with_sparklines() {
        let drawn = drawn(80, 10);
        for part in [
            "0 of 3 done, 1 running, 1 waiting, 1 diverged",
            "50 % of the operations, 25s elapsed",
            "runs 1–3 of 3",
            "width16 running  █",
            "50/100  0.0458",
            "width32 diverged the loss is NaN",
            "width64 waiting",
            "q stop with checkpoints",
        ] {
            assert!(drawn.contains(part), "{part} is missing from:\n{drawn}");
        }
    }

    #[test]
    fn no_size_of_a_terminal_panics() {
        for (width, height) in [(1, 1), (5, 3), (20, 5), (40, 2), (300, 90)] {
            drawn(width, height);
        }
    }
}
