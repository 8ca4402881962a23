//! Intervals by the bootstrap (Efron 1979): numbers are computed again from units that are drawn with replacement.

use rayon::prelude::*;

use super::evaluate::Estimate;
use super::random::Random;
use crate::show::statistics::quantile_of_sorted;

/// Smallest share of draws that must determine a number for its interval to be given.
const DETERMINED: f64 = 0.99;

/// How often, and with which random numbers, units are drawn. The result does not depend on the number of threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bootstrap {
    /// Number of draws.
    pub(super) draws: usize,
    /// Seed of the draws.
    pub(super) seed: u64,
}

impl Bootstrap {
    /// Draws units with replacement, and returns the results of `statistic` on the drawn ones, those that exist. Draw `n` is
    /// the same for every number of draws.
    pub(super) fn draws<T: Send>(
        &self,
        units: usize,
        statistic: impl Fn(&[usize]) -> Option<T> + Sync,
    ) -> Vec<T> {
        (0..self.draws)
            .into_par_iter()
            .filter_map(|number| {
                let mut random = Random::stream(self.seed, number as u64);
                let drawn: Vec<usize> = (0..units).map(|_| random.index(units)).collect();
                statistic(&drawn)
            })
            .collect()
    }

    /// Returns the percentiles at 2.5 and 97.5 % of a number of each draw; `None` if too few draws determine it.
    pub(super) fn interval(&self, numbers: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
        let determined = self.determined(numbers)?;
        let quantile = |share| quantile_of_sorted(&determined, share);
        quantile(0.025)
            .zip(quantile(0.975))
            .map(|(low, high)| [low, high])
    }

    /// Returns the numbers in ascending order; `None` if too few of them are numbers.
    fn determined(&self, numbers: impl Iterator<Item = f64>) -> Option<Vec<f64>> {
        let mut determined: Vec<f64> = numbers.filter(|number| number.is_finite()).collect();
        let is_enough = determined.len() as f64 >= DETERMINED * self.draws as f64;
        determined.sort_by(f64::total_cmp);
        (is_enough && !determined.is_empty()).then_some(determined)
    }

    /// Estimates numbers from `units` independent units, all of them from the same draws. `statistic` computes them from
    /// the weight of each unit, which is how often it was drawn; a number that is not finite is not determined by these
    /// units. Intervals are the percentiles at 2.5 and 97.5 %, and are `None` with fewer than two units.
    pub(super) fn estimates(
        &self,
        units: usize,
        statistic: impl Fn(&[f64]) -> Vec<f64> + Sync,
    ) -> Vec<Option<Estimate>> {
        let values = statistic(&vec![1.0; units]);
        let drawn = match units {
            0 | 1 => Vec::new(),
            _ => self.draws(units, |drawn| {
                let mut weights = vec![0.0; units];
                drawn.iter().for_each(|unit| weights[*unit] += 1.0);
                Some(statistic(&weights))
            }),
        };
        let estimate = |(index, value): (usize, f64)| {
            let drawn = drawn.iter().map(|numbers| numbers[index]);
            value.is_finite().then(|| self.with_spread(value, drawn))
        };
        values.into_iter().enumerate().map(estimate).collect()
    }

    /// Estimates one number, as [`estimates`](Self::estimates) does.
    pub(super) fn estimate(
        &self,
        units: usize,
        statistic: impl Fn(&[f64]) -> f64 + Sync,
    ) -> Option<Estimate> {
        self.estimates(units, |weights| vec![statistic(weights)])
            .pop()
            .flatten()
    }

    fn with_spread(&self, value: f64, drawn: impl Iterator<Item = f64> + Clone) -> Estimate {
        let Some(determined) = self.determined(drawn.clone()) else {
            return Estimate {
                value,
                standard_error: None,
                interval: None,
            };
        };
        let count = determined.len() as f64;
        let mean = determined.iter().sum::<f64>() / count;
        let squares: f64 = determined.iter().map(|x| (x - mean).powi(2)).sum();
        Estimate {
            value,
            standard_error: Some((squares / (count - 1.0).max(1.0)).sqrt()),
            interval: self.interval(drawn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap {
        draws: 400,
        seed: 7,
    };

    fn ratio(pairs: &[(f64, f64)]) -> Option<Estimate> {
        BOOTSTRAP.estimate(pairs.len(), |weights| {
            let weighted = || weights.iter().zip(pairs);
            let x: f64 = weighted().map(|(weight, pair)| weight * pair.0).sum();
            let y: f64 = weighted().map(|(weight, pair)| weight * pair.1).sum();
            x / y
        })
    }

    /// Ratios of skewed sums, as of errors of sequences: 95 % intervals over 200 units cover the true ratio in 92 to
    /// 97.5 % of 400 samples, whose share has a standard deviation of 1.1 %.
    #[test]
    fn intervals_cover_the_true_ratio() {
        let mut covered = 0;
        for sample in 0..400 {
            let mut random = Random::stream(sample, 0);
            let pairs: Vec<(f64, f64)> = (0..200)
                .map(|_| {
                    let size = 1.0 + random.uniform();
                    // Exponential with mean 2 for each unit of size.
                    (-2.0 * size * random.uniform().ln(), size)
                })
                .collect();
            covered += usize::from(ratio(&pairs).unwrap().contains(2.0) == Some(true));
        }
        let share = covered as f64 / 400.0;
        assert!((0.92..=0.975).contains(&share), "{share}");
    }

    #[test]
    fn standard_error_of_a_mean_is_that_of_its_formula() {
        let pairs: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i % 10), 1.0)).collect();
        let estimate = ratio(&pairs).unwrap();
        assert_eq!(estimate.value, 4.5);
        // The variance of 0..10 is 8.25.
        let expected = (8.25f64 / 100.0).sqrt();
        assert!((estimate.standard_error.unwrap() / expected - 1.0).abs() < 0.1);
    }

    #[test]
    fn what_the_units_do_not_determine_has_no_interval() {
        assert_eq!(ratio(&[(1.0, 0.0), (0.0, 0.0)]), None);
        assert_eq!(ratio(&[(1.0, 2.0)]).unwrap().interval, None);
        // Every fourth draw has none of the second unit.
        let rare = ratio(&[(1.0, 0.0), (1.0, 1.0)]).unwrap();
        assert_eq!((rare.value, rare.interval), (2.0, None));
    }
}
