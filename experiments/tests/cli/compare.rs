//! Tests of `foretoken compare`, on an experiment and on finished runs.

use super::*;

/// Returns the command that compares [`TINY`] over 8 steps.
fn compare(bench: &Bench, args: &[&str]) -> Command {
    compare_steps(bench, "8", args)
}

fn compare_steps(bench: &Bench, steps: &str, args: &[&str]) -> Command {
    let mut command = bench.command(&["compare", "--steps", steps]);
    for assignment in TINY {
        command.args(["--set", assignment]);
    }
    command.args(args);
    command
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Asserts that the logits of a backend were computed in three ways and agree.
#[track_caller]
fn assert_invariance(results: &serde_json::Value) {
    let results = results.as_array().unwrap();
    let ways = results.iter().map(|result| &result["of"]);
    let expected = ["cached_steps", "batch", "cached_batch"];
    assert_eq!(ways.collect::<Vec<_>>(), expected);
    for result in results {
        assert_eq!(
            keys(result),
            ["of", "verdict", "error", "bound", "max_abs_difference"]
        );
        let [error, bound, difference] =
            ["error", "bound", "max_abs_difference"].map(|name| result[name].as_f64().unwrap());
        let verdict = result["verdict"].as_str().unwrap();
        match verdict == "identical" {
            true => assert_eq!([error, difference], [0.0; 2], "{result}"),
            false => assert_eq!(verdict, "rounding", "{result}"),
        }
        assert!(error <= bound && bound < 1e-3, "{result}");
    }
}

#[test]
fn a_comparison_prints_one_object_and_writes_a_directory() {
    let bench = Bench::new();
    let output = compare(&bench, &["--backends", "flex", "--out", "c", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let object = json(&output);
    assert_eq!(
        keys(&object),
        [
            "reference",
            "experiment_hash",
            "backends",
            "reference_invariance",
            "report"
        ]
    );
    assert_eq!(object["reference"], "flex:f64");
    assert_eq!(
        keys(&object["backends"][0]),
        [
            "name",
            "dtype",
            "fused",
            "verdict",
            "first_step",
            "max_abs_loss_difference",
            "envelope",
            "final_loss",
            "tokens_per_second",
            "peak_memory_bytes",
            "reason",
            "judged_by",
            "comparable_steps",
            "outcomes",
            "checks",
            "undecided_checks",
            "invariance"
        ]
    );
    assert_invariance(&object["reference_invariance"]);
    assert_invariance(&object["backends"][0]["invariance"]);
    // Logits in f64 are compared in f64.
    for result in object["reference_invariance"].as_array().unwrap() {
        assert!(result["error"].as_f64().unwrap() < 1e-13, "{result}");
    }
    let flex = &object["backends"][0];
    assert_eq!([&flex["name"], &flex["dtype"]], ["flex", "f32"]);
    assert_eq!(flex["fused"], true);
    // Flex in f32 has the bits of the reference backend in f32, which differ from f64. Agreement with itself is no
    // evidence.
    assert_eq!(flex["verdict"], "own");
    let reason = flex["reason"].as_str().unwrap();
    assert!(reason.contains("the same bits"), "{reason}");
    let report = std::fs::read_to_string(bench.path("c/report.md")).unwrap();
    assert!(
        report.contains("Only the reference's own backend was compared with flex:f64"),
        "{report}"
    );
    let difference = flex["max_abs_loss_difference"].as_f64().unwrap();
    assert!(difference > 0.0 && difference < flex["envelope"].as_f64().unwrap());
    if cfg!(target_os = "linux") {
        assert!(flex["peak_memory_bytes"].as_u64().unwrap() > 10_000);
    }

    for name in [
        "comparison.json",
        "report.html",
        "report.md",
        "flex-f32/experiment.toml",
        "flex-f32/environment.json",
        "flex-f32/identity.json",
        "flex-f32/metrics.jsonl",
        "flex-f32/envelope.json",
    ] {
        assert!(bench.path("c").join(name).is_file(), "{name} is missing");
    }
    assert!(bench.path("c/plots").read_dir().unwrap().count() > 2);
    let comparison = read(&bench.path("c/comparison.json"));
    assert_eq!(comparison["steps"], 8);
    assert_eq!(comparison["tokens_per_step"], 64);
    assert_eq!(comparison["seeds"]["seeds"], serde_json::json!([5, 6, 7]));
    for (shown, written) in [
        (&object["reference_invariance"], &comparison["reference"]),
        (&flex["invariance"], &comparison["backends"][0]),
    ] {
        assert_eq!(shown, &written["invariance"]);
    }
    assert!(report.contains("## Cached steps and batches"), "{report}");
    let seeds = &comparison["seeds"];
    assert!(seeds["spread"].as_f64().unwrap() > 1e-4, "{seeds}");
    let checks = comparison["backends"][0]["checks"].as_array().unwrap();
    let count = |what| checks.iter().filter(|check| check["of"] == what).count();
    // Two layers of 12 parameters and 4 other parameters have a gradient and an update each, at five steps.
    assert_eq!(
        ["loss", "logits", "gradient", "update", "movement"].map(count),
        [5, 5, 140, 140, 5]
    );
    let mut steps: Vec<_> = checks.iter().map(|check| check["step"].as_u64()).collect();
    steps.dedup();
    assert_eq!(steps, [0, 2, 4, 6, 7].map(Some));
    assert_eq!(flex["judged_by"], serde_json::json!(["bits"]));
    assert_eq!(flex["comparable_steps"], 8);
    assert_eq!([&flex["checks"], &flex["undecided_checks"]], [295, 0]);
    let outcomes = flex["outcomes"].as_array().unwrap();
    let quantities = outcomes.iter().map(|outcome| &outcome["of"]);
    let expected = ["final_loss", "last_interval"];
    assert_eq!(quantities.collect::<Vec<_>>(), expected);

    // The compared run has the numbers of `train`.
    let run = bench.tiny_run("run", &[]);
    let (compared, trained) = (bench.path("c/flex-f32"), run);
    for name in ["loss", "gradient_norm", "learning_rate", "tokens"] {
        let (compared, trained) = (
            column(&compared, "step", name),
            column(&trained, "step", name),
        );
        assert_eq!(compared, trained[..8], "{name}");
    }
    let identity = |run: &Path| read(&run.join("identity.json"));
    assert_eq!(identity(&compared), identity(&trained));
}

#[test]
fn burns_own_operations_are_compared_on_request() {
    let bench = Bench::new();
    let plain = ["--set", "backend.fused=false"];
    let args = ["--backends", "flex", "--seeds", "1", "--out", "c", "--json"];
    let output = compare(&bench, &[&args[..], &plain].concat())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let flex = &json(&output)["backends"][0];
    // The reference backend in f32 uses Burn's operations as well, so the bits are equal.
    assert_eq!(flex["verdict"], "own", "{flex}");
    assert_eq!(flex["fused"], false);
    assert_eq!(
        read(&bench.path("c/comparison.json"))["backends"][0]["fused"],
        false
    );
    let report = std::fs::read_to_string(bench.path("c/report.md")).unwrap();
    assert!(report.contains("flex:f32 unfused"), "{report}");

    // The compared run has the numbers of `train`.
    let losses = |run: &Path| column(run, "step", "loss");
    let trained = losses(&bench.tiny_run("run", &plain));
    assert_eq!(losses(&bench.path("c/flex-f32")), trained[..8]);
}

#[test]
fn unavailable_backends_are_listed_and_the_others_run() {
    let bench = Bench::new();
    let output = compare(&bench, &["--backends", "rocm,flex", "--seeds", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let shown = stdout(&output);
    for part in [
        "flex:f32",
        "◇ own",
        "Only the reference's own backend was compared",
        "rocm:f32",
        "– unavailable",
        "--features rocm",
        "Each backend's logits against its own, computed in another way:",
        "CACHED STEPS",
        "CACHED BATCH OF 8",
        "\nflex:f64 (reference)  ",
        "No other seed",
        "Envelope: 4 times the distance that one more run of flex:f32 stays within",
        "Report: runs/compare-world-1/report.html",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert!(bench.path("runs/compare-world-1/report.html").is_file());

    let output = compare(&bench, &["--backends", "rocm"]).output().unwrap();
    assert_refused(&output, 2, &["rocm", "not compiled in"]);
}

#[test]
fn a_required_backend_that_is_unavailable_is_an_error() {
    let bench = Bench::new();
    let both = ["--backends", "rocm,flex", "--out", "c"];
    for required in ["all", "rocm", "flex,rocm:f32"] {
        let output = compare(&bench, &[&both[..], &["--require", required]].concat())
            .output()
            .unwrap();
        assert_refused(&output, 2, &["--require", "rocm", "not compiled in"]);
        assert!(!bench.path("c").exists(), "nothing runs");
    }
    for (required, part) in [
        ("ndarray", "ndarray is not among"),
        ("flex:bf16", "flex:bf16"),
    ] {
        let output = compare(&bench, &[&both[..], &["--require", required]].concat())
            .output()
            .unwrap();
        assert_refused(&output, 2, &["--require", part, "--backends"]);
    }
    let one = [&both[..], &["--seeds", "1", "--require", "flex"]].concat();
    let output = compare(&bench, &one).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    // Required runs without a verdict are named.
    bench.tiny_run("one", &[]);
    bench.tiny_run("wide", &["--set", "backend.dtype=f64"]);
    for (required, code) in [("all", 3), ("flex:f64", 3), ("flex:f32", 0)] {
        let output = bench.run(&["compare", "one", "wide", "--require", required]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        let named = String::from_utf8_lossy(&output.stderr)
            .contains("flex:f64 is required and was not judged: ");
        assert_eq!(named, code == 3, "{}", text(&output));
    }

    let bisect = ["bisect", "--backends", "flex", "--require", "rocm"];
    assert_refused(&bench.run(&bisect), 2, &["--require", "rocm"]);
    let bisect = ["bisect", "--backends", "flex,rocm", "--require", "all"];
    assert_refused(&bench.run(&bisect), 2, &["rocm", "not compiled in"]);
}

#[test]
fn lockstep_measures_the_distance_of_weights() {
    let bench = Bench::new();
    let args = ["--backends", "flex", "--lockstep", "--out", "c", "--json"];
    let output = compare(&bench, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let flex = &json(&output)["backends"][0];
    assert_eq!(flex["verdict"], "own");
    assert!(flex["peak_memory_bytes"].is_null());
    let comparison = read(&bench.path("c/comparison.json"));
    let distances = comparison["backends"][0]["weights_distance"]
        .as_array()
        .unwrap();
    assert_eq!(distances.len(), 8);
    // Weights are about 0.02, and f32 is 8 updates apart from f64.
    for distance in distances {
        let distance = distance.as_f64().unwrap();
        assert!((1e-9..1e-3).contains(&distance), "{distance}");
    }
    let envelope = &comparison["envelopes"][0];
    assert_eq!(envelope["weights"].as_array().unwrap().len(), 8);

    // Lockstep changes the order of work, but no number.
    let output = compare(&bench, &["--backends", "flex", "--out", "d"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let losses = |out: &str| column(&bench.path(out).join("flex-f32"), "step", "loss");
    assert_eq!(losses("c"), losses("d"));
}

#[test]
fn finished_runs_are_compared_against_an_envelope() {
    let bench = Bench::new();
    let measured = compare_steps(&bench, "25", &["--backends", "flex", "--out", "c"])
        .output()
        .unwrap();
    assert!(measured.status.success(), "{}", text(&measured));
    let one = bench.tiny_run("one", &[]);
    bench.tiny_run("two", &["--set", "train.eval_every=25"]);
    bench.tiny_run("wide", &["--set", "backend.dtype=f64"]);
    bench.tiny_run("plain", &["--set", "backend.fused=false"]);

    let judge = |args: &[&str]| {
        let output = bench.command(&["compare", "--json"]).args(args).output();
        let output = output.unwrap();
        (output.status.code(), json(&output)["backends"].clone())
    };
    // Without an envelope, the effect of rounding is unknown, and only equal bits give a verdict.
    let (code, backends) = judge(&["one", "two"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        [&backends[0]["verdict"], &backends[1]["verdict"]],
        ["own", "own"]
    );
    let reason = backends[1]["reason"].as_str().unwrap();
    assert!(reason.contains("the same bits"), "{reason}");
    let (code, backends) = judge(&["one", "wide"]);
    assert_eq!(code, Some(0));
    assert_eq!(backends[1]["verdict"], "unavailable");
    assert!(
        backends[1]["reason"]
            .as_str()
            .unwrap()
            .contains("no envelope")
    );

    // The envelope is named, or in the directory of a run. Fused and unfused operations are the same experiment.
    for args in [
        &["one", "two", "plain", "--envelope", "c"][..],
        &["c/flex-f32", "one", "plain"],
    ] {
        let (code, backends) = judge(args);
        assert_eq!(code, Some(0), "{backends}");
        let backends = backends.as_array().unwrap();
        for backend in backends {
            let verdict = backend["verdict"].as_str().unwrap();
            // The envelope is of fused operations.
            let expected = match backend["fused"] == true {
                true => "own",
                false => "rounding",
            };
            assert_eq!(verdict, expected, "{backend}");
        }
        let fused = backends.iter().map(|backend| &backend["fused"]);
        assert_eq!(fused.collect::<Vec<_>>(), [true, true, false]);
    }
    let shown = bench.succeed(&["compare", "one", "plain", "--envelope", "c"]);
    assert!(shown.contains("\nflex:f32 unfused"), "{shown}");
    // Finished runs have no weights to compute logits with.
    assert!(!shown.contains("CACHED STEPS"), "{shown}");
    let (_, backends) = judge(&["one", "wide", "--envelope", "c"]);
    assert_eq!(backends[1]["verdict"], "unavailable");
    let reason = backends[1]["reason"].as_str().unwrap();
    assert!(
        reason.contains("the envelope is for f32, and this run computes in f64"),
        "{reason}"
    );

    // Equal bits on another machine are evidence.
    let environment = bench.path("two/environment.json");
    let moved = std::fs::read_to_string(&environment)
        .unwrap()
        .replace("\"cpu\": \"", "\"cpu\": \"another ");
    std::fs::write(environment, moved).unwrap();
    let (_, backends) = judge(&["one", "two"]);
    assert_eq!(backends[1]["verdict"], "identical");
    let (_, backends) = judge(&["one", "two", "--envelope", "c"]);
    assert_eq!(backends[1]["verdict"], "rounding");

    // Rounding does not explain a loss at one step, but the outcome agrees as long as the final loss is that of a seed.
    let add = |kind: &str, step: usize, nats: f64| {
        let metrics = std::fs::read_to_string(one.join("metrics.jsonl")).unwrap();
        let lines = metrics.lines().map(|line| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            if record["kind"] == kind && record["step"] == step {
                record["loss"] = (record["loss"].as_f64().unwrap() + nats).into();
            }
            format!("{record}\n")
        });
        std::fs::write(one.join("metrics.jsonl"), lines.collect::<String>()).unwrap();
    };
    add("step", 17, 0.01);
    let (code, backends) = judge(&["one", "two", "--envelope", "c"]);
    assert_eq!(code, Some(0));
    assert_eq!(backends[0]["verdict"], "outcome");
    assert_eq!(backends[0]["first_step"], 17);
    add("evaluation", 25, 10.0);
    let (code, backends) = judge(&["one", "two", "--envelope", "c", "--out", "report"]);
    assert_eq!(code, Some(3));
    assert_eq!(backends[0]["verdict"], "differs");
    assert_eq!(backends[0]["first_step"], 17);
    assert!(bench.path("report/report.html").is_file());
    assert_eq!(read(&bench.path("report/comparison.json"))["steps"], 25);
    // Options of live comparisons are refused.
    for flag in [
        "--steps=5",
        "--seeds=3",
        "--dtypes=bf16",
        "--set=train.steps=3",
        "--lockstep",
    ] {
        let output = bench.run(&["compare", "one", "two", flag]);
        let name = flag.split('=').next().unwrap();
        assert_refused(&output, 2, &[name, "live comparison"]);
    }
    // The report is not replaced by another one.
    let output = bench.run(&["compare", "one", "wide", "--out", "report"]);
    assert_refused(&output, 2, &["report: already exists"]);
    assert_eq!(read(&bench.path("report/comparison.json"))["steps"], 25);
}

#[test]
fn missing_numbers_are_refused() {
    let bench = Bench::trained();
    bench.tiny_run("one", &[]);
    let measured = compare_steps(&bench, "25", &["--backends", "flex", "--out", "c"]).output();
    assert!(measured.unwrap().status.success());
    let rewrite = |file: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let path = bench.path(file);
        let mut value = read(&path);
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    };
    let judged = |envelope: &str| bench.run(&["compare", "run", "one", "--envelope", envelope]);
    assert_eq!(judged("c/flex-f32/envelope.json").status.code(), Some(0));
    let valid = read(&bench.path("c/flex-f32/envelope.json"));
    for (spoilt, losses) in [
        ("a null", serde_json::json!([null])),
        ("none", serde_json::json!([])),
        ("too few", serde_json::json!([4.0])),
    ] {
        std::fs::write(bench.path("e.json"), valid.to_string()).unwrap();
        rewrite("e.json", &|envelope| match spoilt {
            "a null" => envelope["reference"]["losses"][3] = losses[0].clone(),
            _ => envelope["reference"]["losses"] = losses.clone(),
        });
        assert_refused(
            &judged("e.json"),
            2,
            &["e.json: is not an envelope file", "not a number"],
        );
    }
    assert_refused(&judged("nothing"), 2, &["nothing: cannot be read"]);

    let metrics = bench.path("one/metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).unwrap();
    let mut lines: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let step = lines.iter().position(|line| line["step"] == 4).unwrap();
    lines[step]["loss"] = serde_json::Value::Null;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&metrics, text).unwrap();
    assert_refused(&judged("c"), 2, &["one: ", "step 4 is not a number"]);

    for flag in ["--seeds", "--rounding-runs"] {
        let most = u64::MAX.to_string();
        let output = bench.run(&["compare", "tiny.toml", flag, &most]);
        assert_refused(&output, 2, &[flag, "at most 1000"]);
    }
}

#[test]
fn runs_of_different_experiments_are_refused_with_the_differences() {
    let bench = Bench::trained();
    bench.tiny_run("other", &["--set", "train.seed=6"]);
    bench.tiny_run("data", &["--set", "data.world.seed=9"]);
    let output = bench.run(&["compare", "run", "other"]);
    assert_refused(
        &output,
        2,
        &[
            "other: is not comparable with run",
            "train.seed (5 here, 6 there)",
            "initial weights (",
        ],
    );
    let output = bench.run(&["compare", "run", "data"]);
    assert_refused(&output, 2, &["data.world.seed", "data ("]);
    // Keys that do not change training can differ.
    bench.tiny_run(
        "named",
        &["--set", "name=\"mine\"", "--set", "train.eval_every=5"],
    );
    assert!(bench.run(&["compare", "run", "named"]).status.success());

    let output = bench.run(&["compare", "run", "run/checkpoints"]);
    assert_refused(&output, 2, &["run/checkpoints", "not a run directory"]);
    std::fs::remove_file(bench.path("named/identity.json")).unwrap();
    let output = bench.run(&["compare", "run", "named"]);
    assert_refused(&output, 2, &["named", "identity.json"]);
    let envelope = ["compare", "run", "other", "--envelope", "run"];
    assert_refused(&bench.run(&envelope), 2, &["initial weights"]);
    let envelope = ["compare", "run", "run", "--envelope", "run"];
    assert_refused(&bench.run(&envelope), 2, &["neither comparison.json nor"]);
}

#[test]
fn an_envelope_of_another_experiment_is_refused_with_the_differences() {
    let bench = Bench::trained();
    bench.tiny_run("again", &[]);
    let measure = |out: &str, more: &[&str]| {
        let args = ["--backends", "flex", "--seeds", "1", "--rounding-runs", "1"];
        let output = compare(&bench, &[&args[..], &["--out", out], more].concat())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
    };
    let judged = |envelope: &str| bench.run(&["compare", "run", "again", "--envelope", envelope]);
    measure("same", &[]);
    for envelope in [
        "same",
        "same/comparison.json",
        "same/flex-f32",
        "same/flex-f32/envelope.json",
    ] {
        let output = judged(envelope);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    measure(
        "other",
        &[
            "--set",
            "optimizer.beta_2=0.9",
            "--set",
            "data.world.seed=9",
        ],
    );
    for envelope in ["other", "other/flex-f32", "other/flex-f32/envelope.json"] {
        let parts = [
            envelope,
            "was measured on another experiment than run",
            "optimizer.beta_2 (0.9 here, 0.99 there)",
            "data.world.seed (9 here, ",
            "data (",
            "foretoken compare run/experiment.toml",
        ];
        assert_refused(&judged(envelope), 2, &parts);
    }

    // The envelope can be copied into the directory of a run.
    let copied = bench.path("again/envelope.json");
    std::fs::copy(bench.path("other/flex-f32/envelope.json"), &copied).unwrap();
    let output = bench.run(&["compare", "run", "again"]);
    assert_refused(
        &output,
        2,
        &["again/envelope.json: was measured on another"],
    );
    std::fs::copy(bench.path("same/flex-f32/envelope.json"), &copied).unwrap();
    assert!(bench.run(&["compare", "run", "again"]).status.success());

    // Envelopes of older versions have no origin.
    let mut old = read(&copied);
    old.as_object_mut().unwrap().remove("origin");
    std::fs::write(&copied, old.to_string()).unwrap();
    let parts = [
        "again/envelope.json",
        "an older version wrote it",
        "--envelope",
    ];
    assert_refused(&bench.run(&["compare", "run", "again"]), 2, &parts);
    assert_refused(&judged("again/envelope.json"), 2, &parts);
    std::fs::write(&copied, "{}").unwrap();
    assert_refused(
        &judged("again/envelope.json"),
        2,
        &["is not an envelope file"],
    );
}

#[test]
fn weights_and_data_are_compared_by_content_and_not_by_path() {
    let bench = Bench::new();
    let copied = |from: &str, to: &str| {
        let status = Command::new("cp")
            .args([
                "-r".as_ref(),
                bench.path(from).as_os_str(),
                bench.path(to).as_os_str(),
            ])
            .status();
        assert!(status.unwrap().success());
    };
    let comparable = |a: &str, b: &str| bench.run(&["compare", a, b]);

    // Initial weights are compared.
    bench.tiny_run("first", &[]);
    bench.tiny_run("second", &["--set", "train.seed=6"]);
    copied("first", "moved");
    for from in ["first", "second", "moved"] {
        let init_from = format!("model.init_from={from}");
        bench.tiny_run(&format!("from-{from}"), &["--set", &init_from]);
    }
    let output = comparable("from-first", "from-moved");
    assert!(output.status.success(), "{}", text(&output));
    let parts = [
        "model.init_from (\"first\" here, \"second\" there)",
        "initial weights (",
    ];
    assert_refused(&comparable("from-first", "from-second"), 2, &parts);
    let args = ["--backends", "flex", "--seeds", "1", "--rounding-runs", "1"];
    let other = ["--out", "c", "--set", "model.init_from=second"];
    let output = compare(&bench, &[&args[..], &other].concat())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for envelope in ["c", "c/flex-f32/envelope.json"] {
        let output = bench.run(&[
            "compare",
            "from-first",
            "from-moved",
            "--envelope",
            envelope,
        ]);
        assert_refused(
            &output,
            2,
            &["was measured on another experiment", "initial weights ("],
        );
    }

    // Data, mixtures and loss weights are compared.
    for (name, words) in [("a", "abc abd "), ("b", "bcd bce ")] {
        std::fs::write(bench.path("text.txt"), words.repeat(400)).unwrap();
        let build = [
            "data",
            "build",
            "text.txt",
            "--tokenizer",
            "byte",
            "--out",
            name,
        ];
        bench.succeed(&[&build[..], &["--valid", "0.1"]].concat());
        copied(name, &format!("moved-{name}"));
    }
    let tokens = foretoken_datasets::Corpus::open(&bench.path("a"), None).unwrap();
    let weights = 1.5f32.to_le_bytes().repeat(tokens.train.tokens());
    std::fs::write(bench.path("weights.f32"), &weights).unwrap();
    copied("weights.f32", "moved-weights.f32");
    let file = "[model]\nlayers = 1\nheads = 2\nwidth = 16\ncontext = 16\n[train]\nsteps = 4\nbatch = 2\n\
                eval_every = 4\nsample_tokens = 0\n[data]\n";
    std::fs::write(bench.path("text.toml"), file).unwrap();
    let weighed = |at: &str| {
        format!("{{path='{at}a', loss_weight='{at}weights.f32'}}, {{path='{at}b', weight=2}}")
    };
    for (out, data) in [
        ("path", "data.path=a".to_owned()),
        ("path-moved", "data.path=moved-a".to_owned()),
        ("other", "data.path=b".to_owned()),
        ("mixed", format!("data.mixture=[{}]", weighed(""))),
        (
            "mixed-moved",
            format!("data.mixture=[{}]", weighed("moved-")),
        ),
        (
            "mixed-otherwise",
            "data.mixture=[{path='a'}, {path='b'}]".to_owned(),
        ),
    ] {
        bench.succeed(&["train", "text.toml", "--out", out, "--set", &data]);
    }
    for (a, b) in [("path", "path-moved"), ("mixed", "mixed-moved")] {
        let output = comparable(a, b);
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(
            read(&bench.path(a).join("identity.json")),
            read(&bench.path(b).join("identity.json"))
        );
    }
    let parts = ["data.path (\"a\" here, \"b\" there)", "data ("];
    assert_refused(&comparable("path", "other"), 2, &parts);
    let parts = ["data.mixture[0].weight", "data ("];
    assert_refused(&comparable("mixed", "mixed-otherwise"), 2, &parts);
}

#[test]
fn a_run_without_an_evaluation_at_its_end_has_no_final_loss() {
    let bench = Bench::trained();
    let whole = bench.tiny_run("whole", &[]);
    bench.tiny_run("windows", &["--set", "train.eval_windows=4"]);
    // The run looks as if it was interrupted after step 23, with its last evaluation at step 20.
    let metrics = std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    let before_23 = |line: &&str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["step"].as_u64().unwrap() < 23
    };
    let cut: Vec<&str> = metrics.lines().filter(before_23).collect();
    std::fs::create_dir(bench.path("cut")).unwrap();
    for name in ["experiment.toml", "identity.json", "environment.json"] {
        std::fs::copy(whole.join(name), bench.path("cut").join(name)).unwrap();
    }
    std::fs::write(bench.path("cut/metrics.jsonl"), cut.join("\n") + "\n").unwrap();

    let judge = |runs: &[&str]| {
        let output = bench.command(&["compare", "--json"]).args(runs).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        json(&output)["backends"].clone()
    };
    let assert_reason = |entry: &serde_json::Value, part: &str| {
        assert!(entry["final_loss"].is_null(), "{entry}");
        let reason = entry["reason"].as_str().unwrap();
        assert!(reason.contains(part), "{reason}");
    };
    for entry in judge(&["run", "whole"]).as_array().unwrap() {
        assert!(entry["final_loss"].is_f64(), "{entry}");
    }
    for runs in [["cut", "run"], ["run", "cut"]] {
        for (name, entry) in runs.iter().zip(judge(&runs).as_array().unwrap()) {
            let part = match *name {
                "cut" => "no final loss: the last evaluation is of step 20, the last step is 23",
                _ => "no final loss: only 23 of its 25 steps are compared",
            };
            assert_reason(entry, part);
        }
    }
    let backends = judge(&["run", "windows"]);
    // Its losses still have the same bits.
    assert_eq!(backends[1]["verdict"], "own");
    assert!(backends[0]["final_loss"].is_f64());
    assert_reason(
        &backends[1],
        "no final loss: train.eval_windows is 4 here and 8 for the reference",
    );
    let shown = bench.succeed(&["compare", "run", "cut", "--out", "report"]);
    assert!(shown.contains("no final loss: "), "{shown}");
    let comparison = read(&bench.path("report/comparison.json"));
    assert!(
        comparison["reference"]["final_loss"].is_null(),
        "the loss after 25 steps is not comparable"
    );
}

#[test]
fn only_one_process_at_a_time_writes_a_directory() {
    let bench = Bench::trained();
    let long = ["--set", "train.steps=100000", "--dashboard", "none"];
    std::fs::copy(bench.path("run/experiment.toml"), bench.path("tiny.toml")).unwrap();
    let started = |mut command: Command, file: &str| {
        let quiet = std::process::Stdio::null;
        command.stdout(quiet()).stderr(quiet());
        let child = command.spawn().unwrap();
        let begun = std::time::Instant::now();
        while std::fs::metadata(bench.path(file)).is_err() {
            assert!(begun.elapsed().as_secs() < 60, "{file}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        child
    };
    let refused = |args: &[&str]| {
        let began = std::time::Instant::now();
        let output = bench.run(args);
        let parts = ["another foretoken process is writing here"];
        assert_refused(&output, 2, &parts);
        assert!(began.elapsed().as_secs() < 5, "{args:?} waits");
    };
    let all_refused = |directory: &str| {
        for args in [
            &["compare", "tiny.toml", "--backends", "flex", "--out"][..],
            &["compare", "run", "run", "--out"],
            &["train", "tiny.toml", "--out"],
            &["bisect", "tiny.toml", "--backends", "flex", "--out"],
        ] {
            refused(&[args, &[directory]].concat());
        }
    };

    let mut comparing = compare_steps(&bench, "100000", &long);
    comparing.args(["--backends", "flex", "--out", "c"]);
    let mut comparing = started(comparing, "c/foretoken.lock");
    all_refused("c");
    comparing.kill().unwrap();
    comparing.wait().unwrap();
    // The lock ended with its process, which had written nothing else.
    let again = ["--backends", "flex", "--seeds", "1", "--out", "c"];
    let output = compare(&bench, &again).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!bench.path("c/foretoken.lock").exists());

    let mut training = bench.tiny(&long);
    training.args(["--out", "long"]);
    let mut training = started(training, "long/checkpoints");
    all_refused("long");
    refused(&["train", "--resume", "--out", "long"]);
    // A report only reads the run, and writes other files.
    bench.succeed(&["report", "long"]);
    training.kill().unwrap();
    training.wait().unwrap();
    let output = bench.run(&["train", "tiny.toml", "--out", "long"]);
    assert_refused(&output, 2, &["already exists"]);
}

#[test]
fn errors_are_one_line() {
    let bench = Bench::trained();
    for (args, parts) in [
        (&["--steps", "0"][..], &["--steps", "at least 1"][..]),
        (&["--rounding-runs", "0"], &["--rounding-runs"]),
        (&["--envelope", "run"], &["--envelope", "finished runs"]),
        (&["run"], &["has nothing to be compared with"]),
        (&["a.toml", "b.toml"], &["b.toml", "one experiment file"]),
        (&["missing.toml"], &["missing.toml", "no such experiment"]),
        (&["--reference", "rocm:f32"], &["rocm", "not compiled in"]),
        (&["--backends", "flex", "--out", "run"], &["already exists"]),
        (&["--dashboard", "tui"], &["needs a terminal"]),
    ] {
        let args = [&["compare"], args].concat();
        assert_refused(&bench.run(&args), 2, parts);
    }
    // Errors of the argument parser list the valid values.
    for (args, part) in [
        (["--backends", "flx"], "the nearest is \"flex\""),
        (
            ["--dtypes", "f31"],
            "the precisions are f64, f32, bf16, f16",
        ),
    ] {
        let output = bench.run(&["compare", args[0], args[1]]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(part), "{}", text(&output));
    }
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_comparison() {
    let bench = Bench::new();
    let mut command = compare_steps(&bench, "100000", &["--backends", "flex", "--out", "c"]);
    command.args(["--set", "train.steps=100000", "--dashboard", "none"]);
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let started = std::time::Instant::now();
    while !bench.path("c").exists() {
        assert!(started.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(
        text(&output).contains("nothing was judged"),
        "{}",
        text(&output)
    );
    assert!(!bench.path("c/report.html").exists());
}

#[test]
#[cfg(any(feature = "ndarray", feature = "libtorch", feature = "wgpu"))]
fn all_backends_agree_within_rounding() {
    let bench = Bench::new();
    let args = ["--seeds", "1", "--out", "c", "--json"];
    let output = compare_steps(&bench, "4", &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let object = json(&output);
    for backend in object["backends"].as_array().unwrap() {
        println!("{backend}");
        let verdict = backend["verdict"].as_str().unwrap();
        let expected = match backend["name"] == "flex" {
            true => &["own"][..],
            false => &["identical", "rounding"],
        };
        assert!(expected.contains(&verdict), "{backend}");
        assert_invariance(&backend["invariance"]);
    }
    assert_invariance(&object["reference_invariance"]);
}
