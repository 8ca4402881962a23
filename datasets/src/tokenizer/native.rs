//! Byte and char tokenizers in the format of Hugging Face `tokenizers` (`tokenizer.json`).

use serde_json::{Map, Value, json};

use super::{end_of_text::END_OF_TEXT, token_bytes::byte_level_alphabet};

/// Writes the byte tokenizer as a byte-pair encoding without merges, over the printable characters with which GPT-2
/// writes bytes.
pub(super) fn byte(end_of_text: Option<u32>) -> String {
    let byte_level = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": false,
    });
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": false,
        "vocab": numbered(byte_level_alphabet()),
        "merges": [],
    });
    tokenizer(byte_level.clone(), byte_level, model, end_of_text)
}

/// Writes a char tokenizer as a model in which every character is a word. The format requires an unknown token; because
/// it is not in the vocabulary, unknown characters are errors in the library, too.
pub(super) fn char(characters: &[char], end_of_text: Option<u32>) -> String {
    let split = json!({
        "type": "Split",
        "pattern": { "Regex": r"[\s\S]" },
        "behavior": "Isolated",
        "invert": false,
    });
    let model = json!({
        "type": "WordLevel",
        "vocab": numbered(characters.iter().copied()),
        "unk_token": "<unk>",
    });
    tokenizer(split, json!({ "type": "Fuse" }), model, end_of_text)
}

fn tokenizer(
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    end_of_text: Option<u32>,
) -> String {
    let added_tokens: Vec<Value> = end_of_text
        .into_iter()
        .map(|id| {
            json!({
                "id": id,
                "content": END_OF_TEXT,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": true,
            })
        })
        .collect();
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": model,
    });
    format!("{json:#}\n")
}

/// Returns `{token: id}`, in the order of the ids.
fn numbered(characters: impl IntoIterator<Item = char>) -> Map<String, Value> {
    characters
        .into_iter()
        .enumerate()
        .map(|(id, c)| (c.to_string(), id.into()))
        .collect()
}
