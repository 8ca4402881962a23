//! Tests of files that somebody else has made: names and texts with control characters, files that are too large or are
//! no files, and what is given twice.

use super::*;

use std::process::Stdio;
use std::time::{Duration, Instant};

/// Runs a command that must end by itself, within a minute on a busy machine.
fn ends(bench: &Bench, args: &[&str]) -> Output {
    let mut child = bench
        .command(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// Asserts that no control characters but newlines are printed.
#[track_caller]
fn assert_harmless(text: &str) {
    let hostile = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(hostile), "{text:?}");
}

#[cfg(unix)]
#[test]
fn control_characters_of_names_do_not_reach_the_terminal() {
    let bench = Bench::new();
    let run = "r\u{1b}[31m\nx";
    bench.tiny_run(run, &[]);
    let text = "t\u{1b}]0;title\u{7}\ny.txt";
    std::fs::write(
        bench.path(text),
        "she is here. the cat likes rain.\n".repeat(40),
    )
    .unwrap();
    let out = "o\u{9b}2J\u{7f}";
    let again = [&["train", "--out", "second\u{1b}c"], &set(&TINY)[..]].concat();
    let build = ["data", "build", text, "--tokenizer", "byte", "--out", out];
    for args in [
        &again[..],
        &["report", run],
        &["inspect", run],
        &["evaluate", run, text],
        &["predict", run, "--prompt", "she "],
        &[
            "generate", run, "--prompt", "she ", "--tokens", "3", "--json",
        ],
        &["memory", "gap", run, "--windows", "8"],
        &["compress", run, text, "--out", "a\u{1b}.ftz"],
        &["decompress", run, "a\u{1b}.ftz", "--out", "back\u{1b}"],
        &["export", run, "--out", "hf\u{1b}"],
        &build,
        &["data", "show", out],
        &["data", "check", out],
    ] {
        let output = bench.output(args);
        let [stdout, stderr] = [&output.stdout, &output.stderr]
            .map(|stream| String::from_utf8(stream.clone()).unwrap());
        assert_harmless(&stdout);
        assert_harmless(&stderr);
        // A name stays in its line.
        let is_cut =
            |line: &str| line.starts_with("x,") || line == "x" || line.starts_with("y.txt");
        assert!(!stdout.lines().any(is_cut), "{args:?}: {stdout}");
    }
    // JSON gives back the name.
    let json = bench.succeed(&[
        "generate", run, "--prompt", "she ", "--tokens", "3", "--json",
    ]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["model"].as_str().unwrap().starts_with(run), "{json}");
    let error = bench.run(&["generate", "no\u{1b}[2J", "--prompt", "a"]);
    assert_refused(&error, 2, &["no\\u{1b}[2J"]);
}

/// Copies a run without hard links, so that a file of it can be replaced.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry
            .map(|entry| (entry.path(), entry.file_name()))
            .unwrap();
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(std::fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

const CHECKPOINT: &str = "checkpoints/step-25";

#[cfg(unix)]
#[test]
fn pipes_in_the_place_of_files_are_refused_at_once() {
    let bench = Bench::trained();
    bench.succeed(&["export", "run", "--out", "hf"]);
    std::fs::write(bench.path("a.txt"), "she is here.\n".repeat(100)).unwrap();
    let build = [
        "data",
        "build",
        "a.txt",
        "--tokenizer",
        "byte",
        "--out",
        "tokens",
    ];
    bench.succeed(&build);
    let model = format!("{CHECKPOINT}/model.bpk");
    let state = format!("{CHECKPOINT}/checkpoint.json");
    let optimizer = format!("{CHECKPOINT}/optimizer.bpk");
    let tokens = std::fs::read_dir(bench.path("tokens")).unwrap();
    let tokens = tokens
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.ends_with(".tok") || name.ends_with(".bin") || name.starts_with("train"));
    let tokens = tokens.unwrap_or_else(|| "tokenizer.json".into());
    let generate = ["generate", "x", "--prompt", "she ", "--checkpoint", "last"];
    let of_folder = ["generate", "x", "--prompt", "she "];
    let resume = ["train", "--resume", "--out", "x", "--set", "train.steps=30"];
    let [show, report, capacity] = [
        ["data", "show", "x"],
        ["report", "x", "run"],
        ["memory", "capacity", "x"],
    ];
    for (from, file, args) in [
        ("run", model.as_str(), &generate[..]),
        ("run", &model, &resume),
        ("run", &state, &generate),
        ("run", &state, &resume),
        ("run", &optimizer, &resume),
        ("run", "tokenizer.json", &generate),
        ("run", "metrics.jsonl", &report),
        ("run", "result.json", &capacity),
        ("hf", "model.safetensors", &of_folder),
        ("hf", "config.json", &of_folder),
        ("hf", "tokenizer.json", &of_folder),
        ("tokens", tokens.as_str(), &show),
        ("tokens", "manifest.json", &show),
    ] {
        copy(&bench.path(from), &bench.path("x"));
        let path = bench.path("x").join(file);
        assert!(path.is_file(), "{}", path.display());
        std::fs::remove_file(&path).unwrap();
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let output = ends(&bench, args);
        assert_ne!(output.status.code(), Some(0), "{file}: {}", text(&output));
        assert_ne!(output.status.code(), Some(101), "{file}: {}", text(&output));
        std::fs::remove_dir_all(bench.path("x")).unwrap();
    }
}

#[test]
fn small_files_that_are_large_are_refused_unread() {
    let bench = Bench::trained();
    let state = format!("{CHECKPOINT}/checkpoint.json");
    for (file, limit, args) in [
        (
            state.as_str(),
            "64 MiB",
            &["predict", "x", "--prompt", "a"][..],
        ),
        (
            "tokenizer.json",
            "256 MiB",
            &["predict", "x", "--prompt", "a"],
        ),
        ("result.json", "64 MiB", &["memory", "capacity", "x"]),
    ] {
        copy(&bench.path("run"), &bench.path("x"));
        let path = bench.path("x").join(file);
        // Sparse, so that it takes no disk.
        let large = std::fs::File::create(&path).unwrap();
        large.set_len(300 << 20).unwrap();
        let output = ends(&bench, args);
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        assert_refused(&output, 2, &[name, limit]);
        std::fs::remove_dir_all(bench.path("x")).unwrap();
    }
}

#[test]
fn what_is_named_twice_is_refused() {
    let bench = Bench::trained();
    bench.tiny_run_on_documents("runs/a");
    for args in [
        &["report", "run", "./run"][..],
        &["probe", "run", "--families", "facts,facts"],
        &["probe", "run", "--checkpoints", "best,best"],
        &["memory", "capacity", "runs/a", "runs/a"],
        &["memory", "capacity", "runs", "runs/a"],
        &["scaling", "fit", "run", "run", "runs/a"],
        &["evaluate", "run", "--data", ".", "--tasks", "piqa,piqa"],
        &["exposure", "run", "--strategies", "greedy,greedy"],
        &["bisect", "--backends", "flex,flex"],
        &["compare", "--backends", "flex,flex"],
    ] {
        let output = bench.run(args);
        assert_refused(&output, 2, &["twice; name it once"]);
    }
}
