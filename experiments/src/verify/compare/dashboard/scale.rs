//! Mapping of values to places on a chart: downsampling of points, ranges of axes, and the place of zero on a
//! logarithmic axis.

use crate::show::axis::{self, Tick};
use crate::show::format;

/// Points in the order of steps, at most as many as fit on a chart. NaN is a gap.
pub(super) type Series = Vec<(f64, f64)>;

/// Choice of points that represent all points of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The smallest and the largest, so that no spike is lost.
    Extremes,
    /// The largest, for distances, which come close to zero by chance.
    Largest,
}

/// Reduces points to those that represent each of `columns` columns.
pub(super) fn downsampled(
    points: impl Iterator<Item = (usize, f64)>,
    last_step: usize,
    columns: usize,
    keep: Keep,
) -> Series {
    let per_step = columns.max(1) as f64 / (last_step as f64 + 1.0);
    let mut series = Series::new();
    let mut bucket: Option<Bucket> = None;
    for (step, value) in points {
        let column = (step as f64 * per_step) as usize;
        match &mut bucket {
            Some(bucket) if bucket.column == column => bucket.add(step as f64, value),
            _ => {
                series.extend(bucket.take().into_iter().flat_map(|of| of.points(keep)));
                bucket = Some(Bucket::new(column, step as f64, value));
            }
        }
    }
    series.extend(bucket.into_iter().flat_map(|of| of.points(keep)));
    series
}

/// The points of one column.
struct Bucket {
    column: usize,
    low: (f64, f64),
    high: (f64, f64),
    /// Step of a value that is not finite.
    gap: Option<f64>,
}

impl Bucket {
    fn new(column: usize, x: f64, y: f64) -> Self {
        let mut new = Self {
            column,
            low: (x, f64::INFINITY),
            high: (x, f64::NEG_INFINITY),
            gap: None,
        };
        new.add(x, y);
        new
    }

    fn add(&mut self, x: f64, y: f64) {
        if !y.is_finite() {
            self.gap = Some(x);
            return;
        }
        if y < self.low.1 {
            self.low = (x, y);
        }
        if y > self.high.1 {
            self.high = (x, y);
        }
    }

    fn points(self, keep: Keep) -> impl Iterator<Item = (f64, f64)> {
        let (first, second) = match self.low.0 <= self.high.0 {
            true => (self.low, self.high),
            false => (self.high, self.low),
        };
        let points = match keep {
            Keep::Extremes if first != second => [Some(first), Some(second)],
            _ => [Some(self.high), None],
        };
        let drawn = points.into_iter().flatten();
        let drawn = drawn.filter(|(_, y)| y.is_finite());
        drawn.chain(self.gap.map(|x| (x, f64::NAN)))
    }
}

/// Axis with its mapping of values to places.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    pub(super) bounds: [f64; 2],
    /// Places and labels, in ascending order.
    pub(super) ticks: Vec<(f64, String)>,
    log: bool,
    /// Lowest place of a value other than zero.
    lowest: f64,
}

/// Largest drawn value: the range between two values must be finite.
const LARGEST: f64 = 1e100;

/// Smallest positive value that the range of a logarithmic scale takes into account.
const SMALLEST: f64 = 1e-100;

/// One in so many differences may be too small for the scale, because differences come arbitrarily close to zero where
/// a curve crosses the reference's.
const CLAMPED_ONE_IN: usize = 50;

impl Scale {
    /// Creates a scale from the smallest to the largest value, with about `labels` labels.
    pub(super) fn linear(values: impl Iterator<Item = f64>, labels: usize) -> Option<Self> {
        let [low, high] = range(values.filter(|value| value.abs() < LARGEST))?;
        let bounds = widened(low, high);
        let ticks = at_least_two(labels, |count| {
            axis::linear_ticks(bounds[0], bounds[1], count, false)
        });
        Some(Self::new(bounds, ticks, false))
    }

