//! Measures of items, and their means with intervals.

use std::collections::BTreeMap;

use foretoken_datasets::world::{Coverage, Item};
use serde::Serialize;

use super::score::ItemScore;
use crate::science::evaluate::{Estimate, Ratio};

/// Measure of an item, of which a mean over items is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Share of items whose right answer is more probable than each wrong one.
    Accuracy,
    /// Share of items whose right answer greedy decoding writes.
    ExactMatch,
    /// ln p of the right answer, in nats.
    LogLikelihood,
    /// ln p of the most probable wrong answer, in nats.
    WrongLogLikelihood,
    /// Probability of the right answer among the answers.
    PRight,
    /// Brier score over the answers.
    Brier,
    /// Bits of the right answers over their bytes.
    BitsPerByte,
    /// Edit distance of the greedy answer, in characters.
    EditDistance,
}

impl Measure {
    /// All measures, in the order of tables. Only the last needs greedy decoding.
    pub const ALL: [Self; 8] = [
        Self::Accuracy,
        Self::ExactMatch,
        Self::LogLikelihood,
        Self::WrongLogLikelihood,
        Self::PRight,
        Self::Brier,
        Self::BitsPerByte,
        Self::EditDistance,
    ];

    /// Returns the measures that need no greedy decoding: all but the edit distance.
    pub fn without_decoding() -> impl Iterator<Item = Self> {
        let measures = Self::ALL.into_iter();
        measures.filter(|measure| *measure != Self::EditDistance)
    }

    /// Returns the name in JSON and in the metrics log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::ExactMatch => "exact_match",
            Self::LogLikelihood => "log_likelihood",
            Self::WrongLogLikelihood => "wrong_log_likelihood",
            Self::PRight => "p_right",
            Self::Brier => "brier",
            Self::BitsPerByte => "bits_per_byte",
            Self::EditDistance => "edit_distance",
        }
    }

    /// Returns the name in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy by likelihood",
            Self::ExactMatch => "exact match",
            Self::LogLikelihood => "log-likelihood, right",
            Self::WrongLogLikelihood => "log-likelihood, wrong",
            Self::PRight => "p(right)",
            Self::Brier => "Brier score",
            Self::BitsPerByte => "bits per byte",
            Self::EditDistance => "edit distance",
        }
    }

    /// Returns the parts of an item in the ratio of sums that is the mean.
    pub(super) fn parts(self, score: &ItemScore) -> [f64; 2] {
        let share = |is: bool| f64::from(u8::from(is));
        match self {
            Self::Accuracy => [share(score.is_right), 1.0],
            Self::ExactMatch => [share(score.is_exact), 1.0],
            Self::LogLikelihood => [score.log_likelihood, 1.0],
            Self::WrongLogLikelihood => [score.wrong_log_likelihood, 1.0],
            Self::PRight => [score.p_right, 1.0],
            Self::Brier => [score.brier, 1.0],
            Self::BitsPerByte => [score.bits(), score.bytes as f64],
            Self::EditDistance => score
                .edit_distance
                .map_or([0.0, 0.0], |distance| [distance as f64, 1.0]),
        }
    }

    /// Returns the mean over items, with its interval as if they were drawn from more items like them; `None` without
    /// items.
    pub(super) fn mean<'s>(self, scores: impl Iterator<Item = &'s ItemScore>) -> Option<Estimate> {
        if matches!(self, Self::Accuracy | Self::ExactMatch) {
            let hits: Vec<bool> = scores.map(|score| self.parts(score)[0] > 0.0).collect();
            return Estimate::of_share(hits.iter().filter(|hit| **hit).count(), hits.len());
        }
        let mut ratio = Ratio::default();
        scores.for_each(|score| {
            let [x, y] = self.parts(score);
            ratio.add(x, y);
        });
        let highest = match self {
            Self::PRight => 1.0,
            Self::Brier => 2.0,
            _ => f64::INFINITY,
        };
        let lowest = match self {
            Self::LogLikelihood | Self::WrongLogLikelihood => f64::NEG_INFINITY,
            _ => 0.0,
        };
        Some(ratio.estimate()?.clamped(lowest, highest))
    }
}

