//! Bounds estimated from few runs. They mean the same for any number of runs: each is for one more run, and few runs
//! make it wide.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

/// Probability that the difference of one more run lies inside the envelope at a step, before the factor.
pub(crate) const ENVELOPE_LEVEL: f64 = 0.99;

/// Probability that one more seed ends inside the prediction interval of one outcome. There are two outcomes, so that
/// together they accuse at most 1 % of runs that are no worse than another seed (Bonferroni).
pub const OUTCOME_LEVEL: f64 = 0.995;

/// Returns the quantile t of Student's distribution with |t| exceeded with probability 1 − `level`, for `freedom`
/// degrees of freedom.
fn student_quantile(level: f64, freedom: usize) -> f64 {
    // Bisection over θ in t = √ν tan θ: the probability rises with θ.
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        match student_probability(middle, freedom) < level {
            true => low = middle,
            false => high = middle,
        }
    }
    (freedom as f64).sqrt() * high.tan()
}

/// Returns the probability that |t| ≤ √ν tan θ for Student's t with ν degrees of freedom, at least 1 (Abramowitz &
/// Stegun 1964, 26.7.3 and 26.7.4).
fn student_probability(theta: f64, freedom: usize) -> f64 {
    let (sine, cosine) = theta.sin_cos();
    let is_odd = freedom % 2 == 1;
    let mut term = if is_odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    let mut power = if is_odd { 1 } else { 0 };
    while power + 2 <= freedom {
        sum += term;
        power += 2;
        term *= cosine * cosine * (power - 1) as f64 / power as f64;
    }
    match is_odd {
        true => FRAC_2_PI * (theta + sine * sum),
        false => sine * sum,
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns the sample standard deviation, with n − 1 degrees of freedom; NaN for fewer than two values.
pub(crate) fn standard_deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    match values.len() {
        0 | 1 => f64::NAN,
        n => (squares / (n - 1) as f64).sqrt(),
    }
}

/// Returns half the width of the interval around the mean of `center` values in which one more value lies with
/// probability [`OUTCOME_LEVEL`], if values are normal with the standard deviation of `spread`.
///
/// For a center that is the mean of `spread` itself this is the usual prediction interval,
/// t · s · √(1 + 1/n) (Hahn & Meeker 1991, Statistical Intervals, §4.7).
pub(crate) fn prediction_half_width(spread: &[f64], center: usize) -> f64 {
    let quantile = student_quantile(OUTCOME_LEVEL, spread.len() - 1);
    quantile * standard_deviation(spread) * (1.0 + 1.0 / center as f64).sqrt()
}

/// Returns the bound on one more difference with probability [`ENVELOPE_LEVEL`], if differences are normal around 0: t
/// with n degrees of freedom, because the mean is known, times the root of the mean square.
pub(crate) fn difference_bound(differences: &[f64]) -> f64 {
    let squares: f64 = differences.iter().map(|value| value * value).sum();
    let n = differences.len();
    student_quantile(ENVELOPE_LEVEL, n) * (squares / n as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;
    use crate::show::statistics::median;

    /// Standard normal numbers (Box & Muller 1958).
    struct Normal(ChaCha8Rng);

    impl Normal {
        fn draw(&mut self) -> f64 {
            let mut uniform = || (self.0.next_u32() as f64 + 0.5) / 2f64.powi(32);
            let (radius, angle) = (uniform(), uniform());
            (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
        }

        fn several(&mut self, count: usize) -> Vec<f64> {
            (0..count).map(|_| self.draw()).collect()
        }
    }

    #[test]
    fn quantiles_equal_published_tables() {
        for (level, freedom, expected) in [
            (0.99, 1, 63.657),
            (0.99, 5, 4.032),
            (0.995, 2, 14.089),
            (0.995, 9, 3.690),
        ] {
            let found = student_quantile(level, freedom);
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
    }

    /// Returns the share of simulated comparisons in which one more value lies inside.
    fn coverage(trials: usize, mut inside: impl FnMut(&mut Normal) -> bool) -> f64 {
        let mut normal = Normal(ChaCha8Rng::seed_from_u64(1));
        let held = (0..trials).filter(|_| inside(&mut normal)).count();
        held as f64 / trials as f64
    }

    #[test]
    fn one_more_run_lies_inside_as_often_as_is_stated() {
        let trials = 40_000;
        for count in [2, 3, 5, 10] {
            let around_the_mean = coverage(trials, |normal| {
                let seeds = normal.several(count);
                let one_more = normal.draw();
                (one_more - mean(&seeds)).abs() <= prediction_half_width(&seeds, count)
            });
            // The interval for seeds that ran in another precision.
            let around_one = coverage(trials, |normal| {
                let seeds = normal.several(count);
                let (center, one_more) = (3.0 + normal.draw(), 3.0 + normal.draw());
                (one_more - center).abs() <= prediction_half_width(&seeds, 1)
            });
            let envelope = coverage(trials, |normal| {
                let runs = normal.several(count);
                normal.draw().abs() <= difference_bound(&runs)
            });
            // Five standard errors of a share.
            for (found, stated) in [
                (around_the_mean, OUTCOME_LEVEL),
                (around_one, OUTCOME_LEVEL),
                (envelope, ENVELOPE_LEVEL),
            ] {
                let error = 5.0 * (stated * (1.0 - stated) / trials as f64).sqrt();
                assert!(
                    (found - stated).abs() < error,
                    "{count} runs: {found} {stated}"
                );
            }
        }
    }

    #[test]
    fn more_runs_narrow_a_bound() {
        let mut normal = Normal(ChaCha8Rng::seed_from_u64(2));
        let widths = [2, 3, 5, 10, 30].map(|count| {
            let mut of = |width: fn(&[f64]) -> f64| {
                median((0..999).map(|_| width(&normal.several(count)))).unwrap()
            };
            (
                of(|runs| prediction_half_width(runs, runs.len())),
                of(difference_bound),
            )
        });
        for pair in widths.windows(2) {
            assert!(pair[1].0 < pair[0].0 && pair[1].1 < pair[0].1, "{widths:?}");
        }
    }
}
