use std::{collections::HashSet, thread};

use proptest::prelude::*;

use super::*;
use crate::{Split, permutation::tests::check_uniform};

/// Creates windows in the `epoch` order.
fn epoch(tokens: usize, context: usize, rows: usize, seed: u64) -> Windows {
    Windows::new(&WindowOrder::Epoch, tokens, context, rows, seed).unwrap()
}

/// Creates windows in each order for a text of 5000 tokens, in which every 37th token ends a document.
fn each_order() -> [Windows; 3] {
    let ids = (1..=5000).map(|place| u32::from(place % 37 != 0)).collect();
    let split = Split::from_ids(ids, [1, 1].into());
    let documents = DocumentIndex::scan(&split, 0).unwrap();
    [
        WindowOrder::Epoch,
        WindowOrder::Random,
        WindowOrder::Documents(documents),
    ]
    .map(|order| Windows::new(&order, 5000, 16, 12, 11).unwrap())
}

/// Returns the first `count` rows of training.
fn sequence(windows: &Windows, count: usize) -> Vec<Window> {
    (0..count)
        .map(|i| windows.window(i / windows.rows(), i % windows.rows()))
        .collect()
}

/// Returns the offsets of the first `count` rows, all of whose targets count.
fn offsets(windows: &Windows, count: usize) -> Vec<usize> {
    let offset = |window: Window| {
        assert_eq!(window.counted, 0..windows.context);
        window.offset
    };
    sequence(windows, count).into_iter().map(offset).collect()
}

proptest! {
    #[test]
    fn every_window_occurs_once_per_epoch(
        context in 1usize..40,
        beyond in 1usize..2000,
        rows in 1usize..20,
        seed: u64,
    ) {
        let tokens = context + beyond;
        let windows = epoch(tokens, context, rows, seed);
        let per_epoch = windows.per_epoch();
        for epoch in offsets(&windows, 3 * per_epoch).chunks(per_epoch) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            let phase = sorted[0];
            prop_assert!(phase < context);
            let expected: Vec<usize> = (0..per_epoch).map(|i| phase + i * context).collect();
            prop_assert_eq!(&sorted, &expected);
            let end = sorted[per_epoch - 1] + context + 1;
            prop_assert!(end <= tokens);
            prop_assert!(phase + (tokens - end) < 2 * context, "too many tokens are left out");
        }
    }

    #[test]
    fn evaluation_counts_each_target_once(context in 1usize..40, beyond in 1usize..500) {
        let tokens = context + beyond;
        let windows = EvaluationWindows::new(tokens, context).unwrap();
        let mut counted = vec![0; tokens];
        for window in (0..windows.count()).map(|i| windows.window(i)) {
            for place in window.counted {
                counted[window.offset + 1 + place] += 1;
            }
        }
        prop_assert_eq!(counted[0], 0);
        prop_assert!(counted[1..].iter().all(|&count| count == 1), "{:?}", counted);
    }
}

#[test]
fn each_epoch_and_each_seed_has_its_own_order() {
    let order = |seed| {
        let windows = epoch(1000, 10, 8, seed);
        let offsets = offsets(&windows, 20 * windows.per_epoch());
        let number = |epoch: &[usize]| epoch.iter().map(|offset| offset / 10).collect();
        let epochs: Vec<Vec<usize>> = offsets.chunks(windows.per_epoch()).map(number).collect();
        epochs
    };
    assert_eq!(order(1), order(1));
    let distinct: HashSet<Vec<usize>> = [order(1), order(2)].concat().into_iter().collect();
    assert_eq!(distinct.len(), 40);
}

/// A text barely longer than one window has fewer phases than `context`.
#[test]
fn every_phase_occurs() {
    for (tokens, context, places) in [(1000, 16, 16), (20, 16, 4), (17, 16, 1), (32, 16, 16)] {
        let windows = epoch(tokens, context, 4, 3);
        let offsets = offsets(&windows, 300 * windows.per_epoch());
        let phases: HashSet<usize> = offsets.iter().map(|offset| offset % context).collect();
        assert_eq!(phases.len(), places, "{tokens} tokens");
    }
}

