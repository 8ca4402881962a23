use std::fs;

use proptest::prelude::*;

use super::*;

/// The end-of-text token of these tests.
pub(crate) const END: u32 = 0;

/// Creates documents of the given lengths with an end-of-text token between them and, if `end`, after them.
pub(crate) fn split(lengths: &[usize], end: bool) -> Split {
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

/// Builds an index of these starts without a text.
pub(crate) fn index(starts: &[u64]) -> DocumentIndex {
    DocumentIndex(Starts::Memory(starts.into()))
}

/// Puts together the file of these starts, as the head of `documents.rs` describes it.
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

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Every byte of the file is checked, so any change is an error.
    #[test]
    fn damaged_file_is_an_error(
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

/// Number of cases: 1000, or `PROPTEST_CASES`.
fn cases() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 1000,
    }
}

#[test]
fn scanning_finds_all_documents() {
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
fn file_holds_what_was_written() {
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

    // The checksum is right, but the order of the starts is not.
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
