//! Tests of `data.subset`, and of `foretoken memory counterfactual`, which compares models with and without a document.

use super::*;

use serde_json::Value;

/// Keys of runs on random letters, which only memory can predict.
const LETTERS: &str = "data.world.kind = \"markov\"\ndata.world.order = 0\ndata.world.symbols = 8\ndata.world.branches = 8\n\
    data.world.length = 15\ndata.world.valid_documents = 8\ndata.world.train_documents = 24\nmodel.layers = 1\n\
    model.heads = 2\nmodel.width = 16\nmodel.context = 16\ntrain.batch = 8\ntrain.eval_windows = 8\ntrain.sample_tokens = 0\n\
    optimizer.learning_rate = 0.01\n";

fn sweep(bench: &Bench, name: &str, keys: &str, seeds: &str) {
    let plan = format!("[set]\n{keys}{LETTERS}[axes]\ndata.subset.seed = {seeds}\n");
    std::fs::write(bench.path(&format!("{name}.toml")), plan).unwrap();
    bench.succeed(&["sweep", &format!("{name}.toml"), "--run"]);
}

fn json(bench: &Bench, args: &[&str]) -> Value {
    let printed = bench.succeed(&[&["memory", "counterfactual"], args, &["--json"]].concat());
    let mut record: Value = serde_json::from_str(&printed).unwrap();
    record.as_object_mut().unwrap().remove("seconds").unwrap();
    record
}

#[test]
fn random_documents_are_memorised_by_the_models_that_read_them() {
    let bench = Bench::new();
    let steps = "data.windows = \"documents\"\ntrain.steps = 300\ntrain.eval_every = 300\noptimizer.warmup = 20\n";
    sweep(&bench, "halves", steps, "[1, 2, 3, 4, 5, 6, 7, 8]");
    let record = json(&bench, &["sweeps/halves"]);
    assert_eq!(record["runs"].as_array().unwrap().len(), 8);
    assert_eq!(
        (&record["total"], &record["share"]),
        (&24.into(), &0.5.into())
    );
    let documents = record["documents"].as_array().unwrap();
    assert_eq!(
        documents.len() as u64 + record["undecided"].as_u64().unwrap(),
        24
    );
    assert!(documents.len() > 12, "{record}");
    let number = |value: &Value| value.as_f64().unwrap();
    for document in documents {
        assert_eq!(
            number(&document["with"]) + number(&document["without"]),
            8.0
        );
        assert_eq!(document["bytes"], 16);
        assert_eq!(document["text"].as_str().unwrap().len(), 15);
    }
    // Models that have read a document know it by heart, and the others are wrong about it.
    let mean = &record["mean"];
    assert!(number(&mean["interval"][0]) > 1.0, "{mean}");
    assert!(
        number(&record["memorised"]) > 0.8 * documents.len() as f64,
        "{record}"
    );
    assert_eq!(record, json(&bench, &["sweeps/halves", "--batch", "3"]));
    let some = json(&bench, &["sweeps/halves", "--documents", "5"]);
    let some = some["documents"].as_array().unwrap();
    assert_eq!(some.len(), 5);
    for document in some {
        let same = |other: &&Value| other["document"] == document["document"];
        let other = documents.iter().find(same).unwrap();
        assert_eq!(other["saved"], document["saved"]);
    }

    let shown = bench.succeed(&["memory", "counterfactual", "sweeps/halves", "--out", "page"]);
    assert_fits_and_shows(
        &shown,
        &[
            "8 runs",
            "mean over",
            "memorised",
            "Report: page/report.html",
        ],
    );
    let page = std::fs::read_to_string(bench.path("page/report.html")).unwrap();
    assert!(page.contains("saved-by-document"));
    let kept = json_file(&bench.path("page"), "counterfactual.json");
    assert_eq!(kept["documents"], record["documents"]);
}

#[test]
fn models_that_have_hardly_learned_have_memorised_little() {
    let bench = Bench::new();
    // A stream of documents, too.
    let steps =
        "data.windows = \"epoch\"\ntrain.steps = 3\ntrain.eval_every = 3\noptimizer.warmup = 1\n";
    sweep(&bench, "short", steps, "[1, 2, 3, 4, 5, 6]");
    let record = json(&bench, &["sweeps/short"]);
    let mean = record["mean"]["value"].as_f64().unwrap();
    assert!(mean.abs() < 0.1, "{mean}");
}

