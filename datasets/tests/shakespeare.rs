//! Tests with a real corpus, from the file to the batches of one epoch. The expected numbers are those that
//! `data/shakespeare_char` of nanoGPT prints. The tests are ignored by default, because the text is not in the
//! repository; `.ci/run` includes them if it finds the text.
#![allow(clippy::unwrap_used)] // a test may panic

use std::path::PathBuf;

use burn::{data::dataloader::DataLoader, tensor::Device};
use foretoken_datasets::{Corpus, EvalLoaderConfig, Tokenizer, TokenizerSpec};

/// Reads the text from the folder `shared` beside the checkout, or from the folder that `FORETOKEN_SHARED` names.
fn shakespeare() -> String {
    let shared = std::env::var_os("FORETOKEN_SHARED").map_or_else(
        || {
            [env!("CARGO_MANIFEST_DIR"), "../../shared"]
                .iter()
                .collect()
        },
        PathBuf::from,
    );
    let path = shared.join("data/tinyshakespeare.txt");
    std::fs::read_to_string(&path).unwrap_or_else(|error| {
        let path = path.display();
        panic!(
            "{path}: {error}; name the folder above data/tinyshakespeare.txt with FORETOKEN_SHARED"
        )
    })
}

#[test]
#[ignore = "needs data/tinyshakespeare.txt under FORETOKEN_SHARED"]
fn tiny_shakespeare_has_the_counts_of_nano_gpt() {
    let text = shakespeare();
    let corpus =
        Corpus::from_text(&text[..1_003_854], &text[1_003_854..], &TokenizerSpec::Char).unwrap();
    assert_eq!(corpus.tokenizer.vocab_size(), 65);
    assert_eq!(corpus.train.tokens(), 1_003_854);
    assert_eq!(corpus.valid.tokens(), 111_540);
    let decoded = corpus
        .tokenizer
        .decode(&corpus.train.to_vec(0..1_003_854).unwrap())
        .unwrap();
    assert_eq!(decoded, text[..1_003_854]);

    let config = EvalLoaderConfig {
        context: 64,
        batch: 12,
        windows: None,
    };
    let loader = config.init(&corpus.valid, &Device::flex()).unwrap();
    let tokens: usize = loader
        .iter()
        .map(|batch| batch.unwrap().target_tokens)
        .sum();
    assert_eq!(tokens, 111_539);
}

#[test]
#[ignore = "needs data/tinyshakespeare.txt under FORETOKEN_SHARED"]
fn tiny_shakespeare_has_the_ids_of_hugging_face() {
    let text = shakespeare();
    for tokenizer in [Tokenizer::byte(), Tokenizer::char(&text)] {
        let reference: tokenizers::Tokenizer = tokenizer.to_json().parse().unwrap();
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(
            reference.encode(text.as_str(), false).unwrap().get_ids(),
            ids
        );
        assert_eq!(reference.decode(&ids, false).unwrap(), text);
    }
}
