//! Tests of all kinds of tokenizers: decoding inverts encoding, loading inverts saving, and damaged files are refused.

use std::{fs, sync::LazyLock};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{convert::Kind, end_of_text::END_OF_TEXT, *};
use crate::DataError;

const TEXT: &str = "To be,\r\nor\tnot: él 叫 🦀\u{0}\u{301} <unk> [UNK]";

/// Creates text in English, other languages and code.
fn mixed_text() -> String {
    let line = "It was the best of times, it wasn't the worst of times; 1859 pages.\n";
    let other = "Die Straße, l'été à Genève; 君の名は。 😀🦀\t\tfn main() { }\r\n\r\n   x = 1\n";
    format!("{line}{other}").repeat(8) + line
}

static BPE: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_spec("bpe:320", &mixed_text()).unwrap());

/// Tokenizer like that of GPT-2: trained, saved and loaded from its file.
static FILE: LazyLock<Tokenizer> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    Tokenizer::from_spec("bpe:300", &mixed_text())
        .unwrap()
        .save(&path)
        .unwrap();
    Tokenizer::from_spec(path.to_str().unwrap(), "").unwrap()
});

/// Creates a tokenizer like that of Llama 2: words begin with `▁`, and text outside the vocabulary is written as bytes.
fn llama() -> String {
    let mut vocab = Map::new();
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    tokens.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["▁", "t", "h", "e", "▁t", "he", "▁the"].map(String::from));
    for (id, token) in tokens.into_iter().enumerate() {
        vocab.insert(token, id.into());
    }
    let added: Vec<Value> = ["<unk>", "<s>", "</s>"]
        .into_iter()
        .enumerate()
        .map(|(id, content)| added_token(id, content, true))
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ]},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": "<s>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
        },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ]},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": "<unk>",
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "vocab": vocab,
            "merges": ["▁ t", "h e", "▁t he"],
        },
    })
    .to_string()
}

/// Creates a tokenizer like that of BERT: parts of lowercase words, and a token for unknown words.
fn word_piece() -> String {
    json!({
        "version": "1.0",
        "added_tokens": [added_token(0, "[UNK]", true), added_token(1, "[SEP]", true)],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null,
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": { "[UNK]": 0, "[SEP]": 1, "the": 2, "##re": 3, "x": 4 },
        },
    })
    .to_string()
}

/// Creates a tokenizer like that of T5: a unigram model.
fn unigram() -> String {
    json!({
        "version": "1.0",
        "added_tokens": [added_token(0, "<pad>", true), added_token(1, "</s>", true)],
        "normalizer": null,
        "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" },
        "decoder": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" },
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "vocab": [
                ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -1.0], ["a", -2.0],
                ["b", -2.5], ["▁ab", -2.25],
            ],
        },
    })
    .to_string()
}

fn added_token(id: usize, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}

/// Returns the tokenizers that do not change text, with and without an end of text.
fn lossless(text: &str) -> Vec<Tokenizer> {
    vec![
        Tokenizer::byte(),
        Tokenizer::byte().with_end_of_text(),
        Tokenizer::char(text),
        Tokenizer::char(text).with_end_of_text(),
        BPE.clone(),
        FILE.clone(),
    ]
}

fn load(json: &str) -> Tokenizer {
    Tokenizer::from_json(json).unwrap()
}

#[test]
fn ids_are_bytes_or_ranks_of_code_points() {
    assert_eq!(Tokenizer::byte().encode("aé").unwrap(), [0x61, 0xC3, 0xA9]);
    let tokenizer = Tokenizer::char("béa, b");
    assert_eq!(tokenizer.vocab_size(), 5);
    assert_eq!(tokenizer.encode(" ,abé").unwrap(), [0, 1, 2, 3, 4]);
}