/// Means of all measures over items.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Means(BTreeMap<Measure, Estimate>);

impl Means {
    /// Returns the means of some scores; `None` without scores.
    pub(super) fn of<'s>(scores: impl Iterator<Item = &'s ItemScore> + Clone) -> Option<Self> {
        Self::of_measures(Measure::ALL.into_iter(), scores)
    }

    /// Returns the means of some measures of some scores; `None` without scores.
    pub(super) fn of_measures<'s>(
        measures: impl Iterator<Item = Measure>,
        scores: impl Iterator<Item = &'s ItemScore> + Clone,
    ) -> Option<Self> {
        let mean = |measure: Measure| Some((measure, measure.mean(scores.clone())?));
        measures.map(mean).collect::<Option<_>>().map(Self)
    }

    /// Returns the mean of a measure.
    pub fn get(&self, measure: Measure) -> Estimate {
        self.0[&measure]
    }
}

/// Scores of a perfect model, from the exact distribution. Its accuracy is 1: items are only kept if their right answer is
/// the most probable one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceiling {
    /// Number of items that the world can write, over which the other numbers are means.
    pub items: usize,
    /// Share of items whose right answer greedy decoding writes.
    pub exact_match: f64,
    /// Probability of the right answer among the answers.
    pub p_right: f64,
}

impl Ceiling {
    /// Returns the ceiling of those of some items that the world can write; `None` if it can write none.
    pub(super) fn of<'i>(items: impl Iterator<Item = &'i Item>) -> Option<Self> {
        let known = items.filter_map(|item| Some((item.right_is_greedy?, item.right_share?)));
        let known: Vec<(bool, f64)> = known.collect();
        let count = known.len() as f64;
        let greedy = known.iter().filter(|(is_greedy, _)| *is_greedy).count();
        let shares: f64 = known.iter().map(|(_, share)| share).sum();
        (!known.is_empty()).then(|| Self {
            items: known.len(),
            exact_match: greedy as f64 / count,
            p_right: shares / count,
        })
    }
}

/// Returns the mean share of right answers of a model without a preference among the answers of an item.
pub(super) fn chance<'i>(items: impl ExactSizeIterator<Item = &'i Item>) -> f64 {
    let count = items.len() as f64;
    items.map(Item::chance).sum::<f64>() / count
}

/// Means over the items of a level.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelMeans {
    /// The level.
    pub level: String,
    /// Relation of its items to the world and to its training text.
    pub coverage: Coverage,
    /// Number of items.
    pub items: usize,
    /// Mean of 1 over the number of answers: the accuracy and the p(right) of a model without a preference.
    pub chance: f64,
    /// The means.
    pub means: Means,
    /// Bits per byte of the right answers under the world's exact distribution; `None` outside of it, and for tokens that
    /// join context and answer.
    pub exact_bits_per_byte: Option<f64>,
    /// Share of items whose right answer greedy decoding of the exact distribution writes: the exact match of a perfect
    /// model. `None` outside of the world.
    pub exact_match_of_world: Option<f64>,
}

/// Returns the share of items whose right answer greedy decoding of the exact distribution writes; `None` if some of them,
/// or all, are outside of the world.
pub(super) fn exact_match_of_world<'i>(items: impl Iterator<Item = &'i Item>) -> Option<f64> {
    let (mut written, mut count) = (0, 0);
    for item in items {
        written += usize::from(item.right_is_greedy?);
        count += 1;
    }
    (count > 0).then(|| written as f64 / count as f64)
}

