//! Tests of the program as a user runs it. Stand-ins replace models and Python.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

fn race(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foretoken-benches"))
        .arg("race")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn backend() -> &'static str {
    match cfg!(feature = "flex") {
        true => "flex",
        false => "ndarray",
    }
}

#[test]
#[cfg(any(feature = "flex", feature = "ndarray"))]
fn dry_run_completes_without_python() {
    let backend = backend();
    let arguments = [
        "--dry-run",
        "--json",
        "--config",
        "char,vocab",
        "--rounds",
        "3",
    ];
    let output = race(
        &[
            &arguments[..],
            &["--backend", backend, "--peer", "eager,compile"],
        ]
        .concat(),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let races: Vec<[&str; 3]> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|race| ["config", "backend", "peer"].map(|key| race[key].as_str().unwrap()))
        .collect();
    let expected = [
        ["char", backend, "eager"],
        ["char", backend, "compile"],
        ["vocab", backend, "eager"],
        ["vocab", backend, "compile"],
    ];
    assert_eq!(races, expected);
    for race in list.as_array().unwrap() {
        // A step of the stand-in for foretoken takes two milliseconds, and one of the other stand-in one.
        for key in ["ratio", "ratio_min", "ratio_max"] {
            assert!((race[key].as_f64().unwrap() - 0.5).abs() < 1e-9, "{race}");
        }
    }
    let progress = text(&output.stderr);
    assert!(progress.contains("round 3 of 3"), "{progress}");
}

#[test]
#[cfg(any(feature = "flex", feature = "ndarray"))]
fn table_has_the_numbers_of_both_competitors() {
    let output = race(&["--dry-run", "--config", "char", "--backend", backend()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for expected in ["tokens/s", "GFLOP/s", "peak memory", "0.500 times as fast"] {
        assert!(table.contains(expected), "{table}");
    }
}

#[test]
#[cfg(any(feature = "flex", feature = "ndarray"))]
fn mistake_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_foretoken-benches"))
        .args(["race", "--config", "char", "--backend", backend()])
        .env("PATH", folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(
        errors[0].contains("python3") && errors[0].contains(".ci/env.sh"),
        "{stderr}"
    );
    assert!(output.stdout.is_empty());
}