#[test]
fn incomplete_characters_decode_to_u_fffd() {
    assert_eq!(
        Tokenizer::byte().decode(&[0x61, 0xC3]).unwrap(),
        "a\u{FFFD}"
    );
    let crab = BPE.encode("🦀").unwrap();
    assert!(crab.len() > 1, "not merged, because it is too rare");
    assert_eq!(BPE.decode(&crab[..1]).unwrap(), "\u{FFFD}");
    assert_eq!(BPE.token_text(crab[0]), "\u{FFFD}");
    assert_eq!(
        BPE.token_bytes(crab[0]),
        &"🦀".as_bytes()[..BPE.token_bytes(crab[0]).len()]
    );
}

fn check_round_trip(tokenizer: &Tokenizer, text: &str) -> Result<(), TestCaseError> {
    let ids = tokenizer.encode(text).unwrap();
    prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    let lengths = tokenizer.token_lengths();
    prop_assert_eq!(lengths.len(), tokenizer.vocab_size());
    let bytes: usize = ids.iter().map(|&id| lengths[id as usize]).sum();
    prop_assert_eq!(bytes, text.len());
    let bytes: Vec<&[u8]> = ids.iter().map(|&id| tokenizer.token_bytes(id)).collect();
    prop_assert_eq!(bytes.concat(), text.as_bytes());
    Ok(())
}

proptest! {
    #[test]
    fn decoding_inverts_encoding(text in any::<String>(), before in "(\\PC|\\s){0,8}") {
        let with_name = format!("{before}{END_OF_TEXT}{text}{END_OF_TEXT}");
        for tokenizer in lossless(&with_name) {
            prop_assert!(tokenizer.is_exact());
            check_round_trip(&tokenizer, &text)?;
            check_round_trip(&tokenizer, &with_name)?;
            let ends = |ids: &[u32]| ids
                .iter()
                .filter(|&&id| Some(id) == tokenizer.end_of_text())
                .count();
            prop_assert_eq!(ends(&tokenizer.encode(&with_name).unwrap()), 0);
            let ids = tokenizer.encode_with_special_tokens(&with_name).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), with_name.as_str());
            if tokenizer.end_of_text().is_some() {
                prop_assert_eq!(ends(&ids), 2 + text.matches(END_OF_TEXT).count());
                let parts = [&before, &text].map(|part| tokenizer.encode(part).unwrap());
                let end = tokenizer.end_of_text().unwrap();
                prop_assert_eq!(ids, [&parts[0][..], &[end], &parts[1], &[end]].concat());
            } else {
                prop_assert_eq!(ids, tokenizer.encode(&with_name).unwrap());
            }
        }
    }

    #[test]
    fn decoding_inverts_encoding_of_llama(text in any::<String>()) {
        let tokenizer = load(&llama());
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_str());
        let bytes: Vec<&[u8]> = ids.iter().map(|&id| tokenizer.token_bytes(id)).collect();
        let spaced = if text.is_empty() { text } else { format!(" {text}") };
        prop_assert_eq!(bytes.concat(), spaced.as_bytes());
    }
}

