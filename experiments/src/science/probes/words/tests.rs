//! Sentences of made-up studies, one for each branch: a claim is only made if the intervals carry it.

use foretoken_datasets::world::Family;

use super::super::logistic::Logistic;
use super::super::suddenness::Jump;
use super::*;

fn emergence(comparison: Comparison, prediction: Prediction) -> Emergence {
    let jump = |measure, share: f64| Jump {
        measure,
        from: 400,
        to: 600,
        share,
        interval: Some([share - 0.1, share + 0.1]),
    };
    Emergence {
        family: Family::Facts,
        compared_items: 30,
        items: 40,
        steps: vec![50, 100, 200, 400, 600],
        jumps: vec![jump(Measure::ExactMatch, 0.6), jump(Measure::Brier, 0.3)],
        comparison,
        prediction,
    }
}

fn too_few() -> Prediction {
    Prediction::TooFew {
        checkpoints: 5,
        needed: 8,
    }
}

fn compared(comparison: Comparison) -> String {
    crate::show::format::plain(emergence(comparison, too_few()).comparison_sentence())
}

#[test]
fn a_comparison_is_claimed_only_with_a_verdict() {
    let exact = compared(Comparison::MoreSudden {
        measure: Measure::ExactMatch,
    });
    assert_eq!(
        exact,
        "At 5 checkpoints from step 50 to 600, over the 30 of 40 items whose right answer a perfect model writes, exact match \
         makes 60.0 % (50.0 to 70.0 %) of its change between steps 400 and 600, the Brier score 30.0 % (20.0 to 40.0 %) of its \
         change between steps 400 and 600. Exact match is the more sudden one at these checkpoints, also without any one of \
         them: its jump is in part one of the measure."
    );
    let smooth = compared(Comparison::MoreSudden {
        measure: Measure::Brier,
    });
    assert!(smooth.contains("At these checkpoints the Brier score is the more sudden one"));
    for (comparison, part) in [
        (Comparison::Undecided, "do not tell which of the two"),
        (
            Comparison::DependsOnCheckpoint { step: 200 },
            "without that of step 200",
        ),
        (
            Comparison::Unclear {
                measure: Measure::ExactMatch,
            },
            "exact match is not shown to change",
        ),
        (
            Comparison::TooFewItems {
                items: 3,
                needed: 16,
            },
            "16 items whose right answer a perfect model writes, and there are 3",
        ),
        (
            Comparison::TooFewCheckpoints {
                checkpoints: 4,
                needed: 5,
            },
            "takes 5 checkpoints to say, and there are 4",
        ),
    ] {
        let sentence = compared(comparison);
        assert!(sentence.contains(part), "{sentence}");
        assert!(!sentence.contains("is the more sudden one"), "{sentence}");
        // It says what would be needed.
        let needed = [
            "more items",
            "More items",
            "keep more",
            "Keep more",
            "ask for more",
        ];
        assert!(
            needed.iter().any(|part| sentence.contains(part)),
            "{sentence}"
        );
    }
}

fn predicted(
    error: Option<[f64; 2]>,
    advantage: Option<[f64; 2]>,
    depends_on: Option<usize>,
) -> String {
    Prediction::Predicted {
        law: Logistic {
            a: 0.5,
            k: -3.0,
            l0: 1.0,
            b: 0.3,
        },
        fitted: 6,
        held_out: Vec::new(),
        error: 0.05,
        error_interval: error,
        absolute_error: 0.06,
        persistence_error: 0.08,
        advantage_interval: advantage,
        depends_on,
    }
    .sentence()
}

#[test]
fn a_prediction_is_judged_only_by_intervals_that_exclude_0() {
    let (below, across, above) = ([-0.2, -0.1], [-0.1, 0.1], [0.1, 0.2]);
    for (error, advantage, claims) in [
        (below, above, ["too high", "is better than"]),
        (above, below, ["too low", "is worse than"]),
        (
            across,
            across,
            ["not shown to be wrong", "is not shown; more items"],
        ),
    ] {
        let sentence = predicted(Some(error), Some(advantage), None);
        for claim in claims {
            assert!(sentence.contains(claim), "{sentence}");
        }
        assert!(sentence.contains("is 2.0 points less than"), "{sentence}");
        // The same intervals do not carry a claim that hangs on one checkpoint.
        let sentence = predicted(Some(error), Some(advantage), Some(100));
        assert!(sentence.contains("checkpoint of step 100"), "{sentence}");
        for claim in claims {
            assert!(!sentence.contains(claim), "{sentence}");
        }
    }
    for (error, advantage) in [(None, Some(above)), (Some(above), None)] {
        let sentence = predicted(error, advantage, None);
        assert!(sentence.contains("more items would give one"), "{sentence}");
        assert!(!sentence.contains("points"), "{sentence}");
    }
    let unclear = Prediction::Unclear {
        fitted: 6,
        change: 0.05,
        interval: Some([-0.1, 0.2]),
    };
    assert!(unclear.sentence().contains("(5.0 points, -10.0 to 20.0)"));
    assert!(too_few().sentence().contains("5, and 8 are needed"));
}
