//! Tests of damaged and hostile files.

use std::env;

use super::foreign::{llm_c, nano_gpt};
use super::*;

/// Creates a small file of each format, with its name.
fn files(ids: &[u32]) -> [(&'static str, Vec<u8>); 6] {
    let small: Vec<u32> = ids.iter().map(|id| id % 300).collect();
    let ours = file_of(&small, 300);
    let unfinished = [&[0; 64], &ours[64..]].concat();
    [
        ("tokens", ours),
        ("tokens", file_of(ids, 70_000)),
        ("train.bin", llm_c(20_240_520, 1, &small)),
        ("train.bin", llm_c(20_240_801, 7, ids)),
        ("train.bin", nano_gpt(&small)),
        ("tokens", unfinished),
    ]
}

/// Opens and reads a file in all ways, and returns the ids or the offset of the fault.
fn outcome(path: &Path, bytes: &[u8]) -> Result<Vec<u32>, u64> {
    let place = |error: DataError| {
        let offset = offset(&error);
        let length = bytes.len() as u64;
        assert!(offset <= length, "byte {offset} of {length}: {error}");
        offset
    };
    let mut file = TokenFile::open(path).map_err(place)?;
    if file.vocab_size().is_none() {
        file = file.with_vocab_size(70_000).unwrap();
    }
    assert!(file.token_bytes() <= bytes.len());
    file.fingerprint();
    let verified = file.verify(&mut |_| Ok(()));
    // Reads single tokens from the last to the first.
    let mut ids = vec![0; file.tokens()];
    let one_by_one = (0..ids.len())
        .rev()
        .try_for_each(|i| file.read(i, &mut ids[i..=i]));
    assert_eq!(verified.is_ok(), one_by_one.is_ok());
    let at_once = read_all(&file);
    match verified {
        Err(error) => {
            let found = place(error);
            assert!(found < bytes.len() as u64);
            assert_eq!(place(at_once.unwrap_err()), found);
            Err(found)
        }
        Ok(()) => {
            assert_eq!(at_once.unwrap(), ids);
            let vocab_size = file.vocab_size().unwrap();
            assert!(ids.iter().all(|&id| (id as usize) < vocab_size));
            Ok(ids)
        }
    }
}

/// Writes the content of a file without truncating it first, because truncation would dominate the time of the tests.
fn put(path: &Path, bytes: &[u8]) {
    use std::io::Write;

    let mut options = File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

#[test]
fn every_flipped_bit_is_an_error_or_ignored() {
    let ids = ids(11, 70_000);
    let folder = tempfile::tempdir().unwrap();
    for (kind, (name, good)) in files(&ids).into_iter().enumerate() {
        let path = folder.path().join(name);
        put(&path, &good);
        let expected = outcome(&path, &good);
        assert_eq!(expected.is_ok(), kind != 5);
        for (byte, bit) in (0..good.len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut bytes = good.clone();
            bytes[byte] ^= 1 << bit;
            put(&path, &bytes);
            let found = outcome(&path, &bytes);
            match kind {
                // All bytes are covered by checksums.
                0 | 1 | 5 => assert!(found.is_err(), "byte {byte}"),
                // These bytes of the header are used, and the others are ignored.
                2 | 3 if byte < 12 => assert!(found.is_err(), "byte {byte}"),
                2 | 3 if byte < 1024 => assert_eq!(found, expected, "byte {byte}"),
                // Without a checksum, one id changes.
                _ => {
                    let (expected, start) = (expected.as_ref().unwrap(), good.len() - 11 * 2);
                    let (start, width) = match kind {
                        3 => (start - 11 * 2, 4),
                        _ => (start, 2),
                    };
                    let changed = (byte - start) / width;
                    match found {
                        Ok(ids) => {
                            let differ = |i: &usize| ids[*i] != expected[*i];
                            assert_eq!((0..11).filter(differ).collect::<Vec<_>>(), [changed]);
                        }
                        Err(place) => assert_eq!(place, (start + changed * width) as u64),
                    }
                }
            }
        }
    }
}

#[test]
fn errors_of_cut_files_name_the_offset() {
    let ids = ids(11, 70_000);
    let folder = tempfile::tempdir().unwrap();
    for (kind, (name, good)) in files(&ids).into_iter().enumerate().take(5) {
        let path = folder.path().join(name);
        for length in 0..good.len() {
            put(&path, &good[..length]);
            let found = outcome(&path, &good[..length]);
            match kind {
                // An empty file has no magic number.
                0 | 1 if length == 0 => assert_eq!(found, Err(0)),
                0..4 => assert_eq!(found, Err(length as u64), "{length} bytes"),
                _ if length == 0 => assert_eq!(found, Err(0)),
                _ if length % 2 == 1 => assert_eq!(found, Err(length as u64 - 1)),
                // Without a header, a shorter file has fewer tokens.
                _ => assert_eq!(found.unwrap().len(), length / 2),
            }
        }
        for more in [1, 2, 4, 1000] {
            let bytes = [&good[..], &vec![0; more]].concat();
            put(&path, &bytes);
            let found = outcome(&path, &bytes);
            match kind {
                0..4 => assert_eq!(found, Err(good.len() as u64)),
                _ => assert_eq!(found.is_ok(), more % 2 == 0),
            }
        }
    }
}

/// Change of the bytes of a file.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Truncate(prop::sample::Index),
    Append(Vec<u8>),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Copy(prop::sample::Index, prop::sample::Index, usize),
    /// Writes a number of 4 or 8 bytes, mostly at a field of the header.
    Number(usize, bool, u64),
    /// Corrects all checksums of foretoken, so that only the meaning of the numbers can be wrong.
    Seal,
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        match self {
            Self::Flip(..) | Self::Remove(..) | Self::Copy(..) if length == 0 => {}
            Self::Flip(place, mask) => bytes[place.index(length)] ^= mask,
            Self::Truncate(place) => bytes.truncate(place.index(length + 1)),
            Self::Append(more) => bytes.extend(more),
            Self::Insert(place, more) => {
                let place = place.index(length + 1);
                bytes.splice(place..place, more.iter().copied());
            }
            Self::Remove(place, count) => {
                let start = place.index(length);
                bytes.drain(start..length.min(start + count));
            }
            Self::Copy(from, to, count) => {
                let (from, to) = (from.index(length), to.index(length));
                let count = (*count).min(length - from.max(to));
                bytes.copy_within(from..from + count, to);
            }
            Self::Number(place, long, number) => {
                let number = &number.to_le_bytes()[..if *long { 8 } else { 4 }];
                if let Some(field) = bytes.get_mut(*place..place + number.len()) {
                    field.copy_from_slice(number);
                }
            }
            Self::Seal => seal(bytes),
        }
    }
}

