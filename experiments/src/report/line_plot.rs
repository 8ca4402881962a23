//! Curves over steps, with bands of what rounding explains.

use std::borrow::Cow;

use serde_json::json;

use super::scale::Axis;
use super::svg::{self, Svg, push, text, text_width};
use crate::show::axis::range;

/// How large a plot is drawn, in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub width: f64,
    pub height: f64,
}

/// Height of a row of the legend.
const ROW: f64 = 20.0;

/// Width of a legend's sample of a line, with the space beside it.
const SAMPLE: f64 = 32.0;

/// What a [`Line`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Wide and pale, below the others: that which they should cover.
    Reference,
    /// One of the runs that are compared.
    Run,
    /// Faint.
    Seed,
}

/// A curve.
#[derive(Debug, Clone)]
pub(super) struct Line<'a> {
    pub name: String,
    pub kind: Kind,
    /// Colour and dash pattern.
    pub class: String,
    /// One for each step, from 0.
    pub values: Cow<'a, [f64]>,
}

/// A region from the axis up to `values`.
#[derive(Debug, Clone)]
pub(super) struct Band<'a> {
    pub name: String,
    pub values: &'a [f64],
}

/// Curves over steps.
#[derive(Debug, Clone)]
pub(super) struct LinePlot<'a> {
    pub id: &'static str,
    /// What it shows, for those who do not see it.
    pub label: String,
    /// Quantity and unit of the vertical axis.
    pub quantity: &'static str,
    pub log: bool,
    /// In the order of the legend.
    pub lines: Vec<Line<'a>>,
    /// The largest first, so that none hides another.
    pub bands: Vec<Band<'a>>,
}

/// An entry of the legend.
struct Key {
    name: String,
    /// Class of the sample.
    class: String,
    /// Index of its line; several seeds share an entry.
    lines: Vec<usize>,
}

impl Line<'_> {
    fn classes(&self) -> String {
        match self.kind {
            Kind::Reference => "line reference".into(),
            Kind::Seed => "line seed".into(),
            Kind::Run => format!("line run {}", self.class),
        }
    }
}