proptest! {
    #[test]
    fn stream_gives_the_text_of_all_its_tokens(
        which in any::<prop::sample::Index>(),
        text in "(\\PC|</?s>|[ \\n]|the|ab|▁|é|叫|🦀){0,12}",
        // Long runs of the first ids, which include bytes, and any ids.
        ids in prop::collection::vec((0_u32..260, any::<prop::sample::Index>(), 0..4), 0..40),
    ) {
        let files = [llama(), word_piece(), unigram()].map(|json| load(&json));
        let tokenizers = [lossless(TEXT), files.to_vec()].concat();
        let tokenizer = &tokenizers[which.index(tokenizers.len())];
        let vocab_size = tokenizer.vocab_size();
        let mut before = tokenizer.encode(&text).unwrap_or_default();
        while before.last().is_some_and(|&id| tokenizer.may_be_cut(id)) {
            before.pop();
        }
        let ids: Vec<u32> = ids
            .into_iter()
            .map(|(low, any, choice)| match choice {
                0 => any.index(vocab_size) as u32,
                _ => low % vocab_size as u32,
            })
            .collect();
        let start = tokenizer.decode(&before).unwrap();
        let mut stream = tokenizer.stream(&before).unwrap();
        let mut streamed = start.clone();
        for id in &ids {
            streamed += &stream.push(*id).unwrap();
        }
        streamed += &stream.finish().unwrap();
        prop_assert_eq!(streamed, tokenizer.decode(&[before, ids].concat()).unwrap());
    }

    #[test]
    fn stream_returns_complete_characters_at_once(text in "(\\PC|\\s){0,12}") {
        for tokenizer in lossless(&text) {
            let mut stream = tokenizer.stream(&[]).unwrap();
            let mut streamed = String::new();
            let mut bytes = Vec::new();
            for id in tokenizer.encode(&text).unwrap() {
                bytes.extend_from_slice(tokenizer.token_bytes(id));
                streamed += &stream.push(id).unwrap();
                let complete = match std::str::from_utf8(&bytes) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                prop_assert_eq!(&streamed, &text[..complete]);
            }
            prop_assert_eq!(stream.finish().unwrap(), "");
        }
    }
}

#[test]
fn stream_keeps_the_space_between_words() {
    let tokenizer = load(&llama());
    let pieces = |before: &str, text: &str| {
        let before = tokenizer.encode(before).unwrap();
        let mut stream = tokenizer.stream(&before).unwrap();
        let ids = tokenizer.encode(text).unwrap();
        let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    };
    assert_eq!(pieces("", "the the"), ["the", " the", ""]);
    assert_eq!(pieces("the", "the the"), [" the", " the", ""]);
    // A line break is a byte token, which may be the start of a character.
    assert_eq!(pieces("the", "the\nthe"), [" the", "", "\nt", "he", ""]);
    assert_eq!(pieces("the\n", "the"), [" the", ""]);
}

#[test]
fn unknown_id_has_no_text_in_a_stream() {
    for tokenizer in [Tokenizer::byte(), load(&llama())] {
        let mut stream = tokenizer.stream(&[]).unwrap();
        assert_eq!(stream.push(tokenizer.vocab_size() as u32).unwrap(), "");
        assert_eq!(stream.finish().unwrap(), "");
    }
}

#[test]
fn start_of_text_is_what_the_post_processor_adds() {
    assert_eq!(load(&llama()).start_of_text().unwrap(), [1]);
    let mut both: Value = serde_json::from_str(&llama()).unwrap();
    let end = json!({ "SpecialToken": { "id": "<s>", "type_id": 0 } });
    both["post_processor"]["single"]
        .as_array_mut()
        .unwrap()
        .push(end);
    assert_eq!(load(&both.to_string()).start_of_text().unwrap(), [1]);
    for tokenizer in [lossless("a"), vec![load(&word_piece()), load(&unigram())]].concat() {
        assert!(tokenizer.start_of_text().unwrap().is_empty());
    }
}

#[test]
fn loaded_tokenizer_equals_the_saved_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let files = [llama(), word_piece(), unigram()].map(|json| load(&json));
    let tokenizers = [
        lossless(TEXT),
        lossless(""),
        lossless("<|endoftext|>"),
        files.to_vec(),
    ];
    for tokenizer in tokenizers.into_iter().flatten() {
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::load(&path).unwrap();
        assert_eq!(loaded, tokenizer);
        assert_eq!(loaded.to_json(), tokenizer.to_json());
        assert_eq!(loaded.end_of_text(), tokenizer.end_of_text());
        assert_eq!(loaded.token_lengths(), tokenizer.token_lengths());
        assert_eq!(
            matches!(loaded.kind, Kind::HuggingFace(_)),
            matches!(tokenizer.kind, Kind::HuggingFace(_)),
            "byte and char tokenizers keep their kind"
        );
    }
}

