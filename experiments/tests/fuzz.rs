//! Tests that every parser accepts valid inputs and never panics. They run the bodies of the fuzz targets (`fuzz/`) on
//! their seeds, on the inputs in the repository, and on random mutations of both. `PROPTEST_CASES` is the number of
//! mutations of each target; `FORETOKEN_FUZZ_CORPUS` names a folder for the seeds, as a corpus for cargo-fuzz.
#![allow(clippy::unwrap_used)]

#[path = "../../fuzz/targets/datasets.rs"]
mod datasets;
#[path = "../../fuzz/targets/experiments.rs"]
mod experiments;
#[path = "../../fuzz/targets/model.rs"]
mod model;
#[path = "../../fuzz/targets/target.rs"]
mod target;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner};
use target::Target;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn targets() -> impl Iterator<Item = &'static Target> {
    let all = [
        &datasets::TARGETS[..],
        &model::TARGETS,
        &experiments::TARGETS,
    ];
    all.into_iter().flatten()
}

/// Returns the inputs of a target in the repository, by name: `valid-…` are accepted, and others once caused a fault.
fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join("inputs").join(target.name);
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let named = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    };
    paths.map(named).collect()
}

/// Byte strings that mutations insert or replace values by.
const WORDS: [&[u8]; 24] = [
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"-0.0",
    b"nan",
    b"4000000000",
    b"18446744073709551615",
    b"9223372036854775808",
    b"[]",
    b"{}",
    b"\"\"",
    b"\"../x\"",
    b"\"\\n\"",
    b"\\",
    b"\"",
    b"=",
    b"\n",
    b",",
    b"\xff",
    b"\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
];

/// A mutation of an input.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Truncate(Index),
    Insert(Index, usize),
    Overwrite(Index, usize),
    /// Replaces a value of JSON or TOML.
    Replace(Index, usize),
    Remove(Index, usize),
    Repeat(Index, usize),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip(place, mask) => bytes[place.index(length)] ^= mask,
            Self::Truncate(place) => bytes.truncate(place.index(length)),
            Self::Insert(place, word) => {
                let place = place.index(length);
                bytes.splice(place..place, WORDS[*word].iter().copied());
            }
            Self::Overwrite(place, word) => {
                let place = place.index(length);
                let end = length.min(place + WORDS[*word].len());
                bytes[place..end].copy_from_slice(&WORDS[*word][..end - place]);
            }
            Self::Replace(place, word) => {
                let start = place.index(length);
                let colon = |byte: &u8| matches!(byte, b':' | b'=');
                let Some(colon) = bytes[start..].iter().position(colon) else {
                    return;
                };
                let start = start + colon + 1;
                let end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b'\n');
                let end = bytes[start..].iter().position(end);
                let end = end.map_or(length, |end| start + end);
                bytes.splice(start..end, WORDS[*word].iter().copied());
            }
            Self::Remove(place, count) => {
                let start = place.index(length);
                bytes.drain(start..length.min(start + count));
            }
            Self::Repeat(place, count) => {
                let start = place.index(length);
                let part = bytes[start..length.min(start + count)].to_vec();
                bytes.splice(start..start, part);
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    let word = || 0..WORDS.len();
    prop_oneof![
        2 => (place(), 1u8..).prop_map(|(place, mask)| Mutation::Flip(place, mask)),
        1 => place().prop_map(Mutation::Truncate),
        2 => (place(), word()).prop_map(|(place, word)| Mutation::Insert(place, word)),
        2 => (place(), word()).prop_map(|(place, word)| Mutation::Overwrite(place, word)),
        4 => (place(), word()).prop_map(|(place, word)| Mutation::Replace(place, word)),
        2 => (place(), 1usize..60).prop_map(|(place, count)| Mutation::Remove(place, count)),
        2 => (place(), 1usize..60).prop_map(|(place, count)| Mutation::Repeat(place, count)),
    ]
}

/// Runs a target on its seeds, on its inputs in the repository, and on mutations of both.
fn run(target: &Target) {
    let name = target.name;
    let mut inputs = (target.seeds)();
    if let Some(corpus) = std::env::var_os("FORETOKEN_FUZZ_CORPUS") {
        let corpus = Path::new(&corpus).join(name);
        fs::create_dir_all(&corpus).unwrap();
        for (number, seed) in inputs.iter().enumerate() {
            fs::write(corpus.join(format!("seed-{number}")), seed).unwrap();
        }
    }
    for (number, seed) in inputs.iter().enumerate() {
        assert!((target.accepts)(seed), "seed {number} of {name}");
    }
    let kept = kept(target);
    for (input, bytes) in &kept {
        let accepted = (target.accepts)(bytes);
        assert!(accepted || !input.starts_with("valid-"), "{name}/{input}");
    }
    inputs.extend(kept.into_iter().map(|(_, bytes)| bytes));
    assert!(!inputs.is_empty(), "{name} has no input");

    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 500;
    }
    let mutated = (
        prop::sample::select(inputs),
        prop::collection::vec(mutation(), 1..4),
    );
    let mutated = mutated.prop_map(|(mut bytes, mutations)| {
        mutations
            .iter()
            .for_each(|mutation| mutation.apply(&mut bytes));
        bytes
    });
    let result = TestRunner::new(config).run(&mutated, |bytes| {
        (target.accepts)(&bytes);
        Ok::<_, TestCaseError>(())
    });
    result.unwrap_or_else(|failure| panic!("{name}: {failure}"));
}

fn run_named(name: &str) {
    run(targets().find(|target| target.name == name).unwrap());
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run_named(stringify!($name));
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

tests! {
    token_file documents_index manifest tokenizer text json_lines json csv tsv parquet
    safetensors config generation_config weights_index model_description
    experiment setting metrics checkpoint comparison compressed observations scaling_fit plan sweep_index task_items
}

#[test]
fn every_target_is_tested_and_can_be_fuzzed() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let binaries = manifest["bin"].as_array().unwrap();
    let binaries: BTreeSet<&str> = binaries
        .iter()
        .map(|binary| binary["name"].as_str().unwrap())
        .collect();
    let known: BTreeSet<&str> = targets().map(|target| target.name).collect();
    assert_eq!(binaries, known);
    assert_eq!(BTreeSet::from_iter(NAMES.iter().copied()), known);
    for entry in fs::read_dir(folder().join("inputs")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(known.contains(name.to_str().unwrap()), "{name:?}");
    }
}
