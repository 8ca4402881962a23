use proptest::prelude::*;

use super::*;
use crate::permutation::tests::check_shares;

fn mixture(weights: &[f64], seed: u64) -> Mixture {
    let datasets: Vec<(&str, f64)> = weights.iter().map(|&weight| ("text", weight)).collect();
    Mixture::new(&datasets, seed).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// Shares are exact in every block, and each dataset keeps its order over all blocks.
    #[test]
    fn shares_are_exact_and_each_dataset_keeps_its_order(
        weights in prop::collection::vec(0.01f64..10., 1..9),
        seed: u64,
    ) {
        let mixture = mixture(&weights, seed);
        let total: f64 = weights.iter().sum();
        prop_assert_eq!(mixture.shares().iter().sum::<u64>(), BLOCK);
        for (weight, &share) in weights.iter().zip(mixture.shares()) {
            prop_assert!((weight / total * BLOCK as f64 - share as f64).abs() < 1.);
        }
        let mut next = vec![0; weights.len()];
        for block in 1..=3u64 {
            for row in (block - 1) * BLOCK..block * BLOCK {
                let (dataset, index) = mixture.place(row);
                prop_assert_eq!(index, next[dataset]);
                next[dataset] += 1;
            }
            let expected: Vec<u64> = mixture.shares().iter().map(|share| block * share).collect();
            prop_assert_eq!(&next, &expected);
        }
    }

    #[test]
    fn mixture_of_one_dataset_changes_nothing(weight in 1e-300f64..1e300, seed: u64, row: u64) {
        prop_assert_eq!(mixture(&[weight], seed).place(row), (0, row));
    }
}

#[test]
fn shares_are_rounded_by_the_largest_remainder() {
    for (weights, expected) in [
        (&[1., 3.][..], &[16_384, 49_152][..]),
        (&[1., 1., 1.], &[21_846, 21_845, 21_845]),
        (&[0.5, 0.25, 0.25], &[32_768, 16_384, 16_384]),
        // 65536 / 7 = 9362.29; the remainders for weights 1, 2 and 4 are .29, .57 and .14.
        (&[1., 2., 4.], &[9362, 18_725, 37_449]),
        (&[f64::MAX, f64::MAX], &[32_768, 32_768]),
        (&[65_535., 1.], &[65_535, 1]),
    ] {
        assert_eq!(mixture(weights, 0).shares(), expected);
    }
}

/// Stretches of rows within a block have the datasets in the expected proportions.
#[test]
fn datasets_are_uniform_within_a_block() {
    let mixture = mixture(&[1., 2., 5.], 7);
    let (run, runs) = (2048, 32);
    let mut counts = vec![];
    for first in (0..4 * BLOCK).step_by(run) {
        let mut count = [0; 3];
        for row in first..first + run as u64 {
            count[mixture.place(row).0] += 1;
        }
        counts.extend(count);
    }
    let shares = mixture.shares().iter().map(|&share| share as f64);
    let expected: Vec<f64> = shares
        .map(|share| share * run as f64 / BLOCK as f64)
        .cycle()
        .take(counts.len())
        .collect();
    // In a block, the sums over stretches and over datasets are fixed. This makes Pearson's statistic larger by
    // n / (n - 1) and leaves 31 · 2 degrees of freedom in each of the four blocks.
    let ratio = BLOCK as f64 / (BLOCK - 1) as f64;
    check_shares(&counts, &expected, ratio, 4 * (runs - 1) * 2);
}

#[test]
fn blocks_and_seeds_have_their_own_order() {
    let order = |seed, block: u64| {
        let mixture = mixture(&[1., 1.], seed);
        let datasets: Vec<usize> = (block * BLOCK..block * BLOCK + 200)
            .map(|row| mixture.place(row).0)
            .collect();
        datasets
    };
    assert_eq!(order(1, 5), order(1, 5));
    assert_ne!(order(1, 5), order(1, 6));
    assert_ne!(order(1, 5), order(2, 5));
}

/// The order is part of the definition of a run: a change would alter every run that is resumed.
#[test]
fn mixture_order_is_pinned() {
    let mixture = mixture(&[1., 2.], 42);
    let rows = (0..6).chain([100 * BLOCK + 77]);
    let places: Vec<_> = rows.map(|row| mixture.place(row)).collect();
    let first = [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (0, 0)];
    assert_eq!(places, [&first[..], &[(0, 2_184_519)]].concat());
}

#[test]
fn invalid_weights_are_errors_that_name_the_dataset() {
    for (weights, name) in [
        (&[][..], "mixture"),
        (&[("code", 0.)], "code"),
        (&[("text", 1.), ("code", -1.)], "code"),
        (&[("text", f64::NAN), ("code", 1.)], "text"),
        (&[("text", f64::INFINITY)], "text"),
        (&[("text", 1.), ("code", 1e-7)], "code"),
        (&[("text", f64::MAX), ("code", f64::MIN_POSITIVE)], "code"),
    ] {
        let error = Mixture::new(weights, 0).unwrap_err();
        assert!(matches!(error, DataError::Dataset { .. }));
        assert!(error.to_string().starts_with(name), "{error}");
    }
}
