//! Tests of what errors recommend.

use super::*;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

/// Helps of commands, by their names.
static HELPS: LazyLock<Mutex<HashMap<Vec<String>, String>>> = LazyLock::new(Mutex::default);

/// Returns the help of the command of these arguments.
fn help(args: &[&str]) -> String {
    let is_word = |arg: &&&str| arg.chars().all(|c| c.is_ascii_lowercase());
    let words = args.iter().take(2).take_while(is_word);
    let words: Vec<String> = words.map(|word| word.to_string()).collect();
    let mut helps = HELPS.lock().unwrap();
    let help = helps.entry(words.clone()).or_insert_with(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foretoken"));
        stdout(&command.args(words).arg("--help").output().unwrap())
    });
    help.clone()
}

/// Removes the commands in a message, which are in backticks or begin with the name of the program.
fn without_commands(message: &str) -> String {
    let outside = message.split('`').step_by(2);
    let outside: String = outside.collect::<Vec<_>>().join(" ");
    let cut = |part: &str| {
        part.split("foretoken ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    outside
        .split([';', '(', ')', ','])
        .map(cut)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns whether a message names the command that the flag is for, as in "--a B to `foretoken c`".
fn is_for_named_command(message: &str, flag: &str) -> bool {
    let mut after = message
        .match_indices(flag)
        .map(|(start, _)| &message[start..]);
    after.all(|after| {
        let clause = after.split([';', ',']).next().unwrap_or_default();
        clause.contains(" to `foretoken ")
    })
}

fn flags(text: &str) -> Vec<&str> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c == '-';
    text.match_indices("--")
        .map(|(start, _)| {
            let rest = &text[start..];
            &rest[..rest.find(|c| !is_flag(c)).unwrap_or(rest.len())]
        })
        .filter(|flag| flag.len() > 3 && !flag.starts_with("---"))
        .collect()
}

/// Asserts that an error recommends only flags that the command of `args` has. Flags that stand beside the key of an
/// experiment that says the same are for other commands, and `--array` is for the scheduler of a cluster.
#[track_caller]
pub(super) fn assert_flags_exist(args: &[&str], output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let errors = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("error: "))
        .filter(|error| !error.starts_with("unexpected argument"));
    for error in errors {
        let message = without_commands(error);
        for flag in flags(&message) {
            let key = format!("data.{}", flag[2..].replace('-', "_"));
            let is_known = ["--features", "--help", "--array"].contains(&flag)
                || is_for_named_command(error, flag)
                || error.contains(&key)
                || help(args).contains(flag);
            assert!(
                is_known,
                "{args:?} recommends {flag}, which it lacks: {error}"
            );
        }
    }
}

#[test]
fn flags_in_messages_are_found() {
    let message =
        "has none; name one with --tokenizer FILE, or `foretoken a --b-c` (foretoken x --y)";
    assert_eq!(flags(&without_commands(message)), ["--tokenizer"]);
    assert_eq!(flags("--set a=b: --- x -- y --out"), ["--set", "--out"]);
}

/// A command recommends a flag only if it has it.
#[test]
fn advice_depends_on_the_command() {
    let bench = Bench::trained();
    std::fs::remove_file(bench.path("run/tokenizer.json")).unwrap();
    let output = bench.run(&["generate", "run", "--prompt", "a"]);
    assert_refused(
        &output,
        2,
        &["run: has no tokenizer.json", "--tokenizer FILE"],
    );
    let output = bench.run(&["serve", "run"]);
    assert_refused(&output, 2, &["--tokenizer FILE"]);
    let output = bench.run(&["probe", "run"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("put the file that it was trained with"),
        "{stderr}"
    );
    assert!(!stderr.contains("--tokenizer"), "{stderr}");

    let checkpoint = "run/checkpoints/step-25";
    assert!(bench.path(checkpoint).is_dir());
    let output = bench.run(&["generate", checkpoint, "--prompt", "a"]);
    assert_refused(
        &output,
        2,
        &["is a checkpoint", "the step with --checkpoint"],
    );
    let output = bench.run(&["inspect", checkpoint]);
    assert_refused(&output, 2, &["is a checkpoint", "name its run directory"]);
    bench.succeed(&["export", "run", "--out", "hf"]);
    let output = bench.run(&["generate", "hf", "--checkpoint", "last"]);
    assert_refused(&output, 2, &["hf: is not a run", "leave out --checkpoint"]);

    // Weights of which a byte is wrong.
    let weights = bench.path(checkpoint).join("model.bpk");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let args = [
        "inspect",
        "export",
        "probe",
        "exposure",
        "serve",
        "memory gap",
    ];
    for command in args {
        let mut args: Vec<&str> = command.split(' ').chain(["run"]).collect();
        if command == "export" {
            args.extend(["--out", "again"]);
        }
        bench.run(&args);
    }
}

/// Data that are gone are named with the run and the key that states them.
#[test]
fn missing_data_are_named_with_run_and_key() {
    let bench = Bench::new();
    let text = "she is here. they are here. the cat likes rain.\n".repeat(80);
    std::fs::write(bench.path("a.txt"), text).unwrap();
    std::fs::write(
        bench.path("a.toml"),
        "[model]\nlayers = 1\nheads = 1\nwidth = 16\ncontext = 16\n[train]\nsteps = 4\nbatch = 4\neval_every = 4\n\
         sample_tokens = 0\n[optimizer]\nwarmup = 2\n[data]\npath = \"a.txt\"\n",
    )
    .unwrap();
    bench.succeed(&["train", "a.toml", "--out", "run"]);
    std::fs::rename(bench.path("a.txt"), bench.path("b.txt")).unwrap();
    for args in [
        &["evaluate", "run"][..],
        &["memory", "gap", "run"],
        &[
            "train",
            "--resume",
            "--out",
            "run",
            "--set",
            "train.steps=8",
        ],
    ] {
        let output = bench.run(args);
        assert_refused(&output, 2, &["run: ", "data.path: ", "a.txt"]);
    }
    let output = bench.run(&["train", "a.toml", "--out", "other"]);
    assert_refused(&output, 2, &["data.path: there is no file a.txt"]);
    let output = bench.run(&["exposure", "run"]);
    assert_refused(&output, 2, &["run: was trained on a.txt", "--oracle"]);
}
