//! Tests of `foretoken memory`, which tells memory from knowledge.

use super::*;

use serde_json::Value;

fn json(bench: &Bench, args: &[&str]) -> Value {
    let printed = bench.succeed(&[&["memory"], args, &["--json"]].concat());
    let mut record: Value = serde_json::from_str(&printed).unwrap();
    let seconds = record.as_object_mut().unwrap().remove("seconds").unwrap();
    assert!(seconds.as_f64().unwrap() > 0.0);
    record
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is a number"))
}

/// Trains on 40 documents of random letters, again and again, so that only memory can predict them.
fn memorised() -> Bench {
    let bench = Bench::new();
    let mut state = 1u64;
    let mut letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 33) as u8 % 26)
    };
    let mut text = |documents: usize| -> String {
        let line = |_| (0..19).map(|_| letter()).chain(['\n']).collect::<String>();
        (0..documents).map(line).collect()
    };
    std::fs::write(bench.path("text.txt"), text(50)).unwrap();
    std::fs::write(
        bench.path("mine.toml"),
        "[data]\npath = \"text.txt\"\nvalid = 0.3\n[model]\nlayers = 2\nheads = 4\nwidth = 64\ncontext = 20\n\
         [train]\nsteps = 400\nbatch = 16\neval_every = 400\nsample_tokens = 0\n\
         [optimizer]\nlearning_rate = 5e-3\nwarmup = 20\n",
    )
    .unwrap();
    bench.succeed(&["train", "mine.toml", "--out", "run"]);
    bench
}