#[test]
fn any_number_of_workers_reads_the_same_windows() {
    for windows in each_order() {
        let expected = sequence(&windows, 1200);
        for workers in [1, 7] {
            let mut read = vec![None; expected.len()];
            thread::scope(|scope| {
                let handles: Vec<_> = (0..workers)
                    .map(|worker| {
                        let windows = &windows;
                        // In reverse, so that a dependence on the order of the calls would show.
                        scope.spawn(move || {
                            let rows = (0..1200).rev().filter(|i| i % workers == worker);
                            rows.map(|i| (i, windows.window(i / 12, i % 12)))
                                .collect::<Vec<_>>()
                        })
                    })
                    .collect();
                for (i, window) in handles
                    .into_iter()
                    .flat_map(|handle| handle.join().unwrap())
                {
                    read[i] = Some(window);
                }
            });
            assert!(read.into_iter().flatten().eq(expected.iter().cloned()));
        }
    }
}

#[test]
fn step_size_does_not_change_the_sequence() {
    let order = |rows| offsets(&epoch(5000, 16, rows, 11), 960);
    assert_eq!(order(32), order(8));
    assert_eq!(order(32), order(5));
}

/// The order is part of the definition of a run: a change would alter every run that is resumed.
#[test]
fn epoch_order_is_pinned() {
    let windows = epoch(1000, 10, 4, 42);
    assert_eq!(offsets(&windows, 6), [98, 48, 838, 158, 978, 258]);
    assert_eq!(windows.window(1_000_000, 3).offset, 594);
}

#[test]
fn short_text_is_an_error_with_both_lengths() {
    let new = |tokens| Windows::new(&WindowOrder::Random, tokens, 64, 1, 0);
    let training = new(64).unwrap_err();
    let evaluation = EvaluationWindows::new(64, 64).unwrap_err();
    for (error, name) in [(training, "training"), (evaluation, "evaluation")] {
        assert!(matches!(
            error,
            DataError::TooShort {
                tokens: 64,
                needed: 65,
                ..
            }
        ));
        let message = error.to_string();
        assert!(
            [name, "64", "65"].iter().all(|part| message.contains(part)),
            "{message}"
        );
    }
    assert!(new(65).is_ok());
    assert!(EvaluationWindows::new(65, 64).is_ok());
}

#[test]
fn random_and_document_orders_are_pinned() {
    let [_, random, documents] = each_order();
    let first = |windows| {
        let first = sequence(windows, 6).into_iter();
        first.map(|window| window.offset).collect::<Vec<_>>()
    };
    assert_eq!(first(&random), [4562, 3728, 1609, 1356, 2756, 2134]);
    assert_eq!(first(&documents), [993, 776, 1289, 1405, 4249, 4011]);
    let far = [&random, &documents].map(|windows| windows.window(1_000_000, 3).offset);
    assert_eq!(far, [2995, 3583]);
}

/// Both single starts and pairs of consecutive starts are uniform.
#[test]
fn random_windows_start_anywhere_uniformly() {
    let places = 40;
    let windows = Windows::new(&WindowOrder::Random, 16 + places, 16, 8, 3).unwrap();
    let offsets = offsets(&windows, 200_000);
    let mut starts = vec![0; places];
    let mut pairs = vec![0; places * places];
    for pair in offsets.windows(2) {
        starts[pair[0]] += 1;
        pairs[pair[0] * places + pair[1]] += 1;
    }
    check_uniform(&starts, 1., places - 1);
    // The pairs overlap, so the sums over rows and over columns are the same counts.
    check_uniform(&pairs, 1., places * places - 1);
    assert_eq!(windows.per_epoch(), 4, "16 + 39 targets in windows of 16");
}

#[test]
fn seeds_and_orders_have_independent_random_numbers() {
    let random = |seed| {
        let windows = Windows::new(&WindowOrder::Random, 1000, 10, 1, seed).unwrap();
        offsets(&windows, 50)
    };
    assert_eq!(random(1), random(1));
    assert_ne!(random(1), random(2));
    let [_, _, documents] = each_order();
    let epochs: HashSet<Vec<usize>> = sequence(&documents, 4 * documents.per_epoch())
        .chunks(documents.per_epoch())
        .map(|epoch| epoch.iter().map(|window| window.offset).collect())
        .collect();
    assert_eq!(epochs.len(), 4, "each epoch has its own order");
}
