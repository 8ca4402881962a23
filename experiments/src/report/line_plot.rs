//! Curves over steps, with bands, levels and marked points.

use serde_json::json;

use super::legend::{Legend, ROW};
use super::scale::Axis;
use super::svg::{self, Svg, push, text, text_width};
use crate::show::axis::range;

/// Size of a plot in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub width: f64,
    pub height: f64,
}

/// Role of a [`Line`], which decides its style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// The reference: wide and pale, drawn below the runs.
    Reference,
    /// A run.
    Run,
    /// A curve without noise, whose width does not depend on the number of steps.
    Smooth,
    /// The unsmoothed values of a curve, in its colour.
    Faint,
    /// A run with another seed: grey and thin.
    Seed,
}

/// A curve.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub name: String,
    pub kind: LineKind,
    /// Colour and dash pattern.
    pub class: String,
    /// Step of each value, ascending; each value is drawn with a dot. `None` if there is a value for each step from 0.
    pub steps: Option<Vec<usize>>,
    pub values: Vec<f64>,
}

/// A region from the axis up to `values`.
#[derive(Debug, Clone)]
pub(crate) struct Band {
    pub name: String,
    /// Upper edge at each step from 0.
    pub values: Vec<f64>,
}

/// A horizontal line, such as a lower bound.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    pub name: String,
    pub value: f64,
}

/// A highlighted point.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub name: String,
    /// Colour of its run.
    pub class: String,
    pub step: usize,
    pub value: f64,
}

/// Width of a plot on a wide page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Full,
    /// Two plots share a row.
    Half,
}

/// A plot of curves over steps.
#[derive(Debug, Clone)]
pub(crate) struct LinePlot {
    /// Text alternative for screen readers.
    pub label: String,
    /// Quantity of the horizontal axis: "step", or another whole number.
    pub axis: &'static str,
    /// Quantity and unit of the vertical axis.
    pub quantity: &'static str,
    pub log: bool,
    pub width: Width,
    /// Curves in the order of the legend.
    pub lines: Vec<Line>,
    /// Regions, the largest first, so that none hides another.
    pub bands: Vec<Band>,
    pub levels: Vec<Level>,
    pub marks: Vec<Mark>,
}

/// Half the diagonal of the diamond of a [`Mark`].
const DIAMOND: f64 = 6.0;

/// An entry of the legend.
struct Key {
    name: String,
    /// Class of the sample.
    class: String,
    /// Indices of its lines. All seeds share an entry.
    lines: Vec<usize>,
    sample: Sample,
}

/// Shape of the sample of a legend entry.
enum Sample {
    Line,
    Area,
    Diamond,
}

fn diamond() -> String {
    format!("M0,-{DIAMOND}L{DIAMOND},0L0,{DIAMOND}L-{DIAMOND},0Z")
}

impl Line {
    fn classes(&self) -> String {
        match self.kind {
            LineKind::Reference => "line reference".into(),
            LineKind::Seed => "line seed".into(),
            LineKind::Faint => format!("line run faint {}", self.class),
            LineKind::Smooth => format!("line run smooth {}", self.class),
            LineKind::Run if self.steps.is_some() => format!("line run sparse {}", self.class),
            LineKind::Run => format!("line run {}", self.class),
        }
    }

    /// Returns the number of steps from 0 to the last value.
    fn extent(&self) -> usize {
        match &self.steps {
            Some(steps) => steps.last().map_or(0, |last| last + 1),
            None => self.values.len(),
        }
    }
}

impl LinePlot {
    /// Returns the number of steps of the longest curve.
    pub(super) fn steps(&self) -> usize {
        self.lines.iter().map(Line::extent).max().unwrap_or(0)
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let lines = self.lines.iter().flat_map(|line| line.values.iter());
        let bands = self.bands.iter().flat_map(|band| band.values.iter());
        let levels = self.levels.iter().map(|level| &level.value);
        lines.chain(bands).chain(levels).copied()
    }

    /// Returns the upper limit of the vertical axis, so that a diverging run does not flatten the others. `None` if all
    /// values are below the limit, or the axis is logarithmic.
    pub(super) fn cut(&self) -> Option<f64> {
        let kept = self
            .lines
            .iter()
            .filter(|line| matches!(line.kind, LineKind::Reference | LineKind::Seed))
            .flat_map(|line| line.values.iter().copied());
        let (low, high) = range(kept.filter(|value| value.is_finite()))?;
        let limit = high + (high - low).max(0.1 * high.abs());
        let exceeded = self
            .values()
            .any(|value| value.is_finite() && value > limit);
        (exceeded && !self.log).then_some(limit)
    }

