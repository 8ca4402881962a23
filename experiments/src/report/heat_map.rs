//! Errors of parameters, each as a share of its bound: layers across, kinds of parameters down.

use std::collections::BTreeMap;

use crate::verify::compare::{Check, Checked};

use super::svg::{Svg, escape, push, text, text_width};
use crate::show::format::significant;

/// Side of a cell where there is room.
const CELL: f64 = 26.0;

/// Width that the cells share; with more layers than fit, the picture is wider.
const WIDTH: f64 = 500.0;

/// The narrowest cell.
const MIN_CELL: f64 = 9.0;

/// Height of a row.
const ROW: f64 = 22.0;

/// Shares of the bound at which the colour changes, from the palest up, and how the legend calls them.
const CLASSES: [(f64, &str); 8] = [
    (0.001, "≤ 0.001"),
    (0.01, "≤ 0.01"),
    (0.1, "≤ 0.1"),
    (0.3, "≤ 0.3"),
    (1.0, "≤ 1"),
    (10.0, "≤ 10"),
    (100.0, "≤ 100"),
    (f64::INFINITY, "> 100"),
];

/// error / bound. No error is none of any bound.
pub(super) fn ratio(check: &Check) -> f64 {
    match check.error {
        0.0 => 0.0,
        error => error / check.bound,
    }
}

fn class(check: &Check) -> String {
    let ratio = ratio(check);
    match CLASSES.iter().position(|(limit, _)| ratio <= *limit) {
        Some(index) => format!("h{index}"),
        None => "hn".into(),
    }
}

/// `blocks.3.attention.qkv.weight` → (3, `attention.qkv.weight`)
fn in_block(path: &str) -> Option<(usize, &str)> {
    let (layer, kind) = path.strip_prefix("blocks.")?.split_once('.')?;
    Some((layer.parse().ok()?, kind))
}

/// Of each parameter, the check of one kind that is worst over the checked steps, in the order of their first.
fn worst_steps(checks: &[Check], of: Checked) -> Vec<&Check> {
    let mut worst: Vec<&Check> = Vec::new();
    let mut places: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for check in checks.iter().filter(|check| check.of == of) {
        let place = *places.entry(check.path.as_deref()).or_insert(worst.len());
        let rank = |check: &Check| match ratio(check) {
            ratio if ratio.is_nan() => f64::INFINITY,
            ratio => ratio,
        };
        match worst.get_mut(place) {
            None => worst.push(check),
            Some(known) if rank(check) > rank(known) => *known = check,
            Some(_) => {}
        }
    }
    worst
}

/// The heat map of one entrant's checks of one kind; nothing where there are none. Parameters outside the
/// blocks are rows of one cell below.
pub(super) fn heat_map(label: &str, checks: &[Check], of: Checked) -> Option<Svg> {
    let mut kinds: Vec<&str> = Vec::new();
    let mut layers: BTreeMap<usize, BTreeMap<&str, &Check>> = BTreeMap::new();
    let mut outside: Vec<(&str, &Check)> = Vec::new();
    for check in worst_steps(checks, of) {
        let path = check.path.as_deref().unwrap_or("(all)");
        match in_block(path) {
            Some((layer, kind)) => {
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
                layers.entry(layer).or_default().insert(kind, check);
            }
            None => outside.push((path, check)),
        }
    }
    if layers.is_empty() && outside.is_empty() {
        return None;
    }

    let names = kinds.iter().chain(outside.iter().map(|(path, _)| path));
    let left = names.map(|name| text_width(name)).fold(0.0, f64::max) + 12.0;
    let columns = layers.len().max(1) as f64;
    let cell = ((WIDTH - left) / columns).clamp(MIN_CELL, CELL);
    let mut body = String::new();
    let mut y = 0.0;
    for kind in &kinds {
        text(&mut body, "name row", left - 8.0, y + ROW / 2.0 + 4.0, kind);
        for (column, of_layer) in layers.values().enumerate() {
            if let Some(check) = of_layer.get(kind) {
                draw_cell(&mut body, (left + column as f64 * cell, y), cell, check);
            }
        }
        y += ROW;
    }
    if !layers.is_empty() {
        let every = (18.0 / cell).ceil().max(1.0) as usize;
        for (column, layer) in layers.keys().enumerate().step_by(every) {
            let x = left + (column as f64 + 0.5) * cell;
            text(&mut body, "tick x", x, y + 14.0, &layer.to_string());
        }
        text(&mut body, "tick y muted", left - 8.0, y + 14.0, "layer");
        y += 28.0;
    }
    for (path, check) in &outside {
        text(&mut body, "name row", left - 8.0, y + ROW / 2.0 + 4.0, path);
        draw_cell(&mut body, (left, y), cell, check);
        let share = significant(ratio(check), 2);
        text(
            &mut body,
            "muted",
            left + cell + 8.0,
            y + ROW / 2.0 + 4.0,
            &share,
        );
        y += ROW;
    }
    let width = WIDTH.max(left + columns * cell);
    y = legend(&mut body, y + 12.0);
    Some(Svg {
        width,
        height: y,
        label: label.into(),
        attributes: String::new(),
        body,
    })
}

