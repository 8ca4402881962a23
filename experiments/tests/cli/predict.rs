//! Tests of `foretoken predict`, which shows the distribution over the next token and surprisals.

use super::*;

use serde_json::Value;

fn predict(bench: &Bench, args: &[&str]) -> String {
    bench.succeed(&[&["predict", "run"], args].concat())
}

fn report(bench: &Bench, args: &[&str]) -> Value {
    serde_json::from_str(&predict(bench, &[args, &["--json"]].concat())).unwrap()
}

#[track_caller]
fn close(a: &Value, b: f64) {
    let a = a.as_f64().unwrap();
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} and {b}");
}

fn sum(list: &Value, key: &str) -> f64 {
    let list = list.as_array().unwrap().iter();
    list.map(|item| item[key].as_f64().unwrap()).sum()
}

#[test]
fn probabilities_sum_to_1_and_give_the_surprisal_of_the_target() {
    let bench = Bench::trained();
    let report = report(
        &bench,
        &["--prompt", "The cat", "--top", "5", "--target", " is"],
    );
    let next = &report["next"];
    assert_eq!(next["top"].as_array().unwrap().len(), 5);
    close(&next["rest"], 1.0 - sum(&next["top"], "probability"));
    close(
        &next["perplexity"],
        next["entropy_bits"].as_f64().unwrap().exp2(),
    );

    let surprisals = &report["surprisals"];
    let tokens = surprisals["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 3);
    close(
        &surprisals["total_bits"],
        sum(&surprisals["tokens"], "bits"),
    );
    close(
        &surprisals["bits_per_token"],
        sum(&surprisals["tokens"], "bits") / 3.0,
    );
    // Each character of the world is one byte.
    close(
        &surprisals["bits_per_byte"],
        sum(&surprisals["tokens"], "bits") / 3.0,
    );
    // The shown distribution is that of the target's first token.
    close(
        &tokens[0]["entropy_bits"],
        next["entropy_bits"].as_f64().unwrap(),
    );
    assert_eq!(report["not_judged"], Value::Null);
    // The complete distribution has its surprisal.
    let whole = self::report(&bench, &["--prompt", "The cat", "--top", "1000"]);
    let mut all = whole["next"]["top"].as_array().unwrap().iter();
    let candidate = all.find(|candidate| candidate["id"] == tokens[0]["id"]);
    close(
        &tokens[0]["bits"],
        candidate.unwrap()["bits"].as_f64().unwrap(),
    );
}

#[test]
fn surprisal_equals_the_validation_loss_of_training() {
    use foretoken_datasets::world::{Size, Stream, World};
    let experiment = foretoken::Experiment::embedded(&[]).unwrap();
    let world = World::new(experiment.data.world.as_ref().unwrap()).unwrap();
    // The validation split is one document, which is one window.
    let valid = world.text(Stream::Valid, Size::Bytes(1)).text;
    let context = format!("model.context={}", valid.chars().count() - 1);
    let bench = Bench::new();
    let run = bench.tiny_run(
        "run",
        &["--set", "data.world.valid_bytes=1", "--set", &context],
    );
    let loss = *column(&run, "evaluation", "loss").last().unwrap();

    let report = report(&bench, &["--checkpoint", "last", "--target", &valid]);
    let judged = report["surprisals"]["tokens"].as_array().unwrap().len();
    assert_eq!(judged, valid.chars().count() - 1);
    let nats = report["surprisals"]["bits_per_token"].as_f64().unwrap() * std::f64::consts::LN_2;
    assert!(relative_difference(nats, loss) < 1e-6, "{nats} and {loss}");
}

#[test]
fn output_without_a_terminal_has_a_chart_and_a_table() {
    let bench = Bench::trained();
    let shown = predict(&bench, &["--prompt", "The cat", "--target", " is\nit"]);
    assert!(!shown.contains('\u{1b}'), "{shown}");
    assert_fits_and_shows(
        &shown,
        &[
            "run, step",
            "Entropy",
            "perplexity",
            "\"␣\"",
            "\"\\n\"",
            "bits/token",
            "bits/byte",
        ],
    );
    let bars = shown.lines().filter(|line| line.contains('█')).count();
    assert!((1..=10).contains(&bars), "{shown}");
    assert!(shown.contains("\n6 tokens, "), "{shown}");
}

#[test]
fn a_text_without_prompt_is_scored_from_its_second_token_in_windows() {
    let bench = Bench::trained();
    let target = "The cat is quiet. It likes tea.";
    let report = report(&bench, &["--target", target]);
    assert_eq!(report["next"], Value::Null);
    assert_eq!(report["not_judged"], "T");
    let tokens = report["surprisals"]["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), target.len() - 1);
    // With a context of 16, windows add 16, 8 and 6 of the 30 tokens.
    assert_eq!(report["surprisals"]["windows"], 3);
    let shown = predict(&bench, &["--target", target]);
    assert!(
        shown.contains("Read in 3 windows of 16 tokens that overlap by half."),
        "{shown}"
    );
    assert!(
        shown.contains("Not scored, because no token comes before it: \"T\""),
        "{shown}"
    );
    let shown = predict(&bench, &["--target", target, "--context", "4"]);
    assert!(shown.contains("Read in 14 windows of 4 tokens"), "{shown}");
}

#[test]
fn errors_name_the_argument() {
    let bench = Bench::trained();
    let refused = |args: &[&str], parts: &[&str]| {
        assert_refused(&bench.run(&[&["predict"], args].concat()), 2, parts);
    };
    refused(
        &["absent", "--prompt", "x"],
        &["absent: there is no such model"],
    );
    refused(
        &["run", "--target", "T"],
        &["--target: has no token", "--prompt"],
    );
    refused(
        &["run", "--prompt", "T", "--target", ""],
        &["--target: has no token"],
    );
    refused(&["run", "--prompt", ""], &["the prompt: give some text"]);
    refused(
        &["run", "--prompt", "T", "--context", "17"],
        &["--context: 17 is more than", "16"],
    );
    assert_eq!(bench.run(&["predict", "run"]).status.code(), Some(2));
}
