//! Statistics over rounds: median and spread.

use foretoken::show::statistics::median_of_sorted;

/// Median, minimum and maximum of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Computes the statistics of numbers; `None` if there are none.
    pub(crate) fn from_numbers(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        Some(Self {
            median: median_of_sorted(&numbers)?,
            min: *numbers.first()?,
            max: *numbers.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_round_changes_the_spread_but_not_the_median() {
        let spread = Spread::from_numbers([1.0, 1.1, 0.9, 1.0, 9.0]).unwrap();
        let expected = Spread {
            median: 1.0,
            min: 0.9,
            max: 9.0,
        };
        assert_eq!(spread, expected);
        assert_eq!(Spread::from_numbers([]), None);
    }
}
