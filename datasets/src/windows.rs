//! Which windows of a text are read, and in which order: pure functions, no state, no index in
//! memory.
//!
//! A window is `context + 1` consecutive tokens: the first `context` are inputs, the last `context`
//! targets.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::{DataError, permutation::Permutation};

/// A window of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Index of its first token.
    pub offset: usize,
    /// How many of its first targets do not count, because another window counts them.
    pub skip: usize,
}

/// The training windows: which one is read at row `row` of step `step`.
///
/// Training is a sequence of rows, `rows` of them per step, and the sequence is cut into epochs.
/// Within an epoch the windows start `context` tokens apart, so no target is read twice, and a
/// permutation keyed by (seed, epoch) puts them in order: each window once. Where the first window
/// starts, from 0 up to `context`, is drawn for each epoch, so that over the epochs every token is
/// met at every place of a window. The price is at most `2 · context` tokens at the ends of the
/// text, other ones each time, that an epoch leaves out.
///
/// A row depends on nothing but (seed, step, row): resuming, or dealing rows to several devices or
/// to micro-batches, cannot change what is read.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Windows in an epoch.
    windows: usize,
    /// How many places the first window of an epoch may start at.
    phases: usize,
    context: usize,
    rows: usize,
    seed: u64,
}

impl Windows {
    /// The windows of a text of `tokens` tokens, for steps of `rows` rows (all micro-batches
    /// together).
    ///
    /// # Errors
    ///
    /// A text shorter than one window.
    ///
    /// # Panics
    ///
    /// If `context` is 0.
    pub fn new(tokens: usize, context: usize, rows: usize, seed: u64) -> Result<Self, DataError> {
        check_length("training", tokens, context)?;
        // The most windows that fit wherever the first one starts, and one where the text is too
        // short for that.
        let windows = ((tokens - context) / context).max(1);
        let phases = (tokens - windows * context).min(context);
        Ok(Self {
            windows,
            phases,
            context,
            rows,
            seed,
        })
    }

    /// Windows in an epoch.
    pub fn per_epoch(&self) -> usize {
        self.windows
    }

    /// Rows in a step.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Index of the first token of the window at row `row` of step `step`, both counted from 0.
    ///
    /// # Panics
    ///
    /// If the step has no such row.
    pub fn offset(&self, step: usize, row: usize) -> usize {
        assert!(
            row < self.rows,
            "a step of {} rows has no row {row}",
            self.rows
        );
        let index = step as u64 * self.rows as u64 + row as u64;
        let windows = self.windows as u64;
        let mut random = random_of(self.seed, index / windows);
        // Uniform below `phases`, but for a bias of `phases / 2^64`.
        let phase = (u128::from(random.next_u64()) * self.phases as u128) >> 64;
        let window = Permutation::draw(windows, &mut random).apply(index % windows);
        phase as usize + window as usize * self.context
    }
}

/// The random numbers of one epoch.
fn random_of(seed: u64, epoch: u64) -> ChaCha8Rng {
    // The rest of the key says what the numbers are for: another use of the same seed, such as
    // drawing weights, must not see the same stream.
    let mut key = *b"........foretoken/windows/order.";
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(epoch);
    random
}

/// The evaluation windows: fixed ones that count each target of a text (each token but the first)
/// exactly once.
///
/// They start `context` tokens apart, from 0. Where the last one would run over the end it starts
/// earlier, and skips the targets that the one before it has counted.
#[derive(Clone, Debug)]
pub struct EvaluationWindows {
    targets: usize,
    context: usize,
}

impl EvaluationWindows {
    /// The windows of a text of `tokens` tokens.
    ///
    /// # Errors
    ///
    /// A text shorter than one window.
    ///
    /// # Panics
    ///
    /// If `context` is 0.
    pub fn new(tokens: usize, context: usize) -> Result<Self, DataError> {
        check_length("evaluation", tokens, context)?;
        Ok(Self {
            targets: tokens - 1,
            context,
        })
    }

    /// How many windows cover the text.
    pub fn count(&self) -> usize {
        self.targets.div_ceil(self.context)
    }

    /// The window at `index`, below [`count`](Self::count), in the order of the text.
    pub fn window(&self, index: usize) -> Window {
        let first_target = index * self.context;
        let offset = first_target.min(self.targets - self.context);
        Window {
            offset,
            skip: first_target - offset,
        }
    }
}

