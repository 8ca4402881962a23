//! Counts how often sequences of tokens occur in a text, by rolling hashes (Karp & Rabin 1987).
//!
//! Two hashes modulo 2⁶¹ − 1 stand for a sequence, 122 bits together. Two different sequences of n tokens have equal ones
//! with a probability of at most (n / 2⁶¹)², for random bases, so that nothing has to be read twice: the time is
//! proportional to the tokens, however long the sequences are and however often they repeat. Among 10¹⁸ pairs of sequences
//! of 1000 tokens, the probability of one error is below 10⁻¹².

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{DataError, Split};

/// Tokens that are read at once.
const CHUNK: usize = 1 << 16;

/// Modulus of the hashes, a prime.
const MODULUS: u64 = (1 << 61) - 1;

/// Bases of the hashes, drawn at random once.
const BASES: [u64; 2] = [2_257_004_489_323_199_257, 190_947_022_686_183_123];

/// Hashes of a sequence of tokens, which stand for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u64; 2]);

impl Fingerprint {
    pub(crate) fn of(tokens: &[u32]) -> Self {
        tokens
            .iter()
            .fold(Self::default(), |this, token| this.extended(*token))
    }

    /// Returns the fingerprint of the sequence with one more token.
    fn extended(self, token: u32) -> Self {
        let next = |index: usize| sum(product(self.0[index], BASES[index]), symbol(token));
        Self([next(0), next(1)])
    }

    /// Returns the fingerprint of the sequence without its first token, which has the factor `leading`.
    fn without(self, first: u32, leading: [u64; 2]) -> Self {
        let next = |index: usize| {
            let part = product(symbol(first), leading[index]);
            sum(self.0[index], MODULUS - part)
        };
        Self([next(0), next(1)])
    }
}

/// Returns one more than the token, so that zeros at the start count.
fn symbol(token: u32) -> u64 {
    u64::from(token) + 1
}

/// Adds two numbers up to the modulus.
fn sum(a: u64, b: u64) -> u64 {
    let sum = a + b;
    if sum >= MODULUS { sum - MODULUS } else { sum }
}

/// Multiplies two numbers below the modulus.
fn product(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // 2⁶¹ is 1 in this arithmetic.
    sum(product as u64 & MODULUS, (product >> 61) as u64)
}

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
    let fingerprints: Vec<Fingerprint> = sequences
        .iter()
        .map(|sequence| Fingerprint::of(sequence))
        .collect();
    let mut by_length: HashMap<usize, HashMap<Fingerprint, u64>> = HashMap::new();
    for (sequence, fingerprint) in sequences.iter().zip(&fingerprints) {
        let of_length = by_length.entry(sequence.len()).or_default();
        of_length.insert(*fingerprint, 0);
    }
    let mut lengths: Vec<usize> = by_length
        .keys()
        .copied()
        .filter(|length| *length > 0)
        .collect();
    lengths.sort_unstable();
    for length in lengths {
        let Some(counts) = by_length.get_mut(&length) else {
            continue;
        };
        for split in splits {
            each_window(split, length, interrupt, progress, |fingerprint| {
                if let Some(count) = counts.get_mut(&fingerprint) {
                    *count += 1;
                }
            })?;
        }
    }
    let counts = sequences.iter().zip(&fingerprints);
    Ok(counts
        .map(|(sequence, fingerprint)| by_length[&sequence.len()][fingerprint])
        .collect())
}

/// Calls `visit` with the fingerprint of every window of `length` tokens.
pub(crate) fn each_window(
    split: &Split,
    length: usize,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(usize),
    mut visit: impl FnMut(Fingerprint),
) -> Result<(), DataError> {
    let tokens = split.tokens();
    for start in (0..tokens).step_by(CHUNK) {
        check(interrupt)?;
        // Windows that begin in the chunk.
        let end = tokens.min(start + CHUNK + length - 1);
        let ids = split.to_vec(start..end)?;
        windows(&ids, length).for_each(&mut visit);
        progress(CHUNK.min(tokens - start));
    }
    Ok(())
}

/// Returns the fingerprints of all windows of `length` tokens.
pub(crate) fn windows(ids: &[u32], length: usize) -> impl Iterator<Item = Fingerprint> {
    // The first token of a window has these factors in its hashes.
    let leading = BASES.map(|base| (1..length).fold(1, |power, _| product(power, base)));
    let mut fingerprint = Fingerprint::default();
    ids.iter().enumerate().filter_map(move |(place, token)| {
        if place >= length {
            fingerprint = fingerprint.without(ids[place - length], leading);
        }
        fingerprint = fingerprint.extended(*token);
        (place + 1 >= length).then_some(fingerprint)
    })
}

/// Returns an error once the user asks to stop.
pub(crate) fn check(interrupt: &AtomicBool) -> Result<(), DataError> {
    match interrupt.load(Ordering::Relaxed) {
        true => Err(DataError::Interrupted),
        false => Ok(()),
    }
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