#[test]
fn different_tokenizers_are_not_equal() {
    let all = [lossless("ab"), vec![Tokenizer::char("abc"), load(&llama())]].concat();
    for (i, one) in all.iter().enumerate() {
        for (j, other) in all.iter().enumerate() {
            assert_eq!(one == other, i == j, "{one:?} {other:?}");
        }
    }
}

#[test]
fn difference_compares_the_meaning_of_ids() {
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut file: Value = serde_json::from_str(&BPE.to_json()).unwrap();
        edit(&mut file);
        load(&file.to_string())
    };
    // Other JSON that gives the same ids.
    for harmless in [
        edited(&|file| {
            file["post_processor"] = json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true,
            })
        }),
        edited(&|file| file["pre_tokenizer"]["pretokenizers"][1]["trim_offsets"] = json!(true)),
        edited(&|file| {
            let reversed: Map<String, Value> = file["model"]["vocab"]
                .as_object()
                .unwrap()
                .clone()
                .into_iter()
                .rev()
                .collect();
            file["model"]["vocab"] = reversed.into();
        }),
    ] {
        assert_eq!(BPE.difference(&harmless), None);
        assert_eq!(harmless.difference(&BPE), None);
    }
    // An additional special token is not part of texts.
    let byte = Tokenizer::byte();
    assert_eq!(byte.difference(&byte.clone().with_end_of_text()), None);
    assert_eq!(byte.clone().with_end_of_text().difference(&byte), None);

    // The same number of tokens, in another order.
    let swapped = edited(&|file| {
        let vocab = file["model"]["vocab"].as_object_mut().unwrap();
        (vocab["a"], vocab["b"]) = (vocab["b"].clone(), vocab["a"].clone());
    });
    assert_eq!(swapped.vocab_size(), BPE.vocab_size());
    let difference = BPE.difference(&swapped).unwrap();
    assert!(difference.contains("is \"a\" and \"b\""), "{difference}");
    // The same tokens, but texts are split differently.
    let cut = edited(&|file| {
        file["pre_tokenizer"] = json!({
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
        })
    });
    let difference = BPE.difference(&cut).unwrap();
    assert!(difference.contains("pre_tokenizer"), "{difference}");
    let more = Tokenizer::char("abc");
    let difference = Tokenizer::char("ab").difference(&more).unwrap();
    assert!(
        difference.contains("id 2 is missing and \"c\""),
        "{difference}"
    );
    assert!(BPE.difference(&Tokenizer::byte()).is_some());
}

#[test]
fn stable_prefix_keeps_its_encoding_whatever_follows() {
    let text = format!(
        "{}{}<|endoftext|>{}",
        mixed_text(),
        "ACGT".repeat(3000),
        mixed_text()
    );
    for tokenizer in lossless(&text) {
        for special in [false, true] {
            let encode = |text: &str| match special {
                true => tokenizer.encode_with_special_tokens(text).unwrap(),
                false => tokenizer.encode(text).unwrap(),
            };
            let expected = encode(&text);
            let places = text
                .char_indices()
                .map(|(at, _)| at)
                .filter(|at| at % 370 < 7);
            for seen in places {
                let stable = tokenizer.stable_prefix(&text[..seen], special);
                let (before, after) = text.split_at(stable);
                assert_eq!(
                    [encode(before), encode(after)].concat(),
                    expected,
                    "{stable} of {seen}"
                );
            }
        }
    }
}

#[test]
fn specs_name_tokenizers() {
    assert_eq!(
        Tokenizer::from_spec("byte", "ab").unwrap(),
        Tokenizer::byte()
    );
    assert_eq!(
        Tokenizer::from_spec("char", "ab").unwrap(),
        Tokenizer::char("ab")
    );
    let error = Tokenizer::from_spec("words", "ab").unwrap_err();
    assert!(matches!(error, DataError::UnknownTokenizer { .. }));
    let error = Tokenizer::from_spec("no/tokenizer.json", "ab").unwrap_err();
    assert!(matches!(error, DataError::Read { .. }), "{error}");
    let spec = TokenizerSpec::Bpe { vocab_size: 256 };
    let error = Tokenizer::train(&spec, [Ok("ab")].into_iter(), TrainOptions::default());
    assert!(matches!(error, Err(DataError::VocabSize { .. })));
}

