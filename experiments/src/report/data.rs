//! Numbers behind the figures, as the page carries them for hovering, zooming and downloads.

use serde_json::{Map, Value, json};

use super::bars::{Bars, Boxes};
use super::line_plot::{Line, LineKind, LinePlot};
use super::page::{Data, Figure, Plot};
use crate::show::axis::range;
use crate::show::format::rounded;

/// Steps up to which a page carries every one.
pub(super) const MAX_ROWS: usize = 5_000;

/// How many it carries, about, of longer runs.
const SAMPLED_ROWS: usize = 2_000;

/// Digits of a loss: those of f32, and some to spare.
const DIGITS: usize = 10;

/// Digits of what is only drawn, or is a difference already.
const FEW_DIGITS: usize = 5;

/// Distance between the steps that a page carries, of a figure with so many.
pub(super) fn stride(steps: usize) -> usize {
    match steps {
        0..=MAX_ROWS => 1,
        _ => steps.div_ceil(SAMPLED_ROWS),
    }
}

/// The data of all figures as the content of a script element, which nothing in it can end.
pub(super) fn script<'a>(figures: impl Iterator<Item = &'a Figure>) -> String {
    let (mut lines, mut tables) = (Map::new(), Map::new());
    for Figure { id, plot, .. } in figures {
        match plot {
            Plot::Lines(plot) => lines.insert(id.clone(), of_lines(plot)),
            Plot::Boxes(boxes) => lines.insert(id.clone(), of_boxes(boxes)),
            Plot::Bars(bars) => tables.insert(id.clone(), of_bars(bars)),
            Plot::HeatMap(map) => tables.insert(id.clone(), table(&map.data)),
        };
    }
    let data = json!({ "lines": lines, "tables": tables });
    data.to_string().replace('<', "\\u003c")
}

fn of_lines(plot: &LinePlot) -> Value {
    let stride = stride(plot.steps());
    let digits = if plot.log { FEW_DIGITS } else { DIGITS };
    let lines: Vec<Value> = plot
        .lines
        .iter()
        .map(|line| sampled(line, stride, digits))
        .collect();
    let bands: Vec<Value> = plot
        .bands
        .iter()
        .map(|band| json!({ "name": band.name, "values": every(&band.values, stride, FEW_DIGITS) }))
        .collect();
    let mut data = json!({ "stride": stride, "lines": lines, "bands": bands });
    if !plot.levels.is_empty() {
        let levels = plot.levels.iter();
        let levels = levels
            .map(|level| json!({ "name": level.name, "value": rounded(level.value, DIGITS) }));
        data["levels"] = levels.collect();
    }
    if !plot.marks.is_empty() {
        let marks = plot.marks.iter();
        let marks =
            marks.map(|mark| json!({ "step": mark.step, "value": rounded(mark.value, DIGITS) }));
        data["marks"] = marks.collect();
    }
    data
}

fn of_bars(bars: &Bars) -> Value {
    let rows: Vec<Value> = bars
        .rows
        .iter()
        .map(|bar| json!([bar.name, bar.value]))
        .collect();
    json!({ "columns": [bars.of, bars.quantity], "rows": rows })
}

fn of_boxes(boxes: &Boxes) -> Value {
    let steps = boxes.rows.iter().map(|row| row.seconds.len()).max();
    let stride = stride(steps.unwrap_or(0));
    let lines: Vec<Value> = boxes
        .rows
        .iter()
        .map(|row| json!({ "name": row.name, "values": every(&row.seconds, stride, FEW_DIGITS) }))
        .collect();
    json!({ "stride": stride, "lines": lines, "bands": [] })
}

fn table(data: &Data) -> Value {
    json!({ "columns": data.columns, "rows": data.rows })
}

/// JSON has no word for what is no number, or infinite: these become null.
fn every(values: &[f64], stride: usize, digits: usize) -> Vec<Value> {
    let values = values.iter().step_by(stride);
    values.map(|value| json!(rounded(*value, digits))).collect()
}

fn sampled(line: &Line, stride: usize, digits: usize) -> Value {
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
        "values": every(&line.values, stride, digits),
    });
    if let Some(steps) = &line.steps {
        data["steps"] = json!(steps);
    }
    if stride > 1 {
        // A zoomed curve still shows what lies between the steps that are kept.
        let extremes = line.values.chunks(stride).map(|chunk| {
            let finite = chunk.iter().copied().filter(|value| value.is_finite());
            let (low, high) = range(finite).unwrap_or((f64::NAN, f64::NAN));
            (rounded(low, FEW_DIGITS), rounded(high, FEW_DIGITS))
        });
        let (low, high): (Vec<f64>, Vec<f64>) = extremes.unzip();
        data["low"] = json!(low);
        data["high"] = json!(high);
    }
    data
}
