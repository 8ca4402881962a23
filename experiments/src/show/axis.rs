//! Ranges and labelled ticks of axes, for charts of reports and of terminals. `report/ticks.js` repeats the rules for
//! zoomed ranges.

use crate::show::format;

/// Maximum number of decades of a logarithmic axis, counted from the largest value.
const MAX_DECADES: i32 = 16;

/// A labelled value of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Its value.
    pub value: f64,
    /// The value as text.
    pub label: String,
}

/// Returns the exponents of the powers of ten around positive values: at least one decade, and at most 16, counted
/// from the largest.
pub fn decades(low: f64, high: f64) -> (i32, i32) {
    let (least, most) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let most = most.max(least + 1);
    (least.max(most - MAX_DECADES), most)
}

/// Returns the smallest and the largest of some numbers; `None` for no numbers.
pub fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// Returns about `count` ticks from `low` to `high`: multiples of 1, 2 or 5 times a power of ten, with as many decimals
/// as their distance needs; only whole numbers if `integer`.
pub fn linear_ticks(low: f64, high: f64, count: usize, integer: bool) -> Vec<Tick> {
    let rough = (high - low) / count.max(1) as f64;
    if !rough.is_finite() || rough <= 0.0 {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= rough * 0.999)
        .unwrap_or(10.0);
    let step = match integer {
        true => (factor * power).max(1.0),
        false => factor * power,
    };
    let (first, last) = ((low / step).ceil(), (high / step).floor());
    let number = last - first + 1.0;
    // There are no ticks if rounding loses the step.
    if !(0.0..=4.0 * count.max(1) as f64).contains(&number) {
        return Vec::new();
    }
    (0..number as usize)
        .map(|index| (first + index as f64) * step)
        .map(|value| Tick {
            value,
            label: tick_label(value, step),
        })
        .collect()
}

fn tick_label(value: f64, step: f64) -> String {
    let decimals = (-(step * 1.001).log10().floor()).max(0.0) as usize;
    match value.abs() {
        _ if decimals > 5 => format::significant(value, 4),
        size if size >= 1e9 => format::significant(value, 3),
        size if decimals == 0 && value >= 0.0 => format::count(size.round() as u64),
        _ => format!("{value:.decimals$}").replacen('-', "−", 1),
    }
}

/// Returns about `count` ticks of a logarithmic axis between any positive `low` and `high`: powers of ten, or, in less
/// than two decades, also their doubles and fives, or multiples of a round number.
pub fn log_ticks_within(low: f64, high: f64, count: usize) -> Vec<Tick> {
    const ROUNDING: f64 = 1e-9;
    let first = (low.log10() - ROUNDING).ceil() as i32;
    let last = (high.log10() + ROUNDING).floor() as i32;
    if last - first >= 2 {
        let count = count.max(2) - 1;
        return log_ticks(10f64.powi(first), 10f64.powi(last), count);
    }
    let (least, most) = decades(low, high);
    let fine = (least..most).flat_map(|exponent| {
        let (low, high) = (10f64.powi(exponent), 10f64.powi(exponent + 1));
        let mut ticks = log_ticks(low, high, 3);
        // The last tick is also the first one of the next decade.
        if exponent + 1 < most {
            ticks.pop();
        }
        ticks
    });
    let inside = low * (1.0 - ROUNDING)..=high * (1.0 + ROUNDING);
    let fine: Vec<Tick> = fine.filter(|tick| inside.contains(&tick.value)).collect();
    match (3..=count).contains(&fine.len()) {
        true => fine,
        false => linear_ticks(low, high, count, false),
    }
}

/// Returns about `count` ticks at powers of ten between the powers of ten `low` and `high`. Within one decade, doubles
/// and fives are added for a `count` of 3 or more.
pub fn log_ticks(low: f64, high: f64, count: usize) -> Vec<Tick> {
    let (least, most) = (low.log10().round() as i32, high.log10().round() as i32);
    let every = ((most - least) as usize).div_ceil(count.max(1)).max(1);
    let factors: &[f64] = match most - least <= 1 && count >= 3 {
        true => &[1.0, 2.0, 5.0],
        false => &[1.0],
    };
    (least..=most)
        .step_by(every)
        .flat_map(|exponent| factors.iter().map(move |factor| (exponent, *factor)))
        .map(|(exponent, factor)| {
            let value = factor * 10f64.powi(exponent);
            Tick {
                value,
                label: format::significant(value, 1),
            }
        })
        .filter(|tick| tick.value <= high * 1.000_001)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn a_logarithmic_axis_has_round_ticks_in_any_range() {
        for (low, high, expected) in [
            (0.9, 4.3, vec!["1", "2", "3", "4"]),
            (1.0, 100.0, vec!["1", "10", "100"]),
            (3e-7, 2e-2, vec!["1e-6", "1e-5", "1e-4", "0.001", "0.01"]),
            (2.1, 2.9, vec!["2.2", "2.4", "2.6", "2.8"]),
        ] {
            assert_eq!(labels(&log_ticks_within(low, high, 5)), expected);
        }
    }

    #[test]
    fn decades_are_between_1_and_16() {
        assert_eq!(decades(3e-7, 2e-3), (-7, -2));
        assert_eq!(decades(0.02, 0.02), (-2, -1));
        assert_eq!(decades(1.0, 1.0), (0, 1));
        assert_eq!(decades(1e-300, 1.0), (-16, 0));
    }
}
