//! Ranges of an axis: values whose logarithms are evenly spaced.

use serde::Deserialize;
use toml::de::DeTable;

use super::grid::MAX_VALUES;
use crate::show::format::rounded;

/// Largest whole number of a range or a formula, above which a float does not hold every whole number.
pub(super) const MAX_WHOLE: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;

/// Significant digits of a value, which is part of the names of runs.
const DIGITS: usize = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: f64,
    to: f64,
    points: usize,
    #[serde(default = "one")]
    multiple_of: u64,
}

fn one() -> u64 {
    1
}

/// Whether a table of `[axes]` is a range and not a section of keys.
pub(super) fn is_range(table: &DeTable) -> bool {
    ["from", "to", "points"]
        .iter()
        .any(|key| table.contains_key(*key))
}

/// Returns the values of a range, whose text is an inline table. Whole numbers are rounded to a multiple, and others to
/// three digits; the ends are exact.
///
/// # Errors
///
/// Returns the reason if the range is not one.
pub(super) fn values(text: &str, whole: bool) -> Result<Vec<toml::Value>, String> {
    let expected = "expected a range such as { from = 1, to = 100, points = 5 }";
    let parsed =
        toml::from_str::<std::collections::BTreeMap<String, Range>>(&format!("range = {text}"));
    let range = parsed.ok().and_then(|mut table| table.remove("range"));
    let Some(Range {
        from,
        to,
        points,
        multiple_of,
    }) = range
    else {
        return Err(format!("{expected}, and multiple_of for whole numbers"));
    };
    if !(from > 0.0 && to > from && to.is_finite()) {
        return Err(format!(
            "from {from} to {to} is no range of logarithms; from must be above 0 and below to"
        ));
    }
    if whole && to > MAX_WHOLE {
        return Err(format!(
            "ends at {to}, and a whole number is at most {MAX_WHOLE}"
        ));
    }
    if !(2..=MAX_VALUES).contains(&points) {
        return Err(format!(
            "has {points} points; a range has 2 to {MAX_VALUES}"
        ));
    }
    if multiple_of == 0 || multiple_of > 1 && !whole {
        return Err("multiple_of is for whole numbers, and at least 1".into());
    }
    if multiple_of as f64 > to {
        return Err(format!(
            "multiple_of is {multiple_of}, which is more than the end of the range"
        ));
    }
    let value = |index: usize| match index {
        0 => from,
        last if last + 1 == points => to,
        index => {
            let share = index as f64 / (points - 1) as f64;
            rounded(from * (to / from).powf(share), DIGITS)
        }
    };
    let multiple = multiple_of as f64;
    Ok((0..points)
        .map(value)
        .map(|value| match whole {
            true => toml::Value::Integer(((value / multiple).round().max(1.0) * multiple) as i64),
            false => toml::Value::Float(value),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_evenly_spaced() {
        let real = values("{ from = 1e12, to = 1e14, points = 5 }", false).unwrap();
        let expected = [1e12, 3.16e12, 1e13, 3.16e13, 1e14].map(toml::Value::Float);
        assert_eq!(real, expected);
        let whole = values("{ from = 30, to = 250, points = 4, multiple_of = 8 }", true).unwrap();
        assert_eq!(whole, [32, 64, 120, 248].map(toml::Value::Integer));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (text, message) in [
            ("{ from = 1, to = 100 }", "expected a range"),
            (
                "{ from = 1, to = 100, points = 3, step = 2 }",
                "expected a range",
            ),
            (
                "{ from = 0, to = 100, points = 3 }",
                "from 0 to 100 is no range",
            ),
            (
                "{ from = 9, to = 9, points = 3 }",
                "from 9 to 9 is no range",
            ),
            (
                "{ from = 1, to = inf, points = 3 }",
                "from 1 to inf is no range",
            ),
            ("{ from = 1, to = 9, points = 1 }", "has 1 points"),
            (
                "{ from = 1, to = 9, points = 99999999 }",
                "has 99999999 points",
            ),
            (
                "{ from = 1, to = 9, points = 3, multiple_of = 2 }",
                "multiple_of is for whole",
            ),
        ] {
            let error = values(text, false).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
        for (text, message) in [
            (
                "{ from = 1, to = 1e19, points = 3 }",
                "ends at 10000000000000000000, and",
            ),
            (
                "{ from = 1, to = 9, points = 3, multiple_of = 10 }",
                "multiple_of is 10, which is more than",
            ),
        ] {
            let error = values(text, true).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
