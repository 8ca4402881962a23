//! Tests of `foretoken inspect`, which shows the parameters and costs of a model.

use super::*;

use serde_json::Value;

fn inspect(bench: &Bench, args: &[&str]) -> String {
    bench.succeed(&[&["inspect"], args].concat())
}

fn report(bench: &Bench, args: &[&str]) -> Value {
    serde_json::from_str(&inspect(bench, &[args, &["--json"]].concat())).unwrap()
}

#[test]
fn a_preset_is_inspected_without_weights() {
    let bench = Bench::new();
    let report = report(&bench, &["gpt2", "--batch", "2", "--context", "512"]);
    assert_eq!(report["parameters"], 124_439_808);
    let parts = report["parts"].as_array().unwrap();
    let sum: u64 = parts
        .iter()
        .map(|part| part["parameters"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 124_439_808);
    let shapes = report["tensors"].as_array().unwrap();
    assert_eq!(shapes.len(), 148);
    assert_eq!(shapes[0]["path"], "token_embedding.weight");
    assert_eq!(shapes[0]["shape"], serde_json::json!([50257, 768]));
    // FLOPs per token are 6 N + 12 · layers · width · context.
    let training = 6.0 * 123_653_376.0 + 12.0 * 12.0 * 768.0 * 512.0;
    assert_eq!(report["training_flops_per_token"], training);
    assert_eq!(report["forward_flops_per_token"], training / 3.0);
    assert_eq!(report["training_memory"]["moments"], 8 * 124_439_808u64);
    assert_eq!(report["generation_memory"]["cache"], 72 << 20);

    let shown = inspect(&bench, &["gpt2"]);
    assert_fits_and_shows(
        &shown,
        &[
            "blocks.0–11",
            "[768, 2304] + [2304]",
            "124,439,808",
            "feed-forward",
            "45.54 %",
            "285.06 MFLOP",
            "key/value cache",
            "72.00 MiB",
            "1024 tokens",
        ],
    );
}

#[test]
fn a_run_and_its_experiment_have_the_same_model() {
    let bench = Bench::new();
    let run = bench.tiny_run("run", &[]);
    let from_run = report(&bench, &["run"]);
    let from_file = report(&bench, &["run/experiment.toml"]);
    assert_eq!(from_run["config"], from_file["config"]);
    // The default batch of an experiment is its training batch.
    assert_eq!(
        (from_run["batch"].clone(), from_file["batch"].clone()),
        (1.into(), 4.into())
    );
    assert_eq!(from_run["context"], 16);
    // The vocabulary size can follow from the data.
    let toml = std::fs::read_to_string(run.join("experiment.toml")).unwrap();
    let without: Vec<&str> = toml
        .lines()
        .filter(|line| !line.starts_with("vocab_size"))
        .collect();
    assert!(without.len() < toml.lines().count());
    std::fs::write(bench.path("mine.toml"), without.join("\n")).unwrap();
    assert_eq!(report(&bench, &["mine.toml"])["config"], from_run["config"]);
}

#[test]
fn errors_name_the_argument() {
    let bench = Bench::new();
    let refused = |args: &[&str], parts: &[&str]| {
        assert_refused(&bench.run(&[&["inspect"], args].concat()), 2, parts);
    };
    refused(&["absent.toml"], &["absent.toml: no such experiment file"]);
    refused(
        &["gpt3"],
        &[
            "gpt3: there is no such model",
            "presets are gpt2, gpt2-medium",
        ],
    );
    refused(
        &["gpt2", "--context", "1025"],
        &["--context: 1025 is more than", "1024"],
    );
}