fn draw_cell(body: &mut String, (x, y): (f64, f64), width: f64, check: &Check) {
    push(
        body,
        format_args!(
            "<g><title>{}: error {}, bound {}, {} of the bound</title>\
             <rect class=\"cell {}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            escape(check.path.as_deref().unwrap_or("(all)")),
            significant(check.error, 2),
            significant(check.bound, 2),
            significant(ratio(check), 2),
            class(check),
            x + 0.5,
            y + 0.5,
            width - 1.0,
            ROW - 1.0
        ),
    );
    // Colour is not all that says so.
    if !check.holds() {
        text(body, "cross", x + width / 2.0, y + ROW / 2.0 + 4.0, "×");
    }
    body.push_str("</g>");
}

/// What the colours mean, from `y` on; where it ends.
fn legend(body: &mut String, y: f64) -> f64 {
    text(
        body,
        "muted",
        0.0,
        y + 12.0,
        "error as a share of its bound",
    );
    let y = y + 20.0;
    let step = WIDTH / CLASSES.len() as f64;
    for (index, (_, name)) in CLASSES.iter().enumerate() {
        let x = index as f64 * step;
        push(
            body,
            format_args!(
                "<rect class=\"cell h{index}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"10\"/>",
                step - 2.0
            ),
        );
        text(body, "tick x", x + step / 2.0, y + 24.0, name);
    }
    y + 30.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, error: f64, bound: f64) -> Check {
        Check {
            step: 0,
            of: Checked::Gradient,
            path: Some(path.into()),
            error,
            bound,
        }
    }

    #[test]
    fn layers_are_columns_and_the_rest_is_below() {
        let checks = [
            check("blocks.0.attention.qkv.weight", 1e-7, 1e-6),
            check("blocks.10.attention.qkv.weight", 1e-5, 1e-6),
            check("blocks.2.attention.qkv.weight", 0.0, 0.0),
            check("head.weight", f64::NAN, 1e-6),
        ];
        let svg = heat_map("Gradients", &checks, Checked::Gradient).map(|svg| svg.body);
        let svg = svg.unwrap_or_default();
        let place = |layer: &str| svg.find(&format!("blocks.{layer}.attention"));
        assert!(place("0") < place("2") && place("2") < place("10"), "{svg}");
        assert_eq!(svg.matches("attention.qkv.weight</text>").count(), 1);
        assert_eq!(svg.matches("class=\"cross\"").count(), 2, "{svg}");
        assert!(svg.contains("cell hn") && svg.contains("not a number"));
        assert!(heat_map("Updates", &checks, Checked::Update).is_none());
    }

    #[test]
    fn colours_change_at_the_bound() {
        for (error, name) in [
            (0.0, "h0"),
            (0.5, "h4"),
            (1.0, "h4"),
            (1.01, "h5"),
            (1e9, "h7"),
            (f64::INFINITY, "h7"),
            (f64::NAN, "hn"),
        ] {
            assert_eq!(class(&check("head.weight", error, 1.0)), name);
        }
        assert_eq!(class(&check("head.weight", 1.0, 0.0)), "h7");
    }

    #[test]
    fn paths_that_only_look_like_blocks_are_outside() {
        assert_eq!(in_block("blocks.3.norm.gamma"), Some((3, "norm.gamma")));
        assert_eq!(in_block("blocks.x.norm.gamma"), None);
        assert_eq!(in_block("blocks.3"), None);
    }
}
