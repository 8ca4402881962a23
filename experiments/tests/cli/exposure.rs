//! Tests of `foretoken exposure`, which compares free running with teacher forcing.

use super::*;

use serde_json::Value;

/// Returns the output of `foretoken exposure --json`, without the duration.
fn study(bench: &Bench, args: &[&str]) -> Value {
    let printed = bench.succeed(&[&["exposure"], args, &["--json"]].concat());
    let mut study: Value = serde_json::from_str(&printed).unwrap();
    let seconds = study.as_object_mut().unwrap().remove("seconds").unwrap();
    assert!(seconds.as_f64().unwrap() > 0.0);
    study
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is a number"))
}

#[test]
fn a_run_of_a_world_is_compared_with_its_exact_distribution() {
    let bench = Bench::trained();
    let study = study(&bench, &["run", "--sequences", "100"]);
    assert_eq!(study["oracle"]["kind"], "exact");
    assert_eq!(study["oracle"]["world"], "grammar");
    // The context of 16 has the end of a document, a prompt of 2, and all but the last of 14 drawn tokens.
    assert_eq!(
        (study["prompt"].as_u64(), study["length"].as_u64()),
        (Some(3), Some(14))
    );
    let lengths: Vec<u64> = study["lengths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l.as_u64().unwrap())
        .collect();
    assert_eq!(lengths, [1, 2, 3, 4, 6, 8, 12, 14]);

    let strategies = study["strategies"].as_array().unwrap();
    let names: Vec<&str> = strategies
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names.join(","),
        "greedy,temperature=1,temperature=0.7,top-k=5,top-p=0.9,min-p=0.1"
    );
    let per_step = |index: usize| number(&study["on_data"]["per_step"][index]["value"]);
    assert!(
        per_step(7) > 0.5,
        "a model of 25 steps is far from the truth: {}",
        per_step(7)
    );
    for strategy in strategies {
        // The first step has the same contexts in both, so that nothing has accumulated.
        assert!(number(&strategy["accumulated"][0]["excess"]["value"]).abs() < 1e-6);
        // Later steps have an estimate as long as 20 contexts are possible.
        let accumulated = strategy["accumulated"].as_array().unwrap();
        let known = accumulated.iter().take_while(|at| !at["total"].is_null());
        let index = known.count() - 1;
        for (place, at) in accumulated.iter().enumerate() {
            let is_known = at["contexts"].as_u64().unwrap() >= 20;
            assert_eq!(is_known, place <= index, "{at}");
        }
        let last = &accumulated[index];
        let ratio = number(&last["total"]["value"]) / per_step(index);
        let length = number(&last["length"]);
        assert!((number(&last["ratio"]["value"]) - ratio).abs() < 1e-9 * ratio);
        assert!((number(&last["excess"]["value"]) - 100.0 * (ratio / length - 1.0)).abs() < 1e-6);
        let [low, high] = [0, 1].map(|end| number(&last["excess"]["interval"][end]));
        assert!(low <= high);
        assert_eq!(strategy["by_step"].as_array().unwrap().len(), 14);
        let left = &strategy["support"]["left"][7];
        assert_eq!(left["trials"], 100);
        // No sequence ends, and some of their contexts are impossible.
        assert_eq!(accumulated[7]["alive"], 100);
        assert!(accumulated[7]["contexts"].as_u64().unwrap() < 100);
        assert!(number(&left["interval"][0]) <= number(&left["value"]));
    }
    // A hardly trained model writes nonsense.
    assert!(number(&strategies[1]["support"]["left"][7]["value"]) > 0.5);
}

#[test]
fn texts_depend_on_the_seed_and_not_on_the_batch_but_for_rounding() {
    let bench = Bench::trained();
    let arguments = [
        "run",
        "--sequences",
        "30",
        "--strategies",
        "temperature=1",
        "--length",
        "8",
    ];
    let with = |more: &[&str]| study(&bench, &[&arguments[..], more].concat());
    let first = with(&[]);
    assert_eq!(first, with(&[]));
    // Products of another number of rows may round in another way.
    let by_fours = with(&["--batch", "4"]);
    for step in 0..8 {
        let [a, b] = [&first, &by_fours].map(|study| number(&study["on_data"]["by_step"][step]));
        assert!((a - b).abs() < 1e-5 * a, "{a} {b}");
    }
    let left = |study: &Value| study["strategies"][0]["support"]["left"].clone();
    assert_eq!(left(&first), left(&by_fours));
    let other = with(&["--seed", "1"]);
    assert_ne!(first["strategies"], other["strategies"]);
    assert_eq!(first["on_data"]["by_step"], other["on_data"]["by_step"]);
}

