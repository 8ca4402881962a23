//! SVG pictures: inline ones with classes only, which the page styles, and standalone ones with their own style.

use std::fmt::{self, Write};

use super::palette;
use super::scale::Axis;

const PLOT_STYLE: &str = include_str!("plot.css");

/// Fonts that typesetting programs know.
const PAPER_STYLE: &str = ".plot { font-family: Helvetica, Arial, \"DejaVu Sans\", sans-serif; }\n";

/// Length of the dash that shows a single step.
const DASH: f64 = 40.0;

/// White margin around a standalone picture.
const MARGIN: f64 = 10.0;

/// A picture, with its size in pixels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Svg {
    pub width: f64,
    pub height: f64,
    /// Text alternative for screen readers.
    pub label: String,
    /// Attributes of the root element, for the page's script.
    pub attributes: String,
    /// Markup inside the root element.
    pub body: String,
}

impl Svg {
    /// Returns the picture as an element of a page.
    pub(super) fn inline(&self, class: &str) -> String {
        let Self { width, height, .. } = self;
        format!(
            "<svg class=\"plot {class}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
             aria-label=\"{}\"{}>{}</svg>",
            escape(&self.label),
            self.attributes,
            self.body
        )
    }

    /// Returns the picture as a file. Its colours are resolved, because typesetting programs know no CSS variables.
    pub(super) fn standalone(&self) -> String {
        let (width, height) = (self.width + 2.0 * MARGIN, self.height + 2.0 * MARGIN);
        let title = escape(&self.label);
        let style = palette::resolved(PLOT_STYLE);
        let body = &self.body;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"-{MARGIN} -{MARGIN} {width:.0} {height:.0}\">\n\
             <title>{title}</title>\n<style>\n{style}{PAPER_STYLE}</style>\n\
             <rect x=\"-{MARGIN}\" y=\"-{MARGIN}\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             {body}\n</svg>\n"
        )
    }
}

/// Returns the style of inline pictures.
pub(super) fn page_style() -> &'static str {
    PLOT_STYLE
}

/// Escapes text for HTML and XML. Characters that XML forbids become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            '\0'..='\x1F' | '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Estimates the width of a text in pixels from its length, because fonts cannot be measured here.
pub(super) fn text_width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}

/// Adds a text to `body`.
pub(super) fn text(body: &mut String, class: &str, x: f64, y: f64, text: &str) {
    push(
        body,
        format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escape(text)
        ),
    );
}

/// Adds a straight line to `body`.
pub(super) fn line(body: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    push(
        body,
        format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ),
    );
}

/// Adds markup to `body`.
pub(super) fn push(body: &mut String, markup: fmt::Arguments<'_>) {
    let written = body.write_fmt(markup);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

/// Returns the path through `values`, one for each step from 0. It has gaps at values that are not finite. An isolated
/// point is a dot, and a single step a dash. If there are more steps than pixels, each pixel keeps its extremes.
pub(super) fn curve(values: &[f64], x: &Axis, y: &Axis) -> String {
    let mut path = String::new();
    if let [only] = values {
        if let (Some(x), Some(y)) = (x.at(0.0), y.at(*only)) {
            push(
                &mut path,
                format_args!("M{:.1},{y:.1}h{}", x - DASH / 2.0, DASH),
            );
        }
        return path;
    }
    let mut segment: Vec<(f64, f64)> = Vec::new();
    for point in thinned(values, x, y) {
        match point {
            Some(point) => segment.push(point),
            None => finish(&mut path, &mut segment),
        }
    }
    finish(&mut path, &mut segment);
    path
}

/// Moves a segment without gaps into the path.
fn finish(path: &mut String, segment: &mut Vec<(f64, f64)>) {
    for (index, (x, y)) in segment.iter().enumerate() {
        let letter = if index == 0 { "M" } else { " " };
        push(path, format_args!("{letter}{x:.1},{y:.1}"));
    }
    if segment.len() == 1 {
        path.push_str("h0");
    }
    segment.clear();
}

/// Returns the path through values at given steps, with gaps at values that are not finite.
pub(super) fn polyline(steps: &[usize], values: &[f64], x: &Axis, y: &Axis) -> String {
    let (mut path, mut segment) = (String::new(), Vec::new());
    for (step, value) in steps.iter().zip(values) {
        match (x.at(*step as f64), y.at(*value)) {
            (Some(x), Some(y)) => segment.push((x, y)),
            _ => finish(&mut path, &mut segment),
        }
    }
    finish(&mut path, &mut segment);
    path
}

/// Returns the path of a dot at each finite value.
pub(super) fn dots(steps: &[usize], values: &[f64], x: &Axis, y: &Axis) -> String {
    let mut path = String::new();
    for (step, value) in steps.iter().zip(values) {
        if let (Some(x), Some(y)) = (x.at(*step as f64), y.at(*value)) {
            push(&mut path, format_args!("M{x:.1},{y:.1}h0"));
        }
    }
    path
}

/// Returns the path of the area from `values` down to `bottom`. A single value is a bar over the whole width.
pub(super) fn area(values: &[f64], x: &Axis, y: &Axis, bottom: f64) -> String {
    let points: Vec<(f64, f64)> = match values {
        [one] => {
            let at = y.at(*one);
            at.map_or(Vec::new(), |at| vec![(x.from, at), (x.to, at)])
        }
        _ => thinned(values, x, y).into_iter().flatten().collect(),
    };
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return String::new();
    };
    let mut path = String::new();
    push(&mut path, format_args!("M{:.1},{bottom:.1}", first.0));
    for (x, y) in &points {
        push(&mut path, format_args!(" {x:.1},{y:.1}"));
    }
    push(&mut path, format_args!(" {:.1},{bottom:.1}Z", last.0));
    path
}