    /// Draws the plot of the figure `id`. `variant` distinguishes copies on one page.
    pub(super) fn draw(&self, id: &str, size: Size, variant: &str) -> Svg {
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
        let clip = format!("{id}-{variant}-clip");
        // The clip leaves space for a dot at the last step.
        let has_dots = !self.marks.is_empty() || self.lines.iter().any(|line| line.steps.is_some());
        let margin = if has_dots { DIAMOND + 1.0 } else { 0.0 };
        push(
            &mut body,
            format_args!(
                "<clipPath id=\"{clip}\"><rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" \
                 height=\"{:.1}\"/></clipPath><g class=\"ticks\">",
                top - 2.0,
                right - left + margin,
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
        // Curves with more steps than pixels cover areas, so they are drawn translucent.
        let dense = match self.steps() as f64 > 2.0 * (right - left) {
            true => " dense",
            false => "",
        };
        push(
            &mut body,
            format_args!("</g><g class=\"marks{dense}\" clip-path=\"url(#{clip})\">"),
        );
        self.draw_content(&mut body, &x, &y, bottom);
        body.push_str("</g>");
        svg::line(&mut body, "axis", (left, bottom), (right, bottom));
        text(
            &mut body,
            "tick x muted",
            (left + right) / 2.0,
            bottom + 34.0,
            self.axis,
        );
        let frame = json!({
            "left": left, "right": right, "top": top, "bottom": bottom,
            "steps": self.steps(), "log": self.log, "axis": self.axis,
        });
        Svg {
            width: size.width,
            height: size.height + rows * ROW,
            label: self.label.clone(),
            attributes: format!(
                " data-plot=\"{id}\" data-frame=\"{}\"",
                svg::escape(&frame.to_string())
            ),
            body,
        }
    }

    fn draw_content(&self, body: &mut String, x: &Axis, y: &Axis, bottom: f64) {
        for (index, band) in self.bands.iter().enumerate() {
            push(
                body,
                format_args!(
                    "<path class=\"band b{index}\" data-band=\"{index}\" d=\"{}\"/>",
                    svg::area(&band.values, x, y, bottom)
                ),
            );
        }
        for (index, level) in self.levels.iter().enumerate() {
            if let Some(at) = y.at(level.value) {
                push(
                    body,
                    format_args!(
                        "<line class=\"level\" data-level=\"{index}\" x1=\"{:.1}\" y1=\"{at:.1}\" x2=\"{:.1}\" \
                         y2=\"{at:.1}\"/>",
                        x.from, x.to
                    ),
                );
            }
        }
        // The background is drawn first, so that it hides no run.
        for kind in [
            LineKind::Seed,
            LineKind::Reference,
            LineKind::Faint,
            LineKind::Smooth,
            LineKind::Run,
        ] {
            let lines = self.lines.iter().enumerate();
            for (index, line) in lines.filter(|(_, line)| line.kind == kind) {
                let path = match &line.steps {
                    Some(steps) => svg::polyline(steps, &line.values, x, y),
                    None => svg::curve(&line.values, x, y),
                };
                push(
                    body,
                    format_args!(
                        "<path class=\"{}\" data-line=\"{index}\" d=\"{path}\"/>",
                        line.classes()
                    ),
                );
                if let Some(steps) = &line.steps {
                    push(
                        body,
                        format_args!(
                            "<path class=\"{} dots\" data-dots=\"{index}\" d=\"{}\"/>",
                            line.classes(),
                            svg::dots(steps, &line.values, x, y)
                        ),
                    );
                }
            }
        }
        for (index, mark) in self.marks.iter().enumerate() {
            if let (Some(x), Some(y)) = (x.at(mark.step as f64), y.at(mark.value)) {
                push(
                    body,
                    format_args!(
                        "<path class=\"mark fill {}\" data-mark=\"{index}\" transform=\"translate({x:.1} {y:.1})\" \
                         d=\"{}\"><title>{}</title></path>",
                        mark.class,
                        diamond(),
                        svg::escape(&mark.name)
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
                LineKind::Seed => seeds.push(index),
                _ => keys.push(Key {
                    name: line.name.clone(),
                    class: line.classes(),
                    lines: vec![index],
                    sample: Sample::Line,
                }),
            }
        }
        if !seeds.is_empty() {
            keys.push(Key {
                name: "other seeds".into(),
                class: "line seed".into(),
                lines: seeds,
                sample: Sample::Line,
            });
        }
        let bands = self.bands.iter().enumerate();
        keys.extend(bands.map(|(index, band)| Key {
            name: band.name.clone(),
            class: format!("band b{index}"),
            lines: Vec::new(),
            sample: Sample::Area,
        }));
        keys.extend(self.levels.iter().map(|level| Key {
            name: level.name.clone(),
            class: "level".into(),
            lines: Vec::new(),
            sample: Sample::Line,
        }));
        // One entry explains all diamonds.
        keys.extend(self.marks.first().map(|mark| Key {
            name: mark.name.clone(),
            class: match self.marks.len() {
                1 => format!("mark fill {}", mark.class),
                _ => "mark".into(),
            },
            lines: Vec::new(),
            sample: Sample::Diamond,
        }));
        keys
    }

    /// Returns the legend and its number of rows.
    fn legend(&self, width: f64) -> (String, f64) {
        let mut legend = Legend::new(width);
        for key in self.keys() {
            let lines: Vec<String> = key.lines.iter().map(usize::to_string).collect();
            legend.push(&format!(
                "<g class=\"key\" data-lines=\"{}\">",
                lines.join(" ")
            ));
            let class = &key.class;
            legend.add(&key.name, |body, x, middle| match key.sample {
                Sample::Area => push(
                    body,
                    format_args!(
                        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"24\" height=\"10\"/>",
                        middle - 5.0
                    ),
                ),
                Sample::Line => svg::line(body, class, (x + 1.0, middle), (x + 24.0, middle)),
                Sample::Diamond => push(
                    body,
                    format_args!(
                        "<path class=\"{class}\" transform=\"translate({:.1} {middle:.1})\" d=\"{}\"/>",
                        x + 12.5,
                        diamond()
                    ),
                ),
            });
            legend.push("</g>");
        }
        legend.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(curves: &[Vec<f64>], log: bool) -> LinePlot {
        let line = |(index, values): (usize, &Vec<f64>)| Line {
            name: format!("run {index}"),
            kind: if index == 0 {
                LineKind::Reference
            } else {
                LineKind::Run
            },
            class: "c0 d0".into(),
            steps: None,
            values: values.clone(),
        };
        LinePlot {
            label: "A test".into(),
            axis: "step",
            quantity: "nats",
            log,
            width: Width::Full,
            lines: curves.iter().enumerate().map(line).collect(),
            bands: Vec::new(),
            levels: Vec::new(),
            marks: Vec::new(),
        }
    }

    const SIZE: Size = Size {
        width: 400.0,
        height: 300.0,
    };

    #[test]
    fn empty_short_and_non_finite_curves_are_drawn() {
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
                let svg = plot(&curves, log).draw("test", SIZE, "a").standalone();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn a_diverging_run_does_not_flatten_the_others() {
        let curves = [vec![4.0, 3.0, 2.0], vec![4.0, 50.0, 1e30]];
        assert_eq!(plot(&curves, false).cut(), Some(6.0));
        assert_eq!(plot(&curves, true).cut(), None);
        assert_eq!(plot(&curves[..1], false).cut(), None);
    }

    #[test]
    fn a_long_legend_has_more_rows() {
        let curves = vec![vec![1.0, 2.0]; 12];
        let narrow = plot(&curves, false).draw("test", SIZE, "a");
        let wide = plot(&curves, false).draw(
            "test",
            Size {
                width: 2000.0,
                ..SIZE
            },
            "a",
        );
        assert!(narrow.height > wide.height);
    }

    #[test]
    fn sparse_values_levels_and_marks_are_drawn() {
        let mut plot = plot(&[vec![4.0, 3.0, 2.0, 2.0, 2.0]], false);
        plot.lines[0].kind = LineKind::Faint;
        plot.lines.push(Line {
            name: "validation".into(),
            kind: LineKind::Run,
            class: "c1 d0".into(),
            steps: Some(vec![0, 5, 10]),
            values: vec![4.0, f64::NAN, 1.0],
        });
        plot.levels.push(Level {
            name: "floor".into(),
            value: 0.5,
        });
        plot.marks.push(Mark {
            name: "best".into(),
            class: "c1 d0".into(),
            step: 10,
            value: 1.0,
        });
        assert_eq!(plot.steps(), 11, "the evaluation has the last step");
        let svg = plot.draw("test", SIZE, "a").standalone();
        for part in [
            "class=\"line run faint c0 d0\"",
            "class=\"line run sparse c1 d0 dots\"",
            "class=\"level\" data-level=\"0\"",
            "class=\"mark fill c1 d0\" data-mark=\"0\"",
            ">floor</text>",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("NaN"));
        // The axis includes the level.
        assert!(
            svg.contains(">0.5</text>") || svg.contains(">0</text>"),
            "{svg}"
        );
    }
}
