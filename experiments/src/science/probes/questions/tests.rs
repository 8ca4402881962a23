#![allow(clippy::unwrap_used)]

use foretoken_datasets::world::{Size, Stream, WorldConfig};
use foretoken_model::ModelConfig;

use super::*;
use crate::backend::Backend;
use crate::text::predict::surprisals;

fn world() -> World {
    World::new(&WorldConfig::default()).unwrap()
}

fn tokenizer(spec: &str) -> Tokenizer {
    let text = world().text(Stream::Train, Size::Bytes(200_000)).text;
    Tokenizer::from_spec(spec, &text).unwrap()
}

fn model(tokenizer: &Tokenizer, context: usize) -> Transformer {
    let device = Backend::Flex.device().unwrap();
    let config = ModelConfig::new(tokenizer.vocab_size() + 3, context, 2, 2, 32);
    config.init(7, &device).unwrap()
}

fn scored(questions: &Questions, model: &Transformer) -> Vec<Vec<ItemScore>> {
    questions
        .score(model, &AtomicBool::new(false), &mut |_| {})
        .unwrap()
}

#[test]
fn likelihoods_are_the_surprisals_of_the_answers() {
    let (world, tokenizer) = (world(), tokenizer("char"));
    let model = model(&tokenizer, 128);
    let questions = Questions::new(&world, &Family::ALL, 6, &tokenizer, 128).unwrap();
    let scores = scored(&questions, &model);
    for (family, scores) in questions.families.iter().zip(&scores) {
        assert_eq!(
            (family.items.len(), scores.len(), family.left_out),
            (6, 6, 0)
        );
        for (item, score) in family.items.iter().zip(scores) {
            let nats = |answer: &str| {
                let ids = tokenizer
                    .encode(&format!("\n{}{answer}", item.context))
                    .unwrap();
                let first = 1 + item.context.len();
                let bits = surprisals(&model, &tokenizer, &ids, first, 128).unwrap();
                -bits.total_bits * std::f64::consts::LN_2
            };
            assert!((score.log_likelihood - nats(&item.right)).abs() < 1e-3);
            let wrong = item.wrong.iter().map(|wrong| nats(wrong));
            let best = wrong.fold(f64::NEG_INFINITY, f64::max);
            assert!((score.wrong_log_likelihood - best).abs() < 1e-3);
            assert_eq!(score.bytes, item.right.len());
            let written = score.greedy.as_ref().unwrap();
            assert_eq!(written.chars().count(), item.right.len());
        }
    }
    // Without decoding, everything else is the same.
    let without = questions
        .score_without_decoding(&model, &AtomicBool::new(false))
        .unwrap();
    for (with, without) in scores.iter().flatten().zip(without.iter().flatten()) {
        let expected = ItemScore {
            greedy: None,
            edit_distance: None,
            ..with.clone()
        };
        assert_eq!(*without, expected);
    }
}

#[test]
fn scores_do_not_depend_on_the_items_beside_them() {
    let (world, tokenizer) = (world(), tokenizer("char"));
    let model = model(&tokenizer, 128);
    let likelihoods = |families: &[Family]| -> Vec<u64> {
        let questions = Questions::new(&world, families, 9, &tokenizer, 128).unwrap();
        let scores = scored(&questions, &model);
        let last = scores.last().unwrap().iter();
        last.map(|score| score.log_likelihood.to_bits()).collect()
    };
    let all = likelihoods(&[Family::Agreement, Family::Recall, Family::Sums]);
    assert_eq!(all, likelihoods(&[Family::Sums]));
}

#[test]
fn tokens_that_join_context_and_answer_are_scored() {
    let (world, tokenizer) = (world(), tokenizer("bpe:320"));
    let model = model(&tokenizer, 64);
    let questions = Questions::new(&world, &Family::ALL, 8, &tokenizer, 64).unwrap();
    let mut joined = 0;
    for (family, scores) in questions.families.iter().zip(scored(&questions, &model)) {
        for (item, score) in family.items.iter().zip(&scores) {
            assert!(score.bytes >= item.right.len(), "{item:?}, {score:?}");
            joined += usize::from(score.bytes > item.right.len());
        }
    }
    assert!(joined > 0);
}

#[test]
fn items_that_do_not_fit_are_left_out_and_named() {
    let (world, tokenizer) = (world(), tokenizer("char"));
    let questions = Questions::new(&world, &Family::ALL, 12, &tokenizer, 24).unwrap();
    let recall = &questions.families[4];
    assert_eq!((recall.items.len(), recall.left_out), (0, 12));
    assert!(!questions.families[0].items.is_empty());
    let notes = questions.notes();
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("12 of 12 items of recall")),
        "{notes:?}"
    );
    let error = Questions::new(&world, &[Family::Recall], 12, &tokenizer, 24).unwrap_err();
    assert!(
        error.to_string().contains("context of 24 tokens"),
        "{error}"
    );
}