/// Returns the points of a curve, with `None` for gaps.
fn thinned(values: &[f64], x: &Axis, y: &Axis) -> Vec<Option<(f64, f64)>> {
    let point = |step: usize| Some((x.at(step as f64)?, y.at(*values.get(step)?)?));
    let pixels = (x.to - x.from).abs().max(1.0) as usize;
    if values.len() <= 2 * pixels {
        return (0..values.len()).map(point).collect();
    }
    let mut points = Vec::with_capacity(2 * pixels);
    for column in 0..pixels {
        let steps = (column * values.len() / pixels)..((column + 1) * values.len() / pixels);
        let finite = || steps.clone().filter(|step| values[*step].is_finite());
        let by_value = |a: &usize, b: &usize| values[*a].total_cmp(&values[*b]);
        match (finite().min_by(by_value), finite().max_by(by_value)) {
            (Some(least), Some(most)) => {
                points.push(point(least.min(most)));
                if least != most {
                    points.push(point(least.max(most)));
                }
            }
            _ => points.push(None),
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(steps: usize) -> (Axis, Axis) {
        let last = steps.saturating_sub(1) as f64;
        (
            Axis::exact(0.0, last, 0.0, 100.0),
            Axis::exact(0.0, 1.0, 10.0, 0.0),
        )
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escape("<b a=\"1\" c='2'>&\0\x1b[31m"),
            "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;\u{FFFD}\u{FFFD}[31m"
        );
    }

    #[test]
    fn curves_have_gaps_at_values_that_are_not_finite() {
        let values = [0.0, 1.0, f64::NAN, 0.5, f64::INFINITY, 0.0];
        let (x, y) = axes(values.len());
        assert_eq!(
            curve(&values, &x, &y),
            "M0.0,10.0 20.0,0.0M60.0,5.0h0M100.0,10.0h0"
        );
        assert_eq!(curve(&[], &x, &y), "");
        assert_eq!(curve(&[f64::NAN], &x, &y), "");
        let (x, y) = axes(1);
        assert_eq!(curve(&[0.5], &x, &y), "M30.0,5.0h40");
    }

    #[test]
    fn long_curves_keep_their_extremes() {
        let mut values = vec![0.5; 100_000];
        values[51_234] = 1.0;
        values[51_239] = 0.0;
        let (x, y) = axes(values.len());
        let path = curve(&values, &x, &y);
        assert!(path.len() < 5_000, "{}", path.len());
        assert!(path.contains("51.2,0.0 51.2,10.0"), "{path}");
    }

    #[test]
    fn an_area_of_one_step_has_the_width_of_the_plot() {
        let (x, y) = axes(1);
        assert_eq!(
            area(&[0.5], &x, &y, 10.0),
            "M0.0,10.0 0.0,5.0 100.0,5.0 100.0,10.0Z"
        );
        assert_eq!(area(&[f64::NAN; 3], &x, &y, 10.0), "");
    }
}
