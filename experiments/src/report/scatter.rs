//! Points and curves over a numerical axis.

use serde_json::{Value, json};

use super::legend::{Legend, ROW};
use super::line_plot::{Size, Width};
use super::scale::{Axis, Tick};
use super::svg::{self, Svg, push, text, text_width};
use crate::show::axis::{linear_ticks, log_ticks_within, range};

/// Share of an axis that is left free at each end.
const PADDING: f64 = 0.04;

/// Significant digits of the data.
const DIGITS: usize = 8;

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A dot at each point.
    Dots,
    /// A cross at each point, which is visible on dots and lines.
    Crosses,
    /// A small, translucent dot at each point, for clouds.
    Cloud,
    /// A line through the points.
    Line,
    /// A thin line through the points, without an entry in the legend; its name stands at its end.
    Contour,
    /// A vertical line from each point with an even index to the next one, for intervals.
    Bars,
}

/// Points with a name.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub name: String,
    pub mark: Mark,
    /// Colour and dash pattern.
    pub class: String,
    pub points: Vec<(f64, f64)>,
}

/// An axis of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// Quantity and unit.
    pub name: &'static str,
    pub log: bool,
}

/// A plot of series, drawn in their order. Values that are not finite, or not positive on a logarithmic axis, are left
/// out.
#[derive(Debug, Clone)]
pub(crate) struct Scatter {
    /// Text alternative for screen readers.
    pub label: String,
    pub x: Quantity,
    pub y: Quantity,
    pub width: Width,
    pub series: Vec<Series>,
}

impl Quantity {
    /// Returns the axis around the values.
    fn axis(self, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let shown = values.filter(|value| self.has(*value));
        let scaled = shown.map(|value| if self.log { value.ln() } else { value });
        let (low, high) = range(scaled).unwrap_or((0.0, 1.0));
        let margin = match high - low {
            0.0 => (0.1 * low.abs()).max(1e-3),
            _ => PADDING * (high - low),
        };
        let ends = [low - margin, high + margin].map(|end| if self.log { end.exp() } else { end });
        Axis {
            low: ends[0],
            high: ends[1],
            from,
            to,
            log: self.log,
            zero: None,
        }
    }

    fn has(self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    fn ticks(self, axis: &Axis, count: usize) -> Vec<Tick> {
        let values = match self.log {
            true => log_ticks_within(axis.low, axis.high, count),
            false => linear_ticks(axis.low, axis.high, count, false),
        };
        let placed = values.into_iter().filter_map(|tick| {
            let at = axis.at(tick.value)?;
            Some(Tick {
                at,
                label: tick.label,
            })
        });
        placed.collect()
    }
}

impl Series {
    fn classes(&self) -> String {
        let kind = match self.mark {
            Mark::Dots => "dots",
            Mark::Crosses => "crosses",
            Mark::Cloud => "cloud",
            Mark::Line => "smooth",
            Mark::Contour => "contour",
            Mark::Bars => "bars",
        };
        format!("line run {kind} {}", self.class)
    }
}

impl Scatter {
    /// Returns the data for a download.
    pub(super) fn json(&self) -> Value {
        let number = |value: f64| json!(crate::show::format::rounded(value, DIGITS));
        let rows = self.series.iter().flat_map(|series| {
            let points = series.points.iter();
            points.map(|(x, y)| json!([series.name, number(*x), number(*y)]))
        });
        json!({
            "columns": ["series", self.x.name, self.y.name],
            "rows": rows.collect::<Vec<Value>>(),
        })
    }

    /// Draws the plot. `id` and `variant` make names of its parts unique on a page.
    pub(super) fn draw(&self, id: &str, size: Size, variant: &str) -> Svg {
        let (legend, rows) = self.legend(size.width);
        let top = rows * ROW + 22.0;
        let bottom = size.height + rows * ROW - 40.0;
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let y = self.y.axis(points().map(|point| point.1), bottom, top);
        let y_ticks = self.y.ticks(&y, ((bottom - top) / 40.0) as usize);
        let widest = y_ticks.iter().map(|tick| text_width(&tick.label));
        let left = widest.fold(24.0, f64::max) + 12.0;
        let names = self
            .series
            .iter()
            .filter(|series| series.mark == Mark::Contour);
        let right = size.width
            - 14.0
            - names
                .map(|series| text_width(&series.name))
                .fold(0.0, f64::max);
        let x = self.x.axis(points().map(|point| point.0), left, right);

        let mut body = legend;
        text(&mut body, "quantity", 0.0, rows * ROW + 12.0, self.y.name);
        let clip = format!("{id}-{variant}-clip");
        push(
            &mut body,
            format_args!(
                "<clipPath id=\"{clip}\"><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/></clipPath>",
                right - left,
                bottom - top
            ),
        );
        for tick in &y_ticks {
            svg::line(&mut body, "grid", (left, tick.at), (right, tick.at));
            text(&mut body, "tick y", left - 7.0, tick.at + 4.0, &tick.label);
        }
        for tick in self.x.ticks(&x, ((right - left) / 70.0) as usize) {
            svg::line(
                &mut body,
                "axis",
                (tick.at, bottom),
                (tick.at, bottom + 4.0),
            );
            text(&mut body, "tick x", tick.at, bottom + 17.0, &tick.label);
        }
        push(&mut body, format_args!("<g clip-path=\"url(#{clip})\">"));
        for series in &self.series {
            self.draw_series(&mut body, series, &x, &y);
        }
        body.push_str("</g>");
        self.name_contours(&mut body, &x, &y, right);
        svg::line(&mut body, "axis", (left, bottom), (right, bottom));
        text(
            &mut body,
            "tick x muted",
            (left + right) / 2.0,
            bottom + 34.0,
            self.x.name,
        );
        Svg {
            width: size.width,
            height: size.height + rows * ROW,
            label: self.label.clone(),
            attributes: String::new(),
            body,
        }
    }