#[test]
fn a_subset_is_part_of_the_data_and_leaves_tokenizer_and_validation_alone() {
    let bench = Bench::new();
    let run = |out: &str, more: &[&str]| {
        bench.tiny_run(out, more);
        json_file(&bench.path(out), "identity.json")["data"].clone()
    };
    let all = run("all", &[]);
    let half = run("half", &["--set", "data.subset.seed=3"]);
    let other = run("other", &["--set", "data.subset.seed=4"]);
    assert!(all != half && half != other && all != other);
    let tokenizer = |out: &str| std::fs::read(bench.path(out).join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer("all"), tokenizer("half"));
    let args = ["train", "--resume", "--out", "half", "--set"];
    let output = bench.run(&[&args[..], &["data.subset.seed=4"]].concat());
    assert_refused(&output, 2, &["half", "data.subset.seed (4 here, 3 there)"]);
    bench.succeed(&[&args[..], &["train.steps=30"]].concat());
}

#[test]
fn subsets_of_built_data_are_of_its_documents() {
    let bench = Bench::new();
    let lines: String = (0..200)
        .map(|i| format!("{{\"text\": \"{i} and {} are numbers\"}}\n", i * i))
        .collect();
    std::fs::write(bench.path("text.jsonl"), lines).unwrap();
    let build = ["data", "build", "text.jsonl", "--tokenizer", "char"];
    bench.succeed(&[&build[..], &["--valid", "0.1", "--out", "data"]].concat());
    std::fs::write(
        bench.path("mine.toml"),
        "[data]\npath = \"data\"\n[data.subset]\nshare = 0.5\n[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 24\n\
         [train]\nsteps = 4\nbatch = 4\neval_every = 4\nsample_tokens = 0\n",
    )
    .unwrap();
    for (windows, seeds) in [("documents", 0..4), ("epoch", 4..5)] {
        for seed in seeds {
            bench.succeed(&[
                "train",
                "mine.toml",
                "--out",
                &format!("runs/{windows}-{seed}"),
                "--set",
                &format!("data.windows={windows}"),
                "--set",
                &format!("data.subset.seed={seed}"),
            ]);
        }
    }
    let output = bench.run(&["memory", "counterfactual", "runs"]);
    assert_refused(&output, 2, &["runs/epoch-4", "data.windows", "may differ"]);
    std::fs::remove_dir_all(bench.path("runs/epoch-4")).unwrap();
    let record = json(&bench, &["runs", "--documents", "30"]);
    assert_eq!(record["documents"].as_array().unwrap().len(), 30);
    let texts = record["documents"].as_array().unwrap().iter();
    for document in texts {
        let text = document["text"].as_str().unwrap();
        assert!(text.ends_with(" are numbers"), "{text}");
        assert_eq!(document["bytes"], text.len());
    }

    let output = bench.run(&["memory", "counterfactual", "runs/documents-0"]);
    assert_refused(&output, 2, &["1 finished run", "data.subset.seed"]);
    let output = bench.run(&["train", "mine.toml", "--set", "data.subset.share=1.5"]);
    assert_refused(&output, 2, &["data.subset.share", "below 1"]);
    let output = bench.run(&["train", "mine.toml", "--set", "data.subset.share=1e-9"]);
    assert_refused(&output, 2, &["data.subset", "chooses none"]);
    let output = bench.run(&["train", "mine.toml", "--set", "data.loss_weight=w.f32"]);
    assert_refused(&output, 2, &["data.loss_weight", "data.subset"]);
    // One document.
    std::fs::write(bench.path("text.txt"), "All in one document. ".repeat(50)).unwrap();
    let output = bench.run(&["train", "mine.toml", "--set", "data.path=text.txt"]);
    assert_refused(&output, 2, &["data.subset", "one document"]);
    bench.tiny_run("whole", &[]);
    let output = bench.run(&["memory", "counterfactual", "whole"]);
    assert_refused(&output, 2, &["whole", "was not trained on a subset"]);
}
