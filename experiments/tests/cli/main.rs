//! Tests of the program from arguments to exit code, output and run directory.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod backends;
mod canaries;
mod compare;
mod compress;
mod counterfactual;
mod data;
mod evaluate;
mod exposure;
mod generate;
mod hints;
mod hostile;
mod huggingface;
mod input;
mod inspect;
mod memory;
mod mistakes;
mod output;
mod predict;
mod probe;
mod report;
mod resume;
mod run_data;
mod scaling;
mod serve;
mod sweep;
mod tasks;
mod terminal;
mod training;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Overrides for a tiny run on the synthetic world, which every backend can train: 2 layers of width 32, batches of
/// 4 × 16 tokens, 25 steps, an evaluation every 10 steps.
const TINY: [&str; 14] = [
    "data.world.train_bytes=20000",
    "data.world.valid_bytes=2000",
    "model.layers=2",
    "model.heads=2",
    "model.width=32",
    "model.context=16",
    "train.seed=5",
    "train.steps=25",
    "train.batch=4",
    "train.accumulation=1",
    "train.eval_every=10",
    "train.eval_windows=8",
    "train.sample_tokens=0",
    "optimizer.warmup=5",
];

/// Resets signals of a new process, because it inherits ignored signals from the tests, which a script may have started
/// in the background.
fn reset_signals(command: &mut Command) {
    #[cfg(unix)]
    // SAFETY: the calls are allowed between fork and exec.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, || {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    #[cfg(not(unix))]
    let _ = command;
}

/// A working directory for commands.
struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Returns the command `foretoken ARGS` in the directory.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foretoken"));
        command.current_dir(self.root.path()).args(args);
        command.env("FORETOKEN_CACHE", self.path("cache"));
        reset_signals(&mut command);
        command
    }

    /// Runs `foretoken ARGS`. An error may recommend only flags that the command has.
    fn run(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        hints::assert_flags_exist(args, &output);
        output
    }

    /// Returns the command `foretoken train` with [`TINY`] and more arguments.
    fn tiny(&self, args: &[&str]) -> Command {
        let mut command = self.command(&["train"]);
        for assignment in TINY {
            command.args(["--set", assignment]);
        }
        command.args(args);
        command
    }

    /// Runs `foretoken ARGS`, which must succeed.
    fn output(&self, args: &[&str]) -> Output {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        output
    }

    /// Runs `foretoken ARGS`, which must succeed, and returns its standard output.
    fn succeed(&self, args: &[&str]) -> String {
        stdout(&self.output(args))
    }

    /// Returns a bench with a [`tiny_run`](Self::tiny_run) in `run`.
    fn trained() -> Self {
        let bench = Self::new();
        bench.tiny_run("run", &[]);
        bench
    }

    /// Trains a tiny run, which must succeed, and returns its directory.
    fn tiny_run(&self, out: &str, args: &[&str]) -> PathBuf {
        let output = self.tiny(&["--out", out]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        self.path(out)
    }

    /// Trains a tiny run on documents of a world of facts by themselves.
    fn tiny_run_on_documents(&self, out: &str) {
        let facts = set(&[
            "data.windows=\"documents\"",
            "data.world.kind=\"facts\"",
            "data.world.facts=100",
            "data.world.train_documents=500",
            "data.world.valid_documents=50",
            "model.context=10",
        ]);
        let mut command = self.command(&["train", "--out", out]);
        let kept = |key: &&str| !key.starts_with("data.") && !key.starts_with("model.context");
        for assignment in TINY.into_iter().filter(kept) {
            command.args(["--set", assignment]);
        }
        let output = command.args(&facts).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// Arguments that resume the run in `run` with 30 steps.
const LONGER: [&str; 6] = [
    "train",
    "--resume",
    "--out",
    "run",
    "--set",
    "train.steps=30",
];

/// Returns `--set` arguments.
fn set<'a>(assignments: &[&'a str]) -> Vec<&'a str> {
    assignments.iter().flat_map(|one| ["--set", one]).collect()
}

/// Sends SIGINT, as Ctrl-C does.
#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    let pid = child.id().to_string();
    let mut kill = Command::new("kill");
    assert!(kill.args(["-INT", &pid]).status().unwrap().success());
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns the keys of an object, in their order.
fn keys(object: &serde_json::Value) -> Vec<&str> {
    let object = object.as_object().unwrap();
    object.keys().map(String::as_str).collect()
}

/// Asserts that a text has all the parts, and lines of at most 80 characters.
#[track_caller]
fn assert_fits_and_shows(shown: &str, parts: &[&str]) {
    for part in parts {
        assert!(shown.contains(part), "{part} is missing from:\n{shown}");
    }
    assert!(
        shown.lines().all(|line| line.chars().count() <= 80),
        "{shown}"
    );
}

/// Returns exit code and both streams, for messages of failed assertions.
fn text(output: &Output) -> String {
    format!(
        "exit {:?}\nstdout: {}\nstderr: {}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Asserts the exit code, and that the error is one line with all the parts.
fn assert_refused(output: &Output, code: i32, contains: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(
        (lines.len(), stderr.lines().count()),
        (1, 1),
        "{}",
        text(output)
    );
    for part in contains {
        assert!(stderr.contains(part), "no {part:?} in: {stderr}");
    }
}

fn metrics(run: &Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Reads a JSON file of a run.
fn json_file(run: &Path, name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(run.join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns one number of every line of a kind, with all its digits.
fn column(run: &Path, kind: &str, name: &str) -> Vec<f64> {
    metrics(run)
        .iter()
        .filter(|line| line["kind"] == kind)
        .map(|line| line[name].as_f64().unwrap())
        .collect()
}

fn relative_difference(a: f64, b: f64) -> f64 {
    (a - b).abs() / b.abs()
}
