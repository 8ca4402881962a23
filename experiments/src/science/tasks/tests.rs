//! Tests of whole evaluations against plain computations.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use foretoken_datasets::Tokenizer;
use foretoken_model::{ModelConfig, Transformer};
use serde_json::{Value, json};

use super::*;

static NEVER: AtomicBool = AtomicBool::new(false);

const CONTEXT: usize = 48;

fn model(vocab_size: usize) -> Transformer {
    let config = ModelConfig::new(vocab_size, CONTEXT, 2, 2, 16);
    config.init(3, &Device::flex()).unwrap()
}

fn lines(path: &Path, records: &[Value]) {
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    fs::write(path, lines.join("\n")).unwrap();
}

/// Questions of different lengths, some longer than the context.
fn questions(count: usize) -> Vec<Value> {
    let words = ["cat", "rain", "music", "the lamp", "she"];
    (0..count)
        .map(|number| {
            let word = |step: usize| words[(number * 3 + step) % words.len()];
            json!({
                "goal": vec![word(0); 1 + number % 9].join(" "),
                "sol1": word(1),
                "sol2": format!("{} {}", word(2), word(3)),
                "label": number % 2,
            })
        })
        .collect()
}

fn settings() -> TaskSettings {
    TaskSettings {
        shots: 0,
        seed: 1234,
        limit: None,
        context: CONTEXT,
        batch: None,
    }
}

fn run(data: &TaskData, settings: &TaskSettings) -> TaskResult {
    let tokenizer = Tokenizer::byte().with_end_of_text();
    let mut encoder = PairEncoder::new(&tokenizer, vec![], &[256], CONTEXT);
    evaluate(
        &model(257),
        &mut encoder,
        data,
        settings,
        &NEVER,
        &mut |_, _| {},
    )
    .unwrap()
}

/// Returns Σ ln p of the tokens of a continuation, from the logits of the whole text.
fn log_likelihood(model: &Transformer, ids: &[u32], first: usize) -> f64 {
    let logits = model.logits(model.tokens(&[&ids[..ids.len() - 1]]));
    let logits: Vec<f32> = logits.try_into_vec_as().unwrap();
    let rows: Vec<&[f32]> = logits.chunks_exact(257).collect();
    (first..ids.len())
        .map(|target| {
            let row = rows[target - 1].iter().map(|logit| f64::from(*logit));
            let total: f64 = row.clone().map(f64::exp).sum();
            row.clone().nth(ids[target] as usize).unwrap() - total.ln()
        })
        .sum()
}

#[test]
fn scores_are_those_of_a_plain_computation() {
    let folder = tempfile::tempdir().unwrap();
    lines(&folder.path().join("piqa.jsonl"), &questions(11));
    let data = TaskData::read(folder.path(), Task::Piqa, 0, &NEVER).unwrap();
    let result = run(&data, &settings());
    let model = model(257);
    let mut cut = 0;
    for (item, found) in data.items.iter().zip(&result.items) {
        for (choice, found) in item.choices.iter().zip(&found.choices) {
            let whole = format!("{}{}", choice.context, choice.continuation);
            let ids: Vec<u32> = whole.bytes().map(u32::from).collect();
            let start = ids.len().saturating_sub(CONTEXT + 1);
            let first = choice.context.len() - start;
            let expected = log_likelihood(&model, &ids[start..], first);
            assert!((found.log_likelihood - expected).abs() < 1e-4);
            assert_eq!(found.tokens, choice.continuation.len());
        }
        cut += usize::from(found.cut > 0);
    }
    assert!(cut > 0 && result.cut_items == cut);
    let accuracy = result.measures[&Measure::Accuracy];
    let hits = result
        .items
        .iter()
        .filter(|item| item.measures[&Measure::Accuracy] == 1.0);
    assert_eq!(accuracy.value, hits.count() as f64 / 11.0);
}

#[test]
fn batch_limit_and_other_items_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    lines(&folder.path().join("piqa.jsonl"), &questions(30));
    lines(&folder.path().join("piqa.train.jsonl"), &questions(9));
    let data = TaskData::read(folder.path(), Task::Piqa, 2, &NEVER).unwrap();
    let few = TaskSettings {
        shots: 2,
        ..settings()
    };
    let all = run(&data, &few);
    for batch in [1, 3, 100] {
        let batch = Some(batch);
        assert_eq!(run(&data, &TaskSettings { batch, ..few }), all);
    }
    let limit = Some(7);
    let first = run(&data, &TaskSettings { limit, ..few });
    assert_eq!(first.items, all.items[..7]);
    assert_ne!(run(&data, &settings()).items, all.items);
    let seed = 5;
    assert_ne!(run(&data, &TaskSettings { seed, ..few }).items, all.items);
}

#[test]
fn faults_of_files_are_named_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("piqa.jsonl");
    let read = |records: &[Value]| {
        lines(&path, records);
        let read = TaskData::read(folder.path(), Task::Piqa, 0, &NEVER);
        let error = read.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let good = questions(3);
    let with = |key: &str, value: Value| {
        let mut question = good[0].clone();
        question[key] = value;
        question
    };
    let without = {
        let mut question = good[0].clone();
        question.as_object_mut().unwrap().remove("sol2");
        question
    };
    for (records, parts) in [
        (
            vec![good[0].clone(), without],
            &["line 2", "\"sol2\"", "baber/piqa"][..],
        ),
        (vec![with("label", json!(2))], &["line 1", "label is 2"]),
        (
            vec![with("sol1", json!("  "))],
            &["line 1", "choice 0 is empty"],
        ),
        (
            vec![
                with("id", json!("a")),
                good[1].clone(),
                with("id", json!("a")),
            ],
            &["line 3", "\"a\"", "line 1"],
        ),
        (vec![json!([1])], &["line 1", "not a JSON object"]),
        (vec![], &["piqa.jsonl is empty"]),
    ] {
        let error = read(&records);
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    lines(&path, &good);
    let error = TaskData::read(folder.path(), Task::Piqa, 1, &NEVER).unwrap_err();
    assert!(error.to_string().contains("piqa.train.jsonl"), "{error}");
    lines(&folder.path().join("piqa.train.jsonl"), &good);
    let error = TaskData::read(folder.path(), Task::Piqa, 3, &NEVER).unwrap_err();
    assert!(error.to_string().contains("--shots"), "{error}");
}