#[test]
fn trained_vocabulary_has_the_bytes_first_and_the_end_of_text_last() {
    assert_eq!(BPE.vocab_size(), 320);
    assert_eq!(BPE.end_of_text(), Some(319));
    assert_eq!(BPE.token_text(319), END_OF_TEXT);
    assert_eq!(BPE.token_bytes(319), b"");
    // Like in GPT-2, bytes are in the order of the characters that stand for them: ! is 0 and the space 220.
    assert_eq!(BPE.token_bytes(0), b"!");
    assert_eq!(BPE.token_bytes(220), b" ");
    let mut bytes: Vec<u8> = (0..256).map(|id| BPE.token_bytes(id)[0]).collect();
    bytes.sort_unstable();
    assert!(bytes.into_iter().eq(0..=u8::MAX));
    assert!(
        BPE.encode(" times").unwrap().len() < 3,
        "the word is merged"
    );
}

#[test]
fn small_text_gives_a_small_vocabulary() {
    let tokenizer = Tokenizer::from_spec("bpe:8k", "ab ab abc").unwrap();
    // The tokens are the bytes, `ab`, `Ġab` and the end of text; `abc` occurs only once.
    assert_eq!(tokenizer.vocab_size(), 259);
    assert_eq!(tokenizer.end_of_text(), Some(258));
    assert_eq!(tokenizer.encode("ab ab").unwrap(), [256, 257]);
    let nothing = Tokenizer::from_spec("bpe:8k", "").unwrap();
    assert_eq!(nothing.vocab_size(), 257);
    assert_eq!(nothing.encode("é").unwrap().len(), 2);
}

#[test]
fn training_is_deterministic() {
    let text = mixed_text();
    let spec = TokenizerSpec::Bpe { vocab_size: 340 };
    let train = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let texts = text.split_inclusive('\n').map(Ok);
        pool.install(|| Tokenizer::train(&spec, texts, TrainOptions::default()).unwrap())
    };
    let reference = train(1).to_json();
    for threads in [1, 2, 3, 8] {
        assert_eq!(train(threads).to_json(), reference, "{threads} threads");
    }
}

/// Words that are frequent only after many rare words are learned, too.
#[test]
fn rare_words_do_not_displace_frequent_ones() {
    let rare: String = (0..600_000u64).map(|i| format!("{} ", i * 7919)).collect();
    let frequent = "zebra ".repeat(5000);
    let texts = || [Ok(rare.as_str()), Ok(frequent.as_str())].into_iter();
    let spec = TokenizerSpec::Bpe { vocab_size: 400 };
    let train = || Tokenizer::train(&spec, texts(), TrainOptions::default()).unwrap();
    let tokenizer = train();
    assert_eq!(tokenizer.encode(" zebra").unwrap().len(), 1);
    assert_eq!(train(), tokenizer);
}

#[test]
fn training_stops_at_an_error() {
    for spec in ["char", "bpe:300"] {
        let mut taken = 0;
        let texts = (0..1000).map(|i| {
            taken += 1;
            if i < 3 {
                Ok("text")
            } else {
                Err(DataError::Interrupted)
            }
        });
        let error = Tokenizer::train(&spec.parse().unwrap(), texts, TrainOptions::default());
        assert!(matches!(error, Err(DataError::Interrupted)));
        assert_eq!(taken, 4);
    }
    // The other kinds read no text.
    let texts = std::iter::from_fn(|| -> Option<Result<String, DataError>> { panic!("read") });
    let options = TrainOptions {
        end_of_text: true,
        ..TrainOptions::default()
    };
    let byte = Tokenizer::train(&TokenizerSpec::Byte, texts, options).unwrap();
    assert_eq!(byte, Tokenizer::byte().with_end_of_text());
}

