//! Two models on the same items: McNemar's test, and a bootstrap of the difference.

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::result::{TaskResult, strata};
use super::task::{Measure, Task};
use crate::science::evaluate::Estimate;
use crate::science::random::Random;

/// Number of resamples of a bootstrap.
pub const RESAMPLES: usize = 2000;

/// Level at which a difference counts as shown.
const SIGNIFICANCE: f64 = 0.05;

/// McNemar's test of two models on the same items (McNemar 1947): only items that one model has right and the other wrong
/// say which is better, and if neither is, each kind is as likely as the other. The test is exact, of the binomial
/// distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Items that only the first model has right.
    pub only_first: usize,
    /// Items that only the second model has right.
    pub only_second: usize,
    /// Two-sided p-value.
    pub p_value: f64,
    /// p-value after Holm's correction (1979) for the number of tasks that are compared.
    pub adjusted_p_value: f64,
}

impl McNemar {
    fn new(only_first: usize, only_second: usize) -> Self {
        let total = (only_first + only_second) as u64;
        let fewer = only_first.min(only_second) as u64;
        let tail = Binomial::new(0.5, total).map_or(1.0, |binomial| binomial.cdf(fewer));
        let p_value = (2.0 * tail).min(1.0);
        Self {
            only_first,
            only_second,
            p_value,
            adjusted_p_value: p_value,
        }
    }
}

/// Difference between two models in a measure of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskDifference {
    /// The task.
    pub task: Task,
    /// The measure.
    pub measure: Measure,
    /// The second model's value minus the first's. The interval is that of the 2.5 % and 97.5 % quantiles of a bootstrap
    /// over items, within the parts of a task; `None` if all resamples agree, because then they say nothing about chance.
    pub difference: Estimate,
    /// The test of accuracies.
    pub mcnemar: Option<McNemar>,
}

impl TaskDifference {
    /// Returns whether the second model is better, as far as the items show it. The test, corrected for the number of tasks,
    /// has to say so, and the interval must not contain 0.
    pub fn second_is_better(&self) -> Option<bool> {
        let is_shown = match (self.mcnemar, self.difference.contains(0.0)) {
            (Some(test), contains) => {
                test.adjusted_p_value < SIGNIFICANCE && contains != Some(true)
            }
            (None, contains) => contains == Some(false),
        };
        let is_higher = self.difference.value > 0.0;
        is_shown.then_some(is_higher == (self.measure != Measure::Perplexity))
    }
}

/// Compares two models, given the results of the same tasks on the same items.
///
/// # Panics
///
/// Panics if the tasks or the items differ.
pub fn differences(first: &[TaskResult], second: &[TaskResult]) -> Vec<TaskDifference> {
    assert_eq!(first.len(), second.len(), "the same tasks");
    let mut differences = Vec::new();
    for (a, b) in first.iter().zip(second) {
        for measure in a.task.measures() {
            differences.push(difference(*measure, a, b));
        }
    }
    for measure in [
        Measure::Accuracy,
        Measure::AccuracyPerCharacter,
        Measure::AccuracyPerByte,
    ] {
        let of_measure = differences.iter_mut().filter(|one| one.measure == measure);
        let mut tests: Vec<&mut McNemar> =
            of_measure.filter_map(|one| one.mcnemar.as_mut()).collect();
        tests.sort_by(|a, b| a.p_value.total_cmp(&b.p_value));
        let (count, mut largest) = (tests.len(), 0.0f64);
        for (place, test) in tests.into_iter().enumerate() {
            largest = largest.max((test.p_value * (count - place) as f64).min(1.0));
            test.adjusted_p_value = largest;
        }
    }
    differences
}

fn difference(measure: Measure, first: &TaskResult, second: &TaskResult) -> TaskDifference {
    let strata = [first, second].map(|result| strata(measure, &result.items));
    let pairs: Vec<Vec<[f64; 2]>> = strata[0]
        .iter()
        .map(|(group, a)| {
            let b = &strata[1][group];
            assert_eq!(a.len(), b.len(), "the same items");
            a.iter().zip(b).map(|(a, b)| [*a, *b]).collect()
        })
        .collect();
    let all = || pairs.iter().flatten();
    let mcnemar = (measure != Measure::Perplexity).then(|| {
        let only = |kind: [f64; 2]| all().filter(|pair| **pair == kind).count();
        McNemar::new(only([1.0, 0.0]), only([0.0, 1.0]))
    });
    let of_means = |means: [f64; 2]| match measure {
        Measure::Perplexity => means[1].exp() - means[0].exp(),
        _ => means[1] - means[0],
    };
    let value = of_means(means(&pairs, |pairs, place| pairs[place]));
    let differs = all().any(|[a, b]| a != b);
    let replicates = match differs && all().count() > 1 {
        true => bootstrap(&pairs, of_means),
        false => Vec::new(),
    };
    TaskDifference {
        task: first.task,
        measure,
        difference: estimate(value, replicates),
        mcnemar,
    }
}

/// Returns the means of both models over strata that count alike. `pick` chooses the pair at a place of a stratum.
fn means(
    strata: &[Vec<[f64; 2]>],
    mut pick: impl FnMut(&[[f64; 2]], usize) -> [f64; 2],
) -> [f64; 2] {
    let mut means = [0.0; 2];
    for pairs in strata {
        let mut sums = [0.0; 2];
        for place in 0..pairs.len() {
            let pair = pick(pairs, place);
            sums[0] += pair[0];
            sums[1] += pair[1];
        }
        for (mean, sum) in means.iter_mut().zip(sums) {
            *mean += sum / (pairs.len() * strata.len()) as f64;
        }
    }
    means
}

