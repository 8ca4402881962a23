//! Tests of `foretoken evaluate`, which measures how well a model predicts a text.

use super::*;

use serde_json::Value;

fn report(bench: &Bench, args: &[&str]) -> Value {
    let mut report: Value =
        serde_json::from_str(&bench.succeed(&[&["evaluate"], args, &["--json"]].concat())).unwrap();
    // Everything else is a function of model, text and settings.
    let object = report.as_object_mut().unwrap();
    assert!(object.remove("seconds").unwrap().as_f64().unwrap() > 0.0);
    assert!(
        object
            .remove("tokens_per_second")
            .unwrap()
            .as_f64()
            .unwrap()
            > 0.0
    );
    report
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Sentences with the characters of the world.
fn sentences(count: usize) -> Vec<String> {
    let words = ["the", "cat", "is", "she", "likes", "music", "rain", "and"];
    (0..count)
        .map(|i| {
            let word = |j: usize| words[(i * 7 + j * j * 3) % words.len()];
            (0..4 + i % 9).map(word).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn own_validation_text_has_the_loss_of_training() {
    let bench = Bench::trained();
    let result = json_file(&bench.path("run"), "result.json");
    let report = report(&bench, &["run", "--checkpoint", "last"]);
    for (ours, theirs) in [
        (&report["loss"]["value"], "valid_loss"),
        (&report["bits_per_byte"]["value"], "bits_per_byte"),
        (&report["perplexity"]["value"], "perplexity"),
        (&report["floor_bits_per_byte"], "floor_bits_per_byte"),
    ] {
        let (ours, theirs) = (number(ours), number(&result[theirs]));
        assert!((ours - theirs).abs() < 1e-6 * theirs, "{ours} {theirs}");
    }
    assert_eq!(report["not_scored"], 1);
    assert_eq!(report["stride"], 16);
    let by_context = report["by_context"].as_array().unwrap();
    assert_eq!(number(&by_context[15]["to"]), 16.0);
    let tokens: f64 = by_context.iter().map(|bin| number(&bin["tokens"])).sum();
    assert_eq!(tokens, number(&report["tokens"]));
    // Frequent characters are easier than rare ones.
    let by_frequency = report["by_frequency"].as_array().unwrap();
    let loss = |bin: &Value| number(&bin["loss"]["value"]);
    assert!(loss(&by_frequency[0]) < loss(by_frequency.last().unwrap()));

    let shown = bench.succeed(&["evaluate", "run", "--checkpoint", "last"]);
    let loss = format!("{:.4}", number(&report["loss"]["value"]));
    let parts = [
        "nats/token",
        "bits per byte",
        "95 % interval",
        "blocks of the text",
        &loss,
    ];
    assert_fits_and_shows(&shown, &parts);
}

#[test]
fn result_does_not_depend_on_batch_or_order_of_files() {
    let bench = Bench::trained();
    let texts = sentences(60);
    std::fs::write(bench.path("b.txt"), texts[..20].join("\n")).unwrap();
    std::fs::write(bench.path("a.txt"), texts[20..25].join("\n")).unwrap();
    let lines: Vec<String> = texts[25..]
        .iter()
        .map(|text| serde_json::json!({ "text": text }).to_string())
        .collect();
    std::fs::write(bench.path("c.jsonl"), lines.join("\n")).unwrap();
    for stride in ["context", "5", "documents"] {
        let files = ["run", "a.txt", "b.txt", "c.jsonl", "--stride", stride];
        let expected = report(&bench, &[&files[..], &["--batch", "1"]].concat());
        assert_eq!(expected["texts"].as_array().unwrap().len(), 3);
        // 35 documents in one file, and blocks of the documents of the others.
        assert_eq!(expected["clusters_are"], "mixed");
        for batch in ["3", "64"] {
            let other = report(&bench, &[&files[..], &["--batch", batch]].concat());
            assert_eq!(other, expected, "batch {batch}, stride {stride}");
        }
        let turned = ["run", "c.jsonl", "b.txt", "a.txt", "--stride", stride];
        assert_eq!(report(&bench, &turned), expected, "stride {stride}");
    }
}

#[test]
fn a_stride_promises_context() {
    let bench = Bench::trained();
    std::fs::write(bench.path("a.txt"), sentences(40).join(" ")).unwrap();
    let report = report(&bench, &["run", "a.txt", "--stride", "4"]);
    // Only the first window has targets with fewer than 13 tokens before them, one of each.
    for bin in report["by_context"].as_array().unwrap() {
        let (from, tokens) = (number(&bin["from"]), number(&bin["tokens"]));
        assert_eq!(tokens == 1.0, from < 13.0, "{bin}");
    }
}

#[test]
fn documents_by_themselves_have_the_surprisal_of_predict() {
    let bench = Bench::trained();
    let texts = ["the cat is", "she likes rain", "music and rain"];
    let lines: Vec<String> = texts
        .iter()
        .map(|text| serde_json::json!({ "text": text }).to_string())
        .collect();
    std::fs::write(bench.path("texts.jsonl"), lines.join("\n")).unwrap();
    let report = report(
        &bench,
        &[
            "run",
            "texts.jsonl",
            "--stride",
            "documents",
            "--by",
            "document",
        ],
    );
    let documents = report["documents"].as_array().unwrap();
    assert_eq!(documents.len(), 3);
    let mut total = 0.0;
    for (document, text) in documents.iter().zip(texts) {
        let args = ["predict", "run", "--target", text, "--json"];
        let predicted: Value = serde_json::from_str(&bench.succeed(&args)).unwrap();
        let expected = number(&predicted["surprisals"]["total_bits"]);
        assert!((number(&document["bits"]) - expected).abs() < 1e-5 * expected);
        assert_eq!(number(&document["bytes"]), (text.len() - 1) as f64);
        total += expected;
    }
    assert!((number(&report["bits"]) - total).abs() < 1e-5 * total);
    assert_eq!(report["words"], 9);
    let bytes: usize = texts.iter().map(|text| text.len() - 1).sum();
    assert!((number(&report["bits_per_byte"]["value"]) - total / bytes as f64).abs() < 1e-6);
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    let bench = Bench::trained();
    std::fs::write(bench.path("a.txt"), "the cat").unwrap();
    std::fs::write(bench.path("empty.txt"), "").unwrap();
    std::fs::write(bench.path("one.txt"), "t").unwrap();
    std::fs::write(bench.path("strange.txt"), "the cat 猫").unwrap();
    for (args, parts) in [
        (&["missing.txt"][..], &["missing.txt"][..]),
        (&["a.txt", "--stride", "17"], &["--stride", "17", "16"]),
        (&["a.txt", "--context", "17"], &["--context", "17", "16"]),
        (&["empty.txt"], &["empty.txt: has no token", "longer"]),
        (&["one.txt"], &["one.txt: has no token", "longer"]),
        (&["strange.txt"], &["strange.txt", "猫"]),
        (&["--data", "a.txt"], &["a.txt"]),
        (&["--data", "."], &["not a folder of tokens"]),
        (&["a.txt", "--backend", "flex:f63"], &["--backend", "f63"]),
    ] {
        let output = bench.run(&[&["evaluate", "run"], args].concat());
        assert_refused(&output, 2, parts);
    }
    let output = bench.run(&["evaluate", "run", "a.txt", "--stride", "0"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn double_precision_agrees_with_single() {
    let bench = Bench::trained();
    std::fs::write(bench.path("a.txt"), sentences(30).join(" ")).unwrap();
    let single = report(&bench, &["run", "a.txt"]);
    let double = report(&bench, &["run", "a.txt", "--backend", "flex:f64"]);
    assert_eq!(double["precision"], "f64");
    let [single, double] = [single, double].map(|report| number(&report["loss"]["value"]));
    assert!(
        single != double && (single - double).abs() < 1e-5 * double,
        "{single} {double}"
    );
}

#[test]
fn same_weights_in_another_precision_differ_by_rounding() {
    let bench = Bench::trained();
    std::fs::write(bench.path("a.txt"), sentences(60).join(" ")).unwrap();
    for (backend, expected, words) in [
        ("flex", "identical", "the same bits"),
        ("flex:f64", "rounding", "the difference is rounding"),
    ] {
        let args = ["run", "a.txt", "--against-backend", backend];
        let against = &report(&bench, &args)["against"];
        assert_eq!(against["rounding"]["verdict"], expected);
        let difference = number(&against["difference"]["bits_per_byte"]["value"]);
        assert_eq!(difference == 0.0, expected == "identical");
        assert!(difference.abs() < 1e-5);
        let shown = bench.succeed(&[&["evaluate"], &args[..]].concat());
        assert_fits_and_shows(&shown, &["Against run", "second − first", words]);
    }
}

#[test]
fn a_paired_interval_is_narrower_and_tells_which_model_is_better() {
    let bench = Bench::trained();
    bench.tiny_run("longer", &["--set", "train.steps=200"]);
    std::fs::write(bench.path("a.txt"), sentences(300).join(" ")).unwrap();
    let args = ["run", "a.txt", "--against", "longer", "--report"];
    let report = report(&bench, &args);
    let against = &report["against"];
    assert!(against["rounding"].is_null());
    let bits = |value: &Value| number(&value["bits_per_byte"]["value"]);
    let difference = bits(against) - bits(&report);
    assert!((bits(&against["difference"]) - difference).abs() < 1e-12);
    let error = |value: &Value| number(&value["bits_per_byte"]["standard_error"]);
    assert!(error(&against["difference"]) < error(&report));
    let shown = bench.succeed(&["evaluate", "run", "a.txt", "--against", "longer"]);
    assert_fits_and_shows(&shown, &["The second model is better."]);
}

#[test]
fn models_with_different_tokenizers_are_compared_by_bytes() {
    let bench = Bench::trained();
    std::fs::write(bench.path("a.txt"), sentences(300).join(" ")).unwrap();
    std::fs::write(
        bench.path("bytes.toml"),
        "[model]\nlayers = 1\nheads = 1\nwidth = 8\ncontext = 16\n\
         [train]\nsteps = 4\nbatch = 2\neval_every = 4\nsample_tokens = 0\n[optimizer]\nwarmup = 1\n[data]\npath = \"a.txt\"\ntokenizer = \"bpe:300\"\n",
    )
    .unwrap();
    bench.succeed(&["train", "bytes.toml", "--out", "bytes"]);
    let against = &report(&bench, &["run", "a.txt", "--against", "bytes"])["against"];
    assert_eq!(against["difference"]["left_out"], 0);
    assert_eq!(
        number(&against["difference"]["clusters"]),
        number(&against["clusters"])
    );
    // Only the first model has bytes for this character.
    std::fs::write(bench.path("strange.txt"), "the cat 猫").unwrap();
    let output = bench.run(&["evaluate", "bytes", "strange.txt", "--against", "run"]);
    assert_refused(&output, 2, &["--against", "strange.txt", "猫"]);
}

/// Losses are those of a plain computation in PyTorch, to 1e-5 nats per token: both compute in f32, with some 1e-6 of
/// rounding in a logit.
#[test]
#[ignore = "needs python3 with torch and transformers: source .ci/env.sh"]
fn loss_is_that_of_transformers() {
    let bench = Bench::new();
    let text = sentences(120).join(" ") + " naïve 猫";
    std::fs::write(bench.path("a.txt"), &text).unwrap();
    // With a stride of the whole context, our last window is as long as the others.
    for stride in ["7", "23"] {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/evaluate.py");
        let mut python = Command::new("python3");
        python
            .current_dir(bench.path("."))
            .args([script, ".", "a.txt", stride]);
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", super::text(&output));
        let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
        for model in ["gpt2", "llama"] {
            let theirs = &theirs[model];
            let ours = report(&bench, &[model, "a.txt", "--stride", stride]);
            assert_eq!(ours["tokens"], theirs["tokens"]);
            assert_eq!(ours["bytes"], theirs["bytes"]);
            let loss = number(&theirs["nats"]) / number(&theirs["tokens"]);
            assert!(
                (number(&ours["loss"]["value"]) - loss).abs() < 1e-5,
                "{loss}"
            );
            let bits = number(&theirs["nats"]) / std::f64::consts::LN_2 / number(&theirs["bytes"]);
            assert!(
                (number(&ours["bits_per_byte"]["value"]) - bits).abs() < 1e-5,
                "{bits}"
            );
        }
    }
}
