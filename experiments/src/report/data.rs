//! The numbers behind the plots, as the page carries them for hovering, zooming and downloads.

use serde_json::{Map, Value, json};

use crate::verify::compare::Check;

use super::Run;
use super::bars::Bar;
use super::heat_map::ratio;
use super::line_plot::{Kind, Line, LinePlot};
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

/// What becomes the page's JSON.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// Curves over steps, by plot.
    lines: Map<String, Value>,
    /// Everything else, as rows, by plot.
    tables: Map<String, Value>,
}

impl Data {
    /// From one step that a page carries to the next.
    pub(super) fn stride(steps: usize) -> usize {
        match steps {
            0..=MAX_ROWS => 1,
            _ => steps.div_ceil(SAMPLED_ROWS),
        }
    }

    /// The curves of a plot.
    pub(super) fn add_lines(&mut self, plot: &LinePlot<'_>) {
        let stride = Self::stride(plot.steps());
        let digits = if plot.log { FEW_DIGITS } else { DIGITS };
        let lines: Vec<Value> = plot
            .lines
            .iter()
            .map(|line| sampled(line, stride, digits))
            .collect();
        let bands: Vec<Value> = plot
            .bands
            .iter()
            .map(|band| {
                json!({ "name": band.name, "values": every(band.values, stride, FEW_DIGITS) })
            })
            .collect();
        let plot_data = json!({ "stride": stride, "lines": lines, "bands": bands });
        self.lines.insert(plot.id.into(), plot_data);
    }

    /// A quantity of each run.
    pub(super) fn add_bars(&mut self, id: &str, quantity: &str, bars: &[Bar]) {
        let rows: Vec<Value> = bars
            .iter()
            .map(|bar| json!([bar.name, bar.value]))
            .collect();
        self.add_table(id, json!(["entrant", quantity]), rows);
    }

    /// Checks of one entrant.
    pub(super) fn add_checks<'a>(&mut self, id: &str, checks: impl Iterator<Item = &'a Check>) {
        let rows: Vec<Value> = checks
            .map(|check| {
                let numbers = [check.error, check.bound, ratio(check)];
                let [error, bound, share] = numbers.map(|number| rounded(number, FEW_DIGITS));
                json!([check.path, error, bound, share, check.step])
            })
            .collect();
        let columns = json!(["parameter", "error", "bound", "error_over_bound", "step"]);
        self.add_table(id, columns, rows);
    }

    /// Seconds of each step.
    pub(super) fn add_times(&mut self, runs: &[&Run<'_>]) {
        let steps = runs.iter().map(|run| run.entry.seconds.len()).max();
        let stride = Self::stride(steps.unwrap_or(0));
        let lines: Vec<Value> = runs
            .iter()
            .map(|run| {
                json!({
                    "name": run.name,
                    "values": every(&run.entry.seconds, stride, FEW_DIGITS),
                })
            })
            .collect();
        let times = json!({ "stride": stride, "lines": lines, "bands": [] });
        self.lines.insert("time".into(), times);
    }

    fn add_table(&mut self, id: &str, columns: Value, rows: Vec<Value>) {
        let table = json!({ "columns": columns, "rows": rows });
        self.tables.insert(id.into(), table);
    }

    /// As the content of a script element, which nothing in it can end.
    pub(super) fn into_script(self) -> String {
        let data = json!({ "lines": self.lines, "tables": self.tables });
        data.to_string().replace('<', "\\u003c")
    }
}

/// JSON has no word for what is no number, or infinite: these become null.
fn every(values: &[f64], stride: usize, digits: usize) -> Vec<Value> {
    let values = values.iter().step_by(stride);
    values.map(|value| json!(rounded(*value, digits))).collect()
}

fn sampled(line: &Line<'_>, stride: usize, digits: usize) -> Value {
    let mut data = json!({
        "name": line.name,
        "class": line.class,
        "kind": match line.kind {
            Kind::Reference => "reference",
            Kind::Run => "run",
            Kind::Seed => "seed",
        },
        "values": every(&line.values, stride, digits),
    });
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
