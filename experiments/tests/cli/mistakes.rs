//! Tests of users' mistakes: each is reported in one line that says what to do, before anything is written.

use super::*;
use std::fs;

/// Runs `foretoken train mine.toml` with `path` as data.
fn with_text(bench: &Bench, path: &str) -> std::process::Output {
    fs::write(
        bench.path("mine.toml"),
        format!(
            "[data]\npath = \"{path}\"\n[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 8\n\
             [train]\nsteps = 3\nbatch = 2\neval_every = 2\n[optimizer]\nwarmup = 1\n"
        ),
    )
    .unwrap();
    bench.run(&["train", "mine.toml"])
}

fn nothing_was_written(bench: &Bench) -> bool {
    !bench.path("runs").exists()
}

#[test]
fn missing_empty_and_short_texts_are_refused() {
    let bench = Bench::new();
    assert_refused(&with_text(&bench, "absent.txt"), 2, &["absent.txt"]);
    assert_refused(&with_text(&bench, "texts/*.md"), 2, &["texts/*.md"]);
    fs::write(bench.path("empty.txt"), "").unwrap();
    assert_refused(&with_text(&bench, "empty.txt"), 2, &["empty.txt", "empty"]);
    fs::write(bench.path("short.txt"), "twenty characters, no").unwrap();
    assert_refused(&with_text(&bench, "short.txt"), 2, &["9"]);
    fs::write(bench.path("latin1.txt"), b"caf\xe9 ".repeat(100)).unwrap();
    assert_refused(
        &with_text(&bench, "latin1.txt"),
        2,
        &["latin1.txt", "UTF-8"],
    );
    assert!(nothing_was_written(&bench));
}

#[test]
fn missing_and_invalid_experiments_are_refused() {
    let bench = Bench::new();
    assert_refused(
        &bench.run(&["train", "absent.toml"]),
        2,
        &["absent.toml: no such experiment file"],
    );
    fs::write(bench.path("broken.toml"), "[data\n").unwrap();
    assert_refused(
        &bench.run(&["train", "broken.toml"]),
        2,
        &["broken.toml: line 1"],
    );
    fs::write(bench.path("lacking.toml"), "[data]\npath = \"x\"\n").unwrap();
    assert_refused(
        &bench.run(&["train", "lacking.toml"]),
        2,
        &["lacking.toml", "missing key `model`"],
    );
    assert_refused(
        &bench.tiny(&["--set", "train.bacth=3"]).output().unwrap(),
        2,
        &["did you mean `batch`?"],
    );
    assert!(nothing_was_written(&bench));
}

#[test]
fn contradictory_model_keys_are_refused() {
    let bench = Bench::new();
    let heads = bench.tiny(&["--set", "model.heads=3"]).output().unwrap();
    assert_refused(&heads, 2, &["[model]", "32", "3"]);
    let vocabulary = bench
        .tiny(&["--set", "model.vocab_size=7"])
        .output()
        .unwrap();
    assert_refused(
        &vocabulary,
        2,
        &["model.vocab_size: 7 is less than the tokenizer's vocabulary"],
    );
    assert!(nothing_was_written(&bench));
}

#[test]
fn unavailable_backends_are_refused() {
    use foretoken::backend::Backend;
    let bench = Bench::new();
    let unknown = bench.tiny(&["--backend", "flx"]).output().unwrap();
    assert_refused(&unknown, 2, &["flx", "flex"]);
    for backend in Backend::ALL
        .into_iter()
        .filter(|backend| !backend.compiled_in())
    {
        let output = bench.tiny(&["--backend", backend.name()]).output().unwrap();
        assert_refused(&output, 2, &[backend.name(), "rebuild with --features"]);
    }
    if Backend::Wgpu.compiled_in() {
        let output = bench
            .tiny(&["--backend", "wgpu"])
            // These variables hide all Vulkan and OpenGL drivers.
            .env("VK_DRIVER_FILES", "/nonexistent.json")
            .env("VK_ICD_FILENAMES", "/nonexistent.json")
            .env("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent.json")
            .output()
            .unwrap();
        assert_refused(&output, 2, &["wgpu does not work here"]);
    }
    assert!(nothing_was_written(&bench));
}

