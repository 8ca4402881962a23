//! Studies that are made up so that each has another outcome.

use super::super::means::tests::scored;
use super::super::measured::tests::checkpoints;
use super::super::score::ItemScore;
use super::*;

fn compared(scores: &[Vec<ItemScore>]) -> (Vec<Jump>, Comparison) {
    let items: Vec<usize> = (0..scores[0].len()).collect();
    compare(&checkpoints(scores), &items)
}

/// Returns scores whose Brier score is this number, and of which these shares of the items are exact.
fn made_up(brier: &[f64], exact: &[f64], items: usize) -> Vec<Vec<ItemScore>> {
    let checkpoint = |(brier, exact): (&f64, &f64)| {
        let right = 1.0 - (brier / 2.0).sqrt();
        let item = |item: usize| {
            let mut score = scored(right, 1.0 - right);
            score.is_exact = (item as f64) < exact * items as f64;
            score
        };
        (0..items).map(item).collect()
    };
    brier.iter().zip(exact).map(checkpoint).collect()
}

#[test]
fn a_measure_that_jumps_is_more_sudden_than_a_steady_one() {
    // All items are alike, so that exact match jumps as a whole.
    let scores: Vec<Vec<ItemScore>> = (0..10)
        .map(|time| {
            let right = 0.05 + 0.1 * f64::from(time);
            vec![scored(right, 1.0 - right); 20]
        })
        .collect();
    let (jumps, comparison) = compared(&scores);
    let of = |measure| *jumps.iter().find(|jump| jump.measure == measure).unwrap();
    let exact = of(Measure::ExactMatch);
    assert_eq!((exact.share, exact.from, exact.to), (1.0, 16, 32));
    assert_eq!(exact.interval, Some([1.0, 1.0]));
    assert!((of(Measure::PRight).share - 1.0 / 9.0).abs() < 1e-9);
    let measure = Measure::ExactMatch;
    assert_eq!(comparison, Comparison::MoreSudden { measure });
}

#[test]
fn the_smooth_measure_can_be_the_more_sudden_one() {
    let exact: Vec<f64> = (0..10).map(|time| f64::from(time) / 9.0).collect();
    let brier: Vec<f64> = (0..10)
        .map(|time| if time < 5 { 1.6 } else { 0.1 })
        .collect();
    let (_, comparison) = compared(&made_up(&brier, &exact, 90));
    let measure = Measure::Brier;
    assert_eq!(comparison, Comparison::MoreSudden { measure });
}

#[test]
fn few_items_do_not_tell_measures_apart() {
    let exact = [0.0, 0.1, 0.5, 0.8, 0.9, 1.0];
    let brier = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0];
    let (jumps, comparison) = compared(&made_up(&brier, &exact, 20));
    assert_eq!(comparison, Comparison::Undecided);
    // With more of the same items the same shares differ.
    let (_, comparison) = compared(&made_up(&brier, &exact, 4000));
    assert_ne!(comparison, Comparison::Undecided);
    let [low, high] = jumps[0].interval.unwrap();
    assert!(low < 0.4 && 0.4 < high, "{:?}", jumps[0]);
}

#[test]
fn a_verdict_that_hangs_on_one_checkpoint_is_not_given() {
    // Without the second checkpoint both measures make half of their change in their first step.
    let exact = [0.0, 0.1, 0.5, 0.9, 1.0];
    let brier = [1.0, 0.75, 0.5, 0.25, 0.0];
    let (_, comparison) = compared(&made_up(&brier, &exact, 2000));
    assert_eq!(comparison, Comparison::DependsOnCheckpoint { step: 2 });
}

#[test]
fn a_change_within_noise_is_not_compared() {
    let noise = [0.3, 0.25, 0.35, 0.3, 0.28, 0.32];
    let brier = [1.0, 0.8, 0.6, 0.4, 0.2, 0.1];
    let mut scores = made_up(&brier, &noise, 40);
    // Each checkpoint writes other items.
    for (time, scores) in scores.iter_mut().enumerate() {
        let exact: Vec<bool> = scores.iter().map(|score| score.is_exact).collect();
        for (item, score) in scores.iter_mut().enumerate() {
            score.is_exact = exact[(item + 7 * time) % 40];
        }
    }
    let (jumps, comparison) = compared(&scores);
    let measure = Measure::ExactMatch;
    assert_eq!(comparison, Comparison::Unclear { measure });
    assert_eq!(jumps[0].interval, None, "no share of a change without one");
}

#[test]
fn few_checkpoints_or_reachable_items_compare_nothing() {
    let scores = made_up(&[1.0, 0.5, 0.2, 0.0], &[0.0, 0.2, 0.5, 1.0], 40);
    let too_few = Comparison::TooFewCheckpoints {
        checkpoints: 4,
        needed: 5,
    };
    assert_eq!(compared(&scores), (Vec::new(), too_few));
    let scores = made_up(&[1.0, 0.5, 0.2, 0.1, 0.0], &[0.0, 0.2, 0.5, 0.7, 1.0], 40);
    let items: Vec<usize> = (0..15).collect();
    let too_few = Comparison::TooFewItems {
        items: 15,
        needed: 16,
    };
    assert_eq!(compare(&checkpoints(&scores), &items).1, too_few);
}

/// Every step of a measure whose items move at random times has a share of 1/8. The largest of eight noisy shares is above
/// it, and the interval covers 1/8 in at least 93 % of 200 studies.
#[test]
fn intervals_allow_for_the_choice_of_the_largest_step() {
    let (mut covered, mut above) = (0, 0);
    for study in 0..200 {
        let mut random = crate::science::random::Random::stream(study, 0);
        let times: Vec<usize> = (0..60).map(|_| 1 + random.index(8)).collect();
        let checkpoint = |time: usize| -> Vec<ItemScore> {
            let item = |at: &usize| {
                let mut score = scored(0.5, 0.5);
                score.is_exact = *at <= time;
                score
            };
            times.iter().map(item).collect()
        };
        let scores: Vec<Vec<ItemScore>> = (0..9).map(checkpoint).collect();
        let items: Vec<usize> = (0..60).collect();
        let curve = Curve::of(Measure::ExactMatch, &checkpoints(&scores), &items);
        let kept: Vec<usize> = (0..9).collect();
        let jump = curve.jump(&kept, &kept).unwrap();
        let [low, high] = jump.interval.unwrap();
        above += usize::from(jump.share > 0.15);
        covered += usize::from(low <= 0.125 && 0.125 <= high);
    }
    assert!(above > 180, "the largest share is biased: {above}");
    assert!(covered >= 186, "{covered}");
}
