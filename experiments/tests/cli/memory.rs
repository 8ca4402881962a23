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
    let arguments = ["extract", "run", "--prefixes", "4,10", "--suffix", "5"];
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
    // The excess is memory: of greedy decoding, and for each number of samples.
    let excess = &record["excess"][1];
    assert_eq!(excess["prefix"], 10);
    let of_greedy = &excess["greedy"];
    assert_eq!(number(&of_greedy["value"]), greedy("training", 1));
    assert!(number(&of_greedy["interval"][0]) > 0.4, "{excess}");
    assert!(number(&of_greedy["interval"][1]) <= 1.0, "{excess}");
    assert_eq!(excess["discoverable"].as_array().unwrap().len(), 4);
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

    let gap = json(&bench, &["gap", "run"]);
    assert!(number(&gap["gap"]["interval"][0]) > 2.0, "{}", gap["gap"]);
    let side = |side: &str| number(&gap[side]["bits_per_byte"]["value"]);
    let difference = side("held_out") - side("training");
    assert!((number(&gap["gap"]["value"]) - difference).abs() < 1e-9);
    let shown = bench.succeed(&["memory", "gap", "run"]);
    assert_fits_and_shows(
        &shown,
        &[
            "run, step 400 (last) on",
            "held out − training",
            "was trained on costs",
            "less",
        ],
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
            "run, step 25 (last) on",
            "extracted, %",
            "excess",
            "prefix 8\n  greedy",
            "  n = 1000",
            "(N, 0.5)-discoverable",
            "bits/token",
            "prefix 8, in training",
        ],
    );
    let record = json_file(&bench.path("page"), "extraction.json");
    // A context of 16 holds 13 tokens before a suffix of 4.
    assert_eq!(record["prefixes"], serde_json::json!([4, 8]));
    assert_eq!(record["suffix"], 4);
    let page = std::fs::read_to_string(bench.path("page/report.html")).unwrap();
    assert!(page.contains("extracted-by-prefix") && page.contains("(10, 0.5)-discoverable"));
    assert!(page.contains("percentage points"));
    // Another checkpoint is measured if it is named, and its name is printed.
    let gap = bench.succeed(&["memory", "gap", "run", "--checkpoint", "best"]);
    assert_fits_and_shows(&gap, &["(best) on", "held out − training", "epochs of"]);
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
    refused(&["gap", "hf"], &["hf: is not a run"]);
}

/// A plan of two runs on random letters: ten documents, and a thousand.
const PLAN: &str = "[set]\ndata.windows = \"documents\"\ndata.world.kind = \"markov\"\ndata.world.order = 0\n\
    data.world.symbols = 8\ndata.world.branches = 8\ndata.world.length = 15\ndata.world.valid_documents = 8\n\
    model.layers = 1\nmodel.heads = 2\nmodel.width = 16\nmodel.context = 16\ntrain.batch = 8\ntrain.steps = 400\n\
    train.keep = [200]\ntrain.eval_every = 400\ntrain.eval_windows = 8\ntrain.sample_tokens = 0\n\
    optimizer.learning_rate = 0.01\noptimizer.warmup = 20\n[axes]\ndata.world.train_documents = [10, 1000]\n";

#[test]
fn capacity_is_what_a_model_saves_on_random_text() {
    let bench = Bench::new();
    std::fs::write(bench.path("plan.toml"), PLAN).unwrap();
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
    // The smaller text is held, and 400 steps are too few to learn the larger one, so that neither tells the capacity.
    assert!(number(&model["late_share"]) < 0.05, "{model}");
    assert_eq!(model["lower_bound"], "text_too_small");
    assert!(record["slope"].is_null() && record["per_parameter"].is_null());

    // The sweep is measured again without training, with a report.
    let printed = bench.succeed(&["memory", "capacity", "sweeps/plan", "--out", "capacity"]);
    assert_fits_and_shows(
        &printed,
        &[
            "lower bound: it holds its text",
            "holds nearly all of the text",
            "capacity is known; train on larger texts",
            "Report: capacity/report.html",
        ],
    );
    // The checkpoint halfway has none before it, and holds less.
    let arguments = ["capacity", "sweeps/plan", "--checkpoint", "200"];
    let earlier = json(&bench, &arguments);
    assert_eq!(earlier["runs"][0]["steps"], 200);
    assert!(earlier["runs"][0]["halfway"].is_null());
    assert_eq!(
        earlier["runs"][0]["bits"]["value"],
        small["halfway"]["bits"]
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
            "stream: is not trained on documents by themselves",
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

#[test]
fn a_plan_that_cannot_be_measured_is_refused_before_it_is_trained() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("taken")).unwrap();
    std::fs::write(bench.path("taken/file"), "").unwrap();
    let refused = |plan: &str, more: &[&str], parts: &[&str]| {
        std::fs::write(bench.path("plan.toml"), plan).unwrap();
        let arguments = ["memory", "capacity", "--plan", "plan.toml"];
        let output = bench.run(&[&arguments[..], more].concat());
        assert_refused(&output, 2, parts);
        assert!(!bench.path("sweeps").exists(), "{}", text(&output));
    };
    let documents = "data.windows = \"documents\"\n";
    refused(
        &PLAN.replace(documents, ""),
        &[],
        &[
            "plan.toml: train_documents10 is not trained on documents",
            "data.windows",
        ],
    );
    refused(
        &PLAN.replace("model.context = 16", "model.context = 12"),
        &["--out", "new"],
        &[
            "plan.toml: train_documents10 has documents that are longer",
            "from 12 to 16",
        ],
    );
    assert!(!bench.path("new").exists());
    refused(PLAN, &["--out", "taken"], &["taken", "already exists"]);
    // A directory that cannot be made is found at once, too.
    let unwritable = ["--out", "plan.toml/below"];
    let arguments = ["memory", "capacity", "--plan", "plan.toml"];
    let output = bench.run(&[&arguments[..], &unwritable].concat());
    assert_refused(&output, 1, &["plan.toml/below"]);
    assert!(!bench.path("sweeps").exists());
}

#[test]
#[cfg(unix)]
fn an_interrupted_plan_says_in_one_line_how_to_go_on() {
    let bench = Bench::new();
    let longer = PLAN.replace("train.steps = 400", "train.steps = 100000");
    std::fs::write(bench.path("plan.toml"), longer).unwrap();
    let child = bench
        .command(&["memory", "capacity", "--plan", "plan.toml"])
        .args(["--dashboard", "none", "--out", "report"])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let started = std::time::Instant::now();
    let begun = || {
        bench
            .path("sweeps/plan/runs/train_documents10/metrics.jsonl")
            .exists()
    };
    while !begun() {
        assert!(started.elapsed().as_secs() < 120, "no run in two minutes");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let said = String::from_utf8(output.stderr).unwrap();
    let last = said.lines().last().unwrap();
    assert_eq!(
        last,
        "interrupted; the same command goes on: foretoken memory capacity --plan plan.toml"
    );
    assert_eq!(said.matches("interrupted").count(), 1, "{said}");
    assert!(!bench.path("report").exists());
}
