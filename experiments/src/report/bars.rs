//! One row for each run: bars of a quantity, and boxes of a distribution.

use super::scale::Axis;
use super::svg::{self, Svg, push, text, text_width};
use crate::show::format;
use crate::show::statistics::quantile_of_sorted;

/// Height of a row.
const ROW: f64 = 30.0;

/// Width of bars: two pictures stand beside each other on a wide page, and one fills a narrow page.
const WIDTH: f64 = 500.0;

/// A quantity of one run.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub name: String,
    /// Colour and dash pattern of its run.
    pub class: String,
    /// `None` where it was not measured.
    pub value: Option<f64>,
}

/// A quantity of several runs.
#[derive(Debug)]
pub(crate) struct Bars {
    /// What the picture shows, for those who do not see it.
    pub label: &'static str,
    /// What a row is, as the data names it.
    pub of: &'static str,
    /// The quantity, as the data names it.
    pub quantity: &'static str,
    /// Writes a value with its unit.
    pub shown: fn(f64) -> String,
    pub rows: Vec<Bar>,
}

/// Draws bars from 0, each with its value.
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

/// Times of one run.
#[derive(Debug, Clone)]
pub(crate) struct BoxRow {
    pub name: String,
    /// Colour and dash pattern of its run.
    pub class: String,
    /// Time of each step.
    pub seconds: Vec<f64>,
}

/// Times of several runs.
#[derive(Debug)]
pub(crate) struct Boxes {
    /// What the picture shows, for those who do not see it.
    pub label: &'static str,
    pub rows: Vec<BoxRow>,
}

/// How the times of one run are distributed.
struct Distribution<'a> {
    name: &'a str,
    class: &'a str,
    /// Smallest, 5 %, 25 %, 50 %, 75 %, 95 % and largest, in seconds.
    quantiles: [f64; 7],
}

impl<'a> Distribution<'a> {
    /// Of all times that are finite; `None` where none is.
    fn of(row: &'a BoxRow) -> Option<Self> {
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

/// Draws for each run a box from 25 % to 75 %, a line at the median, whiskers from 5 % to 95 % and dots at the ends;
/// logarithmic.
pub(super) fn draw_boxes(boxes: &Boxes, width: f64) -> Svg {
    let rows: Vec<Distribution<'_>> = boxes.rows.iter().filter_map(Distribution::of).collect();
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
        // Doubles and fives come closer to each other than their labels are wide.
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
            of: "entrant",
            quantity: "tokens_per_second",
            shown: format::rate,
            rows,
        })
    }

    #[test]
    fn what_was_not_measured_has_no_bar() {
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
        let of = |seconds: &[f64]| Distribution::of(&row(seconds)).map(|of| of.quantiles);
        let times: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(of(&times), Some([0.0, 5.0, 25.0, 50.0, 75.0, 95.0, 100.0]));
        assert_eq!(of(&[1.0, 2.0]).map(|of| of[3]), Some(1.5));
        assert!(of(&[]).is_none() && of(&[f64::NAN]).is_none());
        let boxes = Boxes {
            label: "Times",
            rows: vec![row(&[0.5]), row(&[])],
        };
        let one = draw_boxes(&boxes, 400.0).body;
        assert!(one.contains("500\u{202F}ms") && !one.contains("NaN"));
    }
}
