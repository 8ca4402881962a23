//! Tests of `foretoken evaluate --tasks`, which evaluates models on standard benchmarks.

use super::*;

use serde_json::{Value, json};

const ALL: &str = "hellaswag,arc_easy,arc_challenge,piqa,winogrande,lambada,blimp";

fn write(bench: &Bench, name: &str, records: &[Value]) {
    let path = bench.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

/// Pairs of sentences in the characters of the world, the right one in its grammar.
fn pairs(count: usize) -> Vec<Value> {
    let subjects = ["she", "he", "they", "we"];
    (0..count)
        .map(|number| {
            let subject = subjects[number % 4];
            let [good, bad] = match number % 4 < 2 {
                true => ["is", "are"],
                false => ["are", "is"],
            };
            json!({
                "sentence_good": format!("{subject} {good} here"),
                "sentence_bad": format!("{subject} {bad} here"),
                "UID": format!("part_{}", number % 2),
                "pair_id": number,
            })
        })
        .collect()
}

fn piqa(count: usize) -> Vec<Value> {
    let words = ["the cat", "rain", "music", "she", "he likes"];
    let word = |place: usize| words[place % words.len()];
    (0..count)
        .map(|number| {
            json!({
                "goal": word(number),
                "sol1": word(number * 3 + 1),
                "sol2": format!("{} {}", word(number + 2), word(number)),
                "label": number % 2,
            })
        })
        .collect()
}

/// Returns the record without the duration.
fn record(bench: &Bench, args: &[&str]) -> Value {
    let args = [&["evaluate"], args, &["--json"]].concat();
    let mut record: Value = serde_json::from_str(&bench.succeed(&args)).unwrap();
    record.as_object_mut().unwrap().remove("seconds");
    record
}

/// Trains a run on bytes with a token that ends texts, and returns its bench.
fn trained_on_bytes() -> Bench {
    let bench = Bench::new();
    let text = "she is here. they are here. the cat likes rain.\n".repeat(80);
    std::fs::write(bench.path("a.txt"), text).unwrap();
    std::fs::write(
        bench.path("bytes.toml"),
        "[model]\nlayers = 1\nheads = 1\nwidth = 16\ncontext = 32\n[train]\nsteps = 30\nbatch = 4\neval_every = 30\n\
         sample_tokens = 0\n[optimizer]\nwarmup = 2\n[data]\npath = \"a.txt\"\ntokenizer = \"bpe:300\"\n",
    )
    .unwrap();
    bench.succeed(&["train", "bytes.toml", "--out", "run"]);
    bench
}

#[test]
fn tables_fit_a_terminal_and_json_has_every_item() {
    let bench = trained_on_bytes();
    write(&bench, "data/piqa.jsonl", &piqa(12));
    write(&bench, "data/piqa.train.jsonl", &piqa(9));
    write(&bench, "data/blimp/pairs.jsonl", &pairs(16));
    let args = ["run", "--tasks", "piqa,blimp", "--data", "data"];
    let shown = bench.succeed(&[&["evaluate"], &args[..]].concat());
    let parts = [
        "piqa",
        "acc_norm",
        "acc_bytes",
        "95 % interval",
        "chance",
        "50.00",
        "2 parts",
    ];
    assert_fits_and_shows(&shown, &parts);

    let all = record(&bench, &args);
    let items = all["tasks"][0]["items"].as_array().unwrap();
    assert_eq!(items.len(), 12);
    assert!(
        items[3]["place"]
            .as_str()
            .unwrap()
            .ends_with("piqa.jsonl, line 4")
    );
    let choices = items[3]["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2);
    let likelihood = |choice: &Value| choice["log_likelihood"].as_f64().unwrap();
    let best = usize::from(likelihood(&choices[1]) > likelihood(&choices[0]));
    assert_eq!(items[3]["measures"]["acc"] == 1.0, items[3]["gold"] == best);
    assert_eq!(all["tasks"][1]["groups"].as_array().unwrap().len(), 2);

    for batch in ["1", "7"] {
        assert_eq!(
            record(&bench, &[&args[..], &["--batch", batch]].concat()),
            all
        );
    }
    let few = record(
        &bench,
        &[&args[..], &["--shots", "3", "--limit", "5"]].concat(),
    );
    assert_eq!(few["tasks"][0]["items"].as_array().unwrap().len(), 5);
    assert_eq!(few["tasks"][0]["shots"], 3);
    assert_eq!(few["tasks"][1]["shots"], 0, "BLiMP takes no examples");
    let shown = bench.succeed(&[&["evaluate"], &args[..], &["--shots", "3"]].concat());
    assert_fits_and_shows(&shown, &["was cut to fit 32 tokens"]);
}

#[test]
fn a_second_model_is_compared_on_the_same_items() {
    let bench = trained_on_bytes();
    bench.succeed(&[
        "train",
        "bytes.toml",
        "--out",
        "longer",
        "--set",
        "train.steps=400",
    ]);
    write(&bench, "data/blimp/pairs.jsonl", &pairs(120));
    let args = [
        "run",
        "--tasks",
        "blimp",
        "--data",
        "data",
        "--against",
        "longer",
    ];
    let all = record(&bench, &args);
    let accuracy = |of: &Value| of["tasks"][0]["measures"]["acc"]["value"].as_f64().unwrap();
    let difference = &all["against"]["differences"][0];
    let expected = accuracy(&all["against"]) - accuracy(&all);
    assert!((difference["difference"]["value"].as_f64().unwrap() - expected).abs() < 1e-12);
    let right = |of: &Value, place: usize| of["tasks"][0]["items"][place]["measures"]["acc"] == 1.0;
    let only_second =
        (0..120).filter(|place| !right(&all, *place) && right(&all["against"], *place));
    assert_eq!(difference["mcnemar"]["only_second"], only_second.count());
    let shown = bench.succeed(&[&["evaluate"], &args[..], &["--out", "report"]].concat());
    assert_fits_and_shows(
        &shown,
        &["Against longer", "2nd − 1st", "McNemar", "report.html"],
    );
    let mut written = json_file(&bench.path("report"), "tasks.json");
    written.as_object_mut().unwrap().remove("seconds");
    assert_eq!(written, all);
    let page = std::fs::read_to_string(bench.path("report/report.html")).unwrap();
    for part in ["only second right", "Parts of blimp", "part_1, 60 items"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn faults_are_refused_in_one_line() {
    let bench = trained_on_bytes();
    write(&bench, "data/piqa.jsonl", &piqa(3));
    let run = |args: &[&str]| bench.run(&[&["evaluate", "run"], args].concat());
    let tasks =
        |tasks: &str, more: &[&str]| run(&[&["--tasks", tasks, "--data", "data"], more].concat());
    assert_refused(
        &tasks("lambada", &[]),
        2,
        &["lambada.jsonl", "EleutherAI/lambada_openai"],
    );
    assert_refused(&tasks("piqa,piqa", &[]), 2, &["--tasks", "twice"]);
    assert_refused(&tasks("piqa", &["--shots", "1"]), 2, &["piqa.train.jsonl"]);
    assert_refused(
        &tasks("piqa", &["--context", "33"]),
        2,
        &["--context", "32"],
    );
    assert_refused(
        &run(&["--tasks", "piqa", "--data", "absent"]),
        2,
        &["absent", "not a folder"],
    );
    for args in [
        &["--tasks", "piqa"][..],
        &["--tasks", "mmlu", "--data", "data"],
        &["--tasks", "piqa", "--data", "data", "--stride", "4"],
        &["--tasks", "piqa", "--data", "data", "--by", "document"],
        &["--tasks", "piqa", "--data", "data", "--format", "jsonl"],
        &["a.txt", "--shots", "2"],
        &["--limit", "2"],
    ] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
    let mut long = piqa(2);
    long[1]["sol1"] = json!("rain ".repeat(60));
    write(&bench, "data/piqa.jsonl", &long);
    let parts = ["piqa.jsonl, line 2", "more than the 32"];
    assert_refused(&tasks("piqa", &[]), 2, &parts);
    let mut twice = pairs(3);
    twice[2] = twice[0].clone();
    write(&bench, "data/blimp/a.jsonl", &twice);
    assert_refused(
        &tasks("blimp", &[]),
        2,
        &["a.jsonl, line 3", "part_0 0", "line 1"],
    );
    std::fs::write(
        bench.path("data/arc_easy.parquet"),
        b"PAR1 and nonsense PAR1",
    )
    .unwrap();
    assert_refused(&tasks("arc_easy", &[]), 2, &["arc_easy.parquet", "damaged"]);
    std::fs::write(bench.path("data/hellaswag.jsonl"), "a".repeat(3 << 20)).unwrap();
    assert_refused(
        &tasks("hellaswag", &[]),
        2,
        &["hellaswag.jsonl, line 1", "1 MiB"],
    );
}

/// A model without a token that starts or ends texts cannot score a text without a context.
#[test]
fn an_empty_context_needs_a_token() {
    let bench = Bench::trained();
    write(&bench, "data/blimp/a.jsonl", &pairs(4));
    let output = bench.run(&["evaluate", "run", "--tasks", "blimp", "--data", "data"]);
    assert_refused(
        &output,
        2,
        &["a.jsonl, line 1", "no token that starts or ends"],
    );
}

/// Log-likelihoods of every choice of every task are those of a plain computation in PyTorch to 1e-4, and whether it is
/// greedy is the same. So are those of lm-evaluation-harness, and its measures, where that is installed.
#[test]
#[ignore = "needs python3 with torch and transformers: source .ci/env.sh"]
fn every_choice_has_the_log_likelihood_of_transformers() {
    let bench = Bench::new();
    for shots in ["0", "2"] {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/tasks.py");
        let mut python = Command::new("python3");
        python
            .current_dir(bench.path("."))
            .envs(["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"].map(|name| (name, "1")))
            .env("HF_HOME", bench.path("home"))
            .args([script, ".", shots]);
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", super::text(&output));
        let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
        for model in ["gpt2", "llama"] {
            let args = [model, "--tasks", ALL, "--data", "data", "--shots", shots];
            let ours = record(&bench, &args);
            for task in ours["tasks"].as_array().unwrap() {
                let name = task["task"].as_str().unwrap();
                compare(task, &theirs[model]["plain"][name]);
                let harness = &theirs[model]["harness"][name];
                if harness.is_null() {
                    continue;
                }
                compare(task, &harness["items"]);
                for (measure, value) in harness["measures"].as_object().unwrap() {
                    let (ours, theirs) = (&task["measures"][measure]["value"], value.as_f64());
                    let difference = relative_difference(ours.as_f64().unwrap(), theirs.unwrap());
                    assert!(
                        difference < 1e-4 || ours == value,
                        "{name} {measure}: {ours} {value}"
                    );
                }
            }
        }
    }
}

/// Compares the choices of all items with `[log-likelihood, greedy]` of each.
#[track_caller]
fn compare(task: &Value, theirs: &Value) {
    let theirs = theirs.as_array().unwrap();
    let items = task["items"].as_array().unwrap();
    assert_eq!(items.len(), theirs.len());
    let mut choices = 0;
    for (item, theirs) in items.iter().zip(theirs) {
        let ours = item["choices"].as_array().unwrap();
        let theirs = theirs.as_array().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            let likelihood = ours["log_likelihood"].as_f64().unwrap();
            let expected = match &theirs[0] {
                Value::String(text) => text.parse().unwrap(),
                value => value.as_f64().unwrap(),
            };
            assert!((likelihood - expected).abs() < 1e-4, "{item} {theirs}");
            let greedy = theirs[1] == true || theirs[1] == "True";
            assert_eq!(ours["greedy"] == true, greedy, "{item} {theirs}");
            choices += 1;
        }
    }
    assert!(choices >= items.len() && !items.is_empty());
}