fn seal(bytes: &mut [u8]) {
    let Some((header, rest)) = bytes.split_at_mut_checked(64) else {
        return;
    };
    let number = |at: usize, length: usize| {
        let mut number = [0; 8];
        number[..length].copy_from_slice(&header[at..at + length]);
        u64::from_le_bytes(number)
    };
    let tokens = number(16, 8).checked_mul(number(12, 4));
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    let tokens = tokens.and_then(|tokens| usize::try_from(tokens).ok());
    let Some((tokens, rest)) = tokens.and_then(|tokens| rest.split_at_mut_checked(tokens)) else {
        return;
    };
    let table: Vec<u8> = tokens
        .chunks(65_536)
        .flat_map(|block| crc32fast::hash(block).to_le_bytes())
        .collect();
    let table = [&table[..], &crc32fast::hash(&table).to_le_bytes()].concat();
    if let Some(place) = rest.get_mut(..table.len()) {
        place.copy_from_slice(&table);
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<prop::sample::Index>;
    let some = || prop::collection::vec(any::<u8>(), 1..20);
    let near = |number: u64| number.saturating_sub(2)..=number.saturating_add(2);
    let number = prop_oneof![
        any::<u64>(),
        0u64..100,
        (0u32..64).prop_map(|shift| 1 << shift),
        (0u32..64).prop_map(|shift| u64::MAX >> shift),
        near(1 << 16),
        near(1 << 32),
        near(u64::MAX / 2),
        near(u64::MAX / 4),
        Just(20_240_520u64),
        Just(20_240_801u64),
    ];
    let field = prop_oneof![
        4 => prop::sample::select(vec![0usize, 4, 8, 12, 16, 20, 24, 28, 32, 36, 60]),
        1 => 0usize..200,
    ];
    prop_oneof![
        2 => (place(), 1u8..).prop_map(|(place, mask)| Mutation::Flip(place, mask)),
        2 => place().prop_map(Mutation::Truncate),
        2 => some().prop_map(Mutation::Append),
        2 => (place(), some()).prop_map(|(place, more)| Mutation::Insert(place, more)),
        2 => (place(), 1usize..100).prop_map(|(place, count)| Mutation::Remove(place, count)),
        2 => (place(), place(), 1usize..100).prop_map(|(from, to, n)| Mutation::Copy(from, to, n)),
        5 => (field, any::<bool>(), number).prop_map(|(at, long, n)| Mutation::Number(at, long, n)),
        4 => Just(Mutation::Seal),
    ]
}

/// Configures a thousand cases, unless `PROPTEST_CASES` states another number.
fn cases() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 1000;
    }
    config
}

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().unwrap();
}

proptest! {
    #![proptest_config(cases())]
    /// Any bytes give an error with an offset in the file, or exactly the tokens in the file.
    #[test]
    fn mutated_files_are_refused_or_read_correctly(
        ids in prop::collection::vec(0u32..70_000, 0..40),
        kind in 0usize..6,
        other_name: bool,
        mutations in prop::collection::vec(mutation(), 0..5),
    ) {
        let (mut name, mut bytes) = files(&ids)[kind].clone();
        if other_name {
            name = if name == "tokens" { "train.bin" } else { "tokens" };
        }
        for mutation in &mutations {
            mutation.apply(&mut bytes);
        }
        let path = FOLDER.with(|folder| folder.path().join(name));
        put(&path, &bytes);
        if let Ok(read) = outcome(&path, &bytes) {
            if bytes.starts_with(b"FORETOKN") {
                // Tokens and a vocabulary determine all bytes.
                let vocab_size = TokenFile::open(&path).unwrap().vocab_size().unwrap();
                prop_assert_eq!(bytes, file_of(&read, vocab_size));
            } else if bytes.starts_with(&20_240_520u32.to_le_bytes()) {
                prop_assert_eq!(&bytes[1024..], &nano_gpt(&read));
            } else if bytes.starts_with(&20_240_801u32.to_le_bytes()) {
                prop_assert_eq!(&bytes[1024..], &llm_c(20_240_801, 7, &read)[1024..]);
            } else {
                prop_assert_eq!(name, "train.bin");
                prop_assert_eq!(bytes, nano_gpt(&read));
            }
        } else if mutations.is_empty() && kind < 5 && (kind < 4 || !other_name) {
            // An unchanged file is refused only if it has neither a header nor the right name, or if it is empty.
            prop_assert!(ids.is_empty() && kind == 4, "kind {}", kind);
        }
    }
}
