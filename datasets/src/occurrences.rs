//! Counts how often sequences of tokens occur in a text: a rolling hash finds candidates (Karp & Rabin 1987), and each of
//! them is compared, so that counts are exact.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{DataError, Split};

/// Tokens that are read at once.
const CHUNK: usize = 1 << 16;

/// Base of the hash: odd, so that its powers are never 0.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Counts the occurrences of each sequence in the splits, overlapping ones included. `progress` is called with the number
/// of tokens after each chunk; every length of sequences reads the splits once.
///
/// # Errors
///
/// Tokens that cannot be read, and [`DataError::Interrupted`] once `interrupt` is set.
pub fn occurrences(
    splits: &[&Split],
    sequences: &[&[u32]],
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<u64>, DataError> {
    let mut counts = vec![0; sequences.len()];
    let mut by_length: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, sequence) in sequences.iter().enumerate() {
        by_length.entry(sequence.len()).or_default().push(index);
    }
    let mut lengths: Vec<usize> = by_length
        .keys()
        .copied()
        .filter(|length| *length > 0)
        .collect();
    lengths.sort_unstable();
    for length in lengths {
        let mut by_hash: HashMap<u64, Vec<usize>> = HashMap::new();
        for index in &by_length[&length] {
            let hash = sequences[*index]
                .iter()
                .fold(0, |hash, token| extended(hash, *token));
            by_hash.entry(hash).or_default().push(*index);
        }
        for split in splits {
            each_window(split, length, interrupt, progress, |hash, window| {
                for index in by_hash.get(&hash).into_iter().flatten() {
                    counts[*index] += u64::from(sequences[*index] == window);
                }
            })?;
        }
    }
    Ok(counts)
}

/// Returns the hash of a sequence with one more token.
pub(crate) fn extended(hash: u64, token: u32) -> u64 {
    // One more than the token, so that zeros at the start count.
    hash.wrapping_mul(BASE).wrapping_add(u64::from(token) + 1)
}

/// Calls `visit` with the hash and the tokens of every window of `length` tokens.
pub(crate) fn each_window(
    split: &Split,
    length: usize,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(usize),
    mut visit: impl FnMut(u64, &[u32]),
) -> Result<(), DataError> {
    // The first token of a window has this factor in its hash.
    let leading = (1..length).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let tokens = split.tokens();
    for start in (0..tokens).step_by(CHUNK) {
        if interrupt.load(Ordering::Relaxed) {
            return Err(DataError::Interrupted);
        }
        // Windows that begin in the chunk.
        let end = tokens.min(start + CHUNK + length - 1);
        let ids = split.to_vec(start..end)?;
        let mut hash = 0;
        for (place, token) in ids.iter().enumerate() {
            if place >= length {
                let first = u64::from(ids[place - length]) + 1;
                hash = u64::wrapping_sub(hash, first.wrapping_mul(leading));
            }
            hash = extended(hash, *token);
            if place + 1 >= length {
                visit(hash, &ids[place + 1 - length..=place]);
            }
        }
        progress(CHUNK.min(tokens - start));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(ids: Vec<u32>) -> Split {
        let tokens = ids.iter().max().map_or(1, |id| *id as usize + 1);
        Split::from_ids(ids, vec![1; tokens].into())
    }

    fn count(splits: &[&Split], sequences: &[&[u32]]) -> Vec<u64> {
        occurrences(splits, sequences, &AtomicBool::new(false), &mut |_| {}).unwrap()
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_comparison_at_every_place(
            text in prop::collection::vec(0u32..3, 0..60),
            sequences in prop::collection::vec(prop::collection::vec(0u32..3, 1..5), 1..8),
        ) {
            let expected: Vec<u64> = sequences
                .iter()
                .map(|sequence| {
                    let windows = text.windows(sequence.len());
                    windows.filter(|window| *window == sequence.as_slice()).count() as u64
                })
                .collect();
            let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(count(&[&split(text)], &sequences), expected);
        }
    }

    #[test]
    fn a_sequence_across_two_chunks_is_found_once() {
        let mut ids: Vec<u32> = (0..2 * CHUNK as u32 + 10).collect();
        ids[5] = 5;
        let across: Vec<u32> = (CHUNK as u32 - 3..CHUNK as u32 + 4).collect();
        let at_end: Vec<u32> = (2 * CHUNK as u32 + 3..2 * CHUNK as u32 + 10).collect();
        let text = split(ids);
        assert_eq!(
            count(&[&text, &text], &[&across, &at_end, &[7, 7]]),
            [2, 2, 0]
        );
        assert_eq!(
            count(&[&split(vec![0, 0, 0])], &[&[0], &[0, 0], &[0; 4]]),
            [3, 2, 0]
        );
    }
}
