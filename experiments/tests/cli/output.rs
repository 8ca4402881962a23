//! Tests of standard output without a reader, or on a full disk.

use super::*;
use std::fs::OpenOptions;
use std::process::Stdio;

/// Returns a pipe without a reader.
fn closed_pipe() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

/// Returns a call of every command that prints, for [`bench`].
fn calls() -> Vec<Vec<&'static str>> {
    [
        "--help",
        "--version",
        "train --help",
        "backends",
        "backends --json",
        "train --resume --out run",
        "train --resume --out run --json",
        "compare run other",
        "compare run other --json",
        "report run",
        "bisect run/experiment.toml --backends flex --out bisected",
        "bisect run/experiment.toml --backends flex --out bisected-again --json",
        "generate run --prompt The --tokens 4",
        "generate run --prompt The --tokens 4 --json",
        "predict run --prompt The",
        "inspect run",
        "inspect run --json",
        "data build text.txt --tokenizer byte --out tokens",
        "data build text.txt --tokenizer byte --out tokens --json",
        "data show tokens",
        "data show tokens --json",
        "data check tokens",
        "data fetch",
        "export run --out exported",
        "import exported --out imported",
        "import exported --out imported-again --json",
    ]
    .map(|call| call.split(' ').collect())
    .into()
}

/// Returns a bench with two runs and a text.
fn bench() -> Bench {
    let bench = Bench::trained();
    bench.tiny_run("other", &[]);
    std::fs::write(bench.path("text.txt"), "A line of text.\n".repeat(500)).unwrap();
    bench
}

#[test]
fn a_closed_reader_is_not_a_failure() {
    let bench = bench();
    for args in calls() {
        let mut command = bench.command(&args);
        let output = command.stdout(closed_pipe()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("error"), "{args:?}: {stderr}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_fails_every_command_with_its_reason() {
    let bench = bench();
    for args in calls() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = bench.command(&args).stdout(full).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let expected = "error: cannot write to standard output: No space left on device";
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output));
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}

#[test]
fn a_run_completes_without_a_reader() {
    let bench = Bench::new();
    for (out, both) in [("one", false), ("two", true)] {
        let mut command = bench.tiny(&["--out", out]);
        command.stdout(closed_pipe());
        if both {
            command.stderr(closed_pipe());
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(bench.path(out).join("result.json").is_file());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_that_cannot_print_is_complete_and_fails() {
    let bench = Bench::new();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = bench.tiny(&["--out", "run"]);
    let status = command.stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(bench.path("run/result.json").is_file());
}