/// Returns the differences of resamples with replacement (Efron 1979). The random numbers are always the same ones.
fn bootstrap(strata: &[Vec<[f64; 2]>], of_means: impl Fn([f64; 2]) -> f64) -> Vec<f64> {
    (0..RESAMPLES as u64)
        .map(|number| {
            let mut random = Random::stream(0, number);
            of_means(means(strata, |pairs, _| pairs[random.index(pairs.len())]))
        })
        .collect()
}

fn estimate(value: f64, mut replicates: Vec<f64>) -> Estimate {
    replicates.sort_by(f64::total_cmp);
    let count = replicates.len();
    let varies = replicates.first() != replicates.last();
    let quantile = |share: f64| replicates[((count as f64 * share) as usize).min(count - 1)];
    let mean = replicates.iter().sum::<f64>() / count as f64;
    let squares: f64 = replicates.iter().map(|one| (one - mean).powi(2)).sum();
    Estimate {
        value,
        standard_error: varies.then(|| (squares / (count as f64 - 1.0)).sqrt()),
        interval: varies.then(|| [quantile(0.025), quantile(0.975)]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::item_result;
    use super::*;

    /// Results of a task of two choices, right where there is a `+`.
    fn result(task: Task, right: &str) -> TaskResult {
        let items = right.chars().map(|mark| {
            let nats = if mark == '+' { -1.0 } else { -3.0 };
            item_result(task, None, &[nats, -2.0])
        });
        TaskResult::new(task, vec![], 0, items.collect())
    }

    fn of(pattern: &[(&str, &str, usize)]) -> Vec<TaskDifference> {
        let [first, second] = [0, 1].map(|which| {
            let marks = pattern
                .iter()
                .map(|(a, b, count)| [a, b][which].repeat(*count));
            vec![result(Task::Winogrande, &marks.collect::<String>())]
        });
        differences(&first, &second)
    }

    /// The p-values are sums of binomial coefficients: 2 · (1 + 10) / 2¹⁰ for 1 of 10.
    #[test]
    fn mcnemar_is_the_exact_test() {
        for (first, second, expected) in [
            (1, 9, 22.0 / 1024.0),
            (0, 5, 2.0 / 32.0),
            (5, 5, 1.0),
            (0, 0, 1.0),
            (0, 1, 1.0),
        ] {
            let test = McNemar::new(first, second);
            assert!((test.p_value - expected).abs() < 1e-12, "{test:?}");
        }
        let many = McNemar::new(400, 500);
        // A normal approximation with a correction of continuity: z = 99 / 30.
        assert!((many.p_value - 0.000_967).abs() < 2e-5, "{many:?}");
    }

    /// 40 of 400 items differ: the standard error of the difference is √(n(b + c) − (b − c)²) / n^1.5.
    #[test]
    fn the_bootstrap_has_the_error_of_the_formula() {
        let found = &of(&[
            ("+", "+", 200),
            ("-", "-", 160),
            ("-", "+", 32),
            ("+", "-", 8),
        ])[0];
        assert!((found.difference.value - 0.06).abs() < 1e-12);
        let expected = (400.0f64 * 40.0 - 24.0f64.powi(2)).sqrt() / 400f64.powf(1.5);
        let error = found.difference.standard_error.unwrap();
        assert!((error / expected - 1.0).abs() < 0.05, "{error} {expected}");
        let [low, high] = found.difference.interval.unwrap();
        assert!((low - (0.06 - 1.96 * expected)).abs() < 0.006, "{low}");
        assert!((high - (0.06 + 1.96 * expected)).abs() < 0.006, "{high}");
        assert_eq!(found.second_is_better(), Some(true));
    }

    #[test]
    fn what_the_items_do_not_show_is_not_said() {
        let equal = &of(&[("+", "+", 20), ("-", "-", 20)])[0];
        assert_eq!(equal.difference.interval, None);
        assert_eq!(equal.second_is_better(), None);
        // Every resample has a difference of 1, which is no interval; the test alone says it.
        let all = &of(&[("-", "+", 12)])[0];
        assert_eq!((all.difference.value, all.difference.interval), (1.0, None));
        assert_eq!(all.second_is_better(), Some(true));
        let few = &of(&[("-", "+", 4)])[0];
        assert_eq!(few.second_is_better(), None);
        let close = &of(&[("+", "+", 20), ("-", "+", 3), ("+", "-", 2)])[0];
        assert_eq!(close.second_is_better(), None);
    }

    #[test]
    fn a_lower_perplexity_is_better() {
        let result = |nats: &[f64]| {
            let items = nats
                .iter()
                .map(|nats| item_result(Task::Lambada, None, &[*nats]));
            vec![TaskResult::new(Task::Lambada, vec![], 0, items.collect())]
        };
        let first: Vec<f64> = (0..50).map(|place| -2.0 - f64::from(place % 7)).collect();
        let second: Vec<f64> = first.iter().map(|nats| nats + 0.5).collect();
        let found = differences(&result(&first), &result(&second));
        assert_eq!(found[1].measure, Measure::Perplexity);
        assert!(found[1].difference.value < 0.0);
        assert_eq!(found[1].second_is_better(), Some(true));
    }

    #[test]
    fn more_tasks_need_a_smaller_p_value() {
        let tasks = [Task::Winogrande, Task::Piqa];
        let [first, second] = ["-", "+"].map(|mark| {
            let of = |task| result(task, &format!("{}{}", "+".repeat(30), mark.repeat(6)));
            tasks.map(of).to_vec()
        });
        let found = differences(&first, &second);
        let test = found[0].mcnemar.unwrap();
        assert!((test.p_value - 2.0 / 64.0).abs() < 1e-12);
        assert!((test.adjusted_p_value - 4.0 / 64.0).abs() < 1e-12);
        assert_eq!(found[0].second_is_better(), None);
    }
}