impl LinePlot<'_> {
    /// The steps that the longest curve has.
    pub(super) fn steps(&self) -> usize {
        let lines = self.lines.iter().map(|line| line.values.len());
        lines.max().unwrap_or(0)
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let lines = self.lines.iter().flat_map(|line| line.values.iter());
        let bands = self.bands.iter().flat_map(|band| band.values.iter());
        lines.chain(bands).copied()
    }

    /// Where the vertical axis ends: a run that explodes shall not flatten all others. Nothing where all fits.
    pub(super) fn cut(&self) -> Option<f64> {
        let kept = self
            .lines
            .iter()
            .filter(|line| line.kind != Kind::Run)
            .flat_map(|line| line.values.iter().copied());
        let (low, high) = range(kept.filter(|value| value.is_finite()))?;
        let limit = high + (high - low).max(0.1 * high.abs());
        let exceeded = self
            .values()
            .any(|value| value.is_finite() && value > limit);
        (exceeded && !self.log).then_some(limit)
    }

    /// Draws it. `variant` tells copies on one page apart.
    pub(super) fn draw(&self, size: Size, variant: &str) -> Svg {
        let (legend, rows) = self.legend(size.width);
        let top = rows * ROW + 22.0;
        let bottom = size.height + rows * ROW - 40.0;
        let y = match (self.log, self.cut()) {
            (true, _) => Axis::log(self.values(), bottom, top),
            (false, limit) => {
                let limit = limit.unwrap_or(f64::INFINITY);
                Axis::linear(self.values().map(|value| value.min(limit)), bottom, top)
            }
        };
        let y_ticks = y.ticks(((bottom - top) / 40.0) as usize, false);
        let widest = y_ticks
            .iter()
            .map(|tick| text_width(&tick.label))
            .fold(24.0, f64::max);
        let (left, right) = (widest + 12.0, size.width - 14.0);
        let last = self.steps().saturating_sub(1) as f64;
        let x = Axis::exact(0.0, last, left, right);

        let mut body = legend;
        text(&mut body, "quantity", 0.0, rows * ROW + 12.0, self.quantity);
        let clip = format!("{}-{variant}-clip", self.id);
        push(
            &mut body,
            format_args!(
                "<clipPath id=\"{clip}\"><rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" \
                 height=\"{:.1}\"/></clipPath><g class=\"ticks\">",
                top - 2.0,
                right - left,
                bottom - top + 4.0
            ),
        );
        for tick in &y_ticks {
            svg::line(&mut body, "grid", (left, tick.at), (right, tick.at));
            text(&mut body, "tick y", left - 7.0, tick.at + 4.0, &tick.label);
        }
        for tick in x.ticks(((right - left) / 80.0) as usize, true) {
            svg::line(
                &mut body,
                "axis",
                (tick.at, bottom),
                (tick.at, bottom + 4.0),
            );
            text(&mut body, "tick x", tick.at, bottom + 17.0, &tick.label);
        }
        // Curves of more steps than pixels are areas of ink, which shall not hide each other.
        let dense = match self.steps() as f64 > 2.0 * (right - left) {
            true => " dense",
            false => "",
        };
        push(
            &mut body,
            format_args!("</g><g class=\"marks{dense}\" clip-path=\"url(#{clip})\">"),
        );
        self.marks(&mut body, &x, &y, bottom);
        body.push_str("</g>");
        svg::line(&mut body, "axis", (left, bottom), (right, bottom));
        text(
            &mut body,
            "tick x muted",
            (left + right) / 2.0,
            bottom + 34.0,
            "step",
        );
        let frame = json!({
            "left": left, "right": right, "top": top, "bottom": bottom,
            "steps": self.steps(), "log": self.log,
        });
        Svg {
            width: size.width,
            height: size.height + rows * ROW,
            label: self.label.clone(),
            attributes: format!(
                " data-plot=\"{}\" data-frame=\"{}\"",
                self.id,
                svg::escape(&frame.to_string())
            ),
            body,
        }
    }

    fn marks(&self, body: &mut String, x: &Axis, y: &Axis, bottom: f64) {
        for (index, band) in self.bands.iter().enumerate() {
            push(
                body,
                format_args!(
                    "<path class=\"band b{index}\" data-band=\"{index}\" d=\"{}\"/>",
                    svg::area(band.values, x, y, bottom)
                ),
            );
        }
        // Seeds first, then the reference, so that no run is hidden.
        for kind in [Kind::Seed, Kind::Reference, Kind::Run] {
            let lines = self.lines.iter().enumerate();
            for (index, line) in lines.filter(|(_, line)| line.kind == kind) {
                push(
                    body,
                    format_args!(
                        "<path class=\"{}\" data-line=\"{index}\" d=\"{}\"/>",
                        line.classes(),
                        svg::curve(&line.values, x, y)
                    ),
                );
            }
        }
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        let mut seeds = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            match line.kind {
                Kind::Seed => seeds.push(index),
                _ => keys.push(Key {
                    name: line.name.clone(),
                    class: line.classes(),
                    lines: vec![index],
                }),
            }
        }
        if !seeds.is_empty() {
            keys.push(Key {
                name: "other seeds".into(),
                class: "line seed".into(),
                lines: seeds,
            });
        }
        let bands = self.bands.iter().enumerate();
        keys.extend(bands.map(|(index, band)| Key {
            name: band.name.clone(),
            class: format!("band b{index}"),
            lines: Vec::new(),
        }));
        keys
    }

    /// The legend, and how many rows it takes.
    fn legend(&self, width: f64) -> (String, f64) {
        let mut body = String::new();
        let (mut x, mut row) = (0.0, 0.0);
        for key in self.keys() {
            let needed = SAMPLE + text_width(&key.name) + 16.0;
            if x > 0.0 && x + needed > width {
                (x, row) = (0.0, row + 1.0);
            }
            let middle = row * ROW + 8.0;
            let lines: Vec<String> = key.lines.iter().map(usize::to_string).collect();
            push(
                &mut body,
                format_args!("<g class=\"key\" data-lines=\"{}\">", lines.join(" ")),
            );
            let class = &key.class;
            match lines.is_empty() {
                true => push(
                    &mut body,
                    format_args!(
                        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"24\" height=\"10\"/>",
                        middle - 5.0
                    ),
                ),
                false => svg::line(&mut body, class, (x + 1.0, middle), (x + 24.0, middle)),
            }
            text(&mut body, "name", x + SAMPLE, middle + 4.0, &key.name);
            body.push_str("</g>");
            x += needed;
        }
        (body, row + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot<'a>(curves: &'a [Vec<f64>], log: bool) -> LinePlot<'a> {
        let line = |(index, values): (usize, &'a Vec<f64>)| Line {
            name: format!("run {index}"),
            kind: if index == 0 {
                Kind::Reference
            } else {
                Kind::Run
            },
            class: "c0 d0".into(),
            values: values.into(),
        };
        LinePlot {
            id: "test",
            label: "A test".into(),
            quantity: "nats",
            log,
            lines: curves.iter().enumerate().map(line).collect(),
            bands: Vec::new(),
        }
    }

    const SIZE: Size = Size {
        width: 400.0,
        height: 300.0,
    };

    #[test]
    fn nothing_one_step_and_no_number_are_plots_too() {
        let nan = f64::NAN;
        for curves in [
            vec![],
            vec![vec![]],
            vec![vec![1.0]],
            vec![vec![0.0, 0.0]],
            vec![vec![nan, nan], vec![1.0, nan]],
            vec![vec![1.0], vec![f64::INFINITY, 2.0, f64::MAX]],
        ] {
            for log in [false, true] {
                let svg = plot(&curves, log).draw(SIZE, "a").standalone();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn a_run_that_explodes_does_not_flatten_the_others() {
        let curves = [vec![4.0, 3.0, 2.0], vec![4.0, 50.0, 1e30]];
        assert_eq!(plot(&curves, false).cut(), Some(6.0));
        assert_eq!(plot(&curves, true).cut(), None);
        assert_eq!(plot(&curves[..1], false).cut(), None);
    }

    #[test]
    fn a_long_legend_takes_more_rows() {
        let curves = vec![vec![1.0, 2.0]; 12];
        let narrow = plot(&curves, false).draw(SIZE, "a");
        let wide = plot(&curves, false).draw(
            Size {
                width: 2000.0,
                ..SIZE
            },
            "a",
        );
        assert!(narrow.height > wide.height);
    }
}