#[test]
fn end_of_text_is_found_or_added() {
    assert_eq!(Tokenizer::byte().end_of_text(), None);
    let byte = Tokenizer::byte().with_end_of_text();
    assert_eq!((byte.end_of_text(), byte.vocab_size()), (Some(256), 257));
    assert_eq!(byte.clone().with_end_of_text(), byte);
    assert_eq!(byte.token_lengths()[255..], [1, 0]);
    assert_eq!(byte.decode(&[97, 256]).unwrap(), "a<|endoftext|>");
    let char = Tokenizer::char("ab").with_end_of_text();
    assert_eq!((char.end_of_text(), char.vocab_size()), (Some(2), 3));

    // Only special tokens count, and the names have an order of preference.
    let mut file: Value = serde_json::from_str(&Tokenizer::byte().to_json()).unwrap();
    for (names, end) in [
        (
            vec![("<|eot_id|>", true), ("<|end_of_text|>", true)],
            Some(257),
        ),
        (
            vec![("<|eot_id|>", true), ("<|end_of_text|>", false)],
            Some(256),
        ),
        (vec![("</s>", true), ("<|endoftext|>", true)], Some(257)),
        (vec![("<pad>", true), ("text", false)], None),
    ] {
        let added = (256..).zip(&names);
        file["added_tokens"] = added
            .map(|(id, (name, special))| added_token(id, name, *special))
            .collect();
        let tokenizer = load(&file.to_string());
        assert_eq!(tokenizer.end_of_text(), end, "{names:?}");
        assert_eq!(tokenizer.vocab_size(), 258);
        let with_end = tokenizer.with_end_of_text();
        assert_eq!(with_end.end_of_text(), end.or(Some(258)));
    }
}

#[test]
fn added_tokens_that_are_not_special_are_text() {
    let mut file: Value = serde_json::from_str(&BPE.to_json()).unwrap();
    let added = file["added_tokens"].as_array_mut().unwrap();
    added.push(added_token(320, "é<|x|>\nA", false));
    let tokenizer = load(&file.to_string());
    let text = "a é<|x|>\nA<|endoftext|>";
    let ids = tokenizer.encode(text).unwrap();
    assert!(ids.contains(&320));
    assert_eq!(tokenizer.token_bytes(320), "é<|x|>\nA".as_bytes());
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    assert!(tokenizer.is_exact());
    file["added_tokens"][1]["lstrip"] = true.into();
    assert!(!load(&file.to_string()).is_exact());
}

#[test]
fn llama_decodes_bytes_and_spaces() {
    let tokenizer = load(&llama());
    let id = |token: &str| {
        (0..tokenizer.vocab_size() as u32).find(|&id| tokenizer.token_text(id) == token)
    };
    assert_eq!(tokenizer.end_of_text(), Some(2));
    let ids = tokenizer.encode("the the\n</s>").unwrap();
    assert_eq!(ids[..3], [id(" the").unwrap(), id(" the").unwrap(), 3 + 10]);
    assert_eq!(tokenizer.token_bytes(3 + 10), b"\n");
    assert_eq!(tokenizer.token_lengths()[3 + 0xC3], 1);
    assert!(
        !ids.contains(&2) && !ids.contains(&1),
        "a special token: {ids:?}"
    );
    let ids = tokenizer.encode_with_special_tokens("the</s>").unwrap();
    assert_eq!(ids, [id(" the").unwrap(), 2]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "the</s>");
    assert!(!tokenizer.is_exact(), "a space is put before the text");
}

#[test]
fn text_of_word_pieces_is_that_of_the_decoder() {
    let tokenizer = load(&word_piece());
    assert!(!tokenizer.is_exact());
    let ids = tokenizer.encode("There x").unwrap();
    assert_eq!(ids, [2, 3, 4]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "there x");
    assert_eq!(tokenizer.token_lengths()[..3], [0, 0, 3]);
    assert_eq!(tokenizer.token_text(0), "[UNK]");
}

