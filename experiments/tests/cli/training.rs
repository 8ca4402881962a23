//! Tests of the files and numbers of a complete run.

use super::*;

#[test]
fn a_run_directory_has_all_files_and_its_experiment_reruns_to_the_same_bits() {
    let bench = Bench::new();
    let run = bench.tiny_run("run", &["--set", "train.sample_tokens=20"]);
    for name in [
        "experiment.toml",
        "environment.json",
        "metrics.jsonl",
        "tokenizer.json",
        "sample.txt",
        "result.json",
        "checkpoints/step-25/model.bpk",
    ] {
        assert!(run.join(name).is_file(), "{name} is missing");
    }
    assert_eq!(
        column(&run, "step", "step"),
        (0..25).map(f64::from).collect::<Vec<_>>()
    );
    assert_eq!(column(&run, "evaluation", "step"), [10.0, 20.0, 25.0]);
    assert_eq!(
        *column(&run, "step", "tokens").last().unwrap(),
        25.0 * 4.0 * 16.0
    );
    let environment = json_file(&run, "environment.json");
    assert_eq!(environment["backend"], "flex");
    assert_eq!(environment["step"], 0);
    assert!(environment["threads"]["rayon"].as_u64().unwrap() > 0);
    assert!(environment.get("resumed").is_none(), "{environment}");
    // The schedule ends at the minimum learning rate.
    let rates = column(&run, "step", "learning_rate");
    let experiment = std::fs::read_to_string(run.join("experiment.toml")).unwrap();
    assert!(
        experiment.contains("min_learning_rate = 0.0002\n"),
        "{experiment}"
    );
    assert_eq!(rates[24], 2e-4);
    assert!(rates[23] > 2e-4);
    assert!(
        !std::fs::read_to_string(run.join("sample.txt"))
            .unwrap()
            .is_empty()
    );

    // The resolved experiment has the same bits when it is run again.
    let again = bench.path("again");
    let output = bench.run(&["train", "run/experiment.toml", "--out", "again"]);
    assert!(output.status.success(), "{}", text(&output));
    for kind in ["step", "evaluation"] {
        assert_eq!(column(&again, kind, "loss"), column(&run, kind, "loss"));
    }
}

#[test]
fn checkpoints_of_kept_steps_can_be_used() {
    let bench = Bench::new();
    let keep = set(&["train.keep=[3, 10]", "train.sample_tokens=0"]);
    let run = bench.tiny_run("run", &keep);
    for step in [3, 10, 25] {
        assert!(run.join(format!("checkpoints/step-{step}")).is_dir());
    }
    assert!(
        !run.join("checkpoints/step-20").exists() || {
            let result = json_file(&run, "result.json");
            result["best"]["step"] == 20
        }
    );
    let generated = bench.run(&[
        "generate",
        "run",
        "--checkpoint",
        "3",
        "--tokens",
        "3",
        "--prompt",
        "he",
    ]);
    assert!(generated.status.success(), "{}", text(&generated));
}

#[test]
fn final_evaluation_reads_the_windows_that_the_experiment_names() {
    let bench = Bench::new();
    let run = |name: &str, windows: &str| {
        let windows = set(&[windows, "train.eval_windows=3", "train.sample_tokens=0"]);
        let run = bench.tiny_run(name, &windows);
        let last = *column(&run, "evaluation", "loss").last().unwrap();
        (
            json_file(&run, "result.json")["valid_loss"]
                .as_f64()
                .unwrap(),
            last,
        )
    };
    // With equal numbers of windows, the final evaluation is the last one of training.
    let (same, last) = run("same", "train.final_eval_windows=3");
    assert_eq!(same, last);
    let (whole, last) = run("whole", "train.final_eval_windows=0");
    assert_ne!(whole, last);
    let (most, _) = run("most", "train.final_eval_windows=100000");
    assert_eq!(most, whole);
}