#[test]
fn random_text_is_extracted_only_if_it_was_trained_on() {
    let bench = memorised();
    let arguments = [
        "extract",
        "run",
        "--prefixes",
        "4,10",
        "--suffix",
        "5",
        "--checkpoint",
        "last",
    ];
    let record = json(&bench, &arguments);
    assert!(number(&record["epochs"]) > 50.0);
    let all = |set: &str, prefix: usize| record[set]["by_prefix"][prefix]["all"].clone();
    let greedy = |set: &str, prefix| number(&all(set, prefix)["greedy"]["value"]);
    assert!(greedy("training", 1) > 0.8, "{}", all("training", 1));
    assert_eq!(greedy("held_out", 1), 0.0);
    assert!(number(&all("training", 1)["greedy"]["interval"][0]) > 0.5);
    // Random letters have log₂ 26 bits at least, from one who does not know them.
    assert!(number(&all("held_out", 1)["bits_per_token"]["value"]) > 4.7);
    // Training sequences occur in the training text, and random held-out ones do not.
    for (set, is_known) in [("training", true), ("held_out", false)] {
        for item in record[set]["by_prefix"][1]["items"].as_array().unwrap() {
            assert_eq!(number(&item["occurrences"]) > 0.0, is_known, "{item}");
            // What is ranked first at each place has more than 1/28 at each.
            let log_p = number(&item["log_probability"]);
            assert!(item["greedy"] == false || log_p > -5.0 * 28f64.ln());
        }
    }
    // More samples find more.
    let shares: Vec<f64> = all("training", 0)["discoverable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| number(&found["share"]["value"]))
        .collect();
    assert!(shares.is_sorted() && shares.len() == 4, "{shares:?}");
    assert_eq!(
        record,
        json(&bench, &[&arguments[..], &["--batch", "3"]].concat())
    );

    let gap = json(&bench, &["gap", "run", "--checkpoint", "last"]);
    assert!(number(&gap["gap"]["interval"][0]) > 2.0, "{}", gap["gap"]);
    let side = |side: &str| number(&gap[side]["bits_per_byte"]["value"]);
    let difference = side("held_out") - side("training");
    assert!((number(&gap["gap"]["value"]) - difference).abs() < 1e-9);
    let shown = bench.succeed(&["memory", "gap", "run", "--checkpoint", "last"]);
    assert_fits_and_shows(
        &shown,
        &["held out − training", "was trained on costs", "less"],
    );
}

#[test]
fn a_run_of_documents_is_asked_for_the_ends_of_its_documents() {
    let bench = Bench::new();
    bench.tiny_run_on_documents("run");
    let record = json(
        &bench,
        &["extract", "run", "--prefixes", "4", "--suffix", "4"],
    );
    assert_eq!(record["by_document"], true);
    // Frequent facts occur often, in both texts.
    for set in ["training", "held_out"] {
        let groups = record[set]["by_prefix"][0]["by_occurrences"]
            .as_array()
            .unwrap();
        assert!(number(&groups.last().unwrap()["from"]) > 30.0, "{set}");
    }
    let gap = json(&bench, &["gap", "run", "--windows", "50"]);
    assert_eq!(gap["by_document"], true);
    assert!(number(&gap["gap"]["value"]).abs() < 0.5);
}

#[test]
fn tables_fit_a_terminal_and_the_report_has_the_numbers() {
    let bench = Bench::trained();
    let shown = bench.succeed(&[
        "memory",
        "extract",
        "run",
        "--sequences",
        "50",
        "--out",
        "page",
    ]);
    assert_fits_and_shows(
        &shown,
        &[
            "greedily extracted, %",
            "held out",
            "(n, 0.5)-discoverable",
            "n = 1000",
            "bits/token",
            "prefix 8",
        ],
    );
    let record = json_file(&bench.path("page"), "extraction.json");
    // A context of 16 holds 13 tokens before a suffix of 4.
    assert_eq!(record["prefixes"], serde_json::json!([4, 8]));
    assert_eq!(record["suffix"], 4);
    let page = std::fs::read_to_string(bench.path("page/report.html")).unwrap();
    assert!(page.contains("extracted-by-prefix") && page.contains("(10, 0.5)-discoverable"));
}

#[test]
fn requests_without_meaning_are_refused() {
    let bench = Bench::trained();
    let refused = |args: &[&str], parts: &[&str]| {
        let output = bench.run(&[&["memory"], args].concat());
        assert_refused(&output, 2, parts);
    };
    refused(
        &["extract", "run", "--suffix", "17"],
        &["--suffix", "context of 16"],
    );
    refused(
        &["extract", "run", "--prefixes", "15"],
        &["--prefixes", "15", "suffix of 4"],
    );
    refused(
        &["extract", "run", "--probability", "1"],
        &["--probability", "below 1"],
    );
    refused(&["gap", "absent"], &["absent"]);
    bench.succeed(&["export", "run", "--out", "hf"]);
    refused(&["gap", "hf"], &["MODEL", "is not a run"]);
}

#[test]
fn capacity_is_what_a_model_saves_on_random_text() {
    let bench = Bench::new();
    std::fs::write(
        bench.path("plan.toml"),
        "[set]\ndata.windows = \"documents\"\ndata.world.kind = \"markov\"\ndata.world.order = 0\ndata.world.symbols = 8\n\
         data.world.branches = 8\ndata.world.length = 15\ndata.world.valid_documents = 8\nmodel.layers = 1\nmodel.heads = 2\n\
         model.width = 16\nmodel.context = 16\ntrain.batch = 8\ntrain.steps = 400\ntrain.keep = [200]\ntrain.eval_every = 400\n\
         train.eval_windows = 8\ntrain.sample_tokens = 0\noptimizer.learning_rate = 0.01\noptimizer.warmup = 20\n\
         [axes]\ndata.world.train_documents = [10, 1000]\n",
    )
    .unwrap();
    let record = json(&bench, &["capacity", "--plan", "plan.toml"]);
    let [small, large] = &record["runs"].as_array().unwrap()[..] else {
        panic!("two runs: {record}")
    };
    // Ten documents are learned by heart, of a thousand a small part.
    let share = |run: &Value| number(&run["bits"]["value"]) / number(&run["text_bits"]);
    assert!(share(small) > 0.9, "{small}");
    assert!(share(large) < 0.3, "{large}");
    assert_eq!(small["documents"], 10);
    assert_eq!(small["halfway"]["step"], 200);
    assert!(number(&small["halfway"]["bits"]) < number(&small["bits"]["value"]));
    // 15 letters of less than 3 bits each.
    assert!(
        (300.0..450.0).contains(&number(&small["text_bits"])),
        "{small}"
    );
    let [model] = &record["models"].as_array().unwrap()[..] else {
        panic!("one size: {record}")
    };
    assert_eq!(model["is_reached"], true);
    assert!(record["slope"].is_null());

    // The sweep is measured again without training, with a report.
    let printed = bench.succeed(&["memory", "capacity", "sweeps/plan", "--out", "capacity"]);
    assert!(
        printed.contains("Report: capacity/report.html"),
        "{printed}"
    );
    let page = std::fs::read_to_string(bench.path("capacity/report.md")).unwrap();
    assert!(page.contains("bits per parameter"), "{page}");
    let kept = std::fs::read_to_string(bench.path("capacity/capacity.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["runs"], record["runs"]);
}

#[test]
fn runs_without_capacity_are_refused() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("empty")).unwrap();
    bench.succeed(&[
        "train",
        "--out",
        "stream",
        "--set",
        "train.steps=2",
        "--set",
        "train.eval_every=2",
        "--set",
        "data.world.train_bytes=20000",
        "--set",
        "train.sample_tokens=0",
    ]);
    for (args, part) in [
        (&["empty"][..], "empty: is neither a run directory nor"),
        (&["absent"], "absent"),
        (
            &["stream"],
            "stream: was not trained on documents by themselves",
        ),
        (&["--plan", "absent.toml"], "absent.toml: no such plan"),
        (&["stream", "--plan", "plan.toml"], "--plan"),
    ] {
        let output = bench.run(&[&["memory", "capacity"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(part), "{args:?}: {message}");
    }
}