#[test]
fn truncation_padding_and_dropout_are_ignored() {
    let mut file: Value = serde_json::from_str(&BPE.to_json()).unwrap();
    file["truncation"] = json!({
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
    });
    file["padding"] = json!({
        "strategy": { "Fixed": 4_000_000_000_u32 }, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"
    });
    file["model"]["dropout"] = json!(0.9);
    assert_eq!(load(&file.to_string()), *BPE);
}

#[test]
fn long_text_has_the_ids_of_the_library() {
    let Kind::HuggingFace(loaded) = &BPE.kind else {
        panic!("{BPE:?}");
    };
    let library: tokenizers::Tokenizer = loaded.json().parse().unwrap();
    let text = mixed_text().repeat(400);
    assert!(text.len() > 1 << 18);
    let expected = library.encode_fast(text.as_str(), false).unwrap();
    assert_eq!(BPE.encode(&text).unwrap(), expected.get_ids());
}

#[test]
fn error_of_an_unknown_character_names_its_position() {
    for (text, place) in [("éax", 3), ("<|endoftext|>x", 13)] {
        let tokenizer = Tokenizer::char("aé").with_end_of_text();
        let error = tokenizer.encode_with_special_tokens(text).unwrap_err();
        assert!(
            matches!(
                error,
                DataError::UnknownCharacter {
                    character: 'x',
                    offset,
                    vocab_size: 2
                } if offset == place
            ),
            "{error}"
        );
    }
}

#[test]
fn error_of_an_unknown_id_names_its_position() {
    for tokenizer in lossless("ab") {
        let id = tokenizer.vocab_size() as u32;
        let error = tokenizer.decode(&[1, 0, id]).unwrap_err();
        let DataError::TokenOutOfVocabulary {
            id: found,
            vocab_size,
            position,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (found, vocab_size, position),
            (id, tokenizer.vocab_size(), 2)
        );
        assert_eq!(tokenizer.token_bytes(id), b"");
        assert_eq!(tokenizer.token_text(u32::MAX), "");
    }
}

#[test]
fn invalid_tokenizer_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let good = Tokenizer::char("abc").with_end_of_text().to_json();
    let bpe = Tokenizer::byte().to_json();
    let merging = |merge: &str| bpe.replace("\"merges\": []", &format!("\"merges\": [{merge}]"));
    let prefixed = merging("[\"a\", \"é\"]").replace(
        "\"continuing_subword_prefix\": null",
        "\"continuing_subword_prefix\": \"abc\"",
    );
    for (bad, part) in [
        ("", "EOF"),
        ("{}", "odel"),
        ("[]", "object"),
        ("not json", "expected"),
        (&good[..good.len() / 2], "EOF"),
        (&good.replace("\"c\": 2", "\"c\": 1"), "same id 1"),
        (&good.replace("\"c\": 2", "\"c\": 4000000000"), "4000000000"),
        (&good.replace("\"c\": 2", "\"c\": 16777216"), "16777216"),
        (&good.replace("\"c\": 2", "\"c\": 4294967296"), "4294967296"),
        (&good.replace("\"c\": 2", "\"c\": 3"), "same id 3"),
        (&good.replace("\"id\": 3", "\"id\": 4000000000"), "gap"),
        (&bpe.replace("\"~\": 126", "\"~\": 256"), "gap"),
        (&merging("[\"a\", \"b\"]"), "ab"),
        (&merging("[\"ÿÿÿÿ\", \"b\"]"), "ÿ"),
        (&prefixed, "prefix"),
        (&good.replace(r"[\\s\\S]", "(("), "paren"),
    ] {
        assert!(bad != good && bad != bpe, "{part}");
        fs::write(&path, bad).unwrap();
        let error = Tokenizer::load(&path).unwrap_err();
        assert!(
            matches!(error, DataError::TokenizerFile { .. }),
            "{bad}: {error}"
        );
        let message = error.to_string();
        assert!(message.contains("tokenizer.json"), "{message}");
        assert!(
            message.contains(part) && message.lines().count() == 1,
            "{message}"
        );
    }
}

