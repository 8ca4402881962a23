//! Tests of resumption: a run that was stopped in any way and resumed has the numbers of an uninterrupted run.

use super::*;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Arguments of a long run with dropout, which must not depend on the step of resumption. The run is long enough to be
/// under way when a test stops it.
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

/// Kills the run after it has written `steps` steps, and asserts that it was unfinished. Returns the lines before the
/// last checkpoint, which a resumed run keeps.
fn kill_at(child: &mut Child, run: &Path, steps: usize) -> Vec<String> {
    wait_for(child, run, steps);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the run ended by itself: {status}");
    assert!(!run.join("result.json").exists());
    let checkpoints = foretoken::record::checkpoint::Checkpoints::new(run.join("checkpoints"));
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

/// Asserts that a resumed run continued from its checkpoint and not from the start: every line has the duration of its
/// step, which a repeated step would not reproduce.
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
        // Bits are compared, so that there is no tolerance and NaN is allowed.
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
fn killed_and_resumed_run_has_the_same_bits() {
    let bench = Bench::new();
    let reference = bench.tiny_run("reference", &LONG);
    let run = bench.path("run");
    // The run is killed before its first checkpoint, right around checkpoints, and in between.
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
fn ctrl_c_writes_a_checkpoint_and_prints_the_resume_command() {
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

    // The printed command works, because the run directory has its experiment.
    let output = bench.run(&["train", "--resume", "--out", "run"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_same_numbers(&run, &reference);
}

#[test]
fn resuming_a_complete_run_trains_nothing_and_prints_the_same_result() {
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
fn resume_with_an_experiment_continues_its_latest_run() {
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
fn resumed_run_keeps_its_precision_and_operations() {
    for setting in [
        "backend.dtype=f64",
        "backend.dtype=bf16",
        "backend.fused=false",
    ] {
        let bench = Bench::new();
        let set = ["--set", setting];
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

#[test]
fn resume_without_arguments_continues_the_run_that_wrote_last() {
    let bench = Bench::new();
    let more = set(&["optimizer.clip=0.5", "name=other"]);
    for more in [&more[..], &[]] {
        let output = bench.tiny(more).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    let other = bench.path("runs/other-flex-1");
    let reference = column(&other, "step", "loss");
    std::fs::remove_file(other.join("result.json")).unwrap();
    std::fs::remove_dir_all(other.join("checkpoints/step-25")).unwrap();
    // This run writes last.
    for _ in 0..2 {
        let output = bench.run(&["train", "--resume", "--json", "--out", "runs/other-flex-1"]);
        assert!(output.status.success(), "{}", text(&output));
    }
    let output = bench.run(&["train", "--resume", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["run"], "runs/other-flex-1");
    assert_eq!(column(&other, "step", "loss"), reference);
    let none = bench.run(&["train", "--resume", "--backend", "ndarray"]);
    assert_refused(&none, 2, &["no run to resume"]);
}

#[test]
fn an_extended_run_follows_the_schedule_of_its_new_length() {
    let bench = Bench::trained();
    let (run, forty) = (bench.path("run"), set(&["train.steps=40"]));
    let straight = bench.tiny_run("straight", &forty);
    let before = column(&run, "step", "loss");
    let output = bench
        .command(&["train", "--resume", "--out", "run"])
        .args(&forty)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("train.steps is 40 instead of 25: from step 25 on, the learning rate is that of a run of 40"),
        "{stderr}"
    );
    let steps: Vec<_> = (0..40).map(f64::from).collect();
    assert_eq!(column(&run, "step", "step"), steps);
    assert_eq!(column(&run, "step", "loss")[..25], before);
    let rates = |run: &Path| column(run, "step", "learning_rate");
    assert_eq!(rates(&run)[25..], rates(&straight)[25..]);
    assert_ne!(rates(&run)[24], rates(&straight)[24]);
    assert_eq!(json_file(&run, "result.json")["steps"], 40);
    let experiment = std::fs::read_to_string(run.join("experiment.toml")).unwrap();
    assert!(experiment.contains("steps = 40"), "{experiment}");

    // The run is complete again, but not comparable with a run of 40 steps from the start.
    let again = bench.succeed(&["train", "--resume", "--out", "run"]);
    assert!(again.contains("40 steps"), "{again}");
    let output = bench.run(&["compare", "run", "straight", "--out", "both"]);
    assert_refused(&output, 2, &["the schedule", "train.steps changed"]);

    let shorter = bench.run(&[
        "train",
        "--resume",
        "--out",
        "run",
        "--set",
        "train.steps=30",
    ]);
    assert_refused(&shorter, 2, &["train.steps: 30 is less than the 40 steps"]);
}

#[test]
fn run_extended_on_a_constant_schedule_has_the_bits_of_a_longer_run() {
    let bench = Bench::new();
    let constant = set(&["schedule.name=constant", "train.sample_tokens=0"]);
    let longer = [&constant[..], &set(&["train.steps=40"])].concat();
    let reference = bench.tiny_run("reference", &longer);
    let run = bench.tiny_run("run", &constant);
    let output = bench
        .command(&["train", "--resume", "--out", "run"])
        .args(set(&["train.steps=40"]))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let note = "the learning rates so far are those of a run of 40 steps, and so is the result";
    assert!(text(&output).contains(note), "{}", text(&output));
    for name in ["loss", "gradient_norm", "learning_rate"] {
        assert_eq!(column(&run, "step", name), column(&reference, "step", name));
    }
    // Nor does a comparison tell them apart.
    assert_eq!(
        json_file(&run, "identity.json"),
        json_file(&reference, "identity.json")
    );
}

#[test]
fn evaluation_and_sampling_keys_can_change_on_resume() {
    let bench = Bench::new();
    let reference = bench.tiny_run("reference", &LONG);
    let run = bench.path("run");
    let mut child = start(&bench, &[]);
    wait_for(&mut child, &run, 40);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!run.join("result.json").exists(), "killed before the end");
    let changes = set(&[
        "train.eval_every=7",
        "train.eval_windows=3",
        "train.early_stop=50",
        "train.sample_tokens=10",
        "train.final_eval_windows=5",
        "train.keep=[290]",
    ]);
    let output = bench
        .command(&["train", "--resume", "--out", "run"])
        .args(&changes)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for name in ["step", "loss", "learning_rate", "tokens"] {
        assert_eq!(column(&run, "step", name), column(&reference, "step", name));
    }
    let evaluated = column(&run, "evaluation", "step");
    assert!(evaluated.ends_with(&[287.0, 294.0, 300.0]), "{evaluated:?}");
    assert!(run.join("checkpoints/step-290").is_dir());
    assert!(
        !std::fs::read_to_string(run.join("sample.txt"))
            .unwrap()
            .is_empty()
    );

    // A finished run that is resumed for another sample has the same result, except for MFU, whose peak is measured
    // again.
    let figures = || {
        let mut figures = json_file(&run, "result.json");
        figures.as_object_mut().unwrap().remove("mfu");
        figures
    };
    let before = figures();
    let output = bench
        .command(&["train", "--resume", "--out", "run"])
        .args(set(&["train.sample_tokens=0"]))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(figures(), before);
    assert_eq!(std::fs::read_to_string(run.join("sample.txt")).unwrap(), "");
}

#[test]
fn data_can_move_but_not_change_on_resume() {
    let bench = Bench::new();
    let words = "the quick brown fox jumps over the lazy dog. ".repeat(40);
    for (file, words) in [
        ("text.txt", &words),
        ("other.txt", &words.replace("lazy", "busy")),
    ] {
        std::fs::write(bench.path(file), words).unwrap();
    }
    std::fs::write(
        bench.path("mine.toml"),
        "[data]\npath = \"text.txt\"\n[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 8\n\
         [train]\nsteps = 3\nbatch = 2\neval_every = 2\nsample_tokens = 0\n[optimizer]\nwarmup = 1\n",
    )
    .unwrap();
    bench.output(&["train", "mine.toml", "--out", "run"]);
    let run = bench.path("run");
    std::fs::rename(bench.path("text.txt"), bench.path("moved.txt")).unwrap();
    let resume = |path: &str| {
        let path = format!("data.path={path}");
        bench.run(&[
            "train",
            "--resume",
            "--out",
            "run",
            "--set",
            &path,
            "--set",
            "train.steps=5",
        ])
    };
    for has_checkpoint in [true, false] {
        if !has_checkpoint {
            for name in [
                "checkpoints/step-2",
                "checkpoints/step-3",
                "checkpoints/step-5",
            ] {
                let _ = std::fs::remove_dir_all(run.join(name));
            }
            std::fs::remove_file(run.join("result.json")).unwrap();
            // The run looks as if it was killed before its first checkpoint.
            let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
            let first = metrics.split_inclusive('\n').next().unwrap();
            std::fs::write(run.join("metrics.jsonl"), first).unwrap();
        }
        let before = std::fs::read(run.join("metrics.jsonl")).unwrap();
        assert_refused(&resume("other.txt"), 2, &["was trained on other data"]);
        assert_eq!(std::fs::read(run.join("metrics.jsonl")).unwrap(), before);
        let output = resume("moved.txt");
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(column(&run, "step", "step"), [0.0, 1.0, 2.0, 3.0, 4.0]);
    }
    let experiment = std::fs::read_to_string(run.join("experiment.toml")).unwrap();
    assert!(experiment.contains("path = \"moved.txt\""), "{experiment}");
}

#[test]
fn the_result_of_a_moved_run_has_its_present_path() {
    let bench = Bench::trained();
    std::fs::rename(bench.path("run"), bench.path("moved")).unwrap();
    let stdout = bench.succeed(&["train", "--resume", "--json", "--out", "moved"]);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["run"], "moved");
}

#[test]
fn a_run_that_lost_its_checkpoints_keeps_its_records() {
    let bench = Bench::trained();
    let metrics = std::fs::read(bench.path("run/metrics.jsonl")).unwrap();
    std::fs::rename(bench.path("run/checkpoints"), bench.path("away")).unwrap();
    for finished in [true, false] {
        if !finished {
            std::fs::remove_file(bench.path("run/result.json")).unwrap();
        }
        assert_refused(&bench.run(&LONGER), 2, &["run", "none of its checkpoints"]);
        assert_eq!(
            std::fs::read(bench.path("run/metrics.jsonl")).unwrap(),
            metrics
        );
    }
    std::fs::rename(bench.path("away"), bench.path("run/checkpoints")).unwrap();
    bench.succeed(&LONGER);
}

#[test]
fn experiment_data_and_tokenizer_are_verified_on_resume() {
    let bench = Bench::trained();
    let file = |name: &str| bench.path(&format!("run/{name}"));
    let edited = |name: &str, from: &str, to: &str| {
        let before = std::fs::read_to_string(file(name)).unwrap();
        let after = before.replacen(from, to, 1);
        assert_ne!(before, after, "{name} has {from}");
        std::fs::write(file(name), after).unwrap();
        before
    };
    for (from, to) in [
        ("beta_1 = 0.9", "beta_1 = 0.8"),
        ("clip = 1.0", "clip = 2.0"),
    ] {
        let before = edited("experiment.toml", from, to);
        assert_refused(
            &bench.run(&LONGER),
            2,
            &["run/experiment.toml", "was edited after", "--set"],
        );
        std::fs::write(file("experiment.toml"), before).unwrap();
    }
    let before = edited("identity.json", "\"data\": \"", "\"data\": \"0");
    assert_refused(&bench.run(&LONGER), 2, &["run", "other data"]);
    std::fs::write(file("identity.json"), before).unwrap();

    let tokenizer = std::fs::read(file("tokenizer.json")).unwrap();
    std::fs::remove_file(file("tokenizer.json")).unwrap();
    bench.succeed(&LONGER);
    assert_eq!(std::fs::read(file("tokenizer.json")).unwrap(), tokenizer);
}

#[test]
fn a_refused_resume_removes_nothing() {
    let bench = Bench::trained();
    let again = bench.tiny(&["--out", "run"]).output().unwrap();
    assert_refused(&again, 2, &["run: already exists", "--resume --out run"]);
    for (name, damage) in [("environment.json", &b"{"[..]), ("identity.json", &[255])] {
        let path = bench.path("run").join(name);
        let before = std::fs::read(&path).unwrap();
        std::fs::write(&path, damage).unwrap();
        let refused = bench.run(&LONGER);
        assert_refused(&refused, 2, &[name, "is damaged", "restore the file"]);
        std::fs::write(&path, before).unwrap();
        // Nor does it count as a resumption.
        let environment = json_file(&bench.path("run"), "environment.json");
        assert!(environment["resumed"].as_array().is_none_or(Vec::is_empty));
    }
    for name in ["result.json", "sample.txt"] {
        assert!(bench.path("run").join(name).exists(), "{name}");
    }
    bench.succeed(&LONGER);
}

#[test]
fn the_directory_of_a_run_killed_at_its_start_can_be_reused() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("run")).unwrap();
    for name in [
        "metrics.jsonl",
        "identity.json",
        "tokenizer.json.7-1.partial",
    ] {
        std::fs::write(bench.path(&format!("run/{name}")), "").unwrap();
    }
    bench.tiny_run("run", &[]);
    assert!(!bench.path("run/tokenizer.json.7-1.partial").exists());
    // A directory with another file is refused.
    std::fs::create_dir(bench.path("other")).unwrap();
    std::fs::write(bench.path("other/notes.partial"), "").unwrap();
    let output = bench.tiny(&["--out", "other"]).output().unwrap();
    assert_refused(&output, 2, &["other: already exists"]);
}

#[test]
fn the_environment_lists_every_resumption() {
    let bench = Bench::trained();
    let run = bench.path("run");
    for steps in ["30", "35"] {
        let steps = format!("train.steps={steps}");
        let output = bench
            .command(&["train", "--resume", "--out", "run", "--set", &steps])
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    let environment = json_file(&run, "environment.json");
    let resumed = environment["resumed"].as_array().unwrap();
    let steps: Vec<_> = resumed.iter().map(|time| &time["step"]).collect();
    assert_eq!(steps, [25, 30]);
    for time in resumed {
        assert_eq!(time["threads"]["rayon"], 1);
        assert_eq!(keys(time), keys(&environment)[..keys(time).len()]);
    }
    // Reports can read the file, and files of older versions, which have one start without threads.
    bench.output(&["report", "run"]);
    let mut old = environment;
    for key in ["resumed", "threads", "step"] {
        old.as_object_mut().unwrap().remove(key);
    }
    std::fs::write(run.join("environment.json"), old.to_string()).unwrap();
    bench.output(&["report", "run"]);
}
