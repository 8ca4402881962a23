//! Heat maps of the errors of parameters, each as a share of its bound.

use std::collections::BTreeMap;

use serde_json::json;

use crate::report::{Data, HeatCell, HeatMap, HeatRow};
use crate::show::format::{rounded, significant};
use crate::verify::compare::{Check, Checked};

/// Number of significant digits of errors in downloads.
const DIGITS: usize = 5;

/// Shares of the bound at which the colour changes, in ascending order, and their names in the legend.
static CLASSES: [(f64, &str); 8] = [
    (0.001, "≤ 0.001"),
    (0.01, "≤ 0.01"),
    (0.1, "≤ 0.1"),
    (0.3, "≤ 0.3"),
    (1.0, "≤ 1"),
    (10.0, "≤ 10"),
    (100.0, "≤ 100"),
    (f64::INFINITY, "> 100"),
];

/// Returns error divided by bound; 0 for an error of 0, also if the bound is 0.
pub(super) fn ratio(check: &Check) -> f64 {
    match check.error {
        0.0 => 0.0,
        error => error / check.bound,
    }
}

/// Splits the path of a parameter in a block: `blocks.3.attention.qkv.weight` → (3, `attention.qkv.weight`).
fn in_block(path: &str) -> Option<(usize, &str)> {
    let (layer, kind) = path.strip_prefix("blocks.")?.split_once('.')?;
    Some((layer.parse().ok()?, kind))
}

/// Returns the worst check of one kind of each parameter over all steps, in the order of their first checks.
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

/// Creates the heat map of one backend's checks of one kind; `None` without such checks. Parameters outside the blocks
/// are rows of one cell below.
pub(super) fn heat_map(label: String, checks: &[Check], of: Checked) -> Option<HeatMap> {
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
    let row = |kind: &&str| HeatRow {
        name: (*kind).into(),
        cells: layers
            .values()
            .map(|of_layer| of_layer.get(kind).map(|check| cell(check)))
            .collect(),
    };
    Some(HeatMap {
        label,
        column: "layer",
        columns: layers.keys().map(usize::to_string).collect(),
        rows: kinds.iter().map(row).collect(),
        singles: outside
            .into_iter()
            .map(|(path, check)| (path.to_owned(), cell(check)))
            .collect(),
        legend: "error as a share of its bound",
        classes: &CLASSES,
        data: data(checks.iter().filter(|check| check.of == of)),
    })
}

fn cell(check: &Check) -> HeatCell {
    HeatCell {
        value: ratio(check),
        title: format!(
            "{}: error {}, bound {}, {} of the bound",
            check.path.as_deref().unwrap_or("(all)"),
            significant(check.error, 2),
            significant(check.bound, 2),
            significant(ratio(check), 2)
        ),
        marked: !check.holds(),
    }
}

/// Creates the data for download from every check, not only the worst of each parameter.
fn data<'a>(checks: impl Iterator<Item = &'a Check>) -> Data {
    let row = |check: &Check| {
        let numbers = [check.error, check.bound, ratio(check)];
        let [error, bound, share] = numbers.map(|number| json!(rounded(number, DIGITS)));
        vec![json!(check.path), error, bound, share, json!(check.step)]
    };
    Data {
        columns: vec!["parameter", "error", "bound", "error_over_bound", "step"],
        rows: checks.map(row).collect(),
    }
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
    fn layers_are_columns_and_other_parameters_are_below() {
        let checks = [
            check("blocks.0.attention.qkv.weight", 1e-7, 1e-6),
            check("blocks.10.attention.qkv.weight", 1e-5, 1e-6),
            check("blocks.2.attention.qkv.weight", 0.0, 0.0),
            check("head.weight", f64::NAN, 1e-6),
        ];
        let map = heat_map("Gradients".into(), &checks, Checked::Gradient).unwrap();
        assert_eq!(map.columns, ["0", "2", "10"]);
        assert_eq!(map.rows.len(), 1);
        let row = &map.rows[0];
        assert_eq!(row.name, "attention.qkv.weight");
        let marked = |cell: &Option<HeatCell>| cell.as_ref().map(|cell| cell.marked);
        let marked: Vec<_> = row.cells.iter().map(marked).collect();
        assert_eq!(marked, [Some(false), Some(false), Some(true)]);
        let (name, single) = &map.singles[0];
        assert_eq!((name.as_str(), single.marked), ("head.weight", true));
        assert!(single.title.contains("not a number"), "{}", single.title);
        assert!(heat_map("Updates".into(), &checks, Checked::Update).is_none());
    }

    #[test]
    fn colours_change_at_the_bound() {
        let class = |error, bound| {
            let share = ratio(&check("head.weight", error, bound));
            CLASSES.iter().position(|(limit, _)| share <= *limit)
        };
        for (error, expected) in [
            (0.0, Some(0)),
            (0.5, Some(4)),
            (1.0, Some(4)),
            (1.01, Some(5)),
            (1e9, Some(7)),
            (f64::INFINITY, Some(7)),
            (f64::NAN, None),
        ] {
            assert_eq!(class(error, 1.0), expected);
        }
        assert_eq!(class(1.0, 0.0), Some(7));
    }

    #[test]
    fn path_without_layer_number_or_parameter_is_outside() {
        assert_eq!(in_block("blocks.3.norm.gamma"), Some((3, "norm.gamma")));
        assert_eq!(in_block("blocks.x.norm.gamma"), None);
        assert_eq!(in_block("blocks.3"), None);
    }
}