#[test]
fn a_dashboard_without_a_terminal_is_refused() {
    let bench = Bench::new();
    let output = bench.tiny(&["--dashboard", "tui"]).output().unwrap();
    assert_refused(&output, 2, &["--dashboard tui: needs a terminal"]);
    assert!(nothing_was_written(&bench));
}

#[test]
fn directories_with_other_content_are_refused() {
    let bench = Bench::new();
    fs::create_dir(bench.path("mine")).unwrap();
    for name in ["precious.txt", "photo.jpg.12-3.partial"] {
        fs::write(bench.path("mine").join(name), "precious").unwrap();
    }
    assert_refused(
        &bench.tiny(&["--out", "mine"]).output().unwrap(),
        2,
        &["mine: already exists", "--out"],
    );
    assert_refused(
        &bench.tiny(&["--out", "mine", "--resume"]).output().unwrap(),
        2,
        &["mine: is not a run directory"],
    );
    assert_eq!(fs::read_dir(bench.path("mine")).unwrap().count(), 2);
    assert_refused(
        &bench.tiny(&["--resume"]).output().unwrap(),
        2,
        &["no run to resume"],
    );
    fs::write(bench.path("file"), "").unwrap();
    assert_refused(
        &bench.tiny(&["--out", "file"]).output().unwrap(),
        2,
        &["file"],
    );
}

#[test]
fn a_run_is_not_resumed_with_another_experiment_or_other_data() {
    let bench = Bench::new();
    let run = bench.tiny_run("run", &[]);
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    fs::remove_file(run.join("result.json")).unwrap();
    let other = bench
        .tiny(&["--out", "run", "--resume", "--set", "optimizer.clip=2.5"])
        .output()
        .unwrap();
    assert_refused(
        &other,
        2,
        &[
            "holds another experiment",
            "optimizer.clip (2.5 here, 1.0 there)",
        ],
    );
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before);

    fs::write(bench.path("text.txt"), "abcdefgh ".repeat(100)).unwrap();
    assert!(with_text(&bench, "text.txt").status.success());
    fs::remove_file(bench.path("runs/mine-flex-1/result.json")).unwrap();
    fs::write(bench.path("text.txt"), "abcdefgi ".repeat(100)).unwrap();
    let output = bench.run(&["train", "mine.toml", "--resume"]);
    assert_refused(&output, 2, &["was trained on other data"]);
}

#[test]
fn a_corrupt_checkpoint_is_named_and_the_previous_one_is_usable() {
    let bench = Bench::new();
    // The weights do not change, so the first evaluation stays the best and its checkpoint is kept beside the last.
    let frozen = [
        "--set",
        "optimizer.learning_rate=0",
        "--set",
        "optimizer.min_learning_rate=0",
    ];
    let run = bench.tiny_run("run", &frozen);
    fs::remove_file(run.join("result.json")).unwrap();
    let model = run.join("checkpoints/step-25/model.bpk");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).unwrap();
    let resume = || bench.run(&["train", "--resume", "--out", "run"]);
    assert_refused(
        &resume(),
        2,
        &[
            "step-25: model.bpk is damaged",
            "remove this checkpoint to resume from step",
        ],
    );
    fs::remove_dir_all(run.join("checkpoints/step-25")).unwrap();
    let output = resume();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_non_finite_loss_stops_the_run_and_names_the_last_checkpoint() {
    let bench = Bench::new();
    let wild = [
        "optimizer.learning_rate=1e30",
        "optimizer.clip=0",
        "optimizer.warmup=15",
    ];
    let wild: Vec<_> = wild.iter().flat_map(|arg| ["--set", arg]).collect();
    let output = bench.tiny(&["--out", "run"]).args(&wild).output().unwrap();
    assert_refused(
        &output,
        1,
        &["the loss is", "at step", "learning rate", "checkpoint"],
    );
    assert!(!bench.path("run/result.json").exists());
}