#[test]
fn gaps_in_ids_are_empty_tokens() {
    let file = Tokenizer::char("abc").to_json();
    let tokenizer = load(&file.replace("\"c\": 2", "\"c\": 7"));
    assert_eq!(tokenizer.vocab_size(), 8);
    assert_eq!(tokenizer.encode("ac").unwrap(), [0, 7]);
    assert_eq!(tokenizer.decode(&[0, 5, 7]).unwrap(), "ac");
    assert_eq!(tokenizer.token_lengths(), [1, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(tokenizer.with_end_of_text().end_of_text(), Some(3));
}

/// Returns the number of hostile files: a thousand, unless `PROPTEST_CASES` states another number.
fn cases() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 1000,
    }
}

static GOOD_FILES: LazyLock<Vec<String>> = LazyLock::new(|| {
    vec![
        Tokenizer::byte().with_end_of_text().to_json(),
        Tokenizer::char(TEXT).with_end_of_text().to_json(),
        Tokenizer::from_spec("bpe:270", &mixed_text())
            .unwrap()
            .to_json(),
        llama(),
        word_piece(),
        unigram(),
    ]
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn hostile_files_are_errors(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..6, any::<prop::sample::Index>()),
            1..4,
        ),
        text in "(\\PC|</?s>|[ \\n]|the|ab){0,12}",
    ) {
        const WORDS: [&str; 16] = [
            "null", "true", "-1", "0", "1", "7", "300", "4000000000", "1e999", "[]", "{}", "\"\"",
            "\"▁\"", "\"##\"", "\"(\"", "18446744073709551615",
        ];
        let mut file = GOOD_FILES[which.index(GOOD_FILES.len())].clone();
        for (place, edit, with) in edits {
            let places: Vec<usize> = file.char_indices().map(|(at, _)| at).collect();
            if places.is_empty() {
                break;
            }
            let at = places[place.index(places.len())];
            let word = WORDS[with.index(WORDS.len())];
            // The approximate range of a value, so that most edits keep the file valid JSON.
            let value = file[at..].find(": ").or_else(|| file[at..].find(':')).map(|colon| {
                let start = at + colon + 1;
                let end = file[start..].find([',', '}', ']', '\n']);
                start..end.map_or(file.len(), |end| start + end)
            });
            match (edit, value) {
                (0, _) => file.truncate(at),
                (1, _) => file.insert_str(at, word),
                (2, _) => {
                    file.remove(at);
                }
                (_, Some(value)) => file.replace_range(value, word),
                (_, None) => {}
            }
        }
        if let Ok(tokenizer) = Tokenizer::from_json(&file) {
            for ids in [tokenizer.encode(&text), tokenizer.encode_with_special_tokens(&text)]
                .into_iter()
                .flatten()
            {
                prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                let _ = tokenizer.decode(&ids);
            }
            prop_assert_eq!(Tokenizer::from_json(&tokenizer.to_json()), Ok(tokenizer.clone()));
            let with_end = tokenizer.with_end_of_text();
            prop_assert!(with_end.token_text(with_end.end_of_text().unwrap()).len() > 1);
            prop_assert_eq!(with_end.token_lengths().len(), with_end.vocab_size());
        }
    }
}

#[test]
fn error_of_opening_and_saving_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/tokenizer.json");
    let error = Tokenizer::load(&path).unwrap_err();
    assert!(matches!(error, DataError::Read { .. }), "{error}");
    let error = Tokenizer::byte().save(&path).unwrap_err();
    assert!(matches!(error, DataError::Write { .. }), "{error}");
    assert!(
        error.to_string().contains("missing/tokenizer.json"),
        "{error}"
    );
}
