//! Tests that evaluations and checkpoints need little more memory than training steps.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Overrides for a model whose weights, gradients and moments (16 million parameters, 260 MB) dominate memory.
const LARGE: [&str; 14] = [
    "data.world.train_bytes=20000",
    "data.world.valid_bytes=2000",
    "model.vocab_size=16000",
    "model.layers=3",
    "model.heads=8",
    "model.width=512",
    "model.context=32",
    "train.steps=4",
    "train.batch=1",
    "train.eval_every=3",
    "train.eval_windows=4",
    "train.sample_tokens=20",
    "optimizer.warmup=1",
    "optimizer.learning_rate=1e-3",
];

/// Returns the peak of resident memory of a process in bytes; `None` if it has ended.
fn peak(child: &Child) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024.0 * kib)
}

fn lines(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Trains, and returns the peaks of memory before the first evaluation and at the end.
fn peaks(directory: &Path, args: &[&str]) -> (f64, f64) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foretoken"));
    command
        .args(["train", "--dashboard", "none", "--out", "run"])
        .args(args)
        .current_dir(directory)
        .stdout(Stdio::null());
    let before = lines(&directory.join("run"));
    let mut child = command.spawn().unwrap();
    let (mut steps, mut all) = (0.0f64, 0.0f64);
    let deadline = Instant::now() + Duration::from_secs(300);
    while child.try_wait().unwrap().is_none() {
        assert!(
            Instant::now() < deadline,
            "training takes over five minutes"
        );
        if let Some(peak) = peak(&child) {
            all = all.max(peak);
            // An interval has three steps, one line each, before its evaluation.
            if lines(&directory.join("run")) < before + 3 {
                steps = all;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    (steps, all)
}

#[test]
fn checkpoints_and_evaluations_need_little_more_memory_than_a_step() {
    let directory = tempfile::tempdir().unwrap();
    let sets: Vec<_> = LARGE.iter().flat_map(|one| ["--set", one]).collect();
    let (steps, all) = peaks(directory.path(), &sets);
    println!(
        "steps {:.0} MB, all {:.0} MB: {:.3}",
        steps / 1e6,
        all / 1e6,
        all / steps
    );
    assert!(steps > 260e6, "{steps}");
    assert!(all < 1.1 * steps, "{all} and {steps}");
    // Resumption from a checkpoint needs little more memory, either.
    let (_, resumed) = peaks(directory.path(), &["--resume", "--set", "train.steps=8"]);
    println!("resumed {:.0} MB: {:.3}", resumed / 1e6, resumed / steps);
    assert!(resumed < 1.1 * steps, "{resumed} and {steps}");
}
