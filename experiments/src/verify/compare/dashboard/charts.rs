//! The two charts: losses, and their differences from the reference's.

use std::mem::discriminant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::plot::{Corner, Curve, Level, Plot};
use super::scale::{Keep, Scale, Series, downsampled};
use super::scene::{GREY, Scene, colour_of, frame};
use super::state::State;
use super::table::{self, Row};
use crate::verify::compare::{Envelope, Role, Unit};

/// Draws the loss of every run.
pub(super) fn loss(scene: &Scene, area: Rect, buffer: &mut Buffer) {
    let state = scene.state;
    // A column of the screen has two dots.
    let columns = 2 * usize::from(area.width);
    let series: Vec<(usize, Series)> = state
        .runs
        .iter()
        .enumerate()
        .map(|(index, run)| {
            let losses = run.losses.iter();
            let last = last_step(state);
            (index, downsampled(losses, last, columns, Keep::Extremes))
        })
        .collect();
    let values = series.iter().flat_map(|(_, series)| series);
    let values = values.map(|&(_, loss)| loss);
    let labels = (usize::from(area.height) / 5).clamp(2, 7);
    let (scale, kind) = match scene.view.log {
        true => (Scale::logarithmic(values, labels), ", log scale"),
        false => (Scale::linear(values, labels), ""),
    };
    let chart = Chart {
        title: match state.plan.as_ref().map(|plan| plan.unit) {
            Some(Unit::Items) => format!("Loss{kind}"),
            _ => format!("Loss, nats/token{kind}"),
        },
        placeholder: "no step yet",
        legend_names: legend_names(state, &[("seeds", Role::Seed(0))]),
        legend: Corner::TopRight,
    };
    let curves = |scale: &Scale| {
        let curves = series.iter();
        let curves = curves.map(|(index, series)| curve(scene, *index, scale.lines(series)));
        curves.collect()
    };
    chart.draw(state, scale, curves, area, buffer);
}

/// Draws the difference of every run from the reference, and the envelopes.
pub(super) fn difference(scene: &Scene, area: Rect, buffer: &mut Buffer) {
    let state = scene.state;
    let last = last_step(state);
    let columns = usize::from(area.width);
    // The difference of another seed shows nothing about rounding.
    let is_shown = |role| matches!(role, Role::Rounding | Role::Entrant);
    let series: Vec<(usize, Series)> = state
        .runs
        .iter()
        .enumerate()
        .filter(|(_, run)| is_shown(run.role))
        .map(|(index, run)| {
            let differences = run.differences.iter();
            (
                index,
                downsampled(differences, last, columns, Keep::Largest),
            )
        })
        .collect();
    let envelopes: Vec<(&Envelope, Series)> = {
        let dtype = selected(scene).map(|run| state.runs[run].entrant.dtype);
        let shown = |envelope: &&Envelope| dtype.is_none_or(|of| of == envelope.of.dtype);
        let points = |envelope: &Envelope| {
            let known = envelope.loss.len().min(last.saturating_add(1));
            let bounds = envelope.loss[..known].iter().copied().enumerate();
            downsampled(bounds, last, 2 * columns, Keep::Largest)
        };
        let envelopes = state.envelopes.iter().filter(shown);
        envelopes
            .map(|envelope| (envelope, points(envelope)))
            .collect()
    };

    let of_runs = series.iter().flat_map(|(_, series)| series);
    let of_envelopes = envelopes.iter().flat_map(|(_, series)| series);
    let values = of_runs.chain(of_envelopes).map(|&(_, value)| value);
    let scale = Scale::decades(values, usize::from(area.height.saturating_sub(3)) / 2);
    let mut legend_names = legend_names(state, &[("rounding runs", Role::Rounding)]);
    // The reference is not in this chart, so that its colour is free for the envelopes.
    if !envelopes.is_empty() {
        legend_names.push(("envelope", Color::Reset));
    }
    let chart = Chart {
        title: match &state.plan {
            Some(plan) => format!("|Δloss| from {}, log scale", plan.reference),
            None => "|Δloss|, log scale".into(),
        },
        placeholder: "no difference yet",
        legend_names,
        legend: Corner::TopLeft,
    };
    let curves = |scale: &Scale| {
        let curves = series.iter();
        let curves = curves.map(|(index, series)| curve(scene, *index, scale.lines(series)));
        let envelopes = envelopes.iter().map(|(_, series)| Curve {
            name: None,
            colour: Color::Reset,
            level: Level::Above,
            lines: scale.lines(series),
        });
        curves.chain(envelopes).collect()
    };
    chart.draw(state, scale, curves, area, buffer);
}

