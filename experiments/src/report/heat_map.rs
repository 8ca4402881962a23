//! Heat maps with a column for each layer and a row for each kind of parameter. Parameters outside layers are below.

use serde_json::Value;

use super::svg::{Svg, escape, push, text, text_width};
use crate::show::format::significant;

/// Maximum width of a cell.
const CELL: f64 = 26.0;

/// Width of the picture, unless it has more columns than fit.
const WIDTH: f64 = 500.0;

/// Minimum width of a cell.
const MIN_CELL: f64 = 9.0;

/// Height of a row.
const ROW: f64 = 22.0;

/// Data of a heat map, as it is downloaded.
#[derive(Debug)]
pub(crate) struct Data {
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<Value>>,
}

/// A table of coloured cells.
#[derive(Debug)]
pub(crate) struct HeatMap {
    /// Text alternative for screen readers.
    pub label: String,
    /// Label below the row names, beside the column names.
    pub column: &'static str,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows, each with an optional cell for each column.
    pub rows: Vec<HeatRow>,
    /// Rows below, each with a single cell and its value.
    pub singles: Vec<(String, HeatCell)>,
    /// Heading of the legend of colours.
    pub legend: &'static str,
    /// Upper limit of each of eight colours, from the palest on, and its name in the legend. The last limit is
    /// infinite.
    pub classes: &'static [(f64, &'static str); 8],
    pub data: Data,
}

/// A row of a heat map.
#[derive(Debug)]
pub(crate) struct HeatRow {
    pub name: String,
    pub cells: Vec<Option<HeatCell>>,
}

/// A cell of a heat map.
#[derive(Debug, Clone)]
pub(crate) struct HeatCell {
    pub value: f64,
    /// Tooltip.
    pub title: String,
    /// Whether a cross is drawn on it.
    pub marked: bool,
}

/// Returns the class of the colour of a value.
fn class(map: &HeatMap, value: f64) -> String {
    match map.classes.iter().position(|(limit, _)| value <= *limit) {
        Some(index) => format!("h{index}"),
        None => "hn".into(),
    }
}

/// Draws the map.
pub(super) fn draw(map: &HeatMap) -> Svg {
    let rows = map.rows.iter().map(|row| row.name.as_str());
    let names = rows.chain(map.singles.iter().map(|(name, _)| name.as_str()));
    let left = names.map(text_width).fold(0.0, f64::max) + 12.0;
    let columns = map.columns.len().max(1) as f64;
    let cell = ((WIDTH - left) / columns).clamp(MIN_CELL, CELL);
    let mut body = String::new();
    let mut y = 0.0;
    for row in &map.rows {
        text(
            &mut body,
            "name row",
            left - 8.0,
            y + ROW / 2.0 + 4.0,
            &row.name,
        );
        for (column, content) in row.cells.iter().enumerate() {
            if let Some(content) = content {
                let at = (left + column as f64 * cell, y);
                draw_cell(&mut body, at, cell, map, content);
            }
        }
        y += ROW;
    }
    if !map.columns.is_empty() {
        let every = (18.0 / cell).ceil().max(1.0) as usize;
        for (column, name) in map.columns.iter().enumerate().step_by(every) {
            let x = left + (column as f64 + 0.5) * cell;
            text(&mut body, "tick x", x, y + 14.0, name);
        }
        text(&mut body, "tick y muted", left - 8.0, y + 14.0, map.column);
        y += 28.0;
    }
    for (name, single) in &map.singles {
        text(&mut body, "name row", left - 8.0, y + ROW / 2.0 + 4.0, name);
        draw_cell(&mut body, (left, y), cell, map, single);
        let value = significant(single.value, 2);
        let x = left + cell + 8.0;
        text(&mut body, "muted", x, y + ROW / 2.0 + 4.0, &value);
        y += ROW;
    }
    let width = WIDTH.max(left + columns * cell);
    y = legend(&mut body, map, y + 12.0);
    Svg {
        width,
        height: y,
        label: map.label.clone(),
        attributes: String::new(),
        body,
    }
}

fn draw_cell(body: &mut String, (x, y): (f64, f64), width: f64, map: &HeatMap, cell: &HeatCell) {
    push(
        body,
        format_args!(
            "<g><title>{}</title>\
             <rect class=\"cell {}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            escape(&cell.title),
            class(map, cell.value),
            x + 0.5,
            y + 0.5,
            width - 1.0,
            ROW - 1.0
        ),
    );
    // The cross makes marked cells visible without colour.
    if cell.marked {
        text(body, "cross", x + width / 2.0, y + ROW / 2.0 + 4.0, "×");
    }
    body.push_str("</g>");
}

/// Draws the legend of colours from `y` on. Returns its lower end.
fn legend(body: &mut String, map: &HeatMap, y: f64) -> f64 {
    text(body, "muted", 0.0, y + 12.0, map.legend);
    let y = y + 20.0;
    let step = WIDTH / map.classes.len() as f64;
    for (index, (_, name)) in map.classes.iter().enumerate() {
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

    static CLASSES: [(f64, &str); 8] = [
        (0.001, "a"),
        (0.01, "b"),
        (0.1, "c"),
        (0.3, "d"),
        (1.0, "e"),
        (10.0, "f"),
        (100.0, "g"),
        (f64::INFINITY, "h"),
    ];

    #[test]
    fn cells_have_positions_colours_and_crosses() {
        let cell = |value: f64, title: &str| HeatCell {
            value,
            title: title.into(),
            marked: value > 1.0 || value.is_nan(),
        };
        let map = HeatMap {
            label: "Gradients".into(),
            column: "layer",
            columns: ["0", "2", "10"].map(String::from).into(),
            rows: vec![HeatRow {
                name: "qkv".into(),
                cells: vec![Some(cell(0.1, "first")), None, Some(cell(10.0, "last"))],
            }],
            singles: vec![("head".into(), cell(f64::NAN, "head <b>"))],
            legend: "share",
            classes: &CLASSES,
            data: Data {
                columns: Vec::new(),
                rows: Vec::new(),
            },
        };
        let svg = draw(&map).body;
        assert!(svg.find("first") < svg.find("last"), "{svg}");
        assert_eq!(svg.matches("qkv</text>").count(), 1);
        assert_eq!(svg.matches("class=\"cross\"").count(), 2, "{svg}");
        for part in ["cell h2", "cell h5", "cell hn", "head &lt;b&gt;"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }
}
