//! Results of items, and the measures of a task with their uncertainty.

use std::collections::BTreeMap;

use serde::Serialize;

use super::question::Item;
use super::task::{Measure, Task};
use crate::science::evaluate::{Estimate, NORMAL_QUANTILE};

/// Score of one choice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChoiceResult {
    /// Sum of the ln p of the tokens of the continuation.
    pub log_likelihood: f64,
    /// Number of these tokens.
    pub tokens: usize,
    /// Whether each of them is the model's most probable token.
    pub greedy: bool,
    /// Characters of the choice.
    pub characters: usize,
    /// Bytes of the choice.
    pub bytes: usize,
}

/// Result of one item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemResult {
    /// Place among the questions, from 0.
    pub index: usize,
    /// File, and line or row.
    pub place: String,
    /// Identity in the data set, if it states one.
    pub id: Option<String>,
    /// Part of the task that the item belongs to, if it has parts.
    pub group: Option<String>,
    /// Index of the right choice.
    pub gold: usize,
    /// Number of tokens that were cut from the beginning of its longest prompt to fit the context.
    pub cut: usize,
    /// Scores of the choices.
    pub choices: Vec<ChoiceResult>,
    /// Value of each measure: 1 or 0 for right or wrong, and the perplexity of the answer.
    pub measures: BTreeMap<Measure, f64>,
}

impl ItemResult {
    pub(super) fn new(
        task: Task,
        index: usize,
        item: &Item,
        cut: usize,
        choices: Vec<ChoiceResult>,
    ) -> Self {
        let value = |measure: &Measure| (*measure, value(*measure, &choices, item.gold));
        Self {
            index,
            place: item.place.clone(),
            id: item.id.clone(),
            group: item.group.clone(),
            gold: item.gold,
            cut,
            measures: task.measures().iter().map(value).collect(),
            choices,
        }
    }
}

/// Returns the value of a measure. Of equal scores the first choice counts as the highest.
fn value(measure: Measure, choices: &[ChoiceResult], gold: usize) -> f64 {
    let is_best = |score: fn(&ChoiceResult) -> f64| {
        let mut best = 0;
        for (place, choice) in choices.iter().enumerate() {
            if score(choice) > score(&choices[best]) {
                best = place;
            }
        }
        f64::from(u8::from(best == gold))
    };
    match measure {
        Measure::Accuracy if choices.len() == 1 => f64::from(u8::from(choices[0].greedy)),
        Measure::Accuracy => is_best(|choice| choice.log_likelihood),
        Measure::AccuracyPerCharacter => {
            is_best(|choice| choice.log_likelihood / choice.characters as f64)
        }
        Measure::AccuracyPerByte => is_best(|choice| choice.log_likelihood / choice.bytes as f64),
        Measure::Perplexity => (-choices[gold].log_likelihood).exp(),
    }
}

/// A measure of a part of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupResult {
    /// Name of the part.
    pub name: String,
    /// Number of its items.
    pub items: usize,
    /// Accuracy.
    pub accuracy: Estimate,
}

/// Result of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskResult {
    /// The task.
    pub task: Task,
    /// Paths of the files with the questions.
    pub files: Vec<String>,
    /// Number of examples before each question.
    pub shots: usize,
    /// Accuracy of choosing at random; `None` for a task without choices.
    pub chance: Option<f64>,
    /// Number of items some of whose tokens were cut to fit the context.
    pub cut_items: usize,
    /// The measures.
    pub measures: BTreeMap<Measure, Estimate>,
    /// Parts of the task, in the order of their names; empty if it has none.
    pub groups: Vec<GroupResult>,
    /// Every item.
    pub items: Vec<ItemResult>,
}

impl TaskResult {
    pub(super) fn new(
        task: Task,
        files: Vec<String>,
        shots: usize,
        items: Vec<ItemResult>,
    ) -> Self {
        let with_choices = items.iter().all(|item| item.choices.len() > 1);
        let chances = items.iter().map(|item| 1.0 / item.choices.len() as f64);
        let chance = chances.sum::<f64>() / items.len().max(1) as f64;
        let of = |measure: &Measure| Some((*measure, estimate(*measure, &items)?));
        let groups = strata(Measure::Accuracy, &items);
        let groups = groups.into_iter().filter_map(|(name, values)| {
            Some(GroupResult {
                name: name?.to_owned(),
                items: values.len(),
                accuracy: share(&values)?,
            })
        });
        Self {
            task,
            files,
            shots,
            chance: with_choices.then_some(chance),
            cut_items: items.iter().filter(|item| item.cut > 0).count(),
            measures: task.measures().iter().filter_map(of).collect(),
            groups: groups.collect(),
            items,
        }
    }
}

/// Returns the values of a measure by the part of the task, with the logarithm of perplexities.
pub(super) fn strata(measure: Measure, items: &[ItemResult]) -> BTreeMap<Option<&str>, Vec<f64>> {
    let mut strata: BTreeMap<Option<&str>, Vec<f64>> = BTreeMap::new();
    for item in items {
        let value = match measure {
            Measure::Perplexity => -item.choices[item.gold].log_likelihood,
            measure => item.measures[&measure],
        };
        strata.entry(item.group.as_deref()).or_default().push(value);
    }
    strata
}

