//! Measures encoding in bytes of text per second: many documents in parallel, compared with `encode_batch` of Hugging
//! Face `tokenizers` with the same tokenizer. The vocabulary is trained on the text, with the size of GPT-2 as its
//! maximum. A small text gives a smaller one; the name of the group has the size.
//!
//! The text is `data/tinyshakespeare.txt` in the folder `shared` beside the checkout, or in the folder that
//! `FORETOKEN_SHARED` names. If it is missing, words are generated.

use std::{hint::black_box, path::PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foretoken_datasets::Tokenizer;
use rayon::prelude::*;

/// Approximate number of bytes in a document.
const DOCUMENT: usize = 2048;

fn text() -> String {
    let shared = std::env::var_os("FORETOKEN_SHARED").map_or_else(
        || {
            [env!("CARGO_MANIFEST_DIR"), "../../shared"]
                .iter()
                .collect()
        },
        PathBuf::from,
    );
    let path = shared.join("data/tinyshakespeare.txt");
    std::fs::read_to_string(path).unwrap_or_else(|_| generated())
}

/// Generates a million bytes of words, of which a few are frequent and most are rare.
fn generated() -> String {
    let syllables = ["ba", "de", "gi", "lo", "mu", "ra", "se", "ti", "vo", "zu"];
    let mut state = 1_u64;
    let mut text = String::new();
    while text.len() < 1_000_000 {
        // A linear congruential generator (Knuth) suffices for words.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (length, word) = ((state >> 60) % 4 + 1, state >> 32);
        for place in 0..length {
            text.push_str(syllables[(word >> (4 * place)) as usize % syllables.len()]);
        }
        text.push(if word % 11 == 0 { '\n' } else { ' ' });
    }
    text
}

/// Divides a text into documents of complete lines.
fn documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .bytes()
            .enumerate()
            .skip(DOCUMENT)
            .find(|&(_, byte)| byte == b'\n')
            .map_or(rest.len(), |(at, _)| at + 1);
        let (document, tail) = rest.split_at(end);
        documents.push(document);
        rest = tail;
    }
    documents
}

fn tokenize(criterion: &mut Criterion) {
    let text = text();
    let tokenizer = Tokenizer::from_spec("bpe:50257", &text).expect("a text to train on");
    let library: tokenizers::Tokenizer = tokenizer
        .to_json()
        .parse()
        .expect("the format of the library");
    let documents = documents(&text);

    let name = format!("tokenize/bpe:{}", tokenizer.vocab_size());
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::BytesDecimal(text.len() as u64));
    group.sample_size(10);
    group.bench_function("foretoken", |bencher| {
        bencher.iter(|| {
            let ids: Vec<Vec<u32>> = documents
                .par_iter()
                .map(|document| {
                    tokenizer
                        .encode(document)
                        .expect("the vocabulary has all bytes")
                })
                .collect();
            black_box(ids)
        });
    });
    group.bench_function("encode_batch", |bencher| {
        bencher.iter(|| {
            let ids = library.encode_batch(documents.clone(), false);
            black_box(ids.expect("the vocabulary has all bytes"))
        });
    });
    group.finish();
}

criterion_group!(benches, tokenize);
criterion_main!(benches);
