//! Medians and quantiles.

/// Returns the quantile at `share` of sorted numbers: the order statistic at `share` · (n − 1), with linear
/// interpolation between its neighbours (Hyndman & Fan 1996, type 7). `None` for no numbers.
pub fn quantile_of_sorted(sorted: &[f64], share: f64) -> Option<f64> {
    let index = share * sorted.len().checked_sub(1)? as f64;
    let below = *sorted.get(index.floor() as usize)?;
    let above = *sorted.get(index.ceil() as usize)?;
    Some(below + (above - below) * index.fract())
}

/// Returns the median of sorted numbers: the middle one, or the mean of the two in the middle. `None` for no numbers.
pub fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    quantile_of_sorted(sorted, 0.5)
}

/// Returns the [median](median_of_sorted) of numbers in any order.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median([3.0, -1.0, 10.0]), Some(3.0));
        assert_eq!(median([4.0, 1.0, 100.0, 2.0]), Some(3.0));
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(median([]), None);
        assert_eq!(median_of_sorted(&[1.0, 2.0, 4.0, 8.0]), Some(3.0));
    }

    #[test]
    fn quantiles_lie_between_order_statistics() {
        let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
        for (share, expected) in [(0.0, 0.0), (0.05, 5.0), (0.255, 25.5), (1.0, 100.0)] {
            let found = quantile_of_sorted(&sorted, share);
            assert!(found.is_some_and(|found| (found - expected).abs() < 1e-9));
        }
        assert_eq!(quantile_of_sorted(&[2.0], 0.95), Some(2.0));
    }
}
