//! Validation text that is in the training text too: sequences of tokens that both have, found exactly.

use std::{collections::HashMap, sync::atomic::AtomicBool};

use crate::{
    DataError, Split,
    occurrences::{each_window, extended},
};

/// Share of the tokens of a document from which it counts as a copy.
const COPY: f64 = 0.5;

/// Overlap of a validation text with its training text.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlap {
    /// Number n of tokens of the sequences that were looked for.
    pub length: usize,
    /// Validation documents that have at least n tokens.
    pub documents: Vec<DocumentOverlap>,
    /// Validation documents that are shorter.
    pub short: usize,
}

/// Overlap of a validation document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentOverlap {
    /// Its number in the validation text, from 0.
    pub document: usize,
    /// Its tokens, without the one that ends it.
    pub tokens: usize,
    /// Tokens that are part of a sequence of n tokens that is in the training text.
    pub shared: usize,
}

impl DocumentOverlap {
    /// Returns whether at least half of the document is in the training text.
    pub fn is_copy(&self) -> bool {
        self.shared as f64 >= COPY * self.tokens as f64
    }
}

impl Overlap {
    /// Returns the number of tokens of the documents, and how many of them are shared.
    pub fn tokens(&self) -> (usize, usize) {
        let sum = |of: fn(&DocumentOverlap) -> usize| self.documents.iter().map(of).sum();
        (
            sum(|document| document.tokens),
            sum(|document| document.shared),
        )
    }

    /// Returns the number of documents of which at least half is in the training text.
    pub fn copies(&self) -> usize {
        self.documents
            .iter()
            .filter(|document| document.is_copy())
            .count()
    }
}

/// Looks for every sequence of `length` tokens of the validation documents in the training text. `border` ends documents;
/// without it the validation text is one. `progress` is called with the number of training tokens after each piece.
///
/// The validation text and a table of its sequences are held in memory, about 60 bytes a token.
///
/// # Errors
///
/// Tokens that cannot be read, and [`DataError::Interrupted`] once `interrupt` is set.
pub fn overlap(
    train: &Split,
    valid: &Split,
    border: Option<u32>,
    length: usize,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Overlap, DataError> {
    let ids = valid.to_vec(0..valid.tokens())?;
    // A border at the end ends the last document.
    let text = match (ids.last(), border) {
        (Some(last), Some(border)) if *last == border => &ids[..ids.len() - 1],
        _ => &ids[..],
    };
    let documents: Vec<&[u32]> = text.split(|id| Some(*id) == border).collect();
    // Sequences by their hash; equal ones are one.
    let mut known: HashMap<u64, Vec<(&[u32], bool)>> = HashMap::new();
    for document in &documents {
        for window in document.windows(length) {
            let same = known.entry(hash(window)).or_default();
            if !same.iter().any(|(other, _)| *other == window) {
                same.push((window, false));
            }
        }
    }
    each_window(train, length, interrupt, progress, |hash, window| {
        for (sequence, is_shared) in known.get_mut(&hash).into_iter().flatten() {
            *is_shared |= *sequence == window;
        }
    })?;
    let is_shared = |window: &[u32]| {
        let same = known.get(&hash(window)).into_iter().flatten();
        same.into_iter()
            .any(|(sequence, is_shared)| *is_shared && *sequence == window)
    };
    let all = documents.iter().enumerate();
    let long = all.filter(|(_, document)| document.len() >= length);
    let long: Vec<DocumentOverlap> = long
        .map(|(number, document)| {
            let (mut shared, mut covered) = (0, 0);
            for (place, window) in document.windows(length).enumerate() {
                if is_shared(window) {
                    shared += place + length - covered.max(place);
                    covered = place + length;
                }
            }
            DocumentOverlap {
                document: number,
                tokens: document.len(),
                shared,
            }
        })
        .collect();
    Ok(Overlap {
        length,
        short: documents.len() - long.len(),
        documents: long,
    })
}

fn hash(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0, |hash, token| extended(hash, *token))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(train: &[u32], valid: &[u32], length: usize) -> Overlap {
        let split = |ids: &[u32]| Split::from_ids(ids.to_vec(), vec![1; 100].into());
        let interrupt = AtomicBool::new(false);
        overlap(
            &split(train),
            &split(valid),
            Some(9),
            length,
            &interrupt,
            &mut |_| {},
        )
        .unwrap()
    }

    #[test]
    fn shared_tokens_are_counted_once() {
        // 1 2 3 4 is in the training text, and 3 4 5; 4 5 6 is not.
        let found = find(
            &[7, 1, 2, 3, 4, 9, 3, 4, 5],
            &[1, 2, 3, 4, 5, 6, 9, 6, 6, 9, 0, 0, 0, 9],
            3,
        );
        let shared = |document, tokens, shared| DocumentOverlap {
            document,
            tokens,
            shared,
        };
        assert_eq!(found.documents, [shared(0, 6, 5), shared(2, 3, 0)]);
        assert_eq!(
            (found.short, found.copies(), found.tokens()),
            (1, 1, (9, 5))
        );
    }

    proptest! {
        #[test]
        fn shared_tokens_are_those_of_a_comparison_at_every_place(
            train in prop::collection::vec(0u32..3, 0..40),
            valid in prop::collection::vec(prop::sample::select(&[0, 1, 2, 9][..]), 0..40),
            length in 1usize..5,
        ) {
            let found = find(&train, &valid, length);
            for DocumentOverlap { document, tokens, shared } in found.documents {
                let ids = valid.split(|id| *id == 9).nth(document).unwrap();
                prop_assert_eq!(ids.len(), tokens);
                let is_in = |window: &[u32]| train.windows(length).any(|other| other == window);
                let covered = |place: usize| {
                    let starts = place.saturating_sub(length - 1)..=place;
                    starts.filter_map(|start| ids.get(start..start + length)).any(is_in)
                };
                prop_assert_eq!(shared, (0..tokens).filter(|place| covered(*place)).count());
            }
        }
    }
}
