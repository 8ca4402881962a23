//! A run that is stopped, in whichever way, and resumed gives the numbers of one that never was.

use super::*;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// With dropout: what a step leaves out must not depend on where the run began. Long after the last moment at which
/// a test stops it, so that it cannot end before.
const LONG: [&str; 8] = [
    "--set",
    "train.steps=300",
    "--set",
    "train.eval_every=15",
    "--set",
    "optimizer.warmup=20",
    "--set",
    "model.dropout=0.1",
];

fn start(bench: &Bench, args: &[&str]) -> Child {
    bench
        .tiny(&LONG)
        .args(["--out", "run"])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn steps_written(run: &Path) -> usize {
    std::fs::read_to_string(run.join("metrics.jsonl"))
        .map_or(0, |text| text.matches("\"step\",").count())
}

/// Waits until the run has written `steps` steps.
fn wait_for(child: &mut Child, run: &Path, steps: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while steps_written(run) < steps {
        let ended = child.try_wait().unwrap();
        assert_eq!(ended, None, "the run ended before step {steps}");
        assert!(Instant::now() < deadline, "no {steps} steps in two minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills the run once it has written `steps` steps, and asserts that it was unfinished; the lines that a resumed run
/// keeps, which are those before the last checkpoint.
fn kill_at(child: &mut Child, run: &Path, steps: usize) -> Vec<String> {
    wait_for(child, run, steps);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "it ended by itself: {status}");
    assert!(!run.join("result.json").exists());
    let checkpoints = foretoken::checkpoint::Checkpoints::new(run.join("checkpoints"));
    let checkpoint = checkpoints.steps().last().copied().unwrap_or(0);
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let before = |line: &&str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        record["kind"] == "step" && record["step"].as_u64() < Some(checkpoint as u64)
    };
    let kept: Vec<String> = lines.lines().filter(before).map(String::from).collect();
    assert_eq!(kept.len(), checkpoint);
    kept
}

/// Asserts that a resumed run went on from its checkpoint rather than from the start: every line holds the time that
/// its step took, which no step takes twice.
fn assert_kept(run: &Path, kept: &[String]) {
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let steps = lines
        .lines()
        .filter(|line| line.contains("\"kind\":\"step\""));
    let steps: Vec<&str> = steps.take(kept.len()).collect();
    assert_eq!(steps, kept);
}

fn assert_same_numbers(run: &Path, reference: &Path) {
    for (kind, name) in [
        ("step", "step"),
        ("step", "loss"),
        ("step", "gradient_norm"),
        ("step", "learning_rate"),
        ("step", "tokens"),
        ("evaluation", "step"),
        ("evaluation", "loss"),
    ] {
        // Bits, not tolerance: NaN or not, every digit.
        let bits = |run| {
            column(run, kind, name)
                .into_iter()
                .map(f64::to_bits)
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(run), bits(reference), "{kind} {name}");
    }
}

#[test]
fn killed_at_any_moment_and_resumed_gives_the_same_bits() {
    let bench = Bench::new();
    let reference = bench.tiny_run("reference", &LONG);
    let run = bench.path("run");
    // Before the first checkpoint, right around checkpoints, and in between.
    let mut kept = Vec::new();
    for (attempt, steps) in [3, 15, 29, 31, 46, 60, 77, 105].into_iter().enumerate() {
        let mut child = start(&bench, if attempt == 0 { &[] } else { &["--resume"] });
        let now = kill_at(&mut child, &run, steps);
        assert_kept(&run, &kept);
        kept = now;
    }
    assert!(kept.len() >= 75, "{} steps were kept", kept.len());
    let output = bench
        .tiny(&LONG)
        .args(["--out", "run", "--resume"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_kept(&run, &kept);
    assert_same_numbers(&run, &reference);
}

#[test]
#[cfg(unix)]
fn ctrl_c_finishes_the_step_writes_a_checkpoint_and_says_how_to_resume() {
    let bench = Bench::new();
    let reference = bench.tiny_run("reference", &LONG);
    let run = bench.path("run");
    let mut child = start(&bench, &[]);
    wait_for(&mut child, &run, 20);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("foretoken train --resume --out run"),
        "{stderr}"
    );
    let steps = steps_written(&run);
    assert!(
        run.join(format!("checkpoints/step-{steps}")).is_dir(),
        "step {steps}"
    );

    // As the message says: the run directory knows its experiment.
    let output = bench.run(&["train", "--resume", "--out", "run"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_same_numbers(&run, &reference);
}

#[test]
fn resuming_a_complete_run_trains_nothing_and_says_the_same() {
    let bench = Bench::new();
    let first = bench.tiny(&["--out", "run", "--json"]).output().unwrap();
    let metrics = std::fs::read(bench.path("run/metrics.jsonl")).unwrap();
    let again = bench.run(&["train", "--resume", "--out", "run", "--json"]);
    assert!(again.status.success(), "{}", text(&again));
    assert_eq!(again.stdout, first.stdout);
    assert_eq!(
        std::fs::read(bench.path("run/metrics.jsonl")).unwrap(),
        metrics
    );
}

#[test]
fn without_a_directory_the_latest_run_of_the_experiment_is_resumed() {
    let bench = Bench::new();
    for _ in 0..2 {
        assert!(bench.tiny(&[]).output().unwrap().status.success());
    }
    std::fs::remove_file(bench.path("runs/world-flex-2/result.json")).unwrap();
    let output = bench.tiny(&["--resume", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["run"], "runs/world-flex-2");
    assert_same_numbers(
        &bench.path("runs/world-flex-2"),
        &bench.path("runs/world-flex-1"),
    );
}

#[test]
fn a_run_is_resumed_in_its_precision_and_with_its_operations() {
    for how in [
        "backend.dtype=f64",
        "backend.dtype=bf16",
        "backend.fused=false",
    ] {
        let bench = Bench::new();
        let set = ["--set", how];
        let reference = bench.tiny_run("reference", &[&LONG[..], &set].concat());
        let run = bench.path("run");
        let mut child = start(&bench, &set);
        let kept = kill_at(&mut child, &run, 40);
        assert!(kept.len() >= 30, "{} steps were kept", kept.len());
        let output = bench.run(&["train", "--resume", "--out", "run"]);
        assert!(output.status.success(), "{}", text(&output));
        assert_kept(&run, &kept);
        assert_same_numbers(&run, &reference);
    }
}