#[test]
fn non_finite_weights_are_neither_saved_nor_recommended() {
    let bench = Bench::trained();
    let run = bench.path("run");
    // The learning rate is raised until the weights overflow.
    let experiment = fs::read_to_string(run.join("experiment.toml")).unwrap();
    let wild = experiment
        .replace("learning_rate = 0.01\n", "learning_rate = 1e38\n")
        .replace("clip = 1.0\n", "clip = 0.0\n");
    assert_ne!(wild, experiment);
    let hash = || {
        let experiment = foretoken::Experiment::load(&run.join("experiment.toml"), &[]);
        experiment.unwrap().hash()
    };
    let before = hash();
    fs::write(run.join("experiment.toml"), wild).unwrap();
    let identity = fs::read_to_string(run.join("identity.json")).unwrap();
    assert!(identity.contains(&before));
    fs::write(
        run.join("identity.json"),
        identity.replace(&before, &hash()),
    )
    .unwrap();
    let resume = [
        "train",
        "--resume",
        "--out",
        "run",
        "--dashboard",
        "none",
        "--set",
        "train.steps=40",
        "--set",
        "train.eval_every=1",
    ];
    let output = bench.run(&resume);
    assert_refused(
        &output,
        1,
        &[
            "the validation loss is ",
            " after 26 steps",
            "the last good checkpoint is run/checkpoints/step-25",
        ],
    );
    let checkpoints = foretoken::record::checkpoint::Checkpoints::new(run.join("checkpoints"));
    assert_eq!(checkpoints.steps().last(), Some(&25));
    assert!(
        checkpoints
            .state(25)
            .unwrap()
            .best
            .unwrap()
            .loss
            .is_finite()
    );
    assert!(!run.join("result.json").exists());
    // Records of the failed attempt are kept, also after another attempt.
    let steps = column(&run, "step", "step");
    assert_eq!(steps.len(), 26);
    assert_refused(&bench.run(&resume), 1, &["step-25"]);
    assert_eq!(column(&run, "step", "step"), steps);
}

#[test]
fn an_unreadable_record_is_named_and_left_unchanged() {
    let bench = Bench::trained();
    let run = bench.path("run");
    let resume = || bench.run(&["train", "--resume", "--out", "run"]);
    let result = fs::read_to_string(run.join("result.json")).unwrap();
    fs::write(run.join("result.json"), &result[..result.len() / 2]).unwrap();
    assert_refused(&resume(), 2, &["run/result.json: is damaged"]);
    fs::remove_file(run.join("result.json")).unwrap();

    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut lines: Vec<&str> = metrics.lines().collect();
    lines[3] = "{\"kind\":\"step\"";
    let damaged = lines.join("\n") + "\n{\"kind\":\"st";
    fs::write(run.join("metrics.jsonl"), &damaged).unwrap();
    assert_refused(&resume(), 2, &["run/metrics.jsonl: line 4 is not a record"]);
    assert_eq!(
        fs::read_to_string(run.join("metrics.jsonl")).unwrap(),
        damaged
    );

    fs::write(run.join("metrics.jsonl"), &metrics).unwrap();
    let output = resume();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        fs::read_to_string(run.join("metrics.jsonl")).unwrap(),
        metrics
    );
}