fn check_length(split: &'static str, tokens: usize, context: usize) -> Result<(), DataError> {
    assert!(context > 0, "a window has at least one target");
    let needed = context + 1;
    if tokens < needed {
        return Err(DataError::TooShort {
            split,
            tokens,
            needed,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use proptest::prelude::*;

    use super::*;

    /// The offsets of `count` rows from the start of training, in order.
    fn offsets(windows: &Windows, count: usize) -> Vec<usize> {
        (0..count)
            .map(|i| windows.offset(i / windows.rows(), i % windows.rows()))
            .collect()
    }

    proptest! {
        #[test]
        fn every_window_once_per_epoch(
            context in 1usize..40,
            beyond in 1usize..2000,
            rows in 1usize..20,
            seed: u64,
        ) {
            let tokens = context + beyond;
            let windows = Windows::new(tokens, context, rows, seed).unwrap();
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
                prop_assert!(phase + (tokens - end) < 2 * context, "more is left out than promised");
            }
        }

        #[test]
        fn evaluation_counts_each_target_once(context in 1usize..40, beyond in 1usize..500) {
            let tokens = context + beyond;
            let windows = EvaluationWindows::new(tokens, context).unwrap();
            let mut counted = vec![0; tokens];
            for window in (0..windows.count()).map(|i| windows.window(i)) {
                for place in window.skip..context {
                    counted[window.offset + 1 + place] += 1;
                }
            }
            prop_assert_eq!(counted[0], 0);
            prop_assert!(counted[1..].iter().all(|&count| count == 1), "{:?}", counted);
        }
    }

    #[test]
    fn each_epoch_and_each_seed_has_its_order() {
        let order = |seed| {
            let windows = Windows::new(1000, 10, 8, seed).unwrap();
            let offsets = offsets(&windows, 20 * windows.per_epoch());
            let number = |epoch: &[usize]| epoch.iter().map(|offset| offset / 10).collect();
            let epochs: Vec<Vec<usize>> = offsets.chunks(windows.per_epoch()).map(number).collect();
            epochs
        };
        assert_eq!(order(1), order(1));
        let distinct: HashSet<Vec<usize>> = [order(1), order(2)].concat().into_iter().collect();
        assert_eq!(distinct.len(), 40);
    }

    /// A text barely longer than one window has only as many phases as there are places for it.
    #[test]
    fn every_alignment_is_read() {
        for (tokens, context, places) in [(1000, 16, 16), (20, 16, 4), (17, 16, 1), (32, 16, 16)] {
            let windows = Windows::new(tokens, context, 4, 3).unwrap();
            let offsets = offsets(&windows, 300 * windows.per_epoch());
            let phases: HashSet<usize> = offsets.iter().map(|offset| offset % context).collect();
            assert_eq!(phases.len(), places, "{tokens} tokens");
        }
    }

    #[test]
    fn any_number_of_workers_reads_the_same() {
        let windows = Windows::new(5000, 16, 12, 11).unwrap();
        let expected = offsets(&windows, 1200);
        for workers in [1, 7] {
            let mut read = vec![0; expected.len()];
            thread::scope(|scope| {
                let handles: Vec<_> = (0..workers)
                    .map(|worker| {
                        let windows = &windows;
                        // Backwards, so that nothing can depend on the order of the calls.
                        scope.spawn(move || {
                            let rows = (0..1200).rev().filter(|i| i % workers == worker);
                            rows.map(|i| (i, windows.offset(i / 12, i % 12)))
                                .collect::<Vec<_>>()
                        })
                    })
                    .collect();
                for (i, offset) in handles
                    .into_iter()
                    .flat_map(|handle| handle.join().unwrap())
                {
                    read[i] = offset;
                }
            });
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn steps_of_other_sizes_read_the_same_sequence() {
        let order = |rows| offsets(&Windows::new(5000, 16, rows, 11).unwrap(), 960);
        assert_eq!(order(32), order(8));
        assert_eq!(order(32), order(5));
    }

    /// The order is part of what a run is: changing it changes every run that is resumed.
    #[test]
    fn the_order_is_pinned() {
        let windows = Windows::new(1000, 10, 4, 42).unwrap();
        assert_eq!(offsets(&windows, 6), [98, 48, 838, 158, 978, 258]);
        assert_eq!(windows.offset(1_000_000, 3), 594);
    }

    #[test]
    fn a_short_text_is_an_error_with_both_numbers() {
        let training = Windows::new(64, 64, 1, 0).unwrap_err();
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
        assert!(Windows::new(65, 64, 1, 0).is_ok());
        assert!(EvaluationWindows::new(65, 64).is_ok());
    }
}
