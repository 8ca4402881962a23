//! Tests of writing, reading, damage and invalid input.

mod foreign;
mod hostile;

use std::{
    fs::{self, File},
    path::PathBuf,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// Largest vocabulary of 2 bytes per token, and smallest of 4 bytes.
const VOCABULARIES: [usize; 2] = [65_536, 65_537];

/// Creates ids below `vocab_size`, including the largest, that are not periodic in the length of a block.
fn ids(count: usize, vocab_size: usize) -> Vec<u32> {
    let scattered = |i: usize| (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let id = |i| match i % 101 {
        7 => vocab_size as u32 - 1,
        _ => (scattered(i) % vocab_size as u64) as u32,
    };
    (0..count).map(id).collect()
}

/// Creates the file of some ids from the description of the format, independently of the writer.
fn file_of(ids: &[u32], vocab_size: usize) -> Vec<u8> {
    let width = if vocab_size > 65_536 { 4 } else { 2 };
    let tokens: Vec<u8> = ids
        .iter()
        .flat_map(|id| id.to_le_bytes()[..width].to_vec())
        .collect();
    let table: Vec<u8> = tokens
        .chunks(65_536)
        .flat_map(|block| crc32fast::hash(block).to_le_bytes())
        .collect();
    let mut bytes = b"FORETOKN\x01\0\0\0".to_vec();
    bytes.extend((width as u32).to_le_bytes());
    bytes.extend((ids.len() as u64).to_le_bytes());
    bytes.extend((vocab_size as u64).to_le_bytes());
    bytes.extend(65_536u32.to_le_bytes());
    bytes.resize(60, 0);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(tokens);
    bytes.extend(&table);
    bytes.extend(crc32fast::hash(&table).to_le_bytes());
    bytes
}

fn read_all(file: &TokenFile) -> Result<Vec<u32>, DataError> {
    let mut ids = vec![u32::MAX; file.tokens()];
    file.read(0, &mut ids)?;
    Ok(ids)
}

fn in_folder(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

/// Returns the offset that an error names, and checks that it names the file.
fn offset(error: &DataError) -> u64 {
    let DataError::TokenFile { offset, path, .. } = error else {
        panic!("{error}");
    };
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(error.to_string().contains(name), "{error}");
    *offset
}

#[test]
fn sizes_around_block_borders_are_written_and_read() {
    let (_folder, path) = in_folder("tokens");
    for vocab_size in VOCABULARIES {
        let block = if vocab_size > 65_536 { 16_384 } else { 32_768 };
        let around = [block, 2 * block, 64 * block, 65 * block]
            .into_iter()
            .flat_map(|tokens| tokens - 1..=tokens + 1);
        for tokens in (0..3).chain(around) {
            let ids = ids(tokens, vocab_size);
            let mut writer = TokenFileWriter::create(&path, vocab_size).unwrap();
            for piece in ids.chunks(9973) {
                writer.append(piece).unwrap();
            }
            assert_eq!(writer.tokens(), tokens);
            writer.finish().unwrap();
            assert!(fs::read(&path).unwrap() == file_of(&ids, vocab_size));
            let file = TokenFile::open(&path).unwrap();
            assert_eq!(file.tokens(), tokens);
            assert_eq!(file.vocab_size(), Some(vocab_size));
            assert_eq!(file.path(), path);
            assert!(read_all(&file).unwrap() == ids);
            for start in (0..tokens).step_by(block / 2 - 1) {
                let mut some = vec![0; 1000.min(tokens - start)];
                file.read(start, &mut some).unwrap();
                assert_eq!(some, ids[start..start + some.len()]);
            }
            file.read(tokens, &mut []).unwrap();
            let mut seen = vec![];
            let mut see = |done| {
                seen.push(done);
                Ok(())
            };
            file.verify(&mut see).unwrap();
            assert_eq!(seen.len(), tokens.div_ceil(block));
            let token_bytes = tokens * 65_536 / block;
            assert_eq!(seen.last().copied().unwrap_or(0), token_bytes as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn reopened_file_has_the_same_bytes(
        vocab_size in prop::sample::select(&VOCABULARIES[..]),
        tokens in 0usize..100_000,
        trusted in any::<prop::sample::Index>(),
        beyond in any::<prop::sample::Index>(),
        end in 0usize..3,
        piece in 1usize..50_000,
        borders: bool,
    ) {
        let (_folder, path) = in_folder("tokens");
        let ids = ids(tokens, vocab_size);
        let mut trusted = trusted.index(tokens + 1);
        if borders {
            trusted = trusted / 16_384 * 16_384;
        }
        let mut writer = TokenFileWriter::create(&path, vocab_size).unwrap();
        for piece in ids[..trusted].chunks(piece) {
            writer.append(piece).unwrap();
        }
        writer.sync().unwrap();
        // The tokens after `trusted` are lost in one of three ways.
        writer.append(&ids[trusted..trusted + beyond.index(tokens - trusted + 1)]).unwrap();
        match end {
            0 => drop(writer),
            1 => writer.finish().unwrap(),
            _ => {
                writer.sync().unwrap();
                drop(writer);
                let mut bytes = fs::read(&path).unwrap();
                let trusted_end = 64 + trusted * format::width_of(vocab_size);
                bytes[trusted_end..].fill(0xA5);
                bytes.push(0xA5);
                fs::write(&path, bytes).unwrap();
            }
        }
        let mut writer = TokenFileWriter::reopen(&path, vocab_size, trusted).unwrap();
        prop_assert_eq!(writer.tokens(), trusted);
        let error = TokenFile::open(&path).unwrap_err();
        prop_assert!(error.to_string().contains("not finished"), "{}", error);
        for piece in ids[trusted..].chunks(piece) {
            writer.append(piece).unwrap();
            writer.sync().unwrap();
        }
        writer.finish().unwrap();
        prop_assert!(fs::read(&path).unwrap() == file_of(&ids, vocab_size));
    }
}

#[test]
fn file_that_cannot_be_reopened_is_unchanged() {
    let (_folder, path) = in_folder("tokens");
    let finished = file_of(&[1, 2, 3], 10);
    let unfinished = [&[0; 64], &finished[64..70]].concat();
    let cases = [
        (finished.clone(), 10, 4, "after 3 of 4 tokens"),
        (finished.clone(), 11, 3, "vocabulary of 10"),
        (unfinished.clone(), 10, 4, "after 3 of 4 tokens"),
        (unfinished[..69].to_vec(), 10, 3, "after 2 of 3 tokens"),
        (unfinished.clone(), 10, usize::MAX, "after 3 of"),
        (unfinished[..63].to_vec(), 10, 0, "within its header"),
        (vec![], 10, 0, "within its header"),
        (
            b"some text of the user".repeat(9),
            10,
            0,
            "not a token file",
        ),
    ];
    for (bytes, vocab_size, tokens, expected) in cases {
        fs::write(&path, &bytes).unwrap();
        let error = TokenFileWriter::reopen(&path, vocab_size, tokens).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("tokens"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{expected}");
    }
    // An id is outside a smaller vocabulary.
    fs::write(&path, &unfinished).unwrap();
    let error = TokenFileWriter::reopen(&path, 3, 3).unwrap_err();
    assert_eq!(offset(&error), 68);
    fs::remove_file(&path).unwrap();
    let error = TokenFileWriter::reopen(&path, 10, 0).unwrap_err();
    assert!(matches!(error, DataError::Missing { .. }), "{error}");
}

#[test]
fn unfinished_file_is_not_opened() {
    let (_folder, path) = in_folder("tokens.bin");
    let mut writer = TokenFileWriter::create(&path, 10).unwrap();
    for ids in [&[][..], &[1, 2, 3], &[4; 100_000]] {
        writer.append(ids).unwrap();
        let error = TokenFile::open(&path).unwrap_err();
        assert!(error.to_string().contains("not finished"), "{error}");
        writer.sync().unwrap();
        let error = TokenFile::open(&path).unwrap_err();
        assert!(error.to_string().contains("not finished"), "{error}");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 64 + 2 * 100_003);
}

#[test]
fn id_outside_the_vocabulary_is_not_written() {
    let (_folder, path) = in_folder("tokens");
    let mut writer = TokenFileWriter::create(&path, 10).unwrap();
    writer.append(&[9, 0]).unwrap();
    for id in [10, 65_536, u32::MAX] {
        let error = writer.append(&[3, id]).unwrap_err();
        assert_eq!(offset(&error), 64 + 3 * 2);
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
    writer.append(&[5]).unwrap();
    writer.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), file_of(&[9, 0, 5], 10));
}

#[test]
fn errors_of_opening_and_writing_name_the_file() {
    let (folder, path) = in_folder("missing/tokens");
    let error = TokenFile::open(&path).unwrap_err();
    assert!(matches!(error, DataError::Missing { .. }), "{error}");
    let error = TokenFile::open(folder.path()).unwrap_err();
    assert!(matches!(error, DataError::Directory { .. }), "{error}");
    let error = TokenFileWriter::create(&path, 10).unwrap_err();
    assert!(matches!(error, DataError::Write { .. }), "{error}");
    assert!(error.to_string().contains("missing/tokens"), "{error}");
    if cfg!(target_pointer_width = "64") {
        let error = TokenFileWriter::create(folder.path().join("tokens"), (1 << 32) + 1);
        assert!(error.is_err());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn full_disk_is_an_error() {
    let error = TokenFileWriter::create("/dev/full", 10).unwrap_err();
    assert!(matches!(error, DataError::Write { .. }), "{error}");
    assert!(error.to_string().contains("/dev/full"), "{error}");
    let error = TokenFile::open("/dev/full").unwrap_err();
    assert!(matches!(error, DataError::Read { .. }), "{error}");
}

#[test]
fn damaged_block_is_an_error_at_every_read() {
    let (_folder, path) = in_folder("tokens");
    let ids = ids(100_000, 65_536);
    let good = file_of(&ids, 65_536);
    for place in [0, 65_535, 65_536, 131_071, 131_072, 199_999] {
        let mut bytes = good.clone();
        bytes[64 + place] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        let file = TokenFile::open(&path).unwrap();
        let block = place / 65_536 * 65_536;
        for _ in 0..2 {
            for (first, length) in [(place / 2, 1), (place / 2, 100), (block / 2, 30_000)] {
                let mut out = vec![0; length.min(100_000 - first)];
                let error = file.clone().read(first, &mut out).unwrap_err();
                assert_eq!(offset(&error), 64 + block as u64);
            }
            let error = file.verify(&mut |_| Ok(())).unwrap_err();
            assert_eq!(offset(&error), 64 + block as u64);
            // The other blocks can still be read.
            for start in (0..100_000).step_by(1000) {
                let blocks = start * 2 / 65_536..=(start * 2 + 1999) / 65_536;
                if !blocks.contains(&(place / 65_536)) {
                    let mut out = [0; 1000];
                    file.read(start, &mut out).unwrap();
                    assert_eq!(out, ids[start..start + 1000]);
                }
            }
        }
    }
}

#[test]
fn file_accepts_only_its_own_vocabulary() {
    let (_folder, path) = in_folder("tokens");
    fs::write(&path, file_of(&[1, 2], 10)).unwrap();
    let file = TokenFile::open(&path).unwrap();
    assert!(file.clone().with_vocab_size(10).is_ok());
    for vocab_size in [0, 9, 11, usize::MAX] {
        let error = file.clone().with_vocab_size(vocab_size).unwrap_err();
        for part in ["tokens", "vocabulary of 10", &vocab_size.to_string()] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
fn different_tokens_have_different_fingerprints() {
    let (_folder, path) = in_folder("tokens");
    let print = |ids: &[u32], vocab_size| {
        fs::write(&path, file_of(ids, vocab_size)).unwrap();
        TokenFile::open(&path).unwrap().fingerprint()
    };
    let many = ids(100_000, 300);
    let mut other = many.clone();
    other[99_999] ^= 1;
    let prints = [
        print(&many, 300),
        print(&other, 300),
        print(&many[1..], 300),
        print(&many, 70_000),
        print(&[], 300),
        print(&[0], 300),
    ];
    assert_eq!(print(&many, 300), prints[0]);
    for (i, one) in prints.iter().enumerate() {
        assert!(!prints[..i].contains(one), "file {i}");
    }
}

/// Opens a sparse file of 10 GiB, which must not be read into memory.
#[test]
#[cfg(target_os = "linux")]
fn large_file_opens_without_being_read() {
    use std::io::{Seek, SeekFrom, Write};

    const TOKENS: usize = 5 << 30;
    let resident = || -> usize {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let (_folder, path) = in_folder("tokens");
    let header = format::Header {
        tokens: TOKENS as u64,
        vocab_size: 50_257,
    };
    let crc = crc32fast::hash(&[0; BLOCK]).to_le_bytes();
    let table = crc.repeat(TOKENS * 2 / BLOCK);
    let mut file = File::create(&path).unwrap();
    file.write_all(&header.to_bytes()).unwrap();
    file.seek(SeekFrom::Current(2 * TOKENS as i64)).unwrap();
    file.write_all(&table).unwrap();
    file.write_all(&crc32fast::hash(&table).to_le_bytes())
        .unwrap();
    drop(file);

    let before = resident();
    let file = TokenFile::open(&path).unwrap();
    assert_eq!(file.tokens(), TOKENS);
    let mut out = [1; 1025];
    for start in [0, TOKENS / 2, TOKENS - out.len()] {
        file.read(start, &mut out).unwrap();
        assert_eq!(out, [0; 1025]);
    }
    file.fingerprint();
    // Other tests run at the same time, so the bound is generous.
    let grown = resident().saturating_sub(before);
    assert!(grown < 512 << 20, "{grown} bytes");
}