/// Estimates a measure. A task of several parts has the mean of their shares, each part counting alike; its variance is
/// that of a stratified mean, `Σ s² / n` over the square of the number of parts (Cochran 1977, section 5.3).
fn estimate(measure: Measure, items: &[ItemResult]) -> Option<Estimate> {
    let strata: Vec<Vec<f64>> = strata(measure, items).into_values().collect();
    match &strata[..] {
        [numbers] if measure == Measure::Perplexity => {
            Some(Estimate::of_mean(numbers.iter().copied())?.perplexity())
        }
        [values] => share(values),
        several => stratified(several),
    }
}

fn share(values: &[f64]) -> Option<Estimate> {
    let hits = values.iter().filter(|value| **value == 1.0).count();
    Estimate::of_share(hits, values.len())
}

fn stratified(strata: &[Vec<f64>]) -> Option<Estimate> {
    let parts = strata.len() as f64;
    let shares: Option<Vec<Estimate>> = strata.iter().map(|values| share(values)).collect();
    let shares = shares.filter(|shares| !shares.is_empty())?;
    let value = shares.iter().map(|share| share.value).sum::<f64>() / parts;
    let squares: Option<f64> = shares
        .iter()
        .map(|share| share.standard_error.map(|error| error * error))
        .sum();
    let standard_error = squares.map(|squares| squares.sqrt() / parts);
    // If all parts are all right or all wrong, their variance says nothing.
    let interval = standard_error.filter(|error| *error > 0.0).map(|error| {
        [-1.0, 1.0].map(|sign| (value + sign * NORMAL_QUANTILE * error).clamp(0.0, 1.0))
    });
    Some(Estimate {
        value,
        standard_error,
        interval,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::science::tasks::question::Choice;

    fn choice(log_likelihood: f64, characters: usize, bytes: usize) -> ChoiceResult {
        ChoiceResult {
            log_likelihood,
            tokens: 1,
            greedy: log_likelihood > -1.0,
            characters,
            bytes,
        }
    }

    /// Returns an item with these log-likelihoods, whose first choice is right.
    pub(crate) fn item_result(
        task: Task,
        group: Option<&str>,
        log_likelihoods: &[f64],
    ) -> ItemResult {
        let empty = Choice {
            context: String::new(),
            continuation: String::new(),
            characters: 1,
            bytes: 1,
        };
        let item = Item {
            place: String::new(),
            id: None,
            group: group.map(String::from),
            choices: vec![empty; log_likelihoods.len()],
            gold: 0,
        };
        let choices = log_likelihoods.iter().map(|nats| choice(*nats, 1, 1));
        ItemResult::new(task, 0, &item, 0, choices.collect())
    }

    #[test]
    fn lengths_change_which_choice_is_best() {
        let choices = [choice(-6.0, 3, 9), choice(-5.0, 2, 2), choice(-8.0, 4, 20)];
        let best = |measure| (0..3).position(|gold| value(measure, &choices, gold) == 1.0);
        assert_eq!(best(Measure::Accuracy), Some(1));
        // −2, −2.5 and −2: of equal scores the first.
        assert_eq!(best(Measure::AccuracyPerCharacter), Some(0));
        assert_eq!(best(Measure::AccuracyPerByte), Some(2));
    }

    #[test]
    fn last_words_have_a_perplexity_and_an_exact_match() {
        let items = [-0.5, -2.5].map(|nats| item_result(Task::Lambada, None, &[nats]));
        let result = TaskResult::new(Task::Lambada, vec![], 0, items.into());
        let perplexity = result.measures[&Measure::Perplexity];
        assert!((perplexity.value - 1.5f64.exp()).abs() < 1e-12);
        // Standard deviation √2 of the mean over √2.
        assert!((perplexity.standard_error.unwrap() - 1.5f64.exp()).abs() < 1e-12);
        // Two items determine little, but no perplexity is below 1.
        assert_eq!(perplexity.interval.unwrap()[0], 1.0);
        assert_eq!(result.measures[&Measure::Accuracy].value, 0.5);
        assert_eq!(result.chance, None);
    }

    #[test]
    fn parts_of_a_task_count_alike() {
        let right = |group| item_result(Task::Blimp, Some(group), &[-1.0, -2.0]);
        let wrong = |group| item_result(Task::Blimp, Some(group), &[-2.0, -1.0]);
        let items = vec![
            right("a"),
            wrong("a"),
            right("b"),
            right("b"),
            right("b"),
            wrong("b"),
        ];
        let result = TaskResult::new(Task::Blimp, vec![], 0, items);
        let accuracy = result.measures[&Measure::Accuracy];
        assert_eq!(accuracy.value, (0.5 + 0.75) / 2.0);
        // Variances of the shares: 0.25 / 1 and 0.1875 / 3.
        let error = (0.25f64 + 0.0625).sqrt() / 2.0;
        assert!((accuracy.standard_error.unwrap() - error).abs() < 1e-12);
        assert_eq!(result.groups.len(), 2);
        assert_eq!(result.groups[1].accuracy.value, 0.75);
        assert_eq!(result.chance, Some(0.5));
    }
}
