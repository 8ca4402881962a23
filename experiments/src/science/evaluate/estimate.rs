//! Estimates with standard errors and confidence intervals.
//!
//! Every measure of an evaluation is a ratio of two sums over a text: nats over tokens, bits over bytes, hits over
//! tokens. Tokens of one document are not independent of each other, so the text is divided into clusters (documents, or
//! blocks of one document), and the variance of a ratio `R = Σx / Σy` over `n` clusters is estimated from the residuals
//! `e = x - R y` of the clusters (Cochran 1977, Sampling Techniques, section 6.4):
//! `SE² = n / (n - 1) · Σ e² / (Σ y)²`. Intervals are `R ± t · SE` with the 97.5 % quantile `t` of Student's distribution
//! with `n - 1` degrees of freedom.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The 97.5 % quantile of the standard normal distribution.
pub(in crate::science) const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;

/// A number with its uncertainty. Standard error and interval are `None` if the text has fewer than two clusters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The number itself.
    pub value: f64,
    /// Standard error.
    pub standard_error: Option<f64>,
    /// Ends of the 95 % confidence interval.
    pub interval: Option<[f64; 2]>,
}

/// Sums from which a ratio Σx / Σy and its uncertainty follow.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::science) struct Ratio {
    clusters: usize,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Ratio {
    /// Adds a cluster. One in which both are 0 has no part in the ratio, and is not counted.
    pub(in crate::science) fn add(&mut self, x: f64, y: f64) {
        if x == 0.0 && y == 0.0 {
            return;
        }
        self.clusters += 1;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    /// Returns the ratio; `None` if Σy is 0.
    pub(in crate::science) fn estimate(&self) -> Option<Estimate> {
        if self.y == 0.0 {
            return None;
        }
        let value = self.x / self.y;
        // Σ (x - R y)², which rounding must not make negative.
        let squares = self.xx - 2.0 * value * self.xy + value * value * self.yy;
        let parts = squares.max(0.0) / (self.y * self.y);
        Some(Estimate::of_parts(value, self.clusters, parts))
    }
}

/// Returns the second ratio minus the first over the same clusters, given `[[x₁, y₁], [x₂, y₂]]` of each; `None` if a Σy
/// is 0.
///
/// With the residuals `e = x - R y` of both ratios, `d = e₂ / Σ y₂ - e₁ / Σ y₁` is the part of a cluster in the error of
/// `R₂ - R₁`, so that `SE² = n / (n - 1) · Σ d²`. What both ratios share in a cluster cancels.
pub(super) fn ratio_difference(
    clusters: impl Iterator<Item = [[f64; 2]; 2]> + Clone,
) -> Option<Estimate> {
    let mut sums = [[0.0; 2]; 2];
    let mut count = 0;
    for cluster in clusters.clone() {
        count += 1;
        for (sums, numbers) in sums.iter_mut().zip(cluster) {
            sums[0] += numbers[0];
            sums[1] += numbers[1];
        }
    }
    if sums.iter().any(|[_, y]| *y == 0.0) {
        return None;
    }
    let [first, second] = sums.map(|[x, y]| x / y);
    let squares: f64 = clusters
        .map(|[[x1, y1], [x2, y2]]| {
            let part = (x2 - second * y2) / sums[1][1] - (x1 - first * y1) / sums[0][1];
            part * part
        })
        .sum();
    Some(Estimate::of_parts(second - first, count, squares))
}

impl Estimate {
    /// Returns the mean of numbers; `None` if there are none.
    pub(in crate::science) fn of_mean(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut ratio = Ratio::default();
        for number in numbers {
            ratio.add(number, 1.0);
        }
        ratio.estimate()
    }

    /// Returns the share of `hits` in `total`; `None` if that is 0. The standard error is that of the mean of `total`
    /// zeros and ones. The interval is the score interval (Wilson 1927), which stays within 0 and 1 and has a width also
    /// where all or none are hits.
    pub(in crate::science) fn of_share(hits: usize, total: usize) -> Option<Self> {
        if total == 0 {
            return None;
        }
        let (hits, n) = (hits as f64, total as f64);
        let share = hits / n;
        let square = NORMAL_QUANTILE * NORMAL_QUANTILE;
        let centre = (hits + square / 2.0) / (n + square);
        let margin = NORMAL_QUANTILE / (n + square) * (hits * (n - hits) / n + square / 4.0).sqrt();
        Some(Self {
            value: share,
            standard_error: (total > 1).then(|| (share * (1.0 - share) / (n - 1.0)).sqrt()),
            // Both ends are exact where rounding would leave a trace.
            interval: Some([
                if hits == 0.0 { 0.0 } else { centre - margin },
                if hits == n { 1.0 } else { centre + margin },
            ]),
        })
    }

    /// Returns the slope of the line of least squares through points `(x, y)`, with the interval for independent errors of
    /// one normal distribution; `None` unless two points differ in x. Two points have no interval.
    pub(in crate::science) fn of_slope(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            points
                .iter()
                .map(|point| of(point.0 - x, point.1 - y))
                .sum()
        };
        let spread = sum(&|x, _| x * x);
        if spread.is_nan() || spread <= 0.0 {
            return None;
        }
        let value = sum(&|x, y| x * y) / spread;
        let degrees = n - 2.0;
        let squares = sum(&|x, y| (y - value * x).powi(2));
        let standard_error = (degrees >= 1.0).then(|| (squares / degrees / spread).sqrt());
        Some(Self {
            value,
            standard_error,
            interval: standard_error.map(|error| {
                let margin = student_quantile(degrees) * error;
                [value - margin, value + margin]
            }),
        })
    }

    /// Returns the estimate with `SE² = n / (n - 1) · squares` from `n` clusters, where `squares` is the sum of the squares
    /// of the clusters' parts in its error.
    fn of_parts(value: f64, clusters: usize, squares: f64) -> Self {
        if clusters < 2 {
            return Self {
                value,
                standard_error: None,
                interval: None,
            };
        }
        let degrees = clusters as f64 - 1.0;
        let standard_error = (clusters as f64 / degrees * squares).sqrt();
        let margin = student_quantile(degrees) * standard_error;
        Self {
            value,
            standard_error: Some(standard_error),
            interval: Some([value - margin, value + margin]),
        }
    }

    /// Returns the estimate of this number times a constant.
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            value: self.value * factor,
            standard_error: self.standard_error.map(|error| error * factor.abs()),
            interval: self.interval.map(|[low, high]| {
                let ends = [low * factor, high * factor];
                [ends[0].min(ends[1]), ends[0].max(ends[1])]
            }),
        }
    }

    /// Returns the perplexity of this loss in nats: e to its power. The interval is that of the loss, which is not below 0,
    /// transformed, so that a perplexity is not below 1; the standard error is that of a linear approximation.
    pub(in crate::science) fn perplexity(self) -> Self {
        let loss = self.clamped(0.0, f64::INFINITY);
        let value = loss.value.exp();
        Self {
            value,
            standard_error: loss.standard_error.map(|error| error * value),
            interval: loss.interval.map(|ends| ends.map(f64::exp)),
        }
    }

    /// Returns the estimate with the ends of its interval in the range of possible values.
    pub(in crate::science) fn clamped(self, lowest: f64, highest: f64) -> Self {
        let clamp = |ends: [f64; 2]| ends.map(|end| end.clamp(lowest, highest));
        Self {
            interval: self.interval.map(clamp),
            ..self
        }
    }

    /// Returns this estimate less one from independent data. `clusters` is the smaller number of clusters of the two: with
    /// its degrees of freedom the interval is at least as wide as by those of Welch (1947).
    pub(in crate::science) fn minus_independent(self, other: Self, clusters: usize) -> Self {
        let value = self.value - other.value;
        let errors = self.standard_error.zip(other.standard_error);
        let standard_error = errors.map(|(a, b)| a.hypot(b)).filter(|_| clusters > 1);
        Self {
            value,
            standard_error,
            interval: standard_error.map(|error| {
                let margin = student_quantile(clusters as f64 - 1.0) * error;
                [value - margin, value + margin]
            }),
        }
    }

    /// Whether the interval contains a number; `None` if there is no interval.
    pub fn contains(&self, number: f64) -> Option<bool> {
        self.interval
            .map(|[low, high]| low <= number && number <= high)
    }
}

