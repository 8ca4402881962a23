//! What several rounds say together: the middle, and how far they lie apart.

/// Middle, smallest and largest of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        Some(Self {
            median: middle(&numbers)?,
            min: *numbers.first()?,
            max: *numbers.last()?,
        })
    }
}

/// The middle of some numbers, `None` of nothing.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    Spread::of(numbers).map(|spread| spread.median)
}

/// Of sorted numbers; of an even count, half-way between the two in the middle.
fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        0 => Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_odd_and_of_an_even_count() {
        assert_eq!(median([3.0, -1.0, 10.0]), Some(3.0));
        assert_eq!(median([4.0, 1.0, 100.0, 2.0]), Some(3.0));
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn one_slow_round_moves_the_spread_and_not_the_middle() {
        let spread = Spread::of([1.0, 1.1, 0.9, 1.0, 9.0]).unwrap();
        let expected = Spread {
            median: 1.0,
            min: 0.9,
            max: 9.0,
        };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of([]), None);
    }
}