/// Chart without its curves.
struct Chart {
    title: String,
    /// Text shown as long as there is nothing to draw.
    placeholder: &'static str,
    /// Names in the frame of curves that have no row in the table.
    legend_names: Vec<(&'static str, Color)>,
    legend: Corner,
}

impl Chart {
    fn draw(
        self,
        state: &State,
        scale: Option<Scale>,
        curves: impl FnOnce(&Scale) -> Vec<Curve>,
        area: Rect,
        buffer: &mut Buffer,
    ) {
        let names = self.legend_names.into_iter().flat_map(|(name, colour)| {
            [
                Span::from(" ━").fg(colour).bold(),
                Span::from(format!(" {name} ")).italic(),
            ]
        });
        let block = frame(self.title).title_bottom(Line::from_iter(names).right_aligned());
        let inner = block.inner(area);
        block.render(area, buffer);
        match scale {
            Some(scale) => Plot {
                curves: curves(&scale),
                scale: &scale,
                last_step: last_step(state),
                legend: self.legend,
            }
            .render(inner, buffer),
            None if inner.height > 0 => {
                let middle = Rect {
                    y: inner.y + inner.height / 2,
                    height: 1,
                    ..inner
                };
                let placeholder = Line::from(self.placeholder).italic().centered();
                placeholder.render(middle, buffer);
            }
            None => {}
        }
    }
}

fn curve(scene: &Scene, index: usize, lines: Vec<Vec<(f64, f64)>>) -> Curve {
    let run = &scene.state.runs[index];
    let selected = selected(scene);
    Curve {
        name: match run.role {
            _ if lines.is_empty() => None,
            Role::Reference => Some(format!("{} (reference)", run.entrant)),
            Role::Entrant => Some(run.entrant.to_string()),
            Role::Rounding | Role::Seed(_) => None,
        },
        // The reference keeps its colour, because the highlighted run is compared against it.
        colour: match selected {
            Some(selected) if selected != index && run.role != Role::Reference => GREY,
            _ => colour_of(scene.state, index),
        },
        level: match (run.role, selected) {
            (_, Some(selected)) if selected == index => Level::Above,
            (Role::Reference, _) | (Role::Entrant, None) => Level::Shared,
            _ => Level::Behind,
        },
        lines,
    }
}

/// Returns the last step that any run took.
fn last_step(state: &State) -> usize {
    let steps = state.runs.iter().filter_map(|run| run.losses.last());
    steps.map(|(step, _)| step).max().unwrap_or(0)
}

/// Returns the run in the highlighted row.
fn selected(scene: &Scene) -> Option<usize> {
    match table::rows(scene.state).get(scene.view.selected?)? {
        Row::Run(index, _) => Some(*index),
        Row::Unavailable(..) => None,
    }
}

/// Returns the names of those kinds of runs that have taken a step.
fn legend_names(state: &State, kinds: &[(&'static str, Role)]) -> Vec<(&'static str, Color)> {
    let began = |role: &Role| {
        let mut runs = state.runs.iter();
        runs.any(|run| discriminant(&run.role) == discriminant(role) && run.losses.len() > 0)
    };
    let kinds = kinds.iter().filter(|(_, role)| began(role));
    kinds.map(|(name, _)| (*name, GREY)).collect()
}