impl LevelMeans {
    /// Returns the means of each level, in the order of the items.
    pub(super) fn of(items: &[Item], scores: &[ItemScore]) -> Vec<Self> {
        let mut levels: Vec<(&str, Vec<usize>)> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match levels.iter_mut().find(|(level, _)| *level == item.level) {
                Some((_, members)) => members.push(index),
                None => levels.push((&item.level, vec![index])),
            }
        }
        let means = |(level, members): (&str, Vec<usize>)| {
            let exact = members.iter().map(|index| {
                let (item, score) = (&items[*index], &scores[*index]);
                item.right_bits.filter(|_| item.right.len() == score.bytes)
            });
            let exact: Option<f64> = exact.sum();
            let bytes: usize = members.iter().map(|index| scores[*index].bytes).sum();
            Some(Self {
                level: level.into(),
                coverage: items[members[0]].coverage,
                items: members.len(),
                chance: chance(members.iter().map(|index| &items[*index])),
                means: Means::of(members.iter().map(|index| &scores[*index]))?,
                exact_bits_per_byte: exact.map(|bits| bits / bytes as f64),
                exact_match_of_world: exact_match_of_world(members.iter().map(|i| &items[*i])),
            })
        };
        levels.into_iter().filter_map(means).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use foretoken_datasets::world::Family;

    use super::*;

    /// Returns a score of an item with two answers of these probabilities, the right one first.
    pub(in super::super) fn scored(right: f64, wrong: f64) -> ItemScore {
        let is_exact = right > 0.5;
        let greedy = if is_exact { "ab" } else { "cd" };
        let greedy = Some(greedy.into());
        ItemScore::new(&[right.ln(), wrong.ln()], is_exact, 2, "ab", greedy)
    }

    #[test]
    fn means_are_those_of_the_items() {
        let scores = [
            scored(0.6, 0.2),
            scored(0.25, 0.25),
            scored(0.25, 0.75),
            scored(0.5, 0.25),
        ];
        let means = Means::of(scores.iter()).unwrap();
        let value = |measure| means.get(measure).value;
        assert_eq!(value(Measure::Accuracy), 0.5);
        assert_eq!(value(Measure::ExactMatch), 0.25);
        assert_eq!(value(Measure::EditDistance), 1.5);
        assert!((value(Measure::PRight) - (0.75 + 0.5 + 0.25 + 2.0 / 3.0) / 4.0).abs() < 1e-12);
        let nats = (0.6f64.ln() + 2.0 * 0.25f64.ln() + 0.5f64.ln()) / 4.0;
        assert!((value(Measure::LogLikelihood) - nats).abs() < 1e-12);
        let bits = -nats * 4.0 / std::f64::consts::LN_2 / 8.0;
        assert!((value(Measure::BitsPerByte) - bits).abs() < 1e-12);
        for measure in Measure::ALL {
            let estimate = means.get(measure);
            assert_eq!(estimate.contains(estimate.value), Some(true), "{measure:?}");
        }
        assert!(Means::of([].iter()).is_none());
    }

    #[test]
    fn levels_keep_the_order_of_the_items() {
        let item = |level: &str, bits: Option<f64>| Item {
            family: Family::Sums,
            level: level.into(),
            coverage: Coverage::World,
            context: "1 + 1 = ".into(),
            right: "2.".into(),
            wrong: vec!["3.".into()],
            right_bits: bits,
            right_is_greedy: bits.map(|bits| bits < 2.0),
            right_share: bits.map(|bits| (-bits).exp2()),
        };
        let items = [
            item("two", Some(1.0)),
            item("one", None),
            item("two", Some(3.0)),
        ];
        let scores = [scored(0.9, 0.1), scored(0.2, 0.3), scored(0.8, 0.1)];
        let levels = LevelMeans::of(&items, &scores);
        assert_eq!(levels.len(), 2);
        assert_eq!((levels[0].level.as_str(), levels[0].items), ("two", 2));
        assert_eq!(levels[0].exact_bits_per_byte, Some(1.0));
        assert_eq!(levels[0].exact_match_of_world, Some(0.5));
        assert_eq!(levels[0].chance, 0.5);
        let ceiling = Ceiling::of(items.iter()).unwrap();
        assert_eq!((ceiling.items, ceiling.exact_match), (2, 0.5));
        assert_eq!(ceiling.p_right, (0.5 + 0.125) / 2.0);
        assert_eq!(Ceiling::of(items[1..2].iter()), None);
        assert_eq!(levels[1].exact_bits_per_byte, None);
        assert_eq!(levels[1].exact_match_of_world, None);
        assert_eq!(levels[1].means.get(Measure::Accuracy).value, 0.0);
    }
}