    /// Creates a logarithmic scale like [`Self::linear`]. Its range ignores values up to zero.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>, labels: usize) -> Option<Self> {
        let drawn = values.filter(|value| (SMALLEST..LARGEST).contains(value));
        let [low, high] = range(drawn)?;
        let bounds = widened(low.log10(), high.log10());
        let [low, high] = bounds.map(|place| 10f64.powf(place));
        let ticks = at_least_two(labels, |count| axis::log_ticks_within(low, high, count));
        Some(Self::new(bounds, ticks, true))
    }

    fn new(bounds: [f64; 2], ticks: Vec<Tick>, log: bool) -> Self {
        let place = |value: f64| if log { value.log10() } else { value };
        let ticks = ticks.into_iter();
        Self {
            bounds,
            ticks: ticks
                .map(|tick| (place(tick.value), format::plain(tick.label)))
                .collect(),
            log,
            lowest: bounds[0],
        }
    }

    /// Creates a scale for differences: whole powers of ten, and below them a place for zero if one is zero. It has at
    /// most `max_labels` labels, but at least two.
    pub(super) fn decades(values: impl Iterator<Item = f64>, max_labels: usize) -> Option<Self> {
        let mut zeros = false;
        let mut positive: Vec<f64> = values
            .inspect(|&value| zeros |= value == 0.0)
            .filter(|value| (SMALLEST..LARGEST).contains(value))
            .collect();
        positive.sort_unstable_by(f64::total_cmp);
        let clamped = positive.len() / CLAMPED_ONE_IN;
        let (lowest, high) = match (positive.get(clamped), positive.last()) {
            (Some(low), Some(high)) => {
                let (low, high) = (low.log10().floor(), high.log10().ceil());
                (low.min(high - 1.0), high)
            }
            _ if zeros => (-1.0, 0.0),
            _ => return None,
        };
        let low = if zeros { lowest - 1.0 } else { lowest };
        let count = max_labels.max(2) - 1 - usize::from(zeros && max_labels > 2);
        let ticks = axis::log_ticks(10f64.powf(lowest), 10f64.powf(high), count);
        let mut scale = Self {
            lowest,
            ..Self::new([low, high], ticks, true)
        };
        if zeros {
            // Zero is a label, too; a small chart has only zero and the largest power of ten.
            let kept = scale.ticks.len().min(max_labels.max(2) - 1);
            scale.ticks.drain(..scale.ticks.len() - kept);
            scale.ticks.insert(0, (low, "0".into()));
        }
        Some(scale)
    }

    /// Returns the place of a value; `None` if it is not drawn.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let [low, high] = self.bounds;
        let place = match self.log {
            _ if value.is_nan() || value.abs() >= LARGEST => return None,
            true if value < 0.0 => return None,
            true if value == 0.0 => low,
            true => value.log10().max(self.lowest),
            false => value,
        };
        Some(place.clamp(low, high))
    }

    /// Converts a series to lines, broken at values that are not drawn.
    pub(super) fn lines(&self, series: &Series) -> Vec<Vec<(f64, f64)>> {
        let placed: Vec<_> = series
            .iter()
            .map(|&(x, value)| Some((x, self.place(value)?)))
            .collect();
        placed
            .split(Option::is_none)
            .filter(|line| !line.is_empty())
            .map(|line| line.iter().copied().flatten().collect())
            .collect()
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    axis::range(values.filter(|value| value.is_finite())).map(|(low, high)| [low, high])
}

/// Widens a range that is too narrow for its values.
fn widened(low: f64, high: f64) -> [f64; 2] {
    let least = 1e-3 * low.abs().max(high.abs()).max(1e-3);
    match high - low < least {
        true => [low - least, high + least],
        false => [low, high],
    }
}