    /// Writes the names of contours beside their ends, where they have space.
    fn name_contours(&self, body: &mut String, x: &Axis, y: &Axis, right: f64) {
        let mut taken: Vec<f64> = Vec::new();
        let contours = self.series.iter();
        for series in contours.filter(|series| series.mark == Mark::Contour) {
            let end = series.points.last();
            let at = end.and_then(|point| x.at(point.0).and(y.at(point.1)));
            if let Some(at) = at.filter(|at| taken.iter().all(|other| (at - other).abs() > 11.0)) {
                text(body, "muted", right + 4.0, at + 4.0, &series.name);
                taken.push(at);
            }
        }
    }

    fn draw_series(&self, body: &mut String, series: &Series, x: &Axis, y: &Axis) {
        let mut path = String::new();
        let mut starts = true;
        for (index, point) in series.points.iter().enumerate() {
            let is_shown = self.x.has(point.0) && self.y.has(point.1);
            let at = is_shown.then(|| x.at(point.0).zip(y.at(point.1))).flatten();
            let Some((x, y)) = at else {
                starts = true;
                continue;
            };
            match series.mark {
                Mark::Dots | Mark::Cloud => push(&mut path, format_args!("M{x:.1},{y:.1}h0")),
                Mark::Crosses => cross(&mut path, x, y),
                Mark::Bars => {
                    let letter = if index % 2 == 0 { "M" } else { "L" };
                    push(&mut path, format_args!("{letter}{x:.1},{y:.1}"));
                }
                Mark::Line | Mark::Contour => {
                    let letter = if starts { "M" } else { " " };
                    push(&mut path, format_args!("{letter}{x:.1},{y:.1}"));
                }
            }
            starts = false;
        }
        push(
            body,
            format_args!("<path class=\"{}\" d=\"{path}\"/>", series.classes()),
        );
    }

    /// Returns the legend and its number of rows. Series of one name share an entry.
    fn legend(&self, width: f64) -> (String, f64) {
        let mut legend = Legend::new(width);
        let mut named: Vec<&str> = Vec::new();
        for series in self
            .series
            .iter()
            .filter(|series| series.mark != Mark::Contour)
        {
            if named.contains(&series.name.as_str()) {
                continue;
            }
            named.push(&series.name);
            let class = series.classes();
            legend.add(&series.name, |body, x, middle| match series.mark {
                Mark::Dots | Mark::Cloud => push(
                    body,
                    format_args!(
                        "<path class=\"{class}\" d=\"M{:.1},{middle:.1}h0\"/>",
                        x + 12.5
                    ),
                ),
                Mark::Crosses => {
                    let mut path = String::new();
                    cross(&mut path, x + 12.5, middle);
                    push(body, format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
                }
                _ => svg::line(body, &class, (x + 1.0, middle), (x + 24.0, middle)),
            });
        }
        legend.finish()
    }
}

/// Adds a cross to a path.
fn cross(path: &mut String, x: f64, y: f64) {
    const ARM: f64 = 6.0;
    let (left, top, length) = (x - ARM, y - ARM, 2.0 * ARM);
    push(
        path,
        format_args!("M{left:.1},{y:.1}h{length}M{x:.1},{top:.1}v{length}"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scatter(points: Vec<(f64, f64)>, mark: Mark) -> Scatter {
        Scatter {
            label: "A test".into(),
            x: Quantity {
                name: "compute",
                log: true,
            },
            y: Quantity {
                name: "loss",
                log: false,
            },
            width: Width::Half,
            series: vec![Series {
                name: "runs <b>".into(),
                mark,
                class: "c0 d0".into(),
                points,
            }],
        }
    }

    const SIZE: Size = Size {
        width: 400.0,
        height: 300.0,
    };

    #[test]
    fn values_that_have_no_place_are_left_out() {
        let points = vec![
            (1e18, 3.0),
            (0.0, 2.0),
            (f64::NAN, 2.0),
            (1e20, f64::INFINITY),
            (1e21, 2.0),
        ];
        let svg = scatter(points, Mark::Dots)
            .draw("test", SIZE, "a")
            .standalone();
        let curve = svg.rsplit("<path").next().unwrap();
        assert_eq!(curve.matches("h0").count(), 2, "{svg}");
        assert!(
            !svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<b>"),
            "{svg}"
        );
        for points in [Vec::new(), vec![(1.0, 1.0)]] {
            let svg = scatter(points, Mark::Line)
                .draw("test", SIZE, "a")
                .standalone();
            assert!(!svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn a_line_has_a_gap_where_a_value_is_missing() {
        let points = vec![
            (1.0, 1.0),
            (10.0, 2.0),
            (100.0, f64::NAN),
            (1000.0, 1.0),
            (1e4, 2.0),
        ];
        let svg = scatter(points, Mark::Line).draw("test", SIZE, "a").body;
        let path = svg.rsplit("d=\"").next().unwrap();
        assert_eq!(path.matches('M').count(), 2, "{path}");
    }

    #[test]
    fn data_of_a_download_names_its_columns() {
        let data = scatter(vec![(10.0, 2.0)], Mark::Dots).json();
        assert_eq!(data["columns"], json!(["series", "compute", "loss"]));
        assert_eq!(data["rows"], json!([["runs <b>", 10.0, 2.0]]));
    }
}
