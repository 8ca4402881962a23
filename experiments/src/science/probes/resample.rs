//! Bootstrap over items: intervals of numbers that are no means, such as a prediction or a ratio of spreads.

use crate::science::random::Random;
use crate::show::statistics::quantile_of_sorted;

/// Number of draws.
pub(super) const DRAWS: usize = 400;

/// Seed of the draws.
const SEED: u64 = 0;

/// Draws the numbers of items with replacement, [`DRAWS`] times, and returns the results of `statistic` on each draw, those
/// that exist (Efron 1979). Draw `n` is the same for every count of draws.
pub(super) fn draws<T>(items: usize, mut statistic: impl FnMut(&[usize]) -> Option<T>) -> Vec<T> {
    let draw = |number: usize| {
        let mut random = Random::stream(SEED, number as u64);
        let chosen: Vec<usize> = (0..items).map(|_| random.index(items)).collect();
        statistic(&chosen)
    };
    (0..DRAWS).filter_map(draw).collect()
}

/// Returns the ends of the central 95 % of numbers; `None` if fewer than half of the draws have one.
pub(super) fn interval(numbers: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    let mut sorted: Vec<f64> = numbers.filter(|number| !number.is_nan()).collect();
    if sorted.len() < DRAWS / 2 {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    Some([
        quantile_of_sorted(&sorted, 0.025)?,
        quantile_of_sorted(&sorted, 0.975)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_of_a_mean_is_that_of_its_standard_error() {
        // Numbers 0 to 99: standard deviation 28.87, standard error of the mean of 100 is 2.887.
        let means = draws(100, |chosen| {
            Some(chosen.iter().sum::<usize>() as f64 / 100.0)
        });
        assert_eq!(means.len(), DRAWS);
        let [low, high] = interval(means.iter().copied()).unwrap();
        assert!((low - (49.5 - 1.96 * 2.887)).abs() < 1.0, "{low}");
        assert!((high - (49.5 + 1.96 * 2.887)).abs() < 1.0, "{high}");
        assert_eq!(
            means,
            draws(100, |chosen| Some(
                chosen.iter().sum::<usize>() as f64 / 100.0
            ))
        );
    }

    #[test]
    fn few_results_have_no_interval() {
        assert_eq!(interval([1.0, 2.0].into_iter()), None);
        assert_eq!(interval(std::iter::repeat_n(f64::NAN, DRAWS)), None);
    }
}
