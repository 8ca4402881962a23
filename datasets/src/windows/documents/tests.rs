use proptest::prelude::*;

use super::*;
use crate::{
    WindowOrder, Windows,
    documents::tests::{END, index, split},
};

/// Checks the windows of two epochs against the text itself.
fn check_epochs(lengths: &[usize], end: bool, context: usize, seed: u64) {
    let split = split(lengths, end);
    let tokens = split.tokens();
    let ids = split.to_vec(0..tokens).unwrap();
    // The document of a token is the number of end-of-text tokens before it.
    let mut document = vec![0; tokens + 1];
    for (place, &id) in ids.iter().enumerate() {
        document[place + 1] = document[place] + usize::from(id == END);
    }
    let parts: Vec<Vec<usize>> = (0..=document[tokens])
        .flat_map(|wanted| {
            let targets: Vec<usize> = (1..tokens).filter(|&t| document[t] == wanted).collect();
            let parts: Vec<_> = targets.chunks(context).map(<[usize]>::to_vec).collect();
            parts
        })
        .collect();

    let order = WindowOrder::Documents(DocumentIndex::scan(&split, END).unwrap());
    let windows = Windows::new(&order, tokens, context, 3, seed).unwrap();
    assert_eq!(windows.per_epoch(), parts.len());
    for epoch in 0..2 {
        let mut read: Vec<Vec<usize>> = (epoch * parts.len()..(epoch + 1) * parts.len())
            .map(|i| {
                let window = windows.window(i / 3, i % 3);
                assert!(window.offset + context < tokens, "past the end of the text");
                assert!(window.counted.end <= context && !window.counted.is_empty());
                let first = window.offset + 1;
                let at_the_end = window.offset == tokens - context - 1;
                assert!(
                    window.counted.start == 0 || at_the_end,
                    "the window starts early without need"
                );
                window.counted.map(|place| first + place).collect()
            })
            .collect();
        // Each part of each document occurs once.
        read.sort_unstable();
        assert_eq!(read, parts);
    }
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    let length = prop_oneof![Just(0), Just(1), 0usize..8, 0usize..120];
    prop::collection::vec(length, 1..40)
}

proptest! {
    #[test]
    fn every_target_of_every_document_occurs_once_per_epoch(
        lengths in lengths(),
        end: bool,
        context in 1usize..20,
        seed: u64,
    ) {
        let tokens = split(&lengths, end).tokens();
        prop_assume!(tokens > context);
        check_epochs(&lengths, end, context, seed);
    }
}

/// There are more documents than one entry of the table covers.
#[test]
fn documents_beyond_one_table_entry_are_found() {
    let lengths: Vec<usize> = (0..5000).map(|document| document * 7 % 23).collect();
    check_epochs(&lengths, false, 5, 1);
    // The first documents have almost no targets, and the last one has the most.
    let empty = [vec![0; 3000], vec![40]].concat();
    check_epochs(&empty, true, 16, 1);
    let windows = DocumentWindows::new(&index(&[0, 1, 2, 3]), 3, 2).unwrap();
    assert_eq!(windows.count(), 2);
}

#[test]
fn index_of_another_text_is_an_error() {
    for (starts, tokens, part) in [
        (&[0, 50, 101][..], 100, "101"),
        (&[], 100, "no document"),
        (&[100], 100, "no document"),
    ] {
        let error = DocumentWindows::new(&index(starts), tokens, 8).unwrap_err();
        assert!(matches!(error, DataError::Dataset { .. }));
        assert!(error.to_string().contains(part), "{error}");
    }
}
