//! Tests that a saved tokenizer gives the same ids and text in Hugging Face `tokenizers`.
#![allow(clippy::unwrap_used)] // a test may panic

use std::sync::LazyLock;

use foretoken_datasets::Tokenizer;
use proptest::prelude::*;

static BPE: LazyLock<Tokenizer> = LazyLock::new(|| {
    let text = "The cat's on the mat, and the bat is at 1234 Élysée; 君の名は。\n";
    Tokenizer::from_spec("bpe:300", &text.repeat(3)).unwrap()
});

/// Loads the JSON of a tokenizer with the crate of Hugging Face.
fn reference(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
    tokenizer.to_json().parse().unwrap()
}

fn assert_parity(text: &str) {
    let char = Tokenizer::char(text);
    for tokenizer in [
        Tokenizer::byte(),
        Tokenizer::byte().with_end_of_text(),
        char.clone(),
        char.with_end_of_text(),
        BPE.clone(),
    ] {
        let mut reference = reference(&tokenizer);
        let ids = tokenizer.encode_with_special_tokens(text).unwrap();
        assert_eq!(reference.encode(text, true).unwrap().get_ids(), ids);
        assert_eq!(reference.decode(&ids, false).unwrap(), text);
        assert_eq!(reference.get_vocab_size(true), tokenizer.vocab_size());
        reference.set_encode_special_tokens(true);
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(reference.encode(text, true).unwrap().get_ids(), ids);
        assert_eq!(reference.decode(&ids, false).unwrap(), text);
    }
}

#[test]
fn chosen_texts_have_the_same_ids() {
    assert_parity("");
    assert_parity("To be,\r\n\n\nor\tnot: él 叫 🦀\u{0}\u{301} <unk> [UNK] ");
    assert_parity("a<|endoftext|> b\n<|endoftext|><|endoftext|");
    // All characters of up to three bytes.
    assert_parity(&('\0'..='\u{FFFF}').collect::<String>());
}

proptest! {
    // Failing cases are printed, because proptest keeps them only beside a `src/`.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_the_same_ids(text in any::<String>()) {
        assert_parity(&text);
    }
}

#[test]
fn unknown_character_is_an_error_in_hugging_face_too() {
    let tokenizer = Tokenizer::char("abc");
    assert!(reference(&tokenizer).encode("abd", false).is_err());
}