/// Returns ticks for `labels` labels, or for more labels if there are fewer than two ticks.
fn at_least_two(labels: usize, ticks: impl Fn(usize) -> Vec<Tick>) -> Vec<Tick> {
    let tried = (labels.max(1)..labels.max(1) + 8).map(ticks);
    let mut last = Vec::new();
    for ticks in tried {
        if ticks.len() >= 2 {
            return ticks;
        }
        last = ticks;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_below_the_smallest_difference() {
        let values = [0.0, 2e-7, 3e-3, f64::NAN, f64::INFINITY];
        let scale = Scale::decades(values.into_iter(), 6).expect("drawable values");
        assert_eq!(scale.bounds, [-8.0, -2.0]);
        assert_eq!(labels(&scale), ["0", "1e-7", "1e-5", "0.001"]);
        assert_eq!(scale.place(0.0), Some(-8.0));
        assert_eq!(scale.place(1e-5), Some(-5.0));
        assert_eq!(scale.place(f64::NAN), None);
        assert_eq!(scale.place(f64::INFINITY), None);
    }

    #[test]
    fn differences_that_are_all_zero_can_be_drawn() {
        let scale = Scale::decades([0.0, 0.0].into_iter(), 5).expect("zeros");
        assert_eq!(labels(&scale).first(), Some(&"0"));
        assert_eq!(scale.place(0.0), Some(scale.bounds[0]));
        assert_eq!(Scale::decades([f64::NAN].into_iter(), 5), None);
        assert_eq!(Scale::decades([].into_iter(), 5), None);
    }

    #[test]
    fn decade_labels_are_round_and_at_most_the_given_number() {
        for low in 1..30 {
            for most in 0..9 {
                let values = [10f64.powi(-low) * 1.5, 0.5];
                let scale = Scale::decades(values.into_iter(), most).expect("drawable values");
                assert!((2..=most.max(2)).contains(&scale.ticks.len()), "{scale:?}");
                for (place, label) in &scale.ticks {
                    let value: f64 = label.parse().expect("a number");
                    assert!((value.log10() - place).abs() < 1e-9, "{scale:?}");
                    let digit = label.trim_matches(['0', '.']).chars().next();
                    assert!(matches!(digit, Some('1' | '2' | '5')), "{scale:?}");
                }
            }
        }
    }

    #[test]
    fn equal_values_have_a_range_around_them() {
        for scale in [
            Scale::linear([3.0].into_iter(), 2),
            Scale::logarithmic([3.0].into_iter(), 2),
            Scale::linear([0.0].into_iter(), 2),
        ] {
            let [low, high] = scale.expect("a value").bounds;
            assert!(low < high);
        }
    }

    #[test]
    fn value_that_is_not_finite_breaks_the_line() {
        let points = [1.0, 2.0, f64::NAN, 3.0, f64::INFINITY, 4.0];
        let series = downsampled(points.into_iter().enumerate(), 5, 80, Keep::Extremes);
        let scale = Scale::linear([1.0, 4.0].into_iter(), 2).expect("values");
        assert_eq!(
            scale.lines(&series),
            [
                vec![(0.0, 1.0), (1.0, 2.0)],
                vec![(3.0, 3.0)],
                vec![(5.0, 4.0)]
            ]
        );
    }

    #[test]
    fn downsampling_keeps_spikes() {
        let values = (0..10_000).map(|step| match step {
            4321 => 9.0,
            5432 => 0.1,
            _ => 1.0,
        });
        let extremes = downsampled(values.clone().enumerate(), 9999, 50, Keep::Extremes);
        assert!(extremes.len() <= 100);
        assert!(extremes.contains(&(4321.0, 9.0)) && extremes.contains(&(5432.0, 0.1)));
        assert!(extremes.is_sorted_by(|a, b| a.0 <= b.0));
        let largest = downsampled(values.enumerate(), 9999, 50, Keep::Largest);
        assert_eq!(largest.len(), 50);
        assert!(largest.contains(&(4321.0, 9.0)) && !largest.contains(&(5432.0, 0.1)));
    }

    #[test]
    fn single_tiny_difference_does_not_widen_the_scale() {
        let values = (0..100).map(|at| if at == 50 { 1e-30 } else { 2e-7 });
        let scale = Scale::decades(values.chain([0.0]), 5).expect("values");
        assert_eq!(scale.bounds, [-8.0, -6.0]);
        // A tiny difference is drawn above zero.
        assert_eq!(scale.place(1e-30), Some(-7.0));
        assert_eq!(scale.place(0.0), Some(-8.0));
    }

    #[test]
    fn labels_are_round_values_at_their_places() {
        let scale = Scale::linear([1.0, 4.0].into_iter(), 4).expect("values");
        let places: Vec<f64> = scale.ticks.iter().map(|(place, _)| *place).collect();
        assert_eq!(labels(&scale), ["1", "2", "3", "4"]);
        assert_eq!(places, [1.0, 2.0, 3.0, 4.0]);
        let scale = Scale::logarithmic([1.0, 100.0].into_iter(), 3).expect("values");
        let places: Vec<f64> = scale.ticks.iter().map(|(place, _)| *place).collect();
        assert_eq!(labels(&scale), ["1", "10", "100"]);
        assert_eq!(places, [0.0, 1.0, 2.0]);
        for (low, high) in [(1.1, 1.9), (0.0, 0.0), (-3.0, 7e9), (2.31, 2.32)] {
            for labels in 0..8 {
                let scale = Scale::linear([low, high].into_iter(), labels).expect("values");
                assert!(scale.ticks.len() >= 2, "{scale:?}");
            }
        }
    }

    fn labels(scale: &Scale) -> Vec<&str> {
        scale
            .ticks
            .iter()
            .map(|(_, label)| label.as_str())
            .collect()
    }
}
