//! Bar charts and box plots, with one row for each run.

use super::scale::Axis;
use super::svg::{self, Svg, push, text, text_width};
use crate::show::format;
use crate::show::statistics::quantile_of_sorted;

/// Height of a row.
const ROW: f64 = 30.0;

/// Width of a bar chart. Two charts fit side by side on a wide page, and one fills a narrow page.
const WIDTH: f64 = 500.0;

/// A row of a bar chart: a quantity of one run.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub name: String,
    /// Colour and dash pattern of its run.
    pub class: String,
    /// `None` if it was not measured.
    pub value: Option<f64>,
}

/// A bar chart: a quantity of several runs.
#[derive(Debug)]
pub(crate) struct Bars {
    /// Text alternative for screen readers.
    pub label: &'static str,
    /// Column of the row names in the data.
    pub row: &'static str,
    /// Column of the values in the data.
    pub quantity: &'static str,
    /// Formats a value with its unit.
    pub shown: fn(f64) -> String,
    pub rows: Vec<Bar>,
}

/// Draws bars from 0, each labelled with its value.
pub(super) fn draw_bars(bars: &Bars) -> Svg {
    let Bars {
        label, shown, rows, ..
    } = bars;
    let finite = |bar: &Bar| bar.value.filter(|value| value.is_finite());
    let largest = rows.iter().filter_map(finite).fold(0.0, f64::max);
    let texts: Vec<String> = rows
        .iter()
        .map(|bar| finite(bar).map_or("not measured".into(), shown))
        .collect();
    let left = names_width(rows.iter().map(|bar| bar.name.as_str()));
    let right = WIDTH - widest(texts.iter().map(String::as_str)) - 8.0;
    let mut body = String::new();
    for (index, (bar, value)) in rows.iter().zip(&texts).enumerate() {
        let top = index as f64 * ROW;
        let baseline = top + ROW / 2.0 + 4.0;
        text(&mut body, "name row", left - 10.0, baseline, &bar.name);
        let width = match finite(bar) {
            Some(value) if largest > 0.0 => (right - left) * (value / largest).max(0.0),
            _ => 0.0,
        };
        if width > 0.0 {
            push(
                &mut body,
                format_args!(
                    "<rect class=\"fill {}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                    bar.class,
                    top + 6.0,
                    width.max(1.0),
                    ROW - 12.0
                ),
            );
        }
        let class = match finite(bar) {
            Some(_) => "value",
            None => "muted",
        };
        text(&mut body, class, left + width + 8.0, baseline, value);
    }
    let height = rows.len() as f64 * ROW;
    svg::line(&mut body, "axis", (left, 0.0), (left, height));
    Svg {
        width: WIDTH,
        height: height.max(1.0),
        label: (*label).into(),
        attributes: String::new(),
        body,
    }
}

/// A row of a box plot: step times of one run.
#[derive(Debug, Clone)]
pub(crate) struct BoxRow {
    pub name: String,
    /// Colour and dash pattern of its run.
    pub class: String,
    /// Time of each step.
    pub seconds: Vec<f64>,
}

/// A box plot: step times of several runs.
#[derive(Debug)]
pub(crate) struct Boxes {
    /// Text alternative for screen readers.
    pub label: &'static str,
    pub rows: Vec<BoxRow>,
}

/// Distribution of the step times of one run.
struct Distribution<'a> {
    name: &'a str,
    class: &'a str,
    /// Minimum, 5 %, 25 %, 50 %, 75 %, 95 % quantiles and maximum, in seconds.
    quantiles: [f64; 7],
}

impl<'a> Distribution<'a> {
    /// Computes the quantiles of all finite times. `None` if no time is finite.
    fn new(row: &'a BoxRow) -> Option<Self> {
        let finite = row.seconds.iter().copied().filter(|s| s.is_finite());
        let mut sorted: Vec<f64> = finite.collect();
        if sorted.is_empty() {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let quantiles = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]
            .map(|share| quantile_of_sorted(&sorted, share).unwrap_or(f64::NAN));
        Some(Self {
            name: &row.name,
            class: &row.class,
            quantiles,
        })
    }
}