#[test]
fn tables_fit_a_terminal_and_the_report_has_the_numbers() {
    let bench = Bench::trained();
    let shown = bench.succeed(&["exposure", "run", "--sequences", "40", "--out", "page"]);
    let parts = [
        "against the exact distribution of the grammar world",
        "ε(14)",
        "R(l)",
        "alive",
        "excess, %",
        "impossible texts",
        "never left",
        "o + 0.0001",
        "seq-rep-4",
        "Report: page/report.html",
    ];
    let path = "Report:";
    let tables: String = shown
        .lines()
        .filter(|l| !l.starts_with(path))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_fits_and_shows(&tables, &parts[..9]);
    assert!(shown.contains(parts[9]), "{shown}");
    let record = json_file(&bench.path("page"), "exposure.json");
    assert_eq!(record["sequences"], 40);
    let page = std::fs::read_to_string(bench.path("page/report.html")).unwrap();
    for part in [
        "errors-by-step",
        "excess-by-length",
        "outside-by-step",
        "smoothed by 0.01",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn documents_by_themselves_end_their_sequences() {
    let bench = Bench::new();
    bench.tiny_run_on_documents("run");
    let study = study(
        &bench,
        &["run", "--sequences", "20", "--strategies", "greedy"],
    );
    assert_eq!(study["by_document"], true);
    // A document has 8 tokens, and a prompt of an eighth of the context has 1 of them.
    assert_eq!(
        (study["prompt"].as_u64(), study["length"].as_u64()),
        (Some(2), Some(7))
    );
    assert_eq!(study["on_data"]["alive"][0], 20);
    // A hardly trained model ends some documents early. What is estimated rests on at least half of 20 sequences.
    let shown = bench.succeed(&["exposure", "run", "--sequences", "200"]);
    assert_fits_and_shows(&shown, &["sequences alive at l =", "free running"]);
    let study = self::study(&bench, &["run", "--sequences", "200"]);
    for strategy in study["strategies"].as_array().unwrap() {
        for at in strategy["accumulated"].as_array().unwrap() {
            let contexts = at["contexts"].as_u64().unwrap();
            assert!(contexts <= at["alive"].as_u64().unwrap());
            assert_eq!(at["total"].is_null(), contexts < 20, "{at}");
        }
    }
}

#[test]
fn long_names_of_strategies_do_not_run_into_columns() {
    let bench = Bench::trained();
    let name = "temperature=0.8+top-p=0.95+top-k=40";
    let shown = bench.succeed(&[
        "exposure",
        "run",
        "--sequences",
        "40",
        "--strategies",
        name,
        "--smoothing",
        "0.01,0.00000001",
    ]);
    assert_fits_and_shows(&shown, &[&format!("\n{name}\n"), "o + 1e-8"]);
}

#[test]
fn a_second_model_can_be_the_oracle_of_text() {
    let bench = Bench::new();
    let text: String = (0..600)
        .map(|i| format!("line {} of {}\n", i % 7, i * i % 11))
        .collect();
    std::fs::write(bench.path("text.txt"), text).unwrap();
    let train = |out: &str, steps: &str| {
        std::fs::write(
            bench.path("mine.toml"),
            format!(
                "[data]\npath = \"text.txt\"\n[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 32\n\
                 [train]\nsteps = {steps}\nbatch = 4\neval_every = 100\nsample_tokens = 0\n[optimizer]\nwarmup = 1\n"
            ),
        )
        .unwrap();
        bench.succeed(&["train", "mine.toml", "--out", out]);
    };
    train("small", "5");
    train("large", "60");
    let refused = bench.run(&["exposure", "small"]);
    assert_refused(&refused, 2, &["text.txt", "--oracle"]);

    let arguments = [
        "small",
        "--oracle",
        "large",
        "--sequences",
        "12",
        "--prompt",
        "8",
        "--length",
        "20",
    ];
    let study = study(&bench, &arguments);
    assert_eq!(study["oracle"]["kind"], "model");
    assert_eq!(study["data"], "the validation text");
    assert_eq!(study["prompt"], 8);
    assert!(number(&study["on_data"]["per_step"][0]["value"]) > 0.01);
    assert_eq!(study["strategies"][0]["support"], Value::Null);
    let shown = bench.succeed(&[&["exposure"], &arguments[..]].concat());
    assert!(!shown.contains("impossible texts"), "{shown}");

    // A model is no further from itself than rounding.
    let same = [
        "exposure",
        "small",
        "--oracle",
        "small",
        "--sequences",
        "12",
        "--json",
    ];
    let same: Value = serde_json::from_str(&bench.succeed(&same)).unwrap();
    assert!(number(&same["on_data"]["per_step"][3]["value"]).abs() < 1e-6);
    assert_eq!(
        same["strategies"][1]["accumulated"][3]["excess"],
        Value::Null
    );
}

#[test]
fn requests_without_meaning_are_refused() {
    let bench = Bench::trained();
    let refused = |args: &[&str], parts: &[&str]| {
        let output = bench.run(&[&["exposure", "run"], args].concat());
        assert_refused(&output, 2, parts);
    };
    refused(
        &["--length", "15"],
        &["--length", "15", "14 steps", "context of 16"],
    );
    refused(&["--prompt", "16"], &["--prompt", "no step"]);
    refused(&["--smoothing", "0.1"], &["--smoothing", "two weights"]);
    refused(&["--smoothing", "0,0.1"], &["--smoothing", "above 0"]);
    refused(
        &["--strategies", "greedy,greedy"],
        &["--strategies", "twice"],
    );
    refused(&["--oracle", "absent"], &["absent"]);

    let usage = bench.run(&["exposure", "run", "--strategies", "beam"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(text(&usage).contains("is no strategy"), "{}", text(&usage));
    let data = bench.run(&["exposure", "run", "--data", "x"]);
    assert!(text(&data).contains("--oracle"), "{}", text(&data));

    // The tokens of a byte-pair encoding do not divide a text in one way only.
    bench.tiny_run("pairs", &set(&["data.tokenizer=\"bpe:300\""]));
    let pairs = bench.run(&["exposure", "pairs"]);
    assert_refused(&pairs, 2, &["tokenizer", "char or byte"]);
    let other = bench.run(&["exposure", "run", "--oracle", "pairs"]);
    assert_refused(&other, 2, &["--oracle", "another tokenizer"]);
}