#[test]
fn json_is_one_object_on_standard_output() {
    let bench = Bench::new();
    let output = bench.tiny(&["--out", "run", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        keys(&json),
        [
            "run",
            "backend",
            "steps",
            "tokens",
            "train_loss",
            "valid_loss",
            "bits_per_byte",
            "perplexity",
            "best",
            "floor_bits_per_byte",
            "window_floor_bits_per_byte",
            "cut_targets",
            "tokens_per_second",
            "mfu",
            "seconds"
        ]
    );
    let number = |key: &str| json[key].as_f64().unwrap();
    let (nats, bits) = (number("valid_loss"), number("bits_per_byte"));
    // Each character of the world is one byte.
    assert!(relative_difference(nats / std::f64::consts::LN_2, bits) < 1e-12);
    assert!(relative_difference(nats.exp(), number("perplexity")) < 1e-12);
    assert!(
        bits > number("floor_bits_per_byte"),
        "25 steps cannot reach the floor"
    );
    assert!((0.0..1.5).contains(&number("mfu")), "{}", number("mfu"));
    assert_eq!(json["backend"], "flex");
}

#[test]
fn a_text_with_unknown_entropy_has_no_floor() {
    let bench = Bench::new();
    let words = "the quick brown fox jumps over the lazy dog, naïvely. ".repeat(40);
    std::fs::write(bench.path("text.txt"), words).unwrap();
    std::fs::write(
        bench.path("mine.toml"),
        "[data]\npath = \"*.txt\"\ntokenizer = \"byte\"\n[model]\nlayers = 1\nheads = 2\nwidth = 16\n\
         context = 8\n[train]\nsteps = 3\nbatch = 2\neval_every = 2\n[optimizer]\nwarmup = 1\n",
    )
    .unwrap();
    let output = bench.run(&["train", "mine.toml", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["floor_bits_per_byte"].is_null());
    assert_eq!(json["run"], "runs/mine-flex-1");
    // An untrained model is uniform over bytes: ln 256 nats, or 8 bits per byte.
    let first = column(&bench.path("runs/mine-flex-1"), "step", "loss")[0];
    assert!((first - 256f64.ln()).abs() < 0.005, "{first}");
}

#[test]
fn accumulated_micro_batches_give_the_same_step_as_one_batch() {
    let bench = Bench::new();
    let run = |name, batch, accumulation| {
        let batch = format!("train.batch={batch}");
        let accumulation = format!("train.accumulation={accumulation}");
        bench.tiny_run(
            name,
            &[
                "--set",
                &batch,
                "--set",
                &accumulation,
                "--set",
                "train.steps=12",
            ],
        )
    };
    let (whole, split) = (run("whole", 32, 1), run("split", 8, 4));
    assert_eq!(
        column(&whole, "step", "tokens"),
        column(&split, "step", "tokens")
    );
    // The sums are in another order: f32 rounding (6e-8) over sums of 512 terms, then 12 updates in which
    // Adam's division by √v amplifies gradients near zero.
    for name in ["loss", "gradient_norm"] {
        let (whole, split) = (column(&whole, "step", name), column(&split, "step", name));
        for (step, (a, b)) in whole.iter().zip(&split).enumerate() {
            assert!(
                relative_difference(*a, *b) < 1e-4,
                "{name} at step {step}: {a} and {b}"
            );
        }
    }
    // A sum instead of a mean would have four times the norm. Before any update, the norms agree within f32 rounding.
    let [whole, split] = [&whole, &split].map(|run| column(run, "step", "gradient_norm")[0]);
    let ratio = split / whole;
    assert!((ratio - 1.0).abs() < 1e-5, "{split} is {ratio} of {whole}");
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let bench = Bench::new();
    let run = |threads: &str| {
        let out = format!("threads-{threads}");
        // The model is wide enough for Burn to split the work.
        let output = bench
            .command(&["train", "--json", "--out", &out])
            .args(["--set", "train.steps=12", "--set", "train.batch=16"])
            .args([
                "--set",
                "model.width=128",
                "--set",
                "data.world.train_bytes=50000",
            ])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        column(&bench.path(&out), "step", "loss")
    };
    let one = run("1");
    for threads in ["2", "7"] {
        assert_eq!(run(threads), one, "{threads} threads");
    }
}

#[test]
fn the_gradient_norm_is_recorded_before_clipping() {
    let bench = Bench::new();
    let free = bench.tiny_run("free", &["--set", "optimizer.clip=0"]);
    let tight = bench.tiny_run("tight", &["--set", "optimizer.clip=0.01"]);
    let (free, tight) = (
        column(&free, "step", "gradient_norm"),
        column(&tight, "step", "gradient_norm"),
    );
    assert_eq!(free[0], tight[0]);
    assert!(free[0] > 0.01);
}

#[test]
fn a_run_that_stops_improving_stops_early() {
    let bench = Bench::new();
    // The learning rate is 0, so no evaluation can be better than the first.
    let args = [
        "optimizer.learning_rate=0",
        "optimizer.min_learning_rate=0",
        "train.steps=100",
        "train.eval_every=5",
        "train.early_stop=2",
    ];
    let args: Vec<_> = args.iter().flat_map(|arg| ["--set", arg]).collect();
    let run = bench.tiny_run("run", &args);
    assert_eq!(column(&run, "evaluation", "step"), [5.0, 10.0, 15.0]);
    let result = json_file(&run, "result.json");
    assert_eq!(result["early"], true);
    assert_eq!(
        (&result["steps"], &result["best"]["step"]),
        (&15.into(), &5.into())
    );
    // The weights did not change, so the last weights are as good as the best.
    assert_eq!(result["valid_loss"], result["best"]["valid_loss"]);
}

#[test]
fn the_result_has_the_last_and_the_best_weights() {
    let bench = Bench::new();
    // The model memorises 60 bytes, so the validation loss rises.
    std::fs::write(bench.path("text.txt"), "abcdefghijklmnopqrst".repeat(3)).unwrap();
    std::fs::write(
        bench.path("mine.toml"),
        "[data]\npath = \"text.txt\"\ntokenizer = \"byte\"\nvalid = 0.3\n\
         [model]\nlayers = 1\nheads = 2\nwidth = 32\ncontext = 8\n\
         [train]\nsteps = 400\nbatch = 4\neval_every = 7\nearly_stop = 3\nsample_tokens = 0\n\
         [optimizer]\nlearning_rate = 0.05\nwarmup = 1\n",
    )
    .unwrap();
    let output = bench.output(&[
        "train",
        "mine.toml",
        "--out",
        "run",
        "--set",
        "train.eval_windows=1",
    ]);
    let run = bench.path("run");
    let result = json_file(&run, "result.json");
    assert_eq!(result["early"], true, "{result}");
    let (last, best) = (result["steps"].as_u64().unwrap(), &result["best"]);
    let step = best["step"].as_u64().unwrap();
    assert!(step < last, "{result}");
    let loss = |result: &serde_json::Value| result["valid_loss"].as_f64().unwrap();
    assert!(loss(best) != loss(&result), "{result}");
    let shown = format!("best weights     {:.4} nats/token", loss(best));
    let printed = stdout(&output);
    let summary = printed.split_once("\n  train loss ").unwrap().1;
    let summary = summary
        .split_once("Sample:")
        .map_or(summary, |parts| parts.0);
    assert_fits_and_shows(summary, &[&shown, "generate and export use these"]);

    // `generate`, `export` and `model.init_from` use the best weights, so a run that starts from them has their loss.
    let output = bench.output(&[
        "train",
        "mine.toml",
        "--out",
        "from-best",
        "--json",
        "--set",
        "model.init_from=run",
        "--set",
        "optimizer.learning_rate=0",
        "--set",
        "optimizer.min_learning_rate=0",
        "--set",
        "train.steps=1",
    ]);
    let again: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(loss(&again), loss(best), "{again} and {result}");
}

#[test]
fn the_training_loss_is_the_mean_since_the_evaluation_before_the_last() {
    let bench = Bench::trained();
    let run = bench.path("run");
    let losses = column(&run, "step", "loss");
    // Evaluations are after 10, 20 and 25 steps.
    let expected = losses[20..25].iter().sum::<f64>() / 5.0;
    let reported = json_file(&run, "result.json")["train_loss"]
        .as_f64()
        .unwrap();
    assert!(
        relative_difference(reported, expected) < 1e-12,
        "{reported} and {expected}"
    );
}

#[test]
fn a_note_says_that_the_run_ends_during_warm_up() {
    let bench = Bench::new();
    let stderr = |warmup: &str| {
        let set = format!("optimizer.warmup={warmup}");
        let output = bench
            .tiny(&["--set", &set, "--set", "train.steps=6"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stderr).unwrap()
    };
    for warmup in ["5", "6", "1000"] {
        let note = format!("optimizer.warmup is {warmup} and train.steps is 6");
        let stderr = stderr(warmup);
        assert!(stderr.contains(&note), "{stderr}");
    }
    for warmup in ["0", "4"] {
        assert_eq!(stderr(warmup), "");
    }
}

#[test]
#[cfg(unix)]
fn a_run_directory_can_have_a_name_of_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9-run");
    let output = bench.tiny(&["--json", "--out"]).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["run"], "caf\u{fffd}-run");
    let run = bench.root.path().join(name);
    assert_eq!(json_file(&run, "result.json")["run"], "caf\u{fffd}-run");
    for command in [&["train", "--resume", "--out"][..], &["report"]] {
        let output = bench.command(command).arg(name).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    // Comparisons and JSON accept such names, too.
    let both = std::ffi::OsStr::from_bytes(b"both-\xff");
    let output = bench
        .command(&["compare", "--json"])
        .args([name, name, "--out".as_ref(), both])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["report"], "both-\u{fffd}/report.html");
    let comparison = json_file(&bench.root.path().join(both), "comparison.json");
    assert_eq!(comparison["backends"][0]["run"], "caf\u{fffd}-run");
}

#[test]
fn the_loss_falls() {
    let bench = Bench::new();
    let run = bench.tiny_run(
        "run",
        &[
            "--set",
            "train.steps=150",
            "--set",
            "optimizer.learning_rate=5e-3",
        ],
    );
    let losses = column(&run, "step", "loss");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(
        mean(&losses[140..]) < mean(&losses[..10]) - 0.5,
        "{losses:?}"
    );
}

/// A quarter of the steps of the embedded experiment suffices to get near the floor.
#[test]
fn the_loss_approaches_the_entropy_of_the_world_from_above() {
    let bench = Bench::new();
    let output = bench.run(&["train", "--json", "--set", "train.steps=800"]);
    assert!(output.status.success(), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bits = json["bits_per_byte"].as_f64().unwrap();
    let floor = json["floor_bits_per_byte"].as_f64().unwrap();
    println!("{bits} bits/byte, floor {floor}");
    assert!(bits < floor + 0.35, "{bits} bits/byte is far from {floor}");
    // E[Q/P] ≤ 1 for any model Q of texts that P generates. By Markov's inequality, the probability that a model codes
    // the validation text in k bits less than −log₂ P is at most 2⁻ᵏ.
    let bytes = 32_768.0;
    assert!(
        (floor - bits) * bytes < 20.0,
        "{bits} bits/byte is below {floor}"
    );
    let sample = std::fs::read_to_string(bench.path("runs/world-flex-1/sample.txt")).unwrap();
    assert!(sample.len() >= 300, "{sample}");
}

/// Data of another tokenizer is refused even if its vocabulary has the same size. A note says if the model has no
/// tokenizer.
#[test]
fn weights_do_not_train_on_the_ids_of_another_tokenizer() {
    let bench = Bench::new();
    let text: String = (0..400)
        .map(|i| format!("line {i} of some text\n"))
        .collect();
    std::fs::write(bench.path("a.txt"), &text).unwrap();
    std::fs::write(bench.path("b.txt"), text.replace('x', "y")).unwrap();
    std::fs::write(bench.path("c.txt"), text.replace("of some", "OF SOME")).unwrap();
    let build = |text: &str, tokenizer: &str, out: &str| {
        let args = [
            "data",
            "build",
            text,
            "--valid",
            "0.2",
            "--tokenizer",
            tokenizer,
            "--out",
            out,
        ];
        bench.output(&args);
    };
    build("a.txt", "bpe:300", "a");
    build("c.txt", "bpe:300", "c");
    build("b.txt", "a/tokenizer.json", "b");
    let file = "[data]\npath = \"a\"\n[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 16\n\
                [train]\nsteps = 4\nbatch = 2\neval_every = 2\nsample_tokens = 0\n";
    std::fs::write(bench.path("first.toml"), file).unwrap();
    bench.output(&["train", "first.toml", "--out", "first"]);
    let file = "[data]\npath = \"a\"\n[model]\ninit_from = \"first\"\n\
                [train]\nsteps = 4\nbatch = 2\neval_every = 2\nsample_tokens = 0\n";
    std::fs::write(bench.path("second.toml"), file).unwrap();
    let on = |data: &str, out: &str| {
        let set = format!("data.path={data}");
        bench.run(&["train", "second.toml", "--set", &set, "--out", out])
    };
    let own = on("b", "own");
    assert!(own.status.success(), "{}", super::text(&own));
    assert!(
        !super::text(&own).contains("tokenizer"),
        "{}",
        super::text(&own)
    );
    let other = on("c", "other");
    assert_eq!(other.status.code(), Some(2), "{}", super::text(&other));
    for part in [
        "model.init_from",
        "first",
        "id ",
        "--tokenizer first/tokenizer.json",
    ] {
        assert!(
            super::text(&other).contains(part),
            "{}",
            super::text(&other)
        );
    }
    assert!(!bench.path("other").exists());

    // Generation and prediction refuse another tokenizer, too.
    let prompt = ["--prompt", "line", "--tokenizer", "c/tokenizer.json"];
    for command in ["generate", "predict"] {
        let output = bench.run(&[&[command, "first"], &prompt[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", super::text(&output));
        let message = super::text(&output);
        assert!(
            message.contains("--tokenizer: is not the model's own"),
            "{message}"
        );
    }
    bench.output(&[
        "predict",
        "first",
        "--prompt",
        "line",
        "--tokenizer",
        "b/tokenizer.json",
    ]);

    std::fs::remove_file(bench.path("first/tokenizer.json")).unwrap();
    let unknown = on("c", "unknown");
    assert!(unknown.status.success(), "{}", super::text(&unknown));
    assert!(
        super::text(&unknown).contains("first has no tokenizer.json"),
        "{}",
        super::text(&unknown)
    );
}

#[test]
fn training_starts_from_a_model_with_its_tokenizer() {
    let bench = Bench::new();
    let first = bench.tiny_run("first", &[]);
    let world = include_str!("../../configs/world.toml");
    let world = world.replace("tokenizer = \"char\"", "");
    std::fs::write(bench.path("world.toml"), world).unwrap();
    let from_first = [
        "world.toml",
        "--set",
        "model.init_from=first",
        "--set",
        "model.context=8",
        "--set",
        "train.steps=4",
        "--set",
        "train.eval_every=2",
    ];
    let second = bench.tiny_run("second", &from_first);
    // The second run starts near the last loss of the first, far from the loss of an untrained model.
    let losses = |run: &Path| column(run, "step", "loss");
    let (before, after) = (losses(&first), losses(&second));
    let (untrained, trained) = (before[0], before[before.len() - 1]);
    assert!(untrained - trained > 0.5, "{before:?}");
    assert!(
        (after[0] - trained).abs() < 0.3 * (untrained - trained),
        "{before:?} {after:?}"
    );
    let file = std::fs::read_to_string(second.join("experiment.toml")).unwrap();
    assert!(
        file.contains("tokenizer = \"first/tokenizer.json\""),
        "{file}"
    );
    assert!(file.contains("context = 8"), "{file}");

    // The experiment is the same when the run is resumed.
    let output = bench
        .tiny(&from_first)
        .args(["--out", "second", "--resume"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    std::fs::remove_dir_all(&first).unwrap();
    let output = bench
        .tiny(&from_first)
        .args(["--out", "third"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(
        text(&output).contains("first: there is no such model"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_run_trains_in_the_requested_precision() {
    let bench = Bench::new();
    let run = |dtype: &str| {
        let set = format!("backend.dtype={dtype}");
        column(&bench.tiny_run(dtype, &["--set", &set]), "step", "loss")
    };
    let (single, double) = (run("f32"), run("f64"));
    let (half, narrow) = (run("bf16"), run("f16"));
    let apart = |a: &[f64], b: &[f64]| {
        let differences = a.iter().zip(b).map(|(a, b)| relative_difference(*a, *b));
        differences.fold(0.0, f64::max)
    };
    // The differences are between one rounding error (2⁻²⁴, 2⁻⁸, 2⁻¹¹) and its growth over 25 steps.
    let in_single = apart(&single, &double);
    assert!((1e-9..1e-5).contains(&in_single), "{in_single}");
    let in_half = apart(&half, &double);
    assert!((1e-4..0.2).contains(&in_half), "{in_half}");
    let in_narrow = apart(&narrow, &double);
    assert!((1e-5..0.03).contains(&in_narrow), "{in_narrow}");

    let output = bench
        .tiny(&["--set", "backend.dtype=f31"])
        .output()
        .unwrap();
    assert_refused(&output, 2, &["backend.dtype=f31", "f64"]);
}

#[test]
fn burns_own_operations_train_to_the_same_losses() {
    let bench = Bench::new();
    let fused = bench.tiny_run("fused", &[]);
    let plain = bench.tiny_run("plain", &["--set", "backend.fused=false"]);
    for (name, most) in [("loss", 1e-4), ("gradient_norm", 1e-2)] {
        let (fused, plain) = (column(&fused, "step", name), column(&plain, "step", name));
        // The first step differs by f32 rounding, which 25 updates amplify.
        let first = relative_difference(plain[0], fused[0]);
        assert!(first < 1e-5, "{name}: {} and {}", fused[0], plain[0]);
        for (step, (a, b)) in plain.iter().zip(&fused).enumerate() {
            let apart = relative_difference(*a, *b);
            assert!(apart < most, "{name} at step {step}: {b} and {a}");
        }
    }
    // The bits differ, so the operations were switched.
    let norms = |run: &Path| column(run, "step", "gradient_norm");
    assert_ne!(norms(&fused), norms(&plain));

    // Both runs have the same identity, and each records its operations.
    let file = |run: &Path, name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    assert_eq!(file(&fused, "identity.json"), file(&plain, "identity.json"));
    for (run, line) in [(&fused, "fused = true"), (&plain, "fused = false")] {
        let experiment = file(run, "experiment.toml");
        assert!(experiment.contains(line), "{experiment}");
    }
    let output = bench.run(&["train", "plain/experiment.toml", "--out", "again"]);
    assert!(output.status.success(), "{}", text(&output));
    let losses = |run: &Path| column(run, "step", "loss");
    assert_eq!(losses(&bench.path("again")), losses(&plain));

    let output = bench.tiny(&["--set", "backend.fused=maybe"]).output();
    assert_refused(&output.unwrap(), 2, &["backend.fused=maybe", "boolean"]);
}
