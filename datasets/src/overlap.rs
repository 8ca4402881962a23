//! Validation text that is in the training text too: sequences of tokens that both have.

use std::{collections::HashMap, sync::atomic::AtomicBool};

use crate::{
    DataError, Split,
    occurrences::{Fingerprint, check, each_window, windows},
};

/// Sequences between two looks at the interrupt.
const CHUNK: usize = 1 << 16;

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
/// Sequences are compared by hashes of 122 bits; see [`occurrences`](crate::occurrences). The time is proportional to the
/// tokens, whatever `length` is. The validation text and a table of its sequences are held in memory, about 60 bytes a
/// token.
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
    // Whether the training text has a sequence.
    let mut known: HashMap<Fingerprint, bool> = HashMap::new();
    for document in &documents {
        for (place, window) in windows(document, length).enumerate() {
            if place % CHUNK == 0 {
                check(interrupt)?;
            }
            known.insert(window, false);
        }
    }
    if !known.is_empty() {
        each_window(train, length, interrupt, progress, |window| {
            if let Some(is_shared) = known.get_mut(&window) {
                *is_shared = true;
            }
        })?;
    }
    let mut long = Vec::new();
    for (number, document) in documents.iter().enumerate() {
        if document.len() < length {
            continue;
        }
        let (mut shared, mut covered) = (0, 0);
        for (place, window) in windows(document, length).enumerate() {
            if place % CHUNK == 0 {
                check(interrupt)?;
            }
            if known.get(&window) == Some(&true) {
                shared += place + length - covered.max(place);
                covered = place + length;
            }
        }
        long.push(DocumentOverlap {
            document: number,
            tokens: document.len(),
            shared,
        });
    }
    Ok(Overlap {
        length,
        short: documents.len() - long.len(),
        documents: long,
    })
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

    /// The time does not grow with the length of the sequences, nor with how often they repeat.
    #[test]
    fn long_repetitions_take_no_longer_than_other_text() {
        let began = std::time::Instant::now();
        let found = find(&vec![1; 1_000_000], &vec![1; 1_000_000], 1000);
        assert_eq!(found.tokens(), (1_000_000, 1_000_000));
        assert_eq!(find(&[1; 5], &[1; 5], 1000).short, 1);
        // About 0.1 s in a release build.
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }

    #[test]
    fn an_interrupt_ends_the_search() {
        let split = Split::from_ids(vec![1; 100], vec![1; 2].into());
        let interrupt = AtomicBool::new(true);
        let found = overlap(&split, &split, None, 10, &interrupt, &mut |_| {});
        assert!(matches!(found, Err(DataError::Interrupted)));
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
