//! Tests of files that the scripts of llm.c and nanoGPT write with `numpy`.

use super::*;

/// Creates a file of llm.c: `header = np.zeros(256, dtype=np.int32)` with three numbers set, and the tokens.
pub(super) fn llm_c(magic: i32, version: i32, ids: &[u32]) -> Vec<u8> {
    let mut header = [0i32; 256];
    header[..3].copy_from_slice(&[magic, version, ids.len() as i32]);
    let mut bytes: Vec<u8> = header.iter().flat_map(|n| n.to_le_bytes()).collect();
    for id in ids {
        match magic {
            20_240_520 => bytes.extend((*id as u16).to_le_bytes()),
            _ => bytes.extend(id.to_le_bytes()),
        }
    }
    bytes
}

/// Creates a file of nanoGPT: `np.array(ids, dtype=np.uint16).tofile(…)`.
pub(super) fn nano_gpt(ids: &[u32]) -> Vec<u8> {
    ids.iter()
        .flat_map(|id| (*id as u16).to_le_bytes())
        .collect()
}

fn open(name: &str, bytes: &[u8]) -> Result<TokenFile, DataError> {
    let (_folder, path) = in_folder(name);
    fs::write(&path, bytes).unwrap();
    TokenFile::open(&path)
}

#[test]
fn foreign_files_are_read() {
    let short = ids(100_000, 50_257);
    let long = ids(100_000, 128_256);
    for (name, bytes, ids, vocab_size) in [
        ("a.bin", llm_c(20_240_520, 1, &short), &short, 50_257),
        ("no-end", llm_c(20_240_520, 1, &short), &short, 50_257),
        ("a.bin", llm_c(20_240_801, 7, &long), &long, 128_256),
        ("train.bin", nano_gpt(&short), &short, 50_257),
    ] {
        let file = open(name, &bytes).unwrap();
        assert_eq!((file.tokens(), file.vocab_size()), (100_000, None));
        assert!(read_all(&file).unwrap() == *ids);
        file.verify(&mut |_| Ok(())).unwrap();

        let file = file.with_vocab_size(vocab_size).unwrap();
        assert_eq!(file.vocab_size(), Some(vocab_size));
        assert!(read_all(&file).unwrap() == *ids);
        file.verify(&mut |_| Ok(())).unwrap();
        assert!(file.with_vocab_size(vocab_size + 1).is_err());

        // With one token less in the vocabulary, the largest id is outside it; the first is at position 7.
        let file = open(name, &bytes).unwrap();
        read_all(&file).unwrap();
        let file = file.with_vocab_size(vocab_size - 1).unwrap();
        let width = if vocab_size > 65_536 { 4 } else { 2 };
        let place = bytes.len() - (100_000 - 7) * width;
        for error in [
            read_all(&file).unwrap_err(),
            file.verify(&mut |_| Ok(())).unwrap_err(),
        ] {
            assert_eq!(offset(&error), place as u64);
            let id = (vocab_size - 1).to_string();
            assert!(error.to_string().contains(&id), "{error}");
        }
    }
}

#[test]
fn unused_numbers_of_a_foreign_header_are_ignored() {
    let ids = ids(100, 50_257);
    let mut bytes = llm_c(20_240_520, 1, &ids);
    bytes[12..1024].fill(0xA5);
    assert_eq!(read_all(&open("a.bin", &bytes).unwrap()).unwrap(), ids);
}

#[test]
fn errors_of_other_files_name_the_offset() {
    let ids = ids(100, 50_257);
    let gpt_2 = llm_c(20_240_520, 1, &ids);
    let longer = [&gpt_2[..], &[1, 2]].concat();
    let mut negative = gpt_2.clone();
    negative[8..12].copy_from_slice(&(-1i32).to_le_bytes());
    let bare = nano_gpt(&ids);
    let cases: [(&str, &[u8], u64, &str); 15] = [
        ("a.bin", &gpt_2[..1123], 1123, "1224 bytes"),
        ("a.bin", &gpt_2[..1000], 1000, "within its header"),
        ("a.bin", &gpt_2[..2], 2, "within its header"),
        ("a.bin", &longer, 1224, "continues to byte 1226"),
        ("a.bin", &negative, 8, "negative number of tokens, -1"),
        ("a.bin", &llm_c(20_240_520, 2, &ids), 4, "version 2"),
        ("a.bin", &llm_c(20_240_801, 1, &ids), 4, "version 1"),
        // A file of llm.c with multiple-choice examples instead of text.
        (
            "a.bin",
            &llm_c(20_240_522, 1, &ids),
            0,
            "not that of a token file",
        ),
        ("a.bin", &bare[..199], 198, "within a token"),
        ("a.bin", &[], 0, "empty"),
        ("a.bin", &[0; 100], 0, "not finished"),
        ("a.bin", b"FORETOK", 7, "within its header"),
        ("tokens", &bare, 0, "not a token file: expected"),
        ("tokens", &[], 0, "empty"),
        (
            "text.txt",
            b"To be, or not to be",
            0,
            "not a token file: expected",
        ),
    ];
    for (name, bytes, place, expected) in cases {
        let error = open(name, bytes).unwrap_err();
        assert_eq!(offset(&error), place, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn fingerprints_depend_on_tokens_only() {
    let ids = ids(100_000, 50_257);
    let print = |bytes: Vec<u8>| open("a.bin", &bytes).unwrap().fingerprint();
    let mut header = llm_c(20_240_520, 1, &ids);
    header[1000] = 7;
    assert_eq!(print(header), print(llm_c(20_240_520, 1, &ids)));
    let mut prints = vec![print(nano_gpt(&ids)), print(nano_gpt(&ids[..99_999]))];
    for place in [0, 50_000, 199_999] {
        let mut bytes = nano_gpt(&ids);
        bytes[place] ^= 1;
        prints.push(print(bytes));
    }
    for (i, one) in prints.iter().enumerate() {
        assert!(!prints[..i].contains(one), "file {i}");
    }
}