#[test]
fn an_infinite_perplexity_is_recorded_and_shown() {
    let bench = Bench::new();
    let sets = [
        "optimizer.learning_rate=30",
        "optimizer.min_learning_rate=30",
        "optimizer.clip=0",
        "optimizer.warmup=0",
        "model.norm=rms",
        "model.layers=1",
        "train.steps=10",
        "train.eval_every=5",
    ];
    let sets: Vec<_> = sets.iter().flat_map(|arg| ["--set", arg]).collect();
    let run = bench.tiny_run("run", &sets);
    let perplexity =
        |line: &serde_json::Value| line["kind"] == "evaluation" && line["perplexity"].is_null();
    let before = metrics(&run);
    assert!(before.iter().any(perplexity), "{before:?}");
    let result = || bench.succeed(&["train", "--resume", "--out", "run"]);
    let shown = result();
    assert!(shown.contains("perplexity       inf"), "{shown}");
    // A run that is resumed from its last checkpoint shows the same.
    let valid_loss = || json_file(&run, "result.json")["valid_loss"].clone();
    let loss = valid_loss();
    fs::remove_file(run.join("result.json")).unwrap();
    assert!(result().contains("perplexity       inf"));
    assert_eq!(valid_loss(), loss);
    assert_eq!(metrics(&run), before);
    for command in [["report", "run"], ["inspect", "run"]] {
        bench.output(&command);
    }
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs the right to mount a file system"]
fn a_full_disk_fails_the_run_and_keeps_the_last_checkpoint() {
    let bench = Bench::new();
    let disk = bench.path("disk");
    fs::create_dir(&disk).unwrap();
    // The disk has space for about one checkpoint of the tiny model, but not for two with temporary files.
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=500k", "tmpfs"])
        .arg(&disk)
        .output()
        .unwrap();
    assert!(mounted.status.success(), "{}", text(&mounted));
    let output = bench.tiny(&["--out", "disk/run"]).output().unwrap();
    let checkpoints = foretoken::record::checkpoint::Checkpoints::new(disk.join("run/checkpoints"));
    let readable: Vec<_> = checkpoints
        .steps()
        .into_iter()
        .map(|step| checkpoints.load(step).is_ok())
        .collect();
    let _ = std::process::Command::new("umount").arg(&disk).status();
    assert_refused(&output, 1, &["No space left on device"]);
    assert_eq!(
        readable,
        [true],
        "the checkpoint before the disk was full is complete"
    );
}

#[test]
fn help_has_examples_and_main_options() {
    let bench = Bench::new();
    let help = bench.run(&["train", "--help"]);
    let stdout = String::from_utf8(help.stdout).unwrap();
    for part in ["Examples:", "--resume", "--set <KEY=VALUE>", "Ctrl-C"] {
        assert!(stdout.contains(part), "{part} is missing from:\n{stdout}");
    }
    assert!(
        stdout.lines().all(|line| line.chars().count() <= 100),
        "{stdout}"
    );
    let unknown = bench.run(&["trian"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn what_exceeds_memory_is_refused_with_both_sizes() {
    let bench = Bench::new();
    let trained = |set: &[&str]| bench.tiny(set).output().unwrap();
    let model = trained(&["--set", "model.width=262144"]);
    assert_refused(
        &model,
        2,
        &["[model]", "needs", "TiB, but this machine has", "of memory"],
    );
    let batch = trained(&["--set", "train.batch=100000000"]);
    assert_refused(
        &batch,
        2,
        &["train.batch", "needs", "TiB, but this machine has"],
    );
    let layers = trained(&["--set", "model.layers=1000000000"]);
    assert_refused(
        &layers,
        2,
        &["layers is 1000000000; it must be at most 65536"],
    );
    let width = trained(&["--set", "model.width=9223372036854775807"]);
    assert_refused(
        &width,
        2,
        &["model", "width is", "it must be at most 4294967295"],
    );
    for key in ["train.steps", "train.batch", "train.accumulation"] {
        let set = format!("{key}=9223372036854775807");
        let output = trained(&["--set", &set, "--set", "train.eval_every=3"]);
        assert_refused(&output, 2, &["more than can be counted"]);
    }
    for key in ["data.world.train_bytes", "data.world.valid_bytes"] {
        let set = format!("{key}=1000000000000000");
        let output = trained(&["--set", &set]);
        assert_refused(&output, 2, &[key, "but this machine has"]);
    }
    assert!(nothing_was_written(&bench));
    // `inspect` allocates nothing, so it has no limit.
    let shape = bench.run(&["inspect", "llama-3-8b", "--batch", "4000000000"]);
    assert!(shape.status.success(), "{}", text(&shape));

    bench.tiny_run("run", &[]);
    let many = [
        "generate",
        "run",
        "--prompt",
        "a",
        "--samples",
        "4000000000",
    ];
    assert_refused(&bench.run(&many), 2, &["--samples", "but this machine has"]);
}
