//! Shares of independent trials, with exact intervals, and differences of shares.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

use super::evaluate::Estimate;

/// Share of independent trials that had an outcome, with its 95 % interval (Clopper & Pearson 1934), which is exact for
/// any number of trials: none or all of them have an interval, too.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Number of trials with the outcome.
    pub count: u64,
    /// Number of trials.
    pub trials: u64,
    /// Their ratio.
    pub value: f64,
    /// Ends of the interval.
    pub interval: [f64; 2],
}

impl Share {
    /// Returns the share of `count` in `trials` trials; `None` without trials.
    pub(super) fn of(count: usize, trials: usize) -> Option<Self> {
        if trials == 0 {
            return None;
        }
        let (successes, failures) = (count as f64, (trials - count) as f64);
        let quantile = |a: f64, b: f64, level: f64| {
            Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(level))
        };
        let low = match count {
            0 => 0.0,
            _ => quantile(successes, failures + 1.0, 0.025),
        };
        let high = match trials - count {
            0 => 1.0,
            _ => quantile(successes + 1.0, failures, 0.975),
        };
        Some(Self {
            count: count as u64,
            trials: trials as u64,
            value: successes / trials as f64,
            interval: [low, high],
        })
    }
}

/// Difference of two shares of independent trials, with its 95 % interval (Newcombe 1998, method 10), which follows from the
/// score intervals of both shares and stays within −1 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ShareDifference {
    /// The first share less the second one.
    pub value: f64,
    /// Ends of the interval.
    pub interval: [f64; 2],
}

impl ShareDifference {
    /// Returns the first share less the second one.
    pub(super) fn of(first: Share, second: Share) -> Option<Self> {
        let score = |share: Share| {
            let score = Estimate::of_share(share.count as usize, share.trials as usize)?;
            score.interval
        };
        let ([low, high], [second_low, second_high]) = (score(first)?, score(second)?);
        let value = first.value - second.value;
        let below = (first.value - low).hypot(second_high - second.value);
        let above = (high - first.value).hypot(second.value - second_low);
        Some(Self {
            value,
            interval: [(value - below).max(-1.0), (value + above).min(1.0)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_tables() {
        for (count, trials, low, high) in [
            (0, 10, 0.0, 0.308_497),
            (5, 10, 0.187_086, 0.812_914),
            (10, 10, 0.691_503, 1.0),
            (1, 20, 0.001_265, 0.248_733),
        ] {
            let share = Share::of(count, trials).unwrap();
            let [a, b] = share.interval;
            assert!(
                (a - low).abs() < 2e-6 && (b - high).abs() < 2e-6,
                "{share:?}"
            );
        }
        assert_eq!(Share::of(0, 0), None);
    }

    /// The examples of Newcombe 1998, table II, method 10.
    #[test]
    fn intervals_of_differences_are_those_of_newcombe() {
        for ([a, m, b, n], low, high) in [
            ([56, 70, 48, 80], 0.0524, 0.3339),
            ([9, 10, 3, 10], 0.1705, 0.8090),
            ([5, 56, 0, 29], -0.0381, 0.1926),
            ([0, 10, 0, 20], -0.1611, 0.2775),
            ([10, 10, 0, 20], 0.6791, 1.0),
        ] {
            let [first, second] = [(a, m), (b, n)].map(|(a, m)| Share::of(a, m).unwrap());
            let found = ShareDifference::of(first, second).unwrap();
            assert!((found.value - (first.value - second.value)).abs() < 1e-15);
            let [a, b] = found.interval;
            assert!(
                (a - low).abs() < 6e-5 && (b - high).abs() < 6e-5,
                "{found:?}"
            );
        }
    }

    /// An end of the interval is where the observed count, or one further away, has a probability of 2.5 %.
    #[test]
    fn ends_have_the_probability_of_a_tail() {
        let [low, high] = Share::of(3, 500).unwrap().interval;
        let at_most = |count: usize, p: f64| -> f64 {
            let mut probability = (1.0f64 - p).powi(500);
            let mut sum = 0.0;
            for k in 0..=count {
                sum += probability;
                probability *= (500 - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
            }
            sum
        };
        assert!((at_most(3, high) - 0.025).abs() < 1e-6);
        assert!((1.0 - at_most(2, low) - 0.025).abs() < 1e-6);
    }
}