/// Draws, on a logarithmic axis and for each run, a box from 25 % to 75 %, a line at the median, whiskers from 5 % to
/// 95 %, and dots at minimum and maximum.
pub(super) fn draw_boxes(boxes: &Boxes, width: f64) -> Svg {
    let rows: Vec<Distribution<'_>> = boxes.rows.iter().filter_map(Distribution::new).collect();
    let left = names_width(rows.iter().map(|row| row.name));
    let medians: Vec<String> = rows
        .iter()
        .map(|row| format::seconds(row.quantiles[3]))
        .collect();
    let right = width - widest(medians.iter().map(String::as_str)) - 18.0;
    let values = rows.iter().flat_map(|row| row.quantiles);
    let axis = Axis::log(values.filter(|value| *value > 0.0), left + 8.0, right);
    let bottom = rows.len() as f64 * ROW;
    let mut body = String::new();
    let mut free_from = f64::NEG_INFINITY;
    for mut tick in axis.ticks(5, false) {
        svg::line(&mut body, "grid", (tick.at, 0.0), (tick.at, bottom));
        if let Ok(seconds) = tick.label.parse() {
            tick.label = format::span(seconds, 1);
        }
        // Ticks at 1, 2 and 5 can be closer to each other than their labels are wide.
        let half = text_width(&tick.label) / 2.0;
        if tick.at - half > free_from {
            text(&mut body, "tick x", tick.at, bottom + 16.0, &tick.label);
            free_from = tick.at + half + 4.0;
        }
    }
    svg::line(&mut body, "axis", (left, bottom), (right, bottom));
    for (index, (row, median)) in rows.iter().zip(&medians).enumerate() {
        let middle = (index as f64 + 0.5) * ROW;
        text(&mut body, "name row", left - 10.0, middle + 4.0, row.name);
        let [least, p5, p25, p50, p75, p95, most] =
            row.quantiles.map(|value| axis.at(value).unwrap_or(left));
        let class = row.class;
        let mut stroke = |from: (f64, f64), to: (f64, f64), extra: &str| {
            svg::line(&mut body, &format!("whisker {class}{extra}"), from, to);
        };
        stroke((p5, middle), (p95, middle), "");
        stroke((p5, middle - 4.0), (p5, middle + 4.0), "");
        stroke((p95, middle - 4.0), (p95, middle + 4.0), "");
        push(
            &mut body,
            format_args!(
                "<rect class=\"fill {class}\" x=\"{p25:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\"/>",
                middle - 8.0,
                (p75 - p25).max(1.0)
            ),
        );
        svg::line(
            &mut body,
            "median",
            (p50, middle - 10.0),
            (p50, middle + 10.0),
        );
        for x in [least, most] {
            push(
                &mut body,
                format_args!(
                    "<circle class=\"fill {class}\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"2.5\"/>"
                ),
            );
        }
        text(&mut body, "value", right + 14.0, middle + 4.0, median);
    }
    Svg {
        width,
        height: bottom + 24.0,
        label: boxes.label.into(),
        attributes: String::new(),
        body,
    }
}

fn names_width<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    widest(names) + 14.0
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    texts.map(text_width).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: Option<f64>) -> Bar {
        Bar {
            name: "flex:f32".into(),
            class: "c0 d0".into(),
            value,
        }
    }

    fn bars(rows: Vec<Bar>) -> Svg {
        draw_bars(&Bars {
            label: "Speed",
            row: "backend",
            quantity: "tokens_per_second",
            shown: format::rate,
            rows,
        })
    }

    #[test]
    fn missing_values_have_no_bar() {
        let values = [Some(2.0), Some(1.0), None, Some(f64::NAN), Some(0.0)];
        let svg = bars(values.map(bar).into()).body;
        assert_eq!(svg.matches("<rect").count(), 2, "{svg}");
        assert_eq!(svg.matches("not measured").count(), 2);
        assert!(!svg.contains("NaN"));
        assert!(bars(Vec::new()).height > 0.0);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let row = |seconds: &[f64]| BoxRow {
            name: "a".into(),
            class: "c0 d0".into(),
            seconds: seconds.into(),
        };
        let quantiles = |seconds: &[f64]| {
            Distribution::new(&row(seconds)).map(|distribution| distribution.quantiles)
        };
        let times: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let expected = [0.0, 5.0, 25.0, 50.0, 75.0, 95.0, 100.0];
        assert_eq!(quantiles(&times), Some(expected));
        assert_eq!(quantiles(&[1.0, 2.0]).map(|all| all[3]), Some(1.5));
        assert!(quantiles(&[]).is_none() && quantiles(&[f64::NAN]).is_none());
        let boxes = Boxes {
            label: "Times",
            rows: vec![row(&[0.5]), row(&[])],
        };
        let one = draw_boxes(&boxes, 400.0).body;
        assert!(one.contains("500\u{202F}ms") && !one.contains("NaN"));
    }
}
