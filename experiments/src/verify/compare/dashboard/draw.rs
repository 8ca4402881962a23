//! Layout of the whole screen at each size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::estimate::{self, Progress};
use super::scene::{self, Scene};
use super::view::Popup;
use super::{charts, popup, table, words};
use crate::show::format;

/// Smallest width and height of the full layout. On a smaller screen the table has priority over charts.
const MIN_FULL_SIZE: (u16, u16) = (60, 18);

/// Draws everything.
pub(super) fn draw(scene: &Scene, frame: &mut Frame) {
    let area = frame.area();
    if area.width >= MIN_FULL_SIZE.0 && area.height >= MIN_FULL_SIZE.1 {
        full(scene, frame, area);
    } else {
        compact(scene, frame, area);
    }
    match scene.view.popup {
        Popup::None => {}
        Popup::Keys => popup::keys(frame),
        Popup::Details => popup::details(scene, frame),
    }
}

fn full(scene: &Scene, frame: &mut Frame, area: Rect) {
    let wanted = table::height(scene.state);
    // In lockstep all runs are under way, and a row of the table is worth more than the bar of one run.
    let without_run = scene.state.lockstep() || wanted > (area.height - 5) / 2;
    let progress = if without_run { 4 } else { 5 };
    let table = wanted.min((area.height - progress) / 2);
    let [plots, backends, bottom] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(table),
        Constraint::Length(progress),
    ])
    .areas(area);
    let stacked = plots.width < 72 && plots.height >= 16 || plots.width < 120 && plots.height >= 24;
    let halves = [Constraint::Fill(1), Constraint::Fill(1)];
    let [left, right] = match stacked {
        true => Layout::vertical(halves).areas(plots),
        false => Layout::horizontal(halves).areas(plots),
    };
    charts::loss(scene, left, frame.buffer_mut());
    charts::difference(scene, right, frame.buffer_mut());
    table::draw(scene.state, scene.view, backends, frame.buffer_mut());
    draw_progress(scene, frame, bottom);
}

/// Draws the layout of a small screen: progress, one chart if it fits, and the table.
fn compact(scene: &Scene, frame: &mut Frame, area: Rect) {
    let lines = area.height.min(3);
    let plot = match area.height >= 16 && area.width >= 36 {
        true => (area.height - lines) / 2,
        false => 0,
    };
    // A table needs at least one row.
    let table = match area.height - lines - plot {
        left @ 4.. => left.min(table::height(scene.state).max(4)),
        _ => 0,
    };
    let [now, all, time, plot, backends] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(plot),
        Constraint::Length(table),
    ])
    .areas(area);
    let progress = estimate::overall(scene.state, scene.now);
    frame.render_widget(now_line(scene), now);
    let [bar_area, _, percent_area] = Layout::horizontal([
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(6),
    ])
    .areas(all);
    frame.render_widget(bar(progress, Color::Yellow, bar_area.width), bar_area);
    frame.render_widget(Span::from(percent(progress)).bold(), percent_area);
    frame.render_widget(Line::from(time_text(scene, progress)).italic(), time);
    charts::loss(scene, plot, frame.buffer_mut());
    if table > 0 {
        table::draw(scene.state, scene.view, backends, frame.buffer_mut());
    }
}

fn draw_progress(scene: &Scene, frame: &mut Frame, area: Rect) {
    let name = scene.state.plan.as_ref().map(|plan| plan.name.as_str());
    let title = match name {
        Some(name) => format!("Progress: {} ", words::one_line(name)),
        None => "Progress".into(),
    };
    let keys = [
        ("q", "stop"),
        ("l", "log"),
        ("↑↓", "highlight"),
        ("?", "keys"),
    ];
    let keys = keys.into_iter().flat_map(|(key, does)| {
        [
            Span::from(format!(" {key} ")).bold(),
            Span::from(format!("{does} ")).italic(),
        ]
    });
    let block = scene::frame(title).title_bottom(Line::from_iter(keys).right_aligned());
    let inner = block.inner(area);
    frame.render_widget(block, area);

    let rows = Layout::vertical(vec![Constraint::Length(1); inner.height.into()]).split(inner);
    frame.render_widget(now_line(scene), rows[0]);
    // A fixed width, so that bars do not move every second.
    let text_width = if area.width < 80 { 38 } else { 43 };
    let all = estimate::overall(scene.state, scene.now);
    let all = ("All", all, time_text(scene, all), Color::Yellow);
    let run = (rows.len() > 2).then(|| {
        let run = scene.state.active().next().map(|(_, run)| run);
        let run = run.map(|run| estimate::of_run(scene.state, run, scene.now));
        let left = run.map(|run| words::left(run.left)).unwrap_or_default();
        ("Run", run.unwrap_or(Progress::NONE), left, Color::LightRed)
    });
    for (row, (name, progress, text, colour)) in
        rows.iter().skip(1).zip(run.into_iter().chain([all]))
    {
        let [label_area, bar_area, _, text_area] = Layout::horizontal([
            Constraint::Length(7),
            Constraint::Fill(1),
            Constraint::Length(1),
            Constraint::Length(text_width),
        ])
        .areas(*row);
        let percent = Span::from(format!("{:>5}  ", percent(progress))).bold();
        let text = Line::from(vec![percent, Span::from(text).italic()]);
        frame.render_widget(label(name), label_area);
        frame.render_widget(bar(progress, colour, bar_area.width), bar_area);
        frame.render_widget(text, text_area);
    }
}

fn label(name: &str) -> Span<'static> {
    Span::from(format!(" {name} : ")).yellow().bold()
}

fn now_line(scene: &Scene) -> Paragraph<'static> {
    let now = words::now(scene.state);
    let line = match scene.stopping {
        true => Line::from(vec![
            label("Stopping"),
            Span::from("after this step; Ctrl-C quits at once. ").bold(),
            Span::from(now).italic(),
        ]),
        false => Line::from(vec![label("Now"), Span::from(now).italic()]),
    };
    Paragraph::new(line)
}

/// Returns a progress bar of blocks, with a resolution of an eighth of a column.
fn bar(progress: Progress, colour: Color, width: u16) -> Span<'static> {
    let eighths = (8.0 * f64::from(width) * progress.fraction) as usize;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    Span::from("█".repeat(eighths / 8) + part).fg(colour)
}

/// Formats a percentage rounded down, so that 100 % means done.
fn percent(progress: Progress) -> String {
    format!("{:.0} %", (100.0 * progress.fraction).floor())
}

fn time_text(scene: &Scene, progress: Progress) -> String {
    let elapsed = format::duration(scene.now);
    match progress.fraction < 1.0 {
        true => format!("{elapsed} elapsed, {}", words::left(progress.left)),
        false => format!("{elapsed} elapsed"),
    }
}
