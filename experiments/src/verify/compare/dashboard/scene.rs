//! Shared by all parts of the screen: the scene that they draw, colours of runs, and the frame around a part.

use std::time::Duration;

use ratatui::style::Color;
use ratatui::text::Line;
use ratatui::widgets::Block;

use super::state::State;
use super::view::View;
use crate::verify::compare::Role;

/// Everything that the screen is drawn from.
pub(super) struct Scene<'a> {
    pub(super) state: &'a State,
    pub(super) view: &'a View,
    /// Whether the comparison has been asked to stop.
    pub(super) stopping: bool,
    /// Time since the start of the display.
    pub(super) now: Duration,
}

/// Colour of secondary text and curves, readable on black and on white.
pub(super) const GREY: Color = Color::Indexed(244);

/// Colours of backends under test, which most colour-blind readers can distinguish: close to those of Okabe and Ito,
/// from the 256 colours common to terminals.
const COLOURS: [Color; 7] = [
    Color::Indexed(75),
    Color::Indexed(214),
    Color::Indexed(36),
    Color::Indexed(175),
    Color::Indexed(221),
    Color::Indexed(26),
    Color::Indexed(166),
];

/// Returns the colour of a run: the terminal's own for the reference, grey for rounding runs and other seeds.
pub(super) fn colour_of(state: &State, index: usize) -> Color {
    match state.runs.get(index).map(|run| run.role) {
        Some(Role::Reference) => Color::Reset,
        Some(Role::Entrant) => {
            let before = &state.runs[..index];
            let before = before.iter().filter(|run| run.role == Role::Entrant);
            COLOURS[before.count() % COLOURS.len()]
        }
        _ => GREY,
    }
}

/// Returns a frame in the style of burn-train's dashboard.
pub(super) fn frame(title: impl Into<Line<'static>>) -> Block<'static> {
    Block::bordered().title(title)
}
