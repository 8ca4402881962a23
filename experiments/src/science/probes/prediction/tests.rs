//! Studies that are made up so that each has another outcome.

use super::super::means::tests::scored;
use super::super::measured::tests::checkpoints;
use super::super::score::ItemScore;
use super::*;

/// Returns scores at 12 checkpoints of 60 items, whose log-odds rise steadily, each from another start.
fn steady() -> Vec<Vec<ItemScore>> {
    let checkpoint = |time: usize| {
        let item = |item: usize| {
            let start = 2.0 * (12.9898 * (item * item + 1) as f64).sin();
            let odds = (0.45 * time as f64 - 2.5 + start).exp();
            let right = odds / (1.0 + odds);
            scored(right, 1.0 - right)
        };
        (0..60).map(item).collect()
    };
    (0..12).map(checkpoint).collect()
}

#[test]
fn accuracy_that_follows_from_bits_per_byte_is_predicted() {
    let law = Logistic {
        a: 0.65,
        k: -3.0,
        l0: 2.2,
        b: 0.3,
    };
    let checkpoint = |time: usize| -> Vec<ItemScore> {
        let bits_per_byte = 3.5 - 0.28 * time as f64;
        let right = (2000.0 * law.accuracy(bits_per_byte)).round() as usize;
        let item = |item: usize| {
            let mut score = scored(0.5, 0.25);
            score.log_likelihood = -bits_per_byte * 2.0 * std::f64::consts::LN_2;
            score.is_right = item < right;
            score
        };
        (0..2000).map(item).collect()
    };
    let scores: Vec<Vec<ItemScore>> = (0..12).map(checkpoint).collect();
    let prediction = Prediction::of(&checkpoints(&scores));
    let Prediction::Predicted {
        law: fitted_law,
        fitted,
        held_out,
        error,
        error_interval,
        absolute_error,
        persistence_error,
        advantage_interval,
        depends_on,
    } = prediction
    else {
        panic!("{prediction:?}");
    };
    assert_eq!((fitted, held_out.len()), (8, 4));
    assert_eq!(held_out[0].step, 1 << 8);
    let difference = fitted_law.accuracy(2.0) - law.accuracy(2.0);
    assert!(difference.abs() < 0.02, "{fitted_law:?}");
    assert!(absolute_error < 0.02, "{held_out:?}");
    let last = law.accuracy(3.5 - 0.28 * 7.0);
    let rise = (8..12).map(|time| law.accuracy(3.5 - 0.28 * f64::from(time)) - last);
    assert!((persistence_error - rise.sum::<f64>() / 4.0).abs() < 0.005);
    assert!(persistence_error > 2.0 * absolute_error);
    assert!(
        advantage_interval.unwrap()[0] > 0.0,
        "{advantage_interval:?}"
    );
    assert_eq!(depends_on, None);
    let [low, high] = error_interval.unwrap();
    assert!(
        low <= error && error <= high && high - low < 0.4,
        "{low} {error} {high}"
    );
}

#[test]
fn a_jump_that_bits_per_byte_do_not_show_is_not_predicted() {
    // The likelihood of the right answer stays, and wrong answers fall below it at once.
    let mut scores = steady();
    for (time, scores) in scores.iter_mut().enumerate() {
        for (item, score) in scores.iter_mut().enumerate() {
            let right = 0.1 + 0.02 * time as f64 + 0.001 * item as f64;
            *score = scored(
                right,
                if time < 8 {
                    0.5 + 0.001 * (item % 7) as f64
                } else {
                    0.01
                },
            );
            score.is_right |= item < time;
        }
    }
    let prediction = Prediction::of(&checkpoints(&scores));
    let Prediction::Predicted {
        error,
        error_interval,
        ..
    } = prediction
    else {
        panic!("{prediction:?}");
    };
    assert!(error > 0.3, "{error}");
    assert!(error_interval.unwrap()[0] > 0.2, "{error_interval:?}");
}

#[test]
fn few_checkpoints_and_accuracy_without_change_predict_nothing() {
    let scores = steady();
    assert_eq!(
        Prediction::of(&checkpoints(&scores[..3])),
        Prediction::TooFew {
            checkpoints: 3,
            needed: 8
        }
    );
    let constant: Vec<Vec<ItemScore>> = (0..9)
        .map(|time| vec![scored(0.6 + 0.01 * f64::from(time), 0.1); 5])
        .collect();
    assert_eq!(
        Prediction::of(&checkpoints(&constant)),
        Prediction::Unclear {
            fitted: 6,
            change: 0.0,
            interval: Some([0.0, 0.0])
        }
    );
    // One of twenty items more is right at the end of the fitted checkpoints.
    let noise: Vec<Vec<ItemScore>> = (0..9)
        .map(|time| {
            let item = |item: usize| {
                let mut score = scored(0.3 + 0.01 * time as f64, 0.1);
                score.is_right = item < 9 + time / 5;
                score
            };
            (0..20).map(item).collect()
        })
        .collect();
    let Prediction::Unclear {
        change, interval, ..
    } = Prediction::of(&checkpoints(&noise))
    else {
        panic!("a change of one item is not clear");
    };
    assert!((change - 0.05).abs() < 1e-12);
    assert!(interval.unwrap()[0] <= 0.0);
}