/// Returns the 97.5 % quantile of Student's distribution.
fn student_quantile(degrees: f64) -> f64 {
    let distribution = StudentsT::new(0.0, 1.0, degrees).expect("there is a degree of freedom");
    distribution.inverse_cdf(0.975)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    fn ratio(clusters: impl IntoIterator<Item = (f64, f64)>) -> Option<Estimate> {
        let mut ratio = Ratio::default();
        clusters.into_iter().for_each(|(x, y)| ratio.add(x, y));
        ratio.estimate()
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        // Student's distribution, 97.5 %, as printed in tables.
        for (degrees, expected) in [(1.0, 12.706), (2.0, 4.303), (10.0, 2.228), (100.0, 1.984)] {
            assert!((student_quantile(degrees) - expected).abs() < 1e-3);
        }
    }

    #[test]
    fn ratio_of_equal_clusters_is_a_mean_with_its_standard_error() {
        let numbers = [1.0, 2.0, 4.0, 5.0];
        let estimate = ratio(numbers.map(|x| (x, 1.0))).unwrap();
        // Mean 3, sample variance 10 / 3.
        let error = (10.0f64 / 3.0 / 4.0).sqrt();
        assert_eq!(estimate.value, 3.0);
        assert!((estimate.standard_error.unwrap() - error).abs() < 1e-12);
        let [low, high] = estimate.interval.unwrap();
        assert!((high - low - 2.0 * 3.182 * error).abs() < 1e-2);
        assert_eq!(estimate.contains(3.1), Some(true));
        assert_eq!(estimate.contains(30.0), Some(false));
    }

    /// The intervals are those of R's `prop.test(x, n, correct = FALSE)`.
    #[test]
    fn intervals_of_shares_are_those_of_wilson() {
        for (hits, total, low, high) in [
            (0, 10, 0.0, 0.277_532_8),
            (7, 10, 0.396_778_1, 0.892_208_7),
            (10, 10, 0.722_467_2, 1.0),
        ] {
            let share = Estimate::of_share(hits, total).unwrap();
            let interval = share.interval.unwrap();
            assert_eq!(
                (interval[0] == 0.0, interval[1] == 1.0),
                (hits == 0, hits == total)
            );
            assert!((interval[0] - low).abs() < 1e-6, "{interval:?}");
            assert!((interval[1] - high).abs() < 1e-6, "{interval:?}");
            let numbers = (0..total).map(|place| f64::from(u8::from(place < hits)));
            let mean = Estimate::of_mean(numbers).unwrap();
            let errors = [share, mean].map(|estimate| estimate.standard_error.unwrap());
            assert!((errors[0] - errors[1]).abs() < 1e-12, "{errors:?}");
        }
        assert_eq!(Estimate::of_share(0, 0), None);
    }

    #[test]
    fn slopes_are_those_of_least_squares() {
        // Anscombe 1973, the first data set: slope 0.5001, standard error 0.1179 with 9 degrees of freedom.
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [
            8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68,
        ];
        let points: Vec<_> = x.into_iter().zip(y).collect();
        let slope = Estimate::of_slope(&points).unwrap();
        assert!((slope.value - 0.5001).abs() < 1e-4, "{slope:?}");
        assert!((slope.standard_error.unwrap() - 0.1179).abs() < 1e-4);
        let [low, high] = slope.interval.unwrap();
        assert!((high - low - 2.0 * 2.262_157 * 0.117_906).abs() < 1e-4);
        let two = Estimate::of_slope(&[(1.0, 2.0), (3.0, 8.0)]).unwrap();
        assert_eq!((two.value, two.interval), (3.0, None));
        assert_eq!(Estimate::of_slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(Estimate::of_slope(&[]), None);
    }

    #[test]
    fn one_cluster_has_no_uncertainty() {
        let estimate = ratio([(6.0, 3.0), (0.0, 0.0)]).unwrap();
        assert_eq!((estimate.value, estimate.interval), (2.0, None));
        assert_eq!(ratio([(6.0, 0.0)]), None);
        assert_eq!(ratio([]), None);
    }

    #[test]
    fn transformations_keep_the_order_of_the_ends() {
        let estimate = ratio([(1.0, 1.0), (3.0, 1.0)]).unwrap();
        let [low, high] = estimate.scaled(-2.0).interval.unwrap();
        assert!(low < -4.0 && -4.0 < high);
        assert_eq!(estimate.clamped(1.5, 2.5).interval, Some([1.5, 2.5]));
        // The interval of the loss ends below 0.
        assert!(estimate.interval.unwrap()[0] < 0.0);
        let perplexity = estimate.perplexity();
        assert_eq!(perplexity.value, 2f64.exp());
        assert_eq!(perplexity.interval.unwrap()[0], 1.0);
        assert_eq!(
            perplexity.interval.unwrap()[1],
            estimate.interval.unwrap()[1].exp()
        );
    }

    #[test]
    fn difference_of_ratios_has_no_error_where_the_models_differ_by_a_constant() {
        let clusters = [(3.0, 1.0), (10.0, 2.0), (7.0, 4.0)];
        let pairs = clusters.map(|(x, y)| [[x, y], [x + 0.5 * y, y]]);
        let estimate = ratio_difference(pairs.into_iter()).unwrap();
        assert!((estimate.value - 0.5).abs() < 1e-12);
        assert!(estimate.standard_error.unwrap() < 1e-12);
        let one = ratio_difference(pairs[..1].iter().copied()).unwrap();
        assert_eq!(one.interval, None);
        assert_eq!(ratio_difference([[[1.0, 0.0]; 2]].into_iter()), None);
    }

    #[test]
    fn errors_of_independent_estimates_add_up_in_squares() {
        let estimate = |value, error| Estimate {
            value,
            standard_error: Some(error),
            interval: None,
        };
        let difference = estimate(5.0, 0.3).minus_independent(estimate(3.0, 0.4), 11);
        assert_eq!(
            (difference.value, difference.standard_error),
            (2.0, Some(0.5))
        );
        let [low, high] = difference.interval.unwrap();
        // Student's quantile of 10 degrees of freedom is 2.228.
        assert!((high - low - 2.228).abs() < 1e-3);
        assert_eq!(
            estimate(1.0, 0.1)
                .minus_independent(estimate(1.0, 0.1), 1)
                .interval,
            None
        );
    }

    /// Two models on documents whose difficulty they share: paired intervals cover the true difference in 95 % of 4000
    /// texts, and are much narrower than those of either model.
    #[test]
    fn paired_intervals_cover_the_truth_and_are_narrow() {
        for (documents, lowest, highest) in [(10, 0.91, 0.965), (100, 0.935, 0.963)] {
            let (mut covered, mut widths) = (0, [0.0; 2]);
            for seed in 0..4000 {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let mut uniform = || (random.next_u32() as f64 + 0.5) / 2f64.powi(32);
                let clusters: Vec<[[f64; 2]; 2]> = (0..documents)
                    .map(|_| {
                        let length = 20.0 + 160.0 * uniform();
                        let difficulty = 2.0 - uniform().ln();
                        // A mean of 0.1, and a standard deviation of 0.058.
                        let other = difficulty + 0.2 * uniform();
                        [[difficulty * length, length], [other * length, length]]
                    })
                    .collect();
                let paired = ratio_difference(clusters.iter().copied()).unwrap();
                let alone = ratio(clusters.iter().map(|[[x, y], _]| (*x, *y))).unwrap();
                covered += usize::from(paired.contains(0.1) == Some(true));
                for (width, estimate) in widths.iter_mut().zip([paired, alone]) {
                    *width += estimate.standard_error.unwrap();
                }
            }
            let share = covered as f64 / 4000.0;
            assert!(
                (lowest..=highest).contains(&share),
                "{documents} documents: {share}"
            );
            assert!(widths[0] < 0.1 * widths[1], "{widths:?}");
        }
    }

    /// Documents of very different lengths, whose tokens share a difficulty: intervals cover the true ratio in 95 % of
    /// 4000 texts if there are many, and in 88 % if there are ten: difficulties are exponential, and the interval of a skewed
    /// quantity is too short on one side. The standard deviation of the observed share is 0.35 %.
    #[test]
    fn intervals_cover_the_truth() {
        for (documents, lowest, highest) in [(10, 0.87, 0.96), (40, 0.92, 0.96), (200, 0.935, 0.96)]
        {
            let mut covered = 0;
            for seed in 0..4000 {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let mut uniform = || (random.next_u32() as f64 + 0.5) / 2f64.powi(32);
                let clusters: Vec<(f64, f64)> = (0..documents)
                    .map(|_| {
                        // Lengths from 20 to 180; losses of mean 3 with an exponential part.
                        let length = 20.0 + 160.0 * uniform();
                        let difficulty = 2.0 - uniform().ln();
                        (difficulty * length, length)
                    })
                    .collect();
                let estimate = ratio(clusters).unwrap();
                covered += usize::from(estimate.contains(3.0) == Some(true));
            }
            let share = covered as f64 / 4000.0;
            assert!(
                (lowest..=highest).contains(&share),
                "{documents} documents: {share}"
            );
        }
    }
}
