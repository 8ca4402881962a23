//! Linear and logarithmic axes, which map values to positions. `show::axis` chooses the ticks.

use crate::show::axis::{decades, linear_ticks, log_ticks, range};

/// Share of a linear axis that is left free at each end.
const PADDING: f64 = 0.04;

/// Maximum distance of a position from the start of a linear axis, in axis lengths.
const MAX_DISTANCE: f64 = 50.0;

/// Height of the lane for zeros below a logarithmic axis.
const ZERO_LANE: f64 = 16.0;

/// An axis: values `low..=high` lie at `from..=to`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub low: f64,
    pub high: f64,
    pub from: f64,
    pub to: f64,
    pub log: bool,
    /// Position of zeros on a logarithmic axis; `None` without zeros.
    pub zero: Option<f64>,
}

/// A labelled position on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub at: f64,
    pub label: String,
}

impl Axis {
    /// Returns a linear axis of exactly `low..=high`, or of one unit around a single point.
    pub(super) fn exact(low: f64, high: f64, from: f64, to: f64) -> Self {
        let (low, high) = match low < high {
            true => (low, high),
            false => (low - 0.5, low + 0.5),
        };
        Self {
            low,
            high,
            from,
            to,
            log: false,
            zero: None,
        }
    }

    /// Returns a linear axis around all finite values.
    pub(super) fn linear(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = range(values.filter(|value| value.is_finite())).unwrap_or((0.0, 1.0));
        let margin = match high - low {
            0.0 => (0.1 * low.abs()).max(1e-9),
            _ => 2.0 * PADDING * (high / 2.0 - low / 2.0),
        };
        Self::exact(low - margin, high + margin, from, to)
    }

    /// Returns a logarithmic axis of whole decades around all finite positive values, with a lane for zeros if there
    /// are any.
    pub(super) fn log(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        let mut zeros = false;
        for value in values.filter(|value| value.is_finite()) {
            zeros |= value == 0.0;
            if value > 0.0 {
                low = low.min(value);
                high = high.max(value);
            }
        }
        let (least, most) = match low <= high {
            true => decades(low, high),
            false => (-1, 0),
        };
        let lane = if zeros { ZERO_LANE } else { 0.0 };
        let from = if from > to { from - lane } else { from + lane };
        let zero = match from > to {
            true => from + lane,
            false => from - lane,
        };
        Self {
            low: 10f64.powi(least),
            high: 10f64.powi(most),
            from,
            to,
            log: true,
            zero: zeros.then_some(zero),
        }
    }

    /// Returns the position of a value; `None` for NaN and infinities. Values beyond a logarithmic axis are clamped to
    /// its ends.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        if !value.is_finite() {
            return None;
        }
        let share = match self.log {
            true if value <= 0.0 => return self.zero.or(Some(self.from)),
            true => {
                let (low, high) = (self.low.log10(), self.high.log10());
                ((value.log10() - low) / (high - low)).clamp(0.0, 1.0)
            }
            // Halves prevent overflow, and the clamp keeps coordinates short.
            false => {
                let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
                share.clamp(-MAX_DISTANCE, MAX_DISTANCE)
            }
        };
        Some(self.from + share * (self.to - self.from))
    }

    /// Returns about `count` ticks at round values; only whole numbers if `integer`.
    pub(super) fn ticks(&self, count: usize, integer: bool) -> Vec<Tick> {
        let values = match self.log {
            true => log_ticks(self.low, self.high, count),
            false => linear_ticks(self.low, self.high, count, integer),
        };
        let mut ticks: Vec<Tick> = values
            .into_iter()
            .filter_map(|tick| {
                let at = self.at(tick.value)?;
                Some(Tick {
                    at,
                    label: tick.label,
                })
            })
            .collect();
        if let Some(at) = self.zero {
            ticks.insert(
                0,
                Tick {
                    at,
                    label: "0".into(),
                },
            );
        }
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round() {
        let axis = Axis::exact(0.0, 199.0, 0.0, 100.0);
        assert_eq!(
            labels(&axis.ticks(5, true)),
            ["0", "50", "100", "150"],
            "steps"
        );
        let axis = Axis::exact(-0.13, 0.21, 0.0, 100.0);
        assert_eq!(
            labels(&axis.ticks(4, false)),
            ["−0.1", "0.0", "0.1", "0.2"],
            "decimals"
        );
        let axis = Axis::exact(0.0, 2.0, 0.0, 100.0);
        assert_eq!(labels(&axis.ticks(8, true)), ["0", "1", "2"], "integers");
    }

    #[test]
    fn a_single_value_is_in_the_middle_of_its_axis() {
        let axis = Axis::exact(0.0, 0.0, 10.0, 20.0);
        assert_eq!(axis.at(0.0), Some(15.0));
        assert_eq!(labels(&axis.ticks(6, true)), ["0"]);
        let axis = Axis::linear([2.0, 2.0].into_iter(), 0.0, 1.0);
        assert!(axis.at(2.0).is_some_and(|at| (at - 0.5).abs() < 1e-9));
    }

    #[test]
    fn non_finite_values_have_no_position() {
        let values = [f64::NAN, 1.0, f64::INFINITY, 3.0];
        let axis = Axis::linear(values.into_iter(), 0.0, 1.0);
        assert!(axis.low < 1.0 && axis.high > 3.0 && axis.high < 4.0);
        assert_eq!(axis.at(f64::NAN), None);
        assert_eq!(axis.at(f64::INFINITY), None);
        let none = Axis::linear(std::iter::empty(), 0.0, 1.0);
        assert!(none.low < none.high);
        for axis in [
            Axis::linear([f64::MAX, f64::MIN].into_iter(), 0.0, 1.0),
            Axis::linear([1e16, 1e16 + 2.0].into_iter(), 0.0, 1.0),
        ] {
            assert!(axis.ticks(6, false).len() < 30);
        }
    }

    #[test]
    fn a_logarithmic_axis_has_a_lane_for_zeros() {
        let values = || [0.0, 3e-7, 2e-3, f64::NAN].into_iter();
        let axis = Axis::log(values(), 100.0, 0.0);
        let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 1e-9;
        assert!(near(axis.low, 1e-7) && near(axis.high, 1e-2));
        assert_eq!(axis.at(0.0), Some(100.0));
        assert!(axis.at(1e-7).is_some_and(|at| (at - 84.0).abs() < 1e-9));
        assert!(axis.at(1e-2).is_some_and(|at| at.abs() < 1e-9));
        let ticks = axis.ticks(10, false);
        assert_eq!(
            labels(&ticks),
            ["0", "1e-7", "1e-6", "1e-5", "1e-4", "0.001", "0.01"]
        );
    }

    #[test]
    fn a_logarithmic_axis_accepts_no_values_one_decade_and_many_decades() {
        let nothing = Axis::log([0.0, f64::NAN].into_iter(), 100.0, 0.0);
        assert_eq!(nothing.at(0.0), Some(100.0));
        let one = Axis::log([0.02].into_iter(), 100.0, 0.0);
        assert_eq!(
            labels(&one.ticks(6, false)),
            ["0.01", "0.02", "0.05", "0.1"]
        );
        let many = Axis::log([1e-300, 1.0].into_iter(), 100.0, 0.0);
        assert_eq!(many.at(1e-300), Some(100.0), "small values are clamped");
        assert!(many.ticks(6, false).len() <= 7);
    }
}
