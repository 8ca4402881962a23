//! Data of the figures, embedded in the page as JSON for hovering, zooming and downloads.

use serde_json::{Map, Value, json};

use super::bars::{Bars, Boxes};
use super::heat_map::Data;
use super::line_plot::{Line, LineKind, LinePlot};
use super::page::{Figure, Plot};
use crate::show::axis::range;
use crate::show::format::rounded;

/// Maximum number of steps that a page embeds completely.
pub(super) const MAX_ROWS: usize = 5_000;

/// Approximate number of steps that a page embeds of a longer run.
const SAMPLED_ROWS: usize = 2_000;

/// Significant digits of a loss: more than f32 has.
const LOSS_DIGITS: usize = 10;

/// Significant digits of values that are only drawn, or are differences.
const DRAWN_DIGITS: usize = 5;

/// Returns the distance between embedded steps, for a figure of `steps` steps.
pub(super) fn stride(steps: usize) -> usize {
    match steps {
        0..=MAX_ROWS => 1,
        _ => steps.div_ceil(SAMPLED_ROWS),
    }
}

/// Returns the data of all figures as the content of a script element, with `<` escaped so that it cannot end early.
pub(super) fn script<'a>(figures: impl Iterator<Item = &'a Figure>) -> String {
    let (mut lines, mut tables) = (Map::new(), Map::new());
    for Figure { id, plot, .. } in figures {
        match plot {
            Plot::Lines(plot) => lines.insert(id.clone(), lines_json(plot)),
            Plot::Boxes(boxes) => lines.insert(id.clone(), boxes_json(boxes)),
            Plot::Bars(bars) => tables.insert(id.clone(), bars_json(bars)),
            Plot::HeatMap(map) => tables.insert(id.clone(), table_json(&map.data)),
            Plot::Scatter(plot) => tables.insert(id.clone(), plot.json()),
        };
    }
    let data = json!({ "lines": lines, "tables": tables });
    data.to_string().replace('<', "\\u003c")
}

fn lines_json(plot: &LinePlot) -> Value {
    let stride = stride(plot.steps());
    let digits = if plot.log { DRAWN_DIGITS } else { LOSS_DIGITS };
    let lines: Vec<Value> = plot
        .lines
        .iter()
        .map(|line| line_json(line, stride, digits))
        .collect();
    let bands: Vec<Value> = plot
        .bands
        .iter()
        .map(|band| json!({ "name": band.name, "values": sampled(&band.values, stride, DRAWN_DIGITS) }))
        .collect();
    let mut data = json!({ "axis": plot.axis, "stride": stride, "lines": lines, "bands": bands });
    if !plot.levels.is_empty() {
        let levels = plot.levels.iter();
        let levels = levels
            .map(|level| json!({ "name": level.name, "value": rounded(level.value, LOSS_DIGITS) }));
        data["levels"] = levels.collect();
    }
    if !plot.marks.is_empty() {
        let marks = plot.marks.iter();
        let marks = marks
            .map(|mark| json!({ "step": mark.step, "value": rounded(mark.value, LOSS_DIGITS) }));
        data["marks"] = marks.collect();
    }
    data
}

fn bars_json(bars: &Bars) -> Value {
    let rows: Vec<Value> = bars
        .rows
        .iter()
        .map(|bar| json!([bar.name, bar.value]))
        .collect();
    json!({ "columns": [bars.row, bars.quantity], "rows": rows })
}

fn boxes_json(boxes: &Boxes) -> Value {
    let steps = boxes.rows.iter().map(|row| row.seconds.len()).max();
    let stride = stride(steps.unwrap_or(0));
    let lines: Vec<Value> = boxes
        .rows
        .iter()
        .map(|row| json!({ "name": row.name, "values": sampled(&row.seconds, stride, DRAWN_DIGITS) }))
        .collect();
    json!({ "stride": stride, "lines": lines, "bands": [] })
}

fn table_json(data: &Data) -> Value {
    json!({ "columns": data.columns, "rows": data.rows })
}

/// Returns every `stride`-th value, rounded. NaN and infinities become null, because JSON cannot hold them.
fn sampled(values: &[f64], stride: usize, digits: usize) -> Vec<Value> {
    let values = values.iter().step_by(stride);
    values.map(|value| json!(rounded(*value, digits))).collect()
}

fn line_json(line: &Line, stride: usize, digits: usize) -> Value {
    let stride = if line.steps.is_some() { 1 } else { stride };
    let mut data = json!({
        "name": line.name,
        "class": line.class,
        "kind": match line.kind {
            LineKind::Reference => "reference",
            LineKind::Run | LineKind::Smooth => "run",
            LineKind::Faint => "faint",
            LineKind::Seed => "seed",
        },
        "values": sampled(&line.values, stride, digits),
    });
    if let Some(steps) = &line.steps {
        data["steps"] = json!(steps);
    }
    if stride > 1 {
        // A zoomed curve shows the extremes between embedded steps.
        let extremes = line.values.chunks(stride).map(|chunk| {
            let finite = chunk.iter().copied().filter(|value| value.is_finite());
            let (low, high) = range(finite).unwrap_or((f64::NAN, f64::NAN));
            (rounded(low, DRAWN_DIGITS), rounded(high, DRAWN_DIGITS))
        });
        let (low, high): (Vec<f64>, Vec<f64>) = extremes.unzip();
        data["low"] = json!(low);
        data["high"] = json!(high);
    }
    data
}
