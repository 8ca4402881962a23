use std::fs;

use proptest::prelude::*;

use super::*;
use crate::{WindowOrder, Windows};

/// The end-of-text token of these tests.
const END: u32 = 0;

/// Documents of the given lengths, an end-of-text token between them and, if asked for, after them.
fn split(lengths: &[usize], end: bool) -> Split {
    let mut ids = vec![];
    for &length in lengths {
        ids.extend((1..).take(length));
        ids.push(END);
    }
    if !end {
        ids.pop();
    }
    let vocabulary = ids.iter().max().map_or(1, |max| *max as usize + 1);
    Split::from_ids(ids, vec![1; vocabulary].into())
}

fn starts(index: &DocumentIndex) -> Vec<usize> {
    (0..index.documents())
        .map(|document| index.start(document))
        .collect()
}

/// An index of these starts, whatever they are.
fn index(starts: &[u64]) -> DocumentIndex {
    DocumentIndex(Starts::Memory(starts.into()))
}

/// The file of these starts, as the head of `documents.rs` has it.
fn file_of(starts: &[u64]) -> Vec<u8> {
    let numbers: Vec<u8> = starts
        .iter()
        .flat_map(|start| start.to_le_bytes())
        .collect();
    [
        b"ftk.docs".as_slice(),
        &1u32.to_le_bytes(),
        &crc32fast::hash(&numbers).to_le_bytes(),
        &(starts.len() as u64).to_le_bytes(),
        &numbers,
    ]
    .concat()
}

/// Checks the windows of some epochs against the text itself.
fn check_epochs(lengths: &[usize], end: bool, context: usize, seed: u64) {
    let split = split(lengths, end);
    let tokens = split.tokens();
    let ids = split.to_vec(0..tokens).unwrap();
    // The document of a token is how many end-of-text tokens come before it.
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
                assert!(window.offset + context < tokens, "over the end of the text");
                assert!(window.counted.end <= context && !window.counted.is_empty());
                let first = window.offset + 1;
                let at_the_end = window.offset == tokens - context - 1;
                assert!(
                    window.counted.start == 0 || at_the_end,
                    "starts early without need"
                );
                window.counted.map(|place| first + place).collect()
            })
            .collect();
        // Each part of each document, once.
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
    fn every_target_of_every_document_once_per_epoch(
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

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Whatever happens to a file, it is an error: every byte of it is checked.
    #[test]
    fn a_damaged_file_is_an_error(
        documents in 0u64..50,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        more in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents");
        let intact = file_of(&(0..documents).map(|start| start * 5).collect::<Vec<_>>());
        let mut bytes = intact.clone();
        for (place, change) in changes {
            let place = place.index(bytes.len());
            bytes[place] ^= change;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        bytes.extend(more);
        fs::write(&path, &bytes).unwrap();
        match DocumentIndex::open(&path) {
            Ok(index) => {
                prop_assert_eq!(&bytes, &intact);
                prop_assert_eq!(index.documents() as u64, documents);
            }
            Err(error) => {
                prop_assert_ne!(&bytes, &intact);
                let DataError::TokenFile { offset, .. } = error else {
                    return Err(TestCaseError::fail(error.to_string()));
                };
                prop_assert!(offset <= bytes.len() as u64);
            }
        }
    }
}

/// A thousand, or what `PROPTEST_CASES` says.
fn cases() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 1000,
    }
}

/// More documents than one entry of the table stands for.
#[test]
fn many_documents() {
    let lengths: Vec<usize> = (0..5000).map(|document| document * 7 % 23).collect();
    check_epochs(&lengths, false, 5, 1);
    // None of the first ones has a target, and the last one has the most.
    let empty = [vec![0; 3000], vec![40]].concat();
    check_epochs(&empty, true, 16, 1);
    let windows = DocumentWindows::new(&index(&[0, 1, 2, 3]), 3, 2).unwrap();
    assert_eq!(windows.count(), 2);
}

#[test]
fn scanning_finds_the_documents() {
    for (lengths, end, expected) in [
        (&[2, 3][..], false, &[0, 3][..]),
        (&[2, 3], true, &[0, 3]),
        (&[0, 0, 1], false, &[0, 1, 2]),
        (&[4], false, &[0]),
        (&[], false, &[]),
        (&[70_000, 70_000], true, &[0, 70_001]),
    ] {
        let index = DocumentIndex::scan(&split(lengths, end), END).unwrap();
        assert_eq!(starts(&index), expected);
    }
}

#[test]
fn a_file_holds_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents");
    for lengths in [&[][..], &[0, 3, 1, 70], &[5; 1000]] {
        let scanned = DocumentIndex::scan(&split(lengths, false), END).unwrap();
        scanned.write(&path).unwrap();
        let opened = DocumentIndex::open(&path).unwrap();
        assert_eq!(starts(&opened), starts(&scanned));
        let expected: Vec<u64> = starts(&scanned).iter().map(|&start| start as u64).collect();
        assert_eq!(fs::read(&path).unwrap(), file_of(&expected));
    }
}

#[test]
fn an_index_of_another_text_is_an_error() {
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

#[test]
fn starts_out_of_order_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents");
    let mut writer = DocumentIndexWriter::create(&path).unwrap();
    writer.push(7).unwrap();
    assert!(writer.push(7).is_err());
    writer.push(8).unwrap();
    drop(writer);
    let unfinished = DocumentIndex::open(&path).unwrap_err();
    assert!(unfinished.to_string().contains("byte 0"), "{unfinished}");

    // A file that fits its checksum and makes no sense.
    fs::write(&path, file_of(&[3, 9, 9])).unwrap();
    let error = DocumentIndex::open(&path).unwrap_err();
    assert!(
        matches!(error, DataError::TokenFile { offset: 40, .. }),
        "{error}"
    );
    assert!(matches!(
        DocumentIndex::open(folder.path().join("none")),
        Err(DataError::Missing { .. })
    ));
    assert!(matches!(
        DocumentIndex::open(folder.path()),
        Err(DataError::Directory { .. })
    ));
}
