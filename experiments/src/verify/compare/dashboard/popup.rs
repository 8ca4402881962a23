//! Popups over the screen: the keys, and the details of one backend.

use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Wrap};

use super::scene::{Scene, frame as framed};
use super::table::{self, Row};
use super::view::KEYS;
use super::words;
use crate::show::format;
use crate::verify::compare::{Check, Checked};

/// Largest number of listed checks.
const MAX_LISTED: usize = 8;

pub(super) fn keys(frame: &mut Frame) {
    let width = KEYS.iter().map(|(key, _)| key.chars().count()).max();
    let width = width.unwrap_or(0);
    let lines = KEYS.map(|(key, does)| {
        Line::from(vec![
            Span::from(format!(" {key:width$} : ")).yellow().bold(),
            Span::from(does).italic(),
        ])
    });
    show(frame, "Keys", lines.into(), 56);
}

pub(super) fn details(scene: &Scene, frame: &mut Frame) {
    let rows = table::rows(scene.state);
    let Some(row) = scene.view.selected.and_then(|row| rows.get(row)) else {
        return;
    };
    let (symbol, word) = row.status(scene.state);
    let mut lines = vec![field("State", format!("{symbol} {word}"))];
    if let Row::Run(_, run) = row {
        if let Some((verdict, _)) = &run.verdict {
            lines = vec![field("Verdict", format!("{symbol} {}", verdict.words()))];
        }
        if let Some(step) = scene.state.first_outside(run) {
            lines.push(field("Leaves the envelope", format!("at step {step}")));
        }
        if let Some(text) = words::comparable(scene.state, run) {
            lines.push(field("Comparable", text));
        }
    }
    if let Some(reason) = row.reason() {
        lines.push(field("Reason", words::one_line(reason)));
    }
    if let Row::Run(_, run) = row
        && let Some(checks) = &run.checks
    {
        let held = checks.iter().filter(|check| check.holds()).count();
        let mut text = format!("{held} of {} within their bounds", checks.len());
        let undecided = checks
            .iter()
            .filter(|check| check.holds() && !check.decides());
        match undecided.count() {
            0 => {}
            count => text += &format!(", {count} cannot tell"),
        }
        lines.push(field("Checks", text));
        let mut worst: Vec<&Check> = checks.iter().collect();
        let excess = |check: &Check| match check.error {
            0.0 => 0.0,
            error => error / check.bound,
        };
        worst.sort_by(|a, b| excess(b).total_cmp(&excess(a)));
        lines.extend(worst.into_iter().take(MAX_LISTED).map(check_line));
    }
    show(frame, &row.entrant().to_string(), lines, 76);
}

fn field(name: &str, value: String) -> Line<'static> {
    Line::from(vec![
        Span::from(format!(" {name} : ")).yellow().bold(),
        Span::from(value).italic(),
    ])
}

fn check_line(check: &Check) -> Line<'static> {
    let of = match check.of {
        Checked::Loss => "loss",
        Checked::Logits => "logits",
        Checked::Output => "output",
        Checked::Gradient => "gradient",
        Checked::Update => "update",
        Checked::Movement => "movement",
    };
    let (sign, relation) = match check.holds() {
        true => ("  ", "≤"),
        false => (" !", ">"),
    };
    let path = check
        .path
        .as_deref()
        .map(words::one_line)
        .unwrap_or_default();
    Line::from(format!(
        "{sign} {:>7} {relation} {:<7}  step {}: {of} {path}",
        format::scientific(check.error),
        format::scientific(check.bound),
        check.step,
    ))
}

/// Draws a popup in the middle of the screen, as high as its lines need.
fn show(frame: &mut Frame, title: &str, lines: Vec<Line<'static>>, width: u16) {
    let screen = frame.area();
    let width = width.min(screen.width);
    let inner = usize::from(width.saturating_sub(2)).max(1);
    // An upper bound, because words that do not fit move to the next row.
    let rows: usize = lines
        .iter()
        .map(|line| (line.width() + line.width() / 8).div_ceil(inner).max(1))
        .sum();
    let height = u16::try_from(rows + 2)
        .unwrap_or(u16::MAX)
        .min(screen.height);
    let area = centered(screen, width, height);
    let block =
        framed(format!("{title} ")).title_bottom(Line::from(" Esc closes ").right_aligned());
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(lines)
            .wrap(Wrap { trim: false })
            .block(block),
        area,
    );
}

fn centered(screen: Rect, width: u16, height: u16) -> Rect {
    let [row] = Layout::vertical([Constraint::Length(height)])
        .flex(Flex::Center)
        .areas(screen);
    let [area] = Layout::horizontal([Constraint::Length(width)])
        .flex(Flex::Center)
        .areas(row);
    area
}
